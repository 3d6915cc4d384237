//! The queues that a worker owns, and the way out to those that it does not.

use super::super::{Egress, Handover, Nanos, Report, Wait, WorkerCounter, WorkerCounters};
use super::parking::{Outcome, Parking};
use super::shaping::Shaping;
use crate::port::{BURST, Burst, DropReason, Frame, PortId, PortLimits, PortQueue, WorkerId};
use crate::sync::atomics::Arc;
use crate::tables::TableSet;
use rtrb::Producer;

/// A queue that this worker owns.
struct OwnQueue<F> {
    port: PortId,
    queue: Box<dyn PortQueue<F>>,
    /// Frames that leave with the next burst.
    staged: Burst<F>,
    /// Whether frames moved since the last flush.
    active: bool,
    /// What the port's bandwidth limit keeps waiting, if it has one.
    shaping: Option<Box<Shaping<F>>>,
}

/// Where frames for a port go.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Nowhere: no such port.
    None,
    /// To a queue of this worker, by position.
    Own(u16),
    /// To a queue of another worker.
    Other(WorkerId),
}

/// All queues of a worker.
pub(super) struct Queues<F> {
    own: Vec<OwnQueue<F>>,
    /// By port number.
    ways: Vec<Way>,
    handover: Handover<F>,
    reports: Producer<Report>,
    parking: Parking<F>,
    counters: Arc<WorkerCounters>,
}

impl<F: Frame> Queues<F> {
    pub(super) fn new(
        handover: Handover<F>,
        reports: Producer<Report>,
        counters: Arc<WorkerCounters>,
    ) -> Self {
        let parking = Parking::new();
        Queues { own: Vec::new(), ways: Vec::new(), handover, reports, parking, counters }
    }

    /// Whether packets wait for a neighbour.
    #[inline]
    pub(super) fn has_parked(&self) -> bool {
        !self.parking.is_empty()
    }

    /// Moves packets that need not wait any more into `into`: all that arrived by one port, which it gives. Those that
    /// have waited too long are dropped.
    pub(super) fn unpark(&mut self, tables: &TableSet, now: Nanos, into: &mut Burst<F>) -> Option<PortId> {
        let ready = self.parking.take_ready(tables, into);
        while let Some(late) = self.parking.take_late(now) {
            self.drop_frame(DropReason::NeighbourUnresolved, late);
        }
        ready
    }

    pub(super) fn len(&self) -> usize {
        self.own.len()
    }

    /// Receives from the queue in this position; gives its port.
    #[inline]
    pub(super) fn receive(&mut self, position: usize, into: &mut Burst<F>, now: Nanos) -> Option<PortId> {
        let own = self.own.get_mut(position)?;
        match &mut own.shaping {
            None => {
                own.queue.rx_burst(into);
            }
            Some(shaping) => shaping.receive(&mut *own.queue, into, now.0),
        }
        let count = into.len();
        if count == 0 {
            return None;
        }
        own.active = true;
        Some(own.port)
    }

    /// Sends what other workers have given; gives the number of frames.
    pub(super) fn receive_handed_over(&mut self) -> usize {
        let mut count = 0;
        for position in 0..self.handover.givers() {
            for _ in 0..BURST {
                let Some((port, frame)) = self.handover.take(position) else { break };
                count += 1;
                match self.way(port) {
                    Way::Own(own) => self.stage(own, frame),
                    // The port went, or moved, while the frame was on its way.
                    _ => self.drop_frame(DropReason::PortGone, frame),
                }
            }
        }
        count
    }

    /// Sends everything that is staged, and what has waited for its turn. With `all`, queues without traffic are flushed
    /// as well.
    pub(super) fn flush(&mut self, all: bool, now: Nanos) {
        for own in &mut self.own {
            if !own.staged.is_empty() {
                own.send(&self.counters);
            }
            own.send_due(&self.counters, now, false);
            if own.active || all {
                own.active = false;
                own.queue.flush();
            }
        }
        self.handover.wake();
    }

    /// Takes over a queue.
    pub(super) fn attach(
        &mut self,
        port: PortId,
        queue: Box<dyn PortQueue<F>>,
        limits: Option<Arc<PortLimits>>,
    ) {
        let position = self.own.len() as u16;
        self.own.push(OwnQueue {
            port,
            queue,
            staged: Burst::new(),
            active: true,
            shaping: limits.map(|limits| Box::new(Shaping::new(limits))),
        });
        if !matches!(self.way(port), Way::Own(_)) {
            self.set_way(port, Way::Own(position));
        }
    }

    /// Replaces a port's limits. What waited for the former ones' turn goes first.
    pub(super) fn limit(&mut self, port: PortId, limits: Option<&Arc<PortLimits>>) {
        for own in self.own.iter_mut().filter(|own| own.port == port) {
            match (&mut own.shaping, limits) {
                (Some(shaping), limits) => shaping.replace(limits.cloned().unwrap_or_default()),
                (None, Some(limits)) => own.shaping = Some(Box::new(Shaping::new(Arc::clone(limits)))),
                (None, None) => {}
            }
        }
    }

    /// Lets go of all queues of a port, after what is staged for them was sent.
    pub(super) fn detach(&mut self, port: PortId) -> Vec<Box<dyn PortQueue<F>>> {
        let mut detached = Vec::new();
        for position in (0..self.own.len()).rev() {
            if self.own[position].port == port {
                let mut own = self.own.remove(position);
                own.send(&self.counters);
                own.send_due(&self.counters, Nanos::default(), true);
                own.queue.flush();
                detached.push(own.queue);
            }
        }
        self.set_way(port, Way::None);
        self.renumber();
        detached
    }

    /// Ports of which this worker has a queue.
    pub(super) fn ports(&self) -> Vec<PortId> {
        let mut ports: Vec<PortId> = self.own.iter().map(|own| own.port).collect();
        ports.dedup();
        ports
    }

    /// Hands frames for a port to another worker, or to nobody; a queue of our own goes first.
    pub(super) fn set_owner(&mut self, port: PortId, worker: Option<WorkerId>) {
        if !matches!(self.way(port), Way::Own(_)) {
            self.set_way(port, worker.map_or(Way::None, Way::Other));
        }
    }

    /// Asks all queues for an event. False, and none is asked for, when frames wait already.
    pub(super) fn arm(&mut self) -> bool {
        let waiting =
            self.handover.set_asleep(true) || self.has_parked() || !self.own.iter_mut().all(OwnQueue::arm);
        if waiting {
            self.disarm();
        }
        !waiting
    }

    pub(super) fn disarm(&mut self) {
        self.handover.set_asleep(false);
        self.own.iter_mut().for_each(|own| own.queue.disarm());
    }

    pub(super) fn wake_fds(&self) -> Vec<i32> {
        self.own.iter().flat_map(|own| own.queue.wake_fds()).collect()
    }

    #[inline(always)]
    fn way(&self, port: PortId) -> Way {
        self.ways.get(usize::from(port.0)).copied().unwrap_or(Way::None)
    }

    fn set_way(&mut self, port: PortId, way: Way) {
        let index = usize::from(port.0);
        if self.ways.len() <= index {
            self.ways.resize(index + 1, Way::None);
        }
        self.ways[index] = way;
    }

    /// After a removal: the first queue of each port is the one that sends.
    fn renumber(&mut self) {
        for position in (0..self.own.len()).rev() {
            self.set_way(self.own[position].port, Way::Own(position as u16));
        }
    }

    #[inline(always)]
    fn stage(&mut self, position: u16, frame: F) {
        let own = &mut self.own[usize::from(position)];
        if own.staged.is_full() {
            own.send(&self.counters);
        }
        // There is room: sending leaves nothing behind.
        let _ = own.staged.try_push(frame);
    }
}

impl<F: Frame> Egress<F> for Queues<F> {
    #[inline(always)]
    fn send(&mut self, port: PortId, frame: F) {
        match self.way(port) {
            Way::Own(position) => self.stage(position, frame),
            Way::Other(worker) => match self.handover.give(usize::from(worker.0), port, frame) {
                Ok(()) => self.counters.add(WorkerCounter::HandedOver, 1),
                Err(frame) => self.drop_frame(DropReason::HandoverFull, frame),
            },
            Way::None => self.drop_frame(DropReason::PortGone, frame),
        }
    }

    fn drop_frame(&mut self, reason: DropReason, frame: F) {
        self.counters.dropped(reason);
        drop(frame);
    }

    fn park(&mut self, wait: &Wait, frame: F) {
        let outcome = self.parking.put(*wait, frame);
        if let Outcome::Refused(frame) = outcome {
            return self.drop_frame(DropReason::NeighbourUnresolved, frame);
        }
        self.counters.add(WorkerCounter::Parked, 1);
        if let Outcome::New = outcome {
            self.report(Report::Unresolved { port: wait.port, address: wait.address });
        }
    }

    fn report(&mut self, report: Report) {
        // Nobody waits for this one: the others have room.
        let is_offer = matches!(report, Report::Established(_));
        if is_offer && self.reports.slots() < self.reports.buffer().capacity() / 2 {
            return;
        }
        // Without room it is lost: what still matters is told again.
        let _ = self.reports.push(report);
    }
}

impl<F: Frame> OwnQueue<F> {
    /// Asks for an event. What waits for its turn is waited for awake.
    fn arm(&mut self) -> bool {
        self.shaping.as_ref().is_none_or(|shaping| !shaping.is_busy()) && self.queue.arm()
    }

    /// Sends what is staged, or has it wait if the port is limited.
    fn send(&mut self, counters: &WorkerCounters) {
        match &mut self.shaping {
            Some(shaping) if shaping.has_them_wait() => {
                let lost = shaping.queue_up(&mut self.staged);
                (0..lost).for_each(|_| counters.dropped(DropReason::Bandwidth));
            }
            _ => self.send_now(counters),
        }
    }

    /// Sends frames of a limited port whose turn it is, or all of them.
    fn send_due(&mut self, counters: &WorkerCounters, now: Nanos, all: bool) {
        let Some(mut shaping) = self.shaping.take() else { return };
        loop {
            shaping.take_due(&mut self.staged, now.0, all);
            if self.staged.is_empty() {
                break;
            }
            self.send_now(counters);
        }
        self.shaping = Some(shaping);
    }

    /// Sends what is staged; what the queue does not take is dropped.
    fn send_now(&mut self, counters: &WorkerCounters) {
        self.active = true;
        self.queue.tx_burst(&mut self.staged);
        for frame in self.staged.drain(..) {
            counters.dropped(DropReason::TxQueueFull);
            drop(frame);
        }
    }
}
