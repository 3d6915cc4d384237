//! Every interleaving of small cases. Run with `RUSTFLAGS="--cfg loom" cargo test -p millrace-fastpath --release`.

use super::*;
use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, Ordering};

/// A value that knows whether it was freed; reading it after that fails the check.
struct Probe(Arc<AtomicBool>);

impl Drop for Probe {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_reader_never_holds_a_value_that_was_freed() {
    loom::model(|| {
        let freed = Arc::new(AtomicBool::new(false));
        let domain = Domain::new(1);
        let snapshot = Arc::new(Snapshot::new(&domain, Box::new(Probe(freed.clone()))));
        let mut reader = domain.register().unwrap();
        let shared = snapshot.clone();
        let thread = loom::thread::spawn(move || {
            reader.online();
            for _ in 0..2 {
                let value = shared.read(&reader);
                assert!(!value.0.load(Ordering::SeqCst), "use after free");
                reader.quiesce();
            }
            reader.offline();
        });
        snapshot.publish(Box::new(Probe(Arc::new(AtomicBool::new(false)))));
        snapshot.reclaim();
        thread.join().unwrap();
        assert_eq!(snapshot.reclaim(), 0);
        assert!(freed.load(Ordering::SeqCst));
    });
}

#[test]
fn a_grace_period_ends_for_a_reader_that_goes_offline_and_online() {
    loom::model(|| {
        let domain = Domain::new(1);
        let mut reader = domain.register().unwrap();
        let thread = loom::thread::spawn(move || {
            reader.online();
            reader.offline();
        });
        let epoch = domain.advance();
        thread.join().unwrap();
        assert!(domain.passed(epoch));
    });
}
