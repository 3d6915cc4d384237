use super::super::tests::{find, flow, key_v4, key_v6, table};
use super::super::{FlowKey, FlowTableConfig, Line, NewFlow, Ticks, Timeouts, Tracker};
use super::*;
use crate::sync::atomics::Arc;
use crate::sync::{Domain, Region};
use crate::tables::ServiceId;
use proptest::prelude::*;
use std::collections::HashSet;

const CONNECTIONS: u32 = 1024;

/// The memory of a process that ends now.
fn left(table: &FlowTable) -> Box<[Line]> {
    let lines = Line::zeroed(table.memory().len());
    for (line, left) in lines.iter().zip(table.memory()) {
        (0..Line::WORDS).for_each(|word| line.set(word, left.get(word)));
    }
    lines
}

/// The table of the next one, which would have another secret.
fn next(lines: Box<[Line]>) -> Arc<FlowTable> {
    let config =
        FlowTableConfig { connections: CONNECTIONS, secret: [9, 8, 7, 6], timeouts: Timeouts::default() };
    Arc::new(FlowTable::try_new(config, Region::from_heap(lines), &Domain::new(4)).unwrap())
}

fn keys(flow: &NewFlow) -> [FlowKey; 2] {
    [flow.key, flow.original.rewritten.reversed()]
}

/// Every entry in use is found by its key, and every connection is in use or can be had.
fn check(table: &Arc<FlowTable>) {
    let mut used = HashSet::new();
    for connection in 0..table.fresh() {
        for number in [EntryRef(connection << 1), EntryRef(connection << 1 | 1)] {
            let entry = table.entry(number);
            if entry.is_used() {
                assert_eq!(find(table, &entry.key()), Some(number));
                assert_eq!((entry.epoch(), entry.arrival()), (NO_EPOCH, PortId(u16::MAX)));
                used.insert(connection);
            }
        }
    }
    assert_eq!(table.len() as usize, used.len());
    let mut free = Vec::new();
    table.take_free(&mut free, CONNECTIONS as usize + 1);
    assert_eq!(table.available(), 0);
    let distinct: HashSet<u32> = free.iter().copied().collect();
    assert_eq!((distinct.len(), distinct.is_disjoint(&used)), (free.len(), true));
    assert_eq!(free.len() + used.len(), CONNECTIONS as usize);
    free.into_iter().for_each(|connection| table.give_free(connection));
}

#[test]
fn flows_live_on_and_have_their_verdicts_resolved_again() {
    let (former, _reader) = table(CONNECTIONS);
    let mut tracker = Tracker::new(former.clone());
    let made: Vec<NewFlow> =
        (0..300).map(|n| flow(if n % 2 == 0 { key_v4(n, 1000) } else { key_v6(n, 1000) }, 8080)).collect();
    made.iter().for_each(|flow| assert!(tracker.insert(flow, Ticks(7)).is_ok()));
    let gone = made.iter().take(100);
    gone.for_each(|flow| tracker.remove(find(&former, &flow.key).unwrap()));
    // Killed here: with free connections at hand, and others that wait for a grace period.
    let resumed = next(left(&former));
    check(&resumed);
    assert_eq!((resumed.len(), resumed.secret()), (200, former.secret()));
    for flow in made.iter().take(100) {
        assert!(keys(flow).iter().all(|key| find(&resumed, key).is_none()));
    }
    for flow in made.iter().skip(100) {
        let [original, reply] = keys(flow).map(|key| find(&resumed, &key).unwrap());
        assert_eq!(original.peer(), reply);
        let entry = resumed.entry(original);
        assert_eq!((entry.rewritten(), entry.service()), (flow.original.rewritten, ServiceId(9)));
        assert_eq!((entry.last_seen(), resumed.entry(reply).rewritten()), (Ticks(7), flow.key.reversed()));
        assert_ne!(entry.epoch(), flow.original.epoch);
    }
    // It is a table like any other.
    let mut tracker = Tracker::new(resumed.clone());
    for n in 0..100 {
        tracker.insert(&flow(key_v4(n, 2000), 8080), Ticks(8)).unwrap();
    }
    tracker.remove(find(&resumed, &made[200].key).unwrap());
    assert!(find(&resumed, &made[200].key).is_none());
}

#[test]
fn what_was_made_or_removed_by_half_is_gone() {
    let (former, _reader) = table(CONNECTIONS);
    let mut tracker = Tracker::new(former.clone());
    let kept = flow(key_v4(1, 1), 80);
    tracker.insert(&kept, Ticks(1)).unwrap();
    // Taken out by one key.
    let halved = flow(key_v4(2, 2), 80);
    let number = tracker.insert(&halved, Ticks(1)).unwrap();
    let hash = |key: FlowKey| key.words().hash(former.secret());
    assert!(former.index().remove(hash(keys(&halved)[1]), number.peer()));
    // Put in by one key, and claimed by the other.
    let claimed = flow(key_v6(3, 3), 80);
    let number = tracker.insert(&claimed, Ticks(1)).unwrap();
    assert!(former.index().remove(hash(keys(&claimed)[1]), number.peer()));
    assert!(former.index().claim(hash(keys(&claimed)[1]), number.peer(), |_| false).is_ok());
    // Fragments have one key.
    let fragments = FlowKey { fragment: true, ..key_v4(4, 4) };
    let fragments = NewFlow { reply: None, ..flow(fragments, 80) };
    tracker.insert(&fragments, Ticks(1)).unwrap();
    let resumed = next(left(&former));
    check(&resumed);
    assert_eq!(resumed.len(), 2);
    for flow in [&halved, &claimed] {
        assert!(keys(flow).iter().all(|key| find(&resumed, key).is_none()));
    }
    assert!(find(&resumed, &kept.key).is_some() && find(&resumed, &fragments.key).is_some());
}

#[test]
fn a_process_that_ends_while_it_resumes_loses_nothing() {
    let (former, _reader) = table(CONNECTIONS);
    let mut tracker = Tracker::new(former.clone());
    let made: Vec<NewFlow> = (0..500).map(|n| flow(key_v4(n, 1), 80)).collect();
    made.iter().for_each(|flow| assert!(tracker.insert(flow, Ticks(1)).is_ok()));
    // As it is in the middle: sorted, with an index that has half of them.
    former.index().clear();
    former.memory()[IDENTITY].set(SORTED, 1);
    former.memory()[COUNTS].set(super::super::table::AVAILABLE, 5);
    (0..250).for_each(|connection| assert!(former.enter(connection)));
    let resumed = next(left(&former));
    check(&resumed);
    assert_eq!(resumed.len(), 500);
    assert_eq!(resumed.memory()[IDENTITY].get(SORTED), 0);
}

#[test]
fn memory_of_another_layout_or_size_is_cleared() {
    for word in [0, 1] {
        let (former, _reader) = table(CONNECTIONS);
        Tracker::new(former.clone()).insert(&flow(key_v4(1, 1), 80), Ticks(1)).unwrap();
        let lines = left(&former);
        lines[IDENTITY].set(word, lines[IDENTITY].get(word) + 1);
        let resumed = next(lines);
        check(&resumed);
        assert!(resumed.is_empty() && resumed.secret() == &[9, 8, 7, 6]);
        assert_eq!(next(left(&resumed)).secret(), &[9, 8, 7, 6]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the memory holds, the table that comes of it is in order.
    #[test]
    fn any_contents_make_a_table(seed in any::<u64>(), fresh in any::<u64>(), sorted in 0u64..2) {
        let (former, _reader) = table(CONNECTIONS);
        let mut word = seed | 1;
        for line in former.memory().iter() {
            for at in 0..Line::WORDS {
                word = word.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
                // Plain words are the ones that nearly fit.
                line.set(at, if word >> 62 == 0 { word >> 33 } else { word });
            }
        }
        identity::put(&former.memory()[IDENTITY], LAYOUT, u64::from(CONNECTIONS), &[1, 2, 3, 4]);
        former.memory()[IDENTITY].set(SORTED, sorted);
        former.memory()[COUNTS].set(super::super::table::FRESH, fresh);
        let resumed = next(left(&former));
        let used = (0..resumed.fresh()).filter(|&connection| resumed.is_used(connection)).count();
        prop_assert_eq!(resumed.len() as usize, used);
        let mut tracker = Tracker::new(resumed.clone());
        for n in 0..2 * CONNECTIONS {
            let _ = tracker.insert(&flow(key_v4(n, 1), 80), Ticks(u32::MAX));
            tracker.maintain(u64::from(n) << 30);
        }
        prop_assert!(resumed.available() <= CONNECTIONS);
    }
}
