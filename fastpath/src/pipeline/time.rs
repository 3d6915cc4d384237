//! Time as the pipeline is given it.

use crate::conntrack::Ticks;

/// Nanoseconds of a monotonic clock. All workers of a node use the same one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Nanos(pub u64);

impl Nanos {
    /// In the flow table's coarse unit.
    #[inline(always)]
    pub const fn ticks(self) -> Ticks {
        Ticks::from_nanos(self.0)
    }
}
