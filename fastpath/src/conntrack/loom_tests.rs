//! Every interleaving of two workers that insert the same key, or bind the same client. Run as `sync::loom_tests`.

use super::affinity::AffinityTable;
use super::entry::EntryRef;
use super::index::{Index, Inserted};
use super::line::Line;
use super::timeouts::Ticks;
use crate::sync::Region;
use crate::sync::atomics::Arc;
use crate::tables::{Address, ServiceId};

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

const SERVICE: ServiceId = ServiceId(3);

/// A table of two buckets of four entries: every client may stand everywhere.
fn bindings() -> Arc<AffinityTable> {
    let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(1)));
    Arc::new(AffinityTable::try_new(1, [HASH, !HASH, HASH << 7 | 1, HASH.rotate_left(31)], memory).unwrap())
}

fn bind(table: &AffinityTable, client: u32, backend: u32, now: u32) {
    table.keep(SERVICE, Address::from_v4(client), backend, Ticks(now));
}

fn bound(table: &AffinityTable, client: u32) -> Option<u32> {
    table.find(SERVICE, Address::from_v4(client), Ticks(20), 3600)
}

/// One of two clients at least is bound; each that is, to its own endpoint. The other was replaced unseen.
fn assert_own_or_none(table: &AffinityTable, clients: [u32; 2]) {
    let bindings = clients.map(|client| bound(table, client));
    for (client, backend) in clients.into_iter().zip(bindings) {
        assert!(backend.is_none_or(|backend| backend == 10 + client), "{clients:?}: {bindings:?}");
    }
    assert!(bindings.iter().any(Option::is_some));
    assert_eq!(table.len(), 8);
}

fn check(model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

#[test]
fn two_workers_that_bind_the_same_client_agree_and_a_third_sees_one_of_their_endpoints_or_none() {
    check(|| {
        let table = bindings();
        let [binding, reading] = [table.clone(), table.clone()];
        let binding = loom::thread::spawn(move || bind(&binding, 7, 1, 20));
        let reading = loom::thread::spawn(move || bound(&reading, 7));
        bind(&table, 7, 2, 20);
        assert!(matches!(reading.join().unwrap(), None | Some(1 | 2)));
        binding.join().unwrap();
        assert!(matches!(bound(&table, 7), Some(1 | 2)));
        assert_eq!(table.len(), 1);
        assert_eq!(table.of_service(SERVICE, Ticks(20)).count(), 1);
    });
}

#[test]
fn two_workers_that_meet_different_free_entries_still_keep_one_binding() {
    check(|| {
        let table = bindings();
        bind(&table, 1, 10, 10);
        let [first, second] = [1, 2].map(|backend| {
            let table = table.clone();
            loom::thread::spawn(move || {
                if backend == 1 {
                    table.forget(SERVICE, Address::from_v4(1));
                }
                bind(&table, 7, backend, 20);
            })
        });
        first.join().unwrap();
        second.join().unwrap();
        assert!(matches!(bound(&table, 7), Some(1 | 2)));
        assert_eq!((bound(&table, 1), table.len()), (None, 1));
    });
}

#[test]
fn a_client_that_is_replaced_while_it_is_renewed_leaves_no_trace_in_the_binding_of_the_other() {
    check(|| {
        let table = bindings();
        (0..8).for_each(|client| bind(&table, client, 10 + client, 1 + client));
        let shared = table.clone();
        let renewing = loom::thread::spawn(move || bind(&shared, 0, 10, 20));
        bind(&table, 8, 18, 20);
        renewing.join().unwrap();
        assert_own_or_none(&table, [0, 8]);
    });
}

#[test]
fn two_clients_that_want_the_same_entry_are_never_mistaken_for_each_other() {
    check(|| {
        let table = bindings();
        (0..8).for_each(|client| bind(&table, client, 10 + client, 1 + client));
        let [binding, reading] = [table.clone(), table.clone()];
        let binding = loom::thread::spawn(move || bind(&binding, 9, 19, 20));
        let reading = loom::thread::spawn(move || bound(&reading, 8));
        bind(&table, 8, 18, 20);
        // What is seen before the use is written is the digest of no endpoint.
        assert!(!matches!(reading.join().unwrap(), Some(10..=17 | 19)));
        binding.join().unwrap();
        assert_own_or_none(&table, [8, 9]);
    });
}
