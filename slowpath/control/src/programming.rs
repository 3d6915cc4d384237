//! How long changes of the cluster take until the workers use them.
//!
//! A worker announces after each poll that it holds no reference to tables, and in which epoch
//! (`fastpath/src/sync/quiescence.rs`). One that has announced the epoch of a publication reads what was published, or
//! something newer, from its next burst on; one that sleeps reads it in its next burst, whenever that is. So the workers have
//! nothing to do for this: the control thread looks at what they announce, right after the publication and, while one of them
//! is still in a burst, again after pauses. What it finds is late by a pause at most.

use crate::histogram::Histogram;
use millrace_fastpath::sync::{Domain, Epoch};
use millrace_model::{AddressFamily, Incoming, Kind};
use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant, SystemTime};

/// The first pause and the longest one. Each is twice the one before: bursts take microseconds, while a worker that has lost
/// its core is away for milliseconds.
const FIRST_PAUSE: Duration = Duration::from_micros(20);
const LONGEST_PAUSE: Duration = Duration::from_millis(1);

/// Greatest values of the buckets in seconds. The goal for a change of one endpoint is 5 ms.
const BOUNDS: [f64; 19] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.001_5, 0.002, 0.003, 0.004, 0.005, 0.007_5, 0.01, 0.025, 0.05, 0.1,
    0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Changes on their way to the workers, and how long those took that have arrived.
pub(crate) struct Programming {
    /// Changes in the model that were not published yet, with the time that they were heard of.
    heard: Vec<(Kind, Instant)>,
    /// Publications that a worker may not use yet, oldest first.
    under_way: VecDeque<UnderWay>,
    pause: Duration,
    next_look: Instant,
    started: SystemTime,
    changes: BTreeMap<Kind, Histogram>,
    triggers: [Histogram; 2],
}

/// What a publication had in it.
struct UnderWay {
    epoch: Epoch,
    heard: Vec<(Kind, Instant)>,
    triggers: Vec<(AddressFamily, SystemTime)>,
}

impl Programming {
    /// Nothing is under way; triggers before this moment do not count.
    pub(crate) fn new() -> Self {
        Programming {
            heard: Vec::new(),
            under_way: VecDeque::new(),
            pause: FIRST_PAUSE,
            next_look: Instant::now(),
            started: SystemTime::now(),
            changes: BTreeMap::new(),
            triggers: [by_trigger(), by_trigger()],
        }
    }

    /// A change has been applied that was heard of at this time.
    pub(crate) fn hear(&mut self, kind: Kind, heard: Instant) {
        self.heard.push((kind, heard));
    }

    /// Everything until now has been published; who has announced `epoch` uses it.
    pub(crate) fn publish(&mut self, epoch: Epoch, incoming: &Incoming, now: Instant) {
        // What changed before this process ran says nothing about it.
        let triggers = incoming.triggers().filter(|&(_, time)| time > self.started).collect::<Vec<_>>();
        let heard = std::mem::take(&mut self.heard);
        if !heard.is_empty() || !triggers.is_empty() {
            self.under_way.push_back(UnderWay { epoch, heard, triggers });
            (self.pause, self.next_look) = (FIRST_PAUSE, now);
        }
    }

    /// When to look again, if anything is under way.
    pub(crate) fn next_look(&self) -> Option<Instant> {
        (!self.under_way.is_empty()).then_some(self.next_look)
    }

    /// Looks whether publications have arrived by `now`, which is `wall` on the wall clock.
    pub(crate) fn look(&mut self, readers: &Domain, now: Instant, wall: SystemTime) {
        while let Some(arrived) = self.under_way.pop_front_if(|first| readers.passed(first.epoch)) {
            self.observe(&arrived, now, wall);
        }
        if self.next_look <= now {
            self.next_look = now + self.pause;
            self.pause = LONGEST_PAUSE.min(self.pause * 2);
        }
    }

    fn observe(&mut self, arrived: &UnderWay, now: Instant, wall: SystemTime) {
        for &(kind, heard) in &arrived.heard {
            let histogram = self.changes.entry(kind).or_insert_with(|| Histogram::new(BOUNDS));
            histogram.observe(now.saturating_duration_since(heard));
        }
        for &(family, time) in &arrived.triggers {
            // A clock that is ahead of ours gives nothing to measure.
            let duration = wall.duration_since(time).unwrap_or_default();
            self.triggers[usize::from(family == AddressFamily::V6)].observe(duration);
        }
    }

    /// From what was heard until every worker used it, by kind.
    pub(crate) fn changes(&self) -> &BTreeMap<Kind, Histogram> {
        &self.changes
    }

    /// From what made slices change until every worker used it: `[IPv4, IPv6]`.
    pub(crate) fn triggers(&self) -> &[Histogram; 2] {
        &self.triggers
    }
}

/// The buckets of kube-proxy's `network_programming_duration_seconds` (pkg/proxy/metrics/metrics.go).
fn by_trigger() -> Histogram {
    let seconds = (1..60).chain((60..=115).step_by(5)).chain((120..=300).step_by(30)).map(f64::from);
    Histogram::new([0.0, 0.25, 0.5].into_iter().chain(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_fastpath::sync::Snapshot;

    fn publish(programming: &mut Programming, tables: &Snapshot<u8>, now: Instant) {
        let epoch = tables.publish(Box::new(1));
        programming.publish(epoch, &Incoming::default(), now);
    }

    fn arrived(programming: &Programming) -> u64 {
        programming.changes().values().map(Histogram::count).sum()
    }

    #[test]
    fn a_change_has_arrived_when_the_last_worker_has_ended_its_burst() {
        let domain = Domain::new(2);
        let tables = Snapshot::new(&domain, Box::new(0));
        let [mut quick, mut slow] = [(); 2].map(|()| domain.register().unwrap());
        quick.online();
        slow.online();
        let (mut programming, start) = (Programming::new(), Instant::now());
        let at = |micros| start + Duration::from_micros(micros);
        let look = |programming: &mut Programming, micros| {
            programming.look(&domain, at(micros), SystemTime::now());
        };
        programming.hear(Kind::Service, start);
        assert_eq!(programming.next_look(), None, "it is not published yet");
        publish(&mut programming, &tables, at(100));
        assert_eq!(programming.next_look(), Some(at(100)));
        quick.quiesce();
        look(&mut programming, 100);
        assert_eq!((arrived(&programming), programming.next_look()), (0, Some(at(120))));
        look(&mut programming, 120);
        assert_eq!(programming.next_look(), Some(at(160)), "pauses grow");
        slow.quiesce();
        look(&mut programming, 400);
        assert_eq!(programming.next_look(), None);
        let services = &programming.changes()[&Kind::Service];
        assert_eq!((services.count(), services.sum()), (1, Duration::from_micros(400)));
    }

    #[test]
    fn nobody_waits_for_a_worker_that_sleeps_and_a_later_publication_does_not_hide_an_earlier_one() {
        let domain = Domain::new(2);
        let tables = Snapshot::new(&domain, Box::new(0));
        let [mut awake, mut asleep] = [(); 2].map(|()| domain.register().unwrap());
        awake.online();
        asleep.online();
        asleep.offline();
        let (mut programming, start) = (Programming::new(), Instant::now());
        programming.hear(Kind::Node, start);
        publish(&mut programming, &tables, start);
        awake.quiesce();
        programming.hear(Kind::Node, start);
        publish(&mut programming, &tables, start);
        programming.look(&domain, start, SystemTime::now());
        assert_eq!(arrived(&programming), 1);
        awake.quiesce();
        programming.look(&domain, start, SystemTime::now());
        assert_eq!((arrived(&programming), programming.next_look()), (2, None));
    }

    #[test]
    fn a_publication_without_anything_new_is_not_looked_after() {
        let domain = Domain::new(1);
        let tables = Snapshot::new(&domain, Box::new(0));
        let mut programming = Programming::new();
        publish(&mut programming, &tables, Instant::now());
        assert_eq!(programming.next_look(), None);
    }

    #[test]
    fn the_buckets_are_in_order_and_those_of_triggers_are_kube_proxys() {
        assert!(BOUNDS.is_sorted() && BOUNDS.contains(&0.005));
        let bounds: Vec<f64> = by_trigger().buckets().iter().map(|(bound, _)| *bound).collect();
        assert_eq!(bounds.len(), 3 + 59 + 12 + 7 + 1);
        assert!(bounds.is_sorted());
        for bound in [0.0, 0.25, 0.5, 1.0, 59.0, 60.0, 65.0, 115.0, 120.0, 150.0, 300.0] {
            assert!(bounds.contains(&bound), "{bound}");
        }
    }
}
