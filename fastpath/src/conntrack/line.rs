//! The unit of the flow table's memory: one cache line of eight words.

use crate::sync::atomics::{AtomicU64, Ordering};
use crate::sync::upper_halves_equal;

/// One cache line of eight 64-bit words. All access is atomic and, but for the index, relaxed: what a word means
/// and who writes it when is said in [`super::entry`] and [`super::index`].
#[repr(C, align(64))]
#[derive(Debug)]
pub struct Line([AtomicU64; Line::WORDS]);

#[cfg(not(loom))]
const _: () = assert!(size_of::<Line>() == 64 && align_of::<Line>() == 64);

impl Default for Line {
    fn default() -> Self {
        Line(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

impl Line {
    /// Words in a line.
    pub const WORDS: usize = 8;

    /// Memory for a table on the heap, all zeroes.
    pub fn zeroed(count: usize) -> Box<[Line]> {
        (0..count).map(|_| Line::default()).collect()
    }

    /// Reads a word.
    #[inline(always)]
    pub(super) fn get(&self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }

    /// Writes a word.
    #[inline(always)]
    pub(super) fn set(&self, word: usize, value: u64) {
        self.0[word].store(value, Ordering::Relaxed);
    }

    /// Makes all words zero.
    pub(super) fn clear(&self) {
        (0..Line::WORDS).for_each(|word| self.set(word, 0));
    }

    /// Which words have this upper half, a bit each.
    #[inline(always)]
    pub(super) fn tagged(&self, upper: u32) -> u32 {
        upper_halves_equal(&self.0, upper)
    }

    /// The word itself, for the index's protocol.
    #[inline(always)]
    pub(super) fn word(&self, word: usize) -> &AtomicU64 {
        &self.0[word]
    }
}
