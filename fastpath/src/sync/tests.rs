use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

struct CountsDrops(Arc<AtomicUsize>, u64);

impl Drop for CountsDrops {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn an_old_value_is_freed_only_after_every_online_reader_was_quiescent() {
    let drops = Arc::new(AtomicUsize::new(0));
    let domain = Domain::new(2);
    let snapshot = Snapshot::new(&domain, Box::new(CountsDrops(drops.clone(), 1)));
    let (mut first, mut second) = (domain.register().unwrap(), domain.register().unwrap());
    first.online();
    second.online();
    assert_eq!(snapshot.read(&first).1, 1);

    snapshot.publish(Box::new(CountsDrops(drops.clone(), 2)));
    first.quiesce();
    assert_eq!(snapshot.reclaim(), 1, "the second reader may still look at it");
    assert_eq!(drops.load(Ordering::SeqCst), 0);

    second.quiesce();
    assert_eq!(snapshot.reclaim(), 0);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
    assert_eq!(snapshot.read(&second).1, 2);
    drop(snapshot);
    assert_eq!(drops.load(Ordering::SeqCst), 2);
}

#[test]
fn a_reader_that_is_offline_is_not_waited_for() {
    let domain = Domain::new(1);
    let mut reader = domain.register().unwrap();
    reader.online();
    reader.offline();
    domain.synchronize();
    assert!(domain.register().is_none(), "one slot only");
    drop(reader);
    assert!(domain.register().is_some());
}

#[test]
#[should_panic(expected = "off line")]
fn reading_while_offline_is_refused() {
    let domain = Domain::new(1);
    let snapshot = Snapshot::new(&domain, Box::new(1));
    let reader = domain.register().unwrap();
    snapshot.read(&reader);
}

#[test]
fn readers_in_threads_never_see_a_freed_value() {
    let domain = Domain::new(3);
    let drops = Arc::new(AtomicUsize::new(0));
    let snapshot = Snapshot::new(&domain, Box::new(CountsDrops(drops.clone(), 0)));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut reader = domain.register().unwrap();
            let snapshot = &snapshot;
            scope.spawn(move || {
                reader.online();
                let mut last = 0;
                while last < 1000 {
                    let now = snapshot.read(&reader).1;
                    assert!(now >= last);
                    last = now;
                    reader.quiesce();
                }
            });
        }
        for value in 1..=1000 {
            snapshot.publish(Box::new(CountsDrops(drops.clone(), value)));
        }
    });
    snapshot.reclaim();
    assert_eq!(drops.load(Ordering::SeqCst), 1000);
}

#[test]
fn a_region_of_the_heap_is_the_slice_it_was_made_from() {
    let region = Region::from_heap(vec![3_u32, 4, 5].into_boxed_slice());
    assert_eq!(&*region, &[3, 4, 5]);
}
