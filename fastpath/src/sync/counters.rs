//! Counters with one writer.

use core::sync::atomic::{AtomicU64, Ordering};

/// `N` counters that one thread adds to and any thread reads. Adding is a plain load and store, without the bus
/// lock of a read-modify-write.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters<const N: usize>([AtomicU64; N]);

impl<const N: usize> Default for Counters<N> {
    fn default() -> Self {
        Counters([const { AtomicU64::new(0) }; N])
    }
}

impl<const N: usize> Counters<N> {
    /// Adds to one counter. Only the owning worker calls this: two writers would lose counts (and nothing else).
    #[inline]
    pub fn add(&self, index: usize, amount: u64) {
        let counter = &self.0[index];
        counter.store(counter.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
    }

    /// Reads one counter.
    pub fn get(&self, index: usize) -> u64 {
        self.0[index].load(Ordering::Relaxed)
    }
}
