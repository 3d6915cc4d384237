//! The time of the data path.

use millrace_fastpath::pipeline::Nanos;
use nix::time::{ClockId, clock_gettime};

/// Nanoseconds of the kernel's monotonic clock. It is the same for all processes until the next boot, so times in a
/// flow table stay meaningful over a restart of the daemon. Zero never occurs on a running system.
pub fn now() -> Nanos {
    // The monotonic clock exists on every Linux and cannot be refused.
    let Ok(time) = clock_gettime(ClockId::CLOCK_MONOTONIC) else { return Nanos(1) };
    Nanos(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
