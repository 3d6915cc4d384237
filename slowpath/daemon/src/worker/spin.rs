//! How long a worker polls on after the last frame before it sleeps.
//!
//! Sleeping costs little and being woken costs much: in a virtual machine a halted core needs 30 µs to answer the
//! interrupt, and a pod that waits for an answer waits for that. So a worker that was woken soon after it had fallen
//! asleep polls on for longer the next time, as the kernel's own haltpoll governor does for idle cores; one that slept
//! long goes to sleep early.

use millrace_fastpath::pipeline::Nanos;
use std::time::Duration;

/// After a long sleep.
const LEAST: Duration = Duration::from_micros(20);
/// After a short one; a sleep is short if polling for this time would have spared it.
const MOST: Duration = Duration::from_micros(100);

/// Follows how far apart frames come.
#[derive(Debug)]
pub(super) struct Spin {
    least: Duration,
    most: Duration,
    length: Duration,
    /// Time of the last frame.
    last_work: Nanos,
    /// Since when the worker sleeps, or slept until this poll.
    asleep_since: Option<Nanos>,
}

impl Spin {
    /// Never longer than `bound`.
    pub(super) fn new(bound: Duration) -> Self {
        let (least, most) = (LEAST.min(bound), MOST.min(bound));
        Spin { least, most, length: least, last_work: Nanos(0), asleep_since: None }
    }

    /// A poll found frames.
    #[inline]
    pub(super) fn worked(&mut self, now: Nanos) {
        self.last_work = now;
        if let Some(since) = self.asleep_since.take() {
            self.length = if between(since, now) <= self.most { self.most } else { self.least };
        }
    }

    /// A poll found nothing: the time since there was something.
    pub(super) fn idle(&mut self, now: Nanos) -> Duration {
        // Woken for something else than frames.
        if self.asleep_since.take().is_some() {
            self.length = self.least;
        }
        between(self.last_work, now)
    }

    /// Whether to sleep after so long without frames.
    pub(super) fn is_over(&self, idle: Duration) -> bool {
        idle >= self.length
    }

    /// The worker goes to sleep.
    pub(super) fn sleeps(&mut self, now: Nanos) {
        self.asleep_since = Some(now);
    }
}

fn between(from: Nanos, to: Nanos) -> Duration {
    Duration::from_nanos(to.0.saturating_sub(from.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micros(micros: u64) -> Nanos {
        Nanos(micros * 1_000)
    }

    /// Sleeps from `from` and is woken by a frame at `to`.
    fn sleep(spin: &mut Spin, from: u64, to: u64) {
        spin.sleeps(micros(from));
        spin.worked(micros(to));
    }

    #[test]
    fn a_worker_polls_on_for_longer_when_frames_come_soon_after_it_fell_asleep() {
        let mut spin = Spin::new(Duration::from_millis(1));
        assert!(spin.is_over(LEAST));
        sleep(&mut spin, 1_000, 1_030);
        assert!(!spin.is_over(LEAST) && spin.is_over(MOST));
        sleep(&mut spin, 2_000, 2_101);
        assert!(spin.is_over(LEAST));
    }

    #[test]
    fn what_wakes_it_without_frames_lets_it_sleep_early_again() {
        let mut spin = Spin::new(Duration::from_millis(1));
        sleep(&mut spin, 1_000, 1_030);
        spin.sleeps(micros(1_200));
        assert_eq!(spin.idle(micros(1_210)), Duration::from_micros(180));
        assert!(spin.is_over(LEAST));
        assert_eq!(spin.idle(micros(1_211)), Duration::from_micros(181));
    }

    #[test]
    fn it_never_polls_on_for_longer_than_the_configured_bound() {
        let mut spin = Spin::new(Duration::from_micros(5));
        sleep(&mut spin, 1_000, 1_003);
        assert!(spin.is_over(Duration::from_micros(5)));
    }
}
