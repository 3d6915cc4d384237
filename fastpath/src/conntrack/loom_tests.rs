//! Every interleaving of two workers that insert the same key. Run as `sync::loom_tests`.

use super::entry::EntryRef;
use super::index::{Index, Inserted};
use super::line::Line;
use crate::sync::atomics::Arc;

const HASH: u64 = 0x1234_5678_0000_0000;

/// Inserts as a tracker does: claim, then commit. Says whether this entry is in the table at the end.
fn insert(buckets: &[Line], entry: EntryRef) -> Result<bool, Inserted> {
    let index = Index::new(buckets);
    let claim = index.claim(HASH, entry, |_| true)?;
    Ok(index.commit(claim))
}

fn live(buckets: &[Line]) -> usize {
    let index = Index::new(buckets);
    (0..4).filter(|&number| index.find(HASH, |entry| entry == EntryRef(number)).is_some()).count()
}

#[test]
fn of_two_workers_with_the_same_key_exactly_one_wins_or_both_try_again() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(|| {
        let buckets: Arc<Box<[Line]>> = Arc::new(Line::zeroed(1));
        let shared = buckets.clone();
        let thread = loom::thread::spawn(move || insert(&shared, EntryRef(0)));
        let mine = insert(&buckets, EntryRef(2));
        let theirs = thread.join().unwrap();
        let winners = [&mine, &theirs].iter().filter(|outcome| ***outcome == Ok(true)).count();
        assert!(winners <= 1, "{mine:?} {theirs:?}");
        assert_eq!(live(&buckets), winners, "{mine:?} {theirs:?}");
        if winners == 0 {
            // Nobody may be told that the flow exists when it does not.
            assert!(!matches!(mine, Err(Inserted::Exists(_))) && !matches!(theirs, Err(Inserted::Exists(_))));
        }
    });
}

#[test]
fn a_removed_key_can_be_inserted_again_while_another_looks() {
    loom::model(|| {
        let buckets: Arc<Box<[Line]>> = Arc::new(Line::zeroed(1));
        assert_eq!(insert(&buckets, EntryRef(0)), Ok(true));
        let shared = buckets.clone();
        let thread = loom::thread::spawn(move || Index::new(&shared).find(HASH, |_| true));
        assert!(Index::new(&buckets).remove(HASH, EntryRef(0)));
        assert_eq!(insert(&buckets, EntryRef(2)), Ok(true));
        let seen = thread.join().unwrap();
        assert!(matches!(seen, None | Some(EntryRef(0)) | Some(EntryRef(2))));
        assert_eq!(live(&buckets), 1);
    });
}
