//! How long a worker polls on after the last frame before it sleeps.
//!
//! Sleeping costs little and being woken costs much: in a virtual machine a halted core needs 30 µs to answer the
//! interrupt, and a pod that waits for an answer waits for that. So a worker that was woken soon after it had fallen
//! asleep polls on for longer the next time, as the kernel's own haltpoll governor does for idle cores; one that slept
//! long goes to sleep early. Where others run on the core it is not halted and waking is cheap, while a core that was
//! given away by a yield comes back when they are done, or a slice later: then a worker sleeps at once, for a time that follows
//! from how long it was away. Who computes takes whole slices; who asks and waits for answers is gone at once.

use millrace_fastpath::pipeline::Nanos;
use std::time::Duration;

/// After a long sleep.
const LEAST: Duration = Duration::from_micros(20);
/// After a short one; a sleep is short if polling for this time would have spared it.
const MOST: Duration = Duration::from_micros(100);

/// A yield that took so long has given the core to somebody.
const AWAY: Duration = Duration::from_micros(50);
/// The core counts as shared then for so many times as long, and at most for this time.
const SHARED: u64 = 6;
const MOST_SHARED: Duration = Duration::from_millis(10);

/// Follows how far apart frames come, and whether somebody else wants the core.
#[derive(Debug)]
pub(super) struct Spin {
    least: Duration,
    most: Duration,
    length: Duration,
    /// Time of the last frame.
    last_work: Nanos,
    /// Since when the worker sleeps, or slept until this poll.
    asleep_since: Option<Nanos>,
    /// When the core was offered before this poll.
    offered: Option<Nanos>,
    /// Until when the core counts as shared.
    shared_until: Nanos,
}

impl Spin {
    /// Never longer than `bound`.
    pub(super) fn new(bound: Duration) -> Self {
        let (least, most) = (LEAST.min(bound), MOST.min(bound));
        Spin {
            least,
            most,
            length: least,
            last_work: Nanos(0),
            asleep_since: None,
            offered: None,
            shared_until: Nanos(0),
        }
    }

    /// A poll found frames.
    #[inline]
    pub(super) fn worked(&mut self, now: Nanos) {
        self.last_work = now;
        self.notice(now);
        if let Some(since) = self.asleep_since.take() {
            self.length = if between(since, now) <= self.most { self.most } else { self.least };
        }
    }

    /// A poll found nothing: the time since there was something.
    pub(super) fn idle(&mut self, now: Nanos) -> Duration {
        self.notice(now);
        // Woken for something else than frames.
        if self.asleep_since.take().is_some() {
            self.length = self.least;
        }
        between(self.last_work, now)
    }

    /// Whether to sleep after so long without frames.
    pub(super) fn is_over(&self, idle: Duration, now: Nanos) -> bool {
        idle >= self.length || now < self.shared_until
    }

    /// The worker offers its core to others.
    pub(super) fn offers(&mut self, now: Nanos) {
        self.offered = Some(now);
    }

    fn notice(&mut self, now: Nanos) {
        let Some(offered) = self.offered.take() else { return };
        let away = between(offered, now);
        if away > AWAY {
            let shared = (away.as_nanos() as u64 * SHARED).min(MOST_SHARED.as_nanos() as u64);
            self.shared_until = Nanos(now.0 + shared);
        }
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
        assert!(spin.is_over(LEAST, micros(0)));
        sleep(&mut spin, 1_000, 1_030);
        assert!(!spin.is_over(LEAST, micros(0)) && spin.is_over(MOST, micros(0)));
        sleep(&mut spin, 2_000, 2_101);
        assert!(spin.is_over(LEAST, micros(0)));
    }

    #[test]
    fn what_wakes_it_without_frames_lets_it_sleep_early_again() {
        let mut spin = Spin::new(Duration::from_millis(1));
        sleep(&mut spin, 1_000, 1_030);
        spin.sleeps(micros(1_200));
        assert_eq!(spin.idle(micros(1_210)), Duration::from_micros(180));
        assert!(spin.is_over(LEAST, micros(0)));
        assert_eq!(spin.idle(micros(1_211)), Duration::from_micros(181));
    }

    #[test]
    fn a_worker_whose_core_somebody_else_has_taken_sleeps_at_once_for_a_while() {
        let mut spin = Spin::new(Duration::from_millis(1));
        spin.worked(micros(1_000));
        spin.offers(micros(1_001));
        let idle = spin.idle(micros(1_003));
        assert!(!spin.is_over(idle, micros(1_003)));
        let mut is_shared = |from, to, until| {
            spin.offers(micros(from));
            spin.worked(micros(to));
            assert!(
                spin.is_over(Duration::ZERO, micros(to)) && spin.is_over(Duration::ZERO, micros(until - 1))
            );
            assert!(!spin.is_over(Duration::ZERO, micros(until)));
        };
        // Somebody who had an answer to give, and somebody who computes.
        is_shared(1_003, 1_103, 1_703);
        is_shared(2_000, 5_000, 15_000);
    }

    #[test]
    fn it_never_polls_on_for_longer_than_the_configured_bound() {
        let mut spin = Spin::new(Duration::from_micros(5));
        sleep(&mut spin, 1_000, 1_003);
        assert!(spin.is_over(Duration::from_micros(5), micros(0)));
    }
}
