//! What threads share: quiescence and snapshots, counters, memory of foreign origin, prefetch.
//!
//! The only part of this crate with unsafe code. The protocols are checked with loom (`--cfg loom`), which runs
//! every interleaving of small cases under the C11 memory model. What loom cannot see: memory that is not behind
//! its own types (a mapped file), and real time.

#![allow(unsafe_code, reason = "the one room for it in this crate; every block proves itself")]

pub(crate) mod atomics;
mod counters;
mod halves;
#[cfg(all(test, loom))]
mod loom_tests;
mod prefetch;
mod quiescence;
mod region;
mod snapshot;
#[cfg(all(test, not(loom)))]
mod tests;

pub use counters::Counters;
pub use halves::upper_halves_equal;
pub use prefetch::prefetch;
pub use quiescence::{Domain, Epoch, Reader};
pub use region::Region;
pub use snapshot::Snapshot;
