//! A value that is replaced as a whole while readers look at it.

use super::atomics::{Arc, AtomicPtr, Mutex, Ordering};
use super::quiescence::{Domain, Epoch, Reader};

/// The current value of `T`, read without a lock and replaced by one pointer store. Old values are freed by the
/// publisher, never by a reader.
#[derive(Debug)]
pub struct Snapshot<T> {
    current: AtomicPtr<T>,
    retired: Mutex<Vec<(Epoch, *mut T)>>,
    domain: Arc<Domain>,
}

// SAFETY: the raw pointers are owned boxes of `T`; they are handed out as `&T` only, and freed by whoever holds the
// snapshot.
unsafe impl<T: Send + Sync> Send for Snapshot<T> {}
// SAFETY: as above.
unsafe impl<T: Send + Sync> Sync for Snapshot<T> {}

impl<T> Snapshot<T> {
    /// A snapshot whose first value is `value`, read by readers of `domain`.
    pub fn new(domain: &Arc<Domain>, value: Box<T>) -> Self {
        Snapshot {
            current: AtomicPtr::new(Box::into_raw(value)),
            retired: Mutex::new(Vec::new()),
            domain: Arc::clone(domain),
        }
    }

    /// Makes `value` the current value and frees the former ones that nobody can see any more. Gives the epoch that, once
    /// [`passed`](Domain::passed), has every reader read `value` or a later one from its next burst on.
    pub fn publish(&self, value: Box<T>) -> Epoch {
        let old = self.current.swap(Box::into_raw(value), Ordering::SeqCst);
        let epoch = self.domain.advance();
        if let Ok(mut retired) = self.retired.lock() {
            retired.push((epoch, old));
        }
        self.reclaim();
        epoch
    }

    /// Frees former values that nobody can see any more; gives how many are still waiting.
    pub fn reclaim(&self) -> usize {
        let Ok(mut retired) = self.retired.lock() else { return 0 };
        retired.retain(|&(epoch, old)| {
            let visible = !self.domain.passed(epoch);
            if !visible {
                // SAFETY: `old` came from `Box::into_raw`, is in the list once, and no reader holds it: each has
                // been quiescent since it was unpublished.
                drop(unsafe { Box::from_raw(old) });
            }
            visible
        });
        retired.len()
    }

    /// The current value, for as long as `reader` does not quiesce.
    ///
    /// # Panics
    /// When the reader is off line or of another domain: a bug of the caller that would be a use after free.
    #[inline]
    pub fn read<'a>(&'a self, reader: &'a Reader) -> &'a T {
        assert!(reader.is_online(), "reader is off line");
        assert!(Arc::ptr_eq(&self.domain, reader.domain()), "reader is of another domain");
        // SAFETY: the pointer is a live box: it is freed only after every on-line reader of this domain has been
        // quiescent, which needs `&mut Reader` and so the end of the borrow given out here.
        unsafe { &*self.current.load(Ordering::Acquire) }
    }
}

impl<T> Drop for Snapshot<T> {
    fn drop(&mut self) {
        let current = self.current.load(Ordering::Acquire);
        // SAFETY: unique access: no borrow from `read` can be alive, as each borrows the snapshot.
        drop(unsafe { Box::from_raw(current) });
        if let Ok(mut retired) = self.retired.lock() {
            for (_, old) in retired.drain(..) {
                // SAFETY: as above; each retired box is in the list once.
                drop(unsafe { Box::from_raw(old) });
            }
        }
    }
}
