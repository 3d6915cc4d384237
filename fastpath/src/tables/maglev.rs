//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
//! section 3.4): an even table of backends that changes little when a backend comes or goes.

use thiserror::Error;

/// Table sizes, all prime. The smallest with at least 32 slots a backend is taken (so a share is off by at most
/// about 3 %), which keeps the tables of 10,000 small services small.
const SIZES: [usize; 6] = [127, 509, 2_039, 8_191, 32_749, 65_521];
const SLOTS_PER_BACKEND: usize = 32;

/// Why no table can be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum MaglevError {
    /// Nothing to choose from.
    #[error("a Maglev table needs at least one backend")]
    Empty,
    /// More backends than the largest table can spread over.
    #[error("{0} backends are more than the largest Maglev table has slots (65521)")]
    TooMany(usize),
}

/// A lookup table from hashes to backend numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MaglevTable(Box<[u16]>);

impl MaglevTable {
    /// A table over backends named by stable, distinct numbers. The same names in the same order give the same
    /// table on every node.
    pub fn try_new(names: &[u64]) -> Result<Self, MaglevError> {
        let wanted = names.len().saturating_mul(SLOTS_PER_BACKEND);
        let size = SIZES.iter().copied().find(|&size| size >= wanted).unwrap_or(SIZES[SIZES.len() - 1]);
        match names.len() {
            0 => Err(MaglevError::Empty),
            1 => Ok(MaglevTable(Box::new([0]))),
            count if count > size => Err(MaglevError::TooMany(count)),
            _ => Ok(MaglevTable(populate(names, size))),
        }
    }

    /// The backend number for a hash. All 64 bits count.
    #[inline]
    pub fn lookup(&self, hash: u64) -> usize {
        usize::from(self.0[self.slot(hash)])
    }

    /// Asks for the line that [`lookup`](MaglevTable::lookup) will need for this hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        crate::sync::prefetch(&self.0[self.slot(hash)]);
    }

    #[inline]
    fn slot(&self, hash: u64) -> usize {
        ((u128::from(hash) * self.0.len() as u128) >> 64) as usize
    }

    /// Slots of the table.
    pub fn slots(&self) -> &[u16] {
        &self.0
    }
}

/// The paper's algorithm: in turn, each backend takes the next free slot of its own permutation.
fn populate(names: &[u64], size: usize) -> Box<[u16]> {
    const FREE: u16 = u16::MAX;
    let mut slots = vec![FREE; size].into_boxed_slice();
    let mut walks: Vec<Walk> = names.iter().map(|&name| Walk::new(name, size)).collect();
    let mut filled = 0;
    loop {
        for (number, walk) in walks.iter_mut().enumerate() {
            while slots[walk.at] != FREE {
                walk.step(size);
            }
            slots[walk.at] = number as u16;
            filled += 1;
            if filled == size {
                return slots;
            }
        }
    }
}

/// A backend's permutation of the slots: `(offset + i × skip) mod size`, walked by addition.
struct Walk {
    at: usize,
    skip: usize,
}

impl Walk {
    fn new(name: u64, size: usize) -> Self {
        let offset = mix(name) % size as u64;
        let skip = mix(name ^ 0x5bd1_e995_9d1b_54a5) % (size as u64 - 1) + 1;
        Walk { at: offset as usize, skip: skip as usize }
    }

    fn step(&mut self, size: usize) {
        self.at += self.skip;
        if self.at >= size {
            self.at -= size;
        }
    }
}

/// Spreads a number over all 64 bits (the finaliser of SplitMix64, Steele et al. 2014).
pub(super) const fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
