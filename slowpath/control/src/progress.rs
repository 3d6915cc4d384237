//! Whether the control thread gets on with its work, for those who must not wait for it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

/// How long a change may wait for its publication, and the control thread be silent, before the node counts as ill:
/// twice the sync period of kube-proxy. Opening hundreds of configured ports takes seconds.
const STALLED: Duration = Duration::from_secs(60);

/// What the control thread has done last. Clones show the same.
#[derive(Clone, Debug)]
pub struct Progress(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Since when the oldest change waits that is not published yet.
    waiting: Option<Instant>,
    /// When a change was handed over last.
    queued: Option<SystemTime>,
    /// When tables were last published.
    published: SystemTime,
    /// When the control thread last came round.
    beat: Instant,
    /// Whether this node may get traffic of load balancers.
    eligible: bool,
    /// Whether this node was known at any time.
    known: bool,
}

/// How the node is, as a service proxy.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProxyHealth {
    /// Whether changes are published.
    pub healthy: bool,
    /// Whether the node stays: it is not being deleted and not about to be.
    pub eligible: bool,
    /// When tables were last published.
    pub published: SystemTime,
}

impl Progress {
    /// A control thread that begins at this moment.
    pub(crate) fn new() -> Self {
        let state = State {
            waiting: None,
            queued: None,
            published: SystemTime::now(),
            beat: Instant::now(),
            eligible: true,
            known: false,
        };
        Progress(Arc::new(Mutex::new(state)))
    }

    /// The health at `now`.
    pub fn health(&self, now: Instant) -> ProxyHealth {
        let state = self.state();
        let is_late = |since: Instant| now.saturating_duration_since(since) >= STALLED;
        ProxyHealth {
            healthy: !is_late(state.beat) && !state.waiting.is_some_and(is_late),
            eligible: state.eligible,
            published: state.published,
        }
    }

    /// When a change was handed over last.
    pub(crate) fn queued(&self) -> Option<SystemTime> {
        self.state().queued
    }

    /// A change has been handed over.
    pub(crate) fn note_queued(&self, now: Instant) {
        let mut state = self.state();
        state.waiting.get_or_insert(now);
        state.queued = Some(SystemTime::now());
    }

    /// The control thread comes round.
    pub(crate) fn note_beat(&self, now: Instant) {
        self.state().beat = now;
    }

    /// Tables have been published. `leaving` says whether this node is about to go; nothing if there is no such node: it is
    /// not known yet, or has been deleted.
    pub(crate) fn note_published(&self, now: Instant, leaving: Option<bool>) {
        let mut state = self.state();
        state.waiting = None;
        state.published = SystemTime::now();
        state.beat = now;
        state.known |= leaving.is_some();
        state.eligible = !leaving.unwrap_or(state.known);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole, whoever panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_that_waits_too_long_is_ill_until_it_is_published() {
        let (progress, start) = (Progress::new(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        progress.note_queued(at(10));
        progress.note_queued(at(60));
        progress.note_beat(at(69));
        assert!(progress.health(at(69)).healthy);
        assert!(!progress.health(at(70)).healthy, "the oldest counts");
        progress.note_published(at(71), None);
        assert!(progress.health(at(71)).healthy);
        assert!(progress.queued().is_some());
    }

    #[test]
    fn a_control_thread_that_does_not_come_round_is_ill() {
        let (progress, start) = (Progress::new(), Instant::now());
        assert!(progress.health(start + Duration::from_secs(59)).healthy);
        assert!(!progress.health(start + STALLED + Duration::from_secs(1)).healthy);
        progress.note_beat(start + Duration::from_secs(62));
        assert!(progress.health(start + Duration::from_secs(100)).healthy);
    }

    #[test]
    fn a_node_is_eligible_until_it_is_known_to_go() {
        let progress = Progress::new();
        let now = Instant::now();
        let eligible_after = |leaving| {
            progress.note_published(now, leaving);
            progress.health(now).eligible
        };
        assert!(eligible_after(None), "not known yet");
        assert!(eligible_after(Some(false)));
        assert!(!eligible_after(Some(true)));
        assert!(eligible_after(Some(false)), "the taint was taken away");
        assert!(!eligible_after(None), "deleted");
    }
}
