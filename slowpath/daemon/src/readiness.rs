//! Whether the daemon serves yet.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Set once the source's objects are in the tables and the configured ports have been opened.
#[derive(Clone, Debug, Default)]
pub(crate) struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub(crate) fn set(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
