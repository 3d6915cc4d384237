//! What a worker does that has nothing to do.

use super::sleep::Bed;
use super::spin::Spin;
use millrace_config::Idle;
use millrace_fastpath::pipeline::{Nanos, Worker};
use millrace_fastpath::port::Frame;
use std::time::Duration;

/// Empty polls after which a busy worker offers its core to others once. On a core of its own that costs a system call
/// in 1,024 polls; on a shared one it is what keeps the kernel's own threads and the pods alive.
const BUSY_YIELD: u32 = 1_024;

/// How a worker spends idle time.
pub(crate) enum IdlePolicy {
    /// It polls on.
    Busy {
        /// Empty polls in a row.
        empty: u32,
    },
    /// It polls on for a while, then sleeps until there is something.
    Adaptive {
        /// How long it polls on.
        spin: Spin,
        /// Bound on the delay of a frame where nobody wakes the worker.
        max_latency: Duration,
        /// Where it sleeps.
        bed: Box<Bed>,
    },
}

impl IdlePolicy {
    pub(crate) fn new(rule: Idle, bed: Bed) -> Self {
        match rule {
            Idle::Busy => IdlePolicy::Busy { empty: 0 },
            Idle::Adaptive { max_latency } => {
                IdlePolicy::Adaptive { spin: Spin::new(max_latency), max_latency, bed: Box::new(bed) }
            }
        }
    }

    /// To be called after every poll with the number of frames that it moved.
    #[inline]
    pub(crate) fn after_poll<F: Frame>(&mut self, worker: &mut Worker<F>, frames: usize, now: Nanos) {
        match self {
            IdlePolicy::Busy { empty } if frames > 0 => *empty = 0,
            IdlePolicy::Busy { empty } => {
                *empty += 1;
                if empty.is_multiple_of(BUSY_YIELD) {
                    std::thread::yield_now();
                }
            }
            IdlePolicy::Adaptive { spin, .. } if frames > 0 => spin.worked(now),
            IdlePolicy::Adaptive { spin, max_latency, bed } => {
                let idle = spin.idle(now);
                if !spin.is_over(idle, now) {
                    // The pod that is to send the next frame may need this core.
                    spin.offers(now);
                    std::thread::yield_now();
                } else if worker.arm() {
                    spin.sleeps(now);
                    bed.sleep(worker.wake_fds(), *max_latency);
                    worker.disarm();
                } else if idle > *max_latency {
                    // A queue that can only be polled, and has been empty for long: look in from time to time.
                    std::thread::sleep(*max_latency / 2);
                }
            }
        }
    }
}
