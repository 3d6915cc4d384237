//! How fast changes of the cluster reach the workers, and what load balancers are told.

use crate::control::Control;
use crate::histogram::Histogram;
use crate::programming::Programming;
use crate::progress::Progress;
use millrace_api::ObjectError;
use millrace_fastpath::port::Frame;
use millrace_fastpath::sync::Epoch;
use millrace_model::{HealthCheck, Incoming, Kind, Model, Seen, WithoutLocal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::watch;

/// The health checks that the node is to answer, by port.
pub type HealthChecks = Arc<BTreeMap<u16, HealthCheck>>;

/// What is measured at each publication, and told after it.
pub(crate) struct Sync {
    progress: Progress,
    /// The model's generation of the checks that were told last.
    generation: Option<u64>,
    checks: watch::Sender<HealthChecks>,
    duration: Histogram,
    programming: Programming,
    load: Option<Duration>,
}

/// What metrics want to know of changes, of both families if not said otherwise.
#[derive(Clone, Debug)]
pub struct SyncReading {
    /// How long compiling and publishing took each time.
    pub duration: Histogram,
    /// Time from a change in the cluster until every worker used it: `[IPv4, IPv6]`.
    pub programming: [Histogram; 2],
    /// Time from when a change was heard of until every worker used it, by kind of object.
    pub changes: BTreeMap<Kind, Histogram>,
    /// How long it took at the start until everything was in the tables.
    pub load: Option<Duration>,
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
            duration: Histogram::new((0..15).map(|power| 0.001 * f64::from(1 << power))),
            programming: Programming::new(),
            load: None,
        }
    }

    /// Takes note of a publication that began at `began` and ends now; who has announced `epoch` uses it. It had something
    /// new in it if it was `changed`, and `incoming` by Services and EndpointSlices.
    pub(crate) fn note(
        &mut self,
        began: Instant,
        epoch: Epoch,
        changed: bool,
        incoming: &Incoming,
        model: &Model,
    ) {
        let now = Instant::now();
        if changed {
            self.duration.observe(now.saturating_duration_since(began));
        }
        self.programming.publish(epoch, incoming, now);
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

    /// Takes note that a change which is in the model now was heard of at this time.
    pub fn note_heard(&mut self, kind: Kind, heard: Instant) {
        self.sync.programming.hear(kind, heard);
    }

    /// Takes note of how long it took at the start until everything was in the tables.
    pub fn note_load(&mut self, load: Duration) {
        self.sync.load = Some(load);
    }

    /// When to [look at the workers](Self::look_at_workers) again, if what was published may not have reached all of them.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        self.sync.programming.next_look()
    }

    /// Looks whether what was published is used by every worker.
    pub(crate) fn look_at_workers(&mut self) {
        if self.next_look().is_some() {
            self.sync.programming.look(&self.domain, Instant::now(), SystemTime::now());
        }
    }

    /// How fast changes reach the workers. Looks at all services with a `Local` policy.
    pub fn read_sync(&mut self) -> SyncReading {
        self.look_at_workers();
        let incoming = self.model.incoming();
        SyncReading {
            duration: self.sync.duration.clone(),
            programming: self.sync.programming.triggers().clone(),
            changes: self.sync.programming.changes().clone(),
            load: self.sync.load,
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
    }
}
