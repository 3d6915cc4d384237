use super::*;
use crate::attachment::fixture;

fn store() -> (tempfile::TempDir, Store) {
    let state = tempfile::tempdir().unwrap();
    let store = Store::open(state.path()).unwrap();
    (state, store)
}

#[test]
fn what_is_written_is_read_again_and_what_is_removed_is_not() {
    let (_state, store) = store();
    let (one, two) = (fixture::stored("one", 1), fixture::stored("two", 2));
    store.write(&two).unwrap();
    store.write(&one).unwrap();
    let done = Stored { state: State::Done, ..one };
    store.write(&done).unwrap();
    assert_eq!(store.read().unwrap(), (vec![done.clone(), two.clone()], vec![]));
    store.remove(&done.attachment.port).unwrap();
    store.remove(&done.attachment.port).unwrap();
    assert_eq!(store.read().unwrap().0, [two]);
}

#[test]
fn a_torn_a_foreign_and_a_garbage_file_are_put_aside_and_reported_once() {
    let (state, store) = store();
    let (good, torn, foreign) =
        (fixture::stored("good", 1), fixture::stored("torn", 2), fixture::stored("foreign", 3));
    for stored in [&good, &torn, &foreign] {
        store.write(stored).unwrap();
    }
    let path = |stored: &Stored| store.path(&stored.attachment.port);
    let whole = fs::read(path(&torn)).unwrap();
    fs::write(path(&torn), &whole[..whole.len() / 2]).unwrap();
    fs::rename(path(&foreign), state.path().join("attachments/c-000000000000.json")).unwrap();
    fs::write(state.path().join("attachments/c-ffffffffffff.json"), [0xff, 0]).unwrap();
    fs::write(path(&good).with_extension("json.new"), b"{").unwrap();

    let (stored, damaged) = store.read().unwrap();
    assert_eq!(stored, [good]);
    assert_eq!(damaged.len(), 3);
    assert!(damaged.iter().all(|file| file.path.exists() && !file.reason.is_empty()));
    assert_eq!(store.read().unwrap().1, []);
    let kept = fs::read_dir(state.path().join("attachments")).unwrap().count();
    assert_eq!(kept, 4, "the good one and those that were put aside");
}

#[test]
fn a_memory_of_addresses_that_is_garbage_is_none() {
    let (state, store) = store();
    let memory = Memory { last: vec!["10.1.0.7".parse().unwrap()], resting: vec![] };
    store.write_memory(&memory).unwrap();
    assert_eq!(store.read_memory(), memory);
    fs::write(state.path().join(MEMORY), "{]").unwrap();
    assert_eq!(store.read_memory(), Memory::default());
}

#[test]
fn a_store_that_cannot_be_written_names_the_file() {
    let (state, store) = store();
    fs::remove_dir_all(state.path().join("attachments")).unwrap();
    let error = store.write(&fixture::stored("one", 1)).unwrap_err();
    assert!(error.to_string().contains("attachments/c-"), "{error}");
}
