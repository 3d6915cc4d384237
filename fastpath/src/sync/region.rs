//! A slice in memory that somebody else provides: a mapped file, hugepages, or the heap.

use std::any::Any;
use std::ops::Deref;

/// A shared slice of `T` whose memory is kept alive by an owner, whatever that is.
///
/// Only types without a destructor that any byte pattern makes valid are put in foreign memory (here: atomics),
/// so mapping a file that an earlier process wrote is sound, if perhaps meaningless.
pub struct Region<T> {
    start: *const T,
    len: usize,
    _owner: Box<dyn Any + Send + Sync>,
}

// SAFETY: a region is a shared slice, no more: it can be sent where `&[T]` and its owner can be.
unsafe impl<T: Sync> Send for Region<T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Region<T> {}

impl<T: Send + Sync + 'static> Region<T> {
    /// Memory of the heap.
    pub fn from_heap(slice: Box<[T]>) -> Self {
        let start = slice.as_ptr();
        let len = slice.len();
        Region { start, len, _owner: Box::new(slice) }
    }

    /// Memory that `owner` keeps mapped at the same address until it is dropped.
    ///
    /// # Safety
    /// `start` points to `len` values of `T`, aligned and initialised; nobody has a unique reference to them;
    /// all this holds until `owner` is dropped.
    pub unsafe fn from_owner(start: *const T, len: usize, owner: Box<dyn Any + Send + Sync>) -> Self {
        Region { start, len, _owner: owner }
    }
}

impl<T> Deref for Region<T> {
    type Target = [T];

    #[inline(always)]
    fn deref(&self) -> &[T] {
        // SAFETY: the constructors' contract: `len` initialised values, shared, alive as long as `_owner`.
        unsafe { core::slice::from_raw_parts(self.start, self.len) }
    }
}

impl<T> std::fmt::Debug for Region<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Region").field("len", &self.len).finish_non_exhaustive()
    }
}
