//! How fast changes of the cluster reach the workers, and what load balancers are told.

use crate::control::Control;
use crate::histogram::Histogram;
use crate::progress::Progress;
use millrace_api::ObjectError;
use millrace_fastpath::port::Frame;
use millrace_model::{AddressFamily, HealthCheck, Incoming, Model, Seen, WithoutLocal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};
use tokio::sync::watch;

/// The health checks that the node is to answer, by port.
pub type HealthChecks = Arc<BTreeMap<u16, HealthCheck>>;

/// What is measured at each publication, and told after it.
pub(crate) struct Sync {
    progress: Progress,
    /// The model's generation of the checks that were told last.
    generation: Option<u64>,
    checks: watch::Sender<HealthChecks>,
    started: SystemTime,
    duration: Histogram,
    programming: [Histogram; 2],
}

/// What metrics want to know of changes, of both families if not said otherwise.
#[derive(Clone, Debug)]
pub struct SyncReading {
    /// How long compiling and publishing took each time.
    pub duration: Histogram,
    /// Time from a change in the cluster to its publication: `[IPv4, IPv6]`.
    pub programming: [Histogram; 2],
    /// When a change was handed over last.
    pub queued: Option<SystemTime>,
    /// When tables were last published.
    pub published: SystemTime,
    /// What came in so far.
    pub seen: Seen,
    /// Services that changed since the last publication.
    pub pending_services: u64,
    /// EndpointSlices that changed since the last publication.
    pub pending_slices: u64,
    /// Service ports without an endpoint here.
    pub without_local: WithoutLocal,
}

impl Sync {
    pub(crate) fn new() -> Self {
        Sync {
            progress: Progress::new(),
            generation: None,
            checks: watch::Sender::new(HealthChecks::default()),
            started: SystemTime::now(),
            duration: Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power))),
            programming: [programming(), programming()],
        }
    }

    /// Takes note of a publication that began at `began` and ends now. It had something new in it if it was `changed`, and
    /// `incoming` by Services and EndpointSlices.
    pub(crate) fn note(&mut self, began: Instant, changed: bool, incoming: &Incoming, model: &Model) {
        let now = Instant::now();
        if changed {
            self.duration.observe(now.saturating_duration_since(began));
        }
        let wall = SystemTime::now();
        // What changed before this process ran says nothing about it.
        for (family, time) in incoming.triggers().filter(|&(_, time)| time > self.started) {
            let at = usize::from(family == AddressFamily::V6);
            // A clock that is ahead of ours gives nothing to measure.
            self.programming[at].observe(wall.duration_since(time).unwrap_or_default());
        }
        self.progress.note_published(now, model.is_leaving());
    }

    /// Tells the health checks if they changed.
    pub(crate) fn tell_checks(&mut self, model: &Model) {
        let generation = model.health_generation();
        if self.generation.replace(generation) != Some(generation) {
            self.checks.send_replace(Arc::new(model.health_checks()));
        }
    }
}

/// The buckets of kube-proxy's `network_programming_duration_seconds` (pkg/proxy/metrics/metrics.go).
fn programming() -> Histogram {
    let seconds = (1..60).chain((60..=115).step_by(5)).chain((120..=300).step_by(30)).map(f64::from);
    Histogram::new([0.0, 0.25, 0.5].into_iter().chain(seconds))
}

impl<F: Frame> Control<F> {
    /// How the control thread gets on.
    pub fn progress(&self) -> Progress {
        self.sync.progress.clone()
    }

    /// The health checks that the node is to answer. They begin when the source's objects are complete.
    pub fn health_checks(&self) -> watch::Receiver<HealthChecks> {
        self.sync.checks.subscribe()
    }

    /// Replaces what is known of health checks that cannot be answered.
    pub fn set_health_errors(&mut self, errors: Vec<ObjectError>) {
        self.health_errors = errors;
    }

    /// How fast changes reach the workers. Looks at all services with a `Local` policy.
    pub fn read_sync(&self) -> SyncReading {
        let incoming = self.model.incoming();
        SyncReading {
            duration: self.sync.duration.clone(),
            programming: self.sync.programming.clone(),
            queued: self.sync.progress.queued(),
            published: self.sync.progress.health(Instant::now()).published,
            seen: self.model.seen(),
            pending_services: incoming.services,
            pending_slices: incoming.slices,
            without_local: self.model.without_local_endpoints(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buckets_are_those_of_kube_proxy() {
        let bounds =
            |histogram: &Histogram| histogram.buckets().iter().map(|(bound, _)| *bound).collect::<Vec<_>>();
        let sync = Sync::new();
        let duration = bounds(&sync.duration);
        assert_eq!((duration.len(), duration[0], duration[14]), (16, 0.001, 16.384));
        let programming = bounds(&sync.programming[0]);
        assert_eq!(programming.len(), 3 + 59 + 12 + 7 + 1);
        assert!(programming.is_sorted());
        for bound in [0.0, 0.25, 0.5, 1.0, 59.0, 60.0, 65.0, 115.0, 120.0, 150.0, 300.0] {
            assert!(programming.contains(&bound), "{bound}");
        }
    }
}
