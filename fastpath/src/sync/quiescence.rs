//! Quiescent-state-based reclamation: how the control thread learns that no worker can still hold a reference to
//! what it has unpublished.
//!
//! Every reader (worker) announces, between two bursts, that it holds no reference: it copies the global epoch into
//! its own slot. A writer unpublishes, raises the global epoch, and once all readers that are on line have
//! announced that epoch or a later one, nobody can see the old object. A reader that is about to sleep goes off line
//! and is not waited for. Readers pay two plain memory accesses per burst. (Desnoyers et al., "User-Level
//! Implementations of Read-Copy Update", 2012, section 4.)

use super::atomics::{Arc, AtomicU64, Mutex, Ordering, fence, spin_loop};
use crossbeam_utils::CachePadded;

/// Slot value of a reader that holds no reference and is not waited for.
const OFFLINE: u64 = 0;
/// The first epoch.
const FIRST: u64 = 1;

/// A point in time of a [`Domain`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Epoch(u64);

/// Readers and the epoch that they announce.
#[derive(Debug)]
pub struct Domain {
    epoch: AtomicU64,
    slots: Box<[CachePadded<AtomicU64>]>,
    free: Mutex<Vec<usize>>,
}

impl Domain {
    /// A domain for at most `max_readers` readers at a time.
    pub fn new(max_readers: usize) -> Arc<Domain> {
        Arc::new(Domain {
            epoch: AtomicU64::new(FIRST),
            slots: (0..max_readers).map(|_| CachePadded::new(AtomicU64::new(OFFLINE))).collect(),
            free: Mutex::new((0..max_readers).rev().collect()),
        })
    }

    /// A new reader, off line; `None` when there are `max_readers` already.
    pub fn register(self: &Arc<Self>) -> Option<Reader> {
        let slot = self.free.lock().ok()?.pop()?;
        Some(Reader { domain: Arc::clone(self), slot, online: false })
    }

    /// Begins a grace period: it is over when [`passed`](Domain::passed) says so of the epoch given.
    pub fn advance(&self) -> Epoch {
        let epoch = self.epoch.fetch_add(1, Ordering::SeqCst) + 1;
        // Pairs with the fence in `Reader::online`: either the reader's slot is seen on line by `passed`, or the
        // reader sees what was unpublished before this call.
        fence(Ordering::SeqCst);
        Epoch(epoch)
    }

    /// The epoch now, without beginning a grace period. What is unpublished before [`advance`](Domain::advance)
    /// gives a later epoch.
    pub fn current(&self) -> Epoch {
        Epoch(self.epoch.load(Ordering::Acquire))
    }

    /// Whether every reader has been quiescent since `epoch` began.
    pub fn passed(&self, epoch: Epoch) -> bool {
        self.slots.iter().all(|slot| {
            let seen = slot.load(Ordering::Acquire);
            seen == OFFLINE || seen >= epoch.0
        })
    }

    /// Waits for a whole grace period. Not for readers that are on line: they would wait for themselves.
    pub fn synchronize(&self) {
        let epoch = self.advance();
        let mut spins = 0_u32;
        while !self.passed(epoch) {
            spins += 1;
            if spins < 100 {
                spin_loop();
            } else {
                #[cfg(not(loom))]
                std::thread::sleep(std::time::Duration::from_micros(20));
                #[cfg(loom)]
                loom::thread::yield_now();
            }
        }
    }
}

/// One thread's membership in a [`Domain`].
#[derive(Debug)]
pub struct Reader {
    domain: Arc<Domain>,
    slot: usize,
    online: bool,
}

impl Reader {
    /// Comes on line: from now on references may be taken, and grace periods wait for this reader.
    pub fn online(&mut self) {
        let epoch = self.domain.epoch.load(Ordering::SeqCst);
        self.domain.slots[self.slot].store(epoch, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        self.online = true;
    }

    /// Announces that no reference is held. Unique access proves it: references borrow from the reader.
    #[inline]
    pub fn quiesce(&mut self) {
        if self.online {
            let epoch = self.domain.epoch.load(Ordering::Acquire);
            self.domain.slots[self.slot].store(epoch, Ordering::Release);
        }
    }

    /// Goes off line: takes no references until [`online`](Reader::online) and is not waited for.
    pub fn offline(&mut self) {
        self.online = false;
        self.domain.slots[self.slot].store(OFFLINE, Ordering::Release);
    }

    /// Whether references may be taken.
    #[inline]
    pub fn is_online(&self) -> bool {
        self.online
    }

    /// The domain that this reader belongs to.
    #[inline]
    pub fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.offline();
        if let Ok(mut free) = self.domain.free.lock() {
            free.push(self.slot);
        }
    }
}
