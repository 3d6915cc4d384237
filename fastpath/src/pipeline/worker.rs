//! One worker: it polls the queues that it owns, runs the pipeline, and sends bursts out.

mod mail;
mod parking;
#[cfg(all(test, not(loom)))]
mod parking_tests;
mod queues;
mod shaping;
#[cfg(all(test, not(loom)))]
mod tests;

pub use mail::{Command, ControlEnd, Mailbox, Reply, mailbox};

use super::counters::{WorkerCounter, WorkerCounters};
use super::{Handover, Nanos, Pipeline};
use crate::conntrack::{AffinityTable, FlowTable};
use crate::port::{Burst, Frame, PortId, WorkerId};
use crate::sync::atomics::Arc;
use crate::sync::{Reader, Snapshot};
use crate::tables::TableSet;
use queues::Queues;
use rtrb::{Consumer, Producer};

/// Every so many polls also the queues that carried nothing are flushed.
const IDLE_FLUSH_POLLS: u64 = 64;

/// What a worker is made of.
pub struct WorkerParts<F> {
    /// Its number.
    pub id: WorkerId,
    /// Random, its own.
    pub seed: u64,
    /// The flows of the node.
    pub flows: Arc<FlowTable>,
    /// Which clients stay with which endpoints.
    pub affinity: Arc<AffinityTable>,
    /// The tables of the node.
    pub tables: Arc<Snapshot<TableSet>>,
    /// Its membership in the domain of `flows` and `tables`.
    pub reader: Reader,
    /// What it counts into.
    pub counters: Arc<WorkerCounters>,
    /// Its mailbox.
    pub mailbox: Mailbox<F>,
    /// Its rings to and from other workers.
    pub handover: Handover<F>,
}

/// One worker. Its thread calls [`poll`](Worker::poll) for as long as there is work.
pub struct Worker<F> {
    id: WorkerId,
    pipeline: Pipeline,
    queues: Queues<F>,
    tables: Arc<Snapshot<TableSet>>,
    reader: Reader,
    commands: Consumer<Command<F>>,
    replies: Producer<Reply<F>>,
    counters: Arc<WorkerCounters>,
    rx: Burst<F>,
    polls: u64,
    stopped: bool,
}

impl<F: Frame> Worker<F> {
    /// A worker without queues. It comes on line with its first poll.
    pub fn new(parts: WorkerParts<F>) -> Self {
        Worker {
            id: parts.id,
            pipeline: Pipeline::new(parts.flows, parts.affinity, Arc::clone(&parts.counters), parts.seed),
            queues: Queues::new(parts.handover, parts.mailbox.reports, Arc::clone(&parts.counters)),
            tables: parts.tables,
            reader: parts.reader,
            commands: parts.mailbox.commands,
            replies: parts.mailbox.replies,
            counters: parts.counters,
            rx: Burst::new(),
            polls: 0,
            stopped: false,
        }
    }

    /// One round over all queues: receives, forwards, sends, and looks into the mailbox. Gives the number of frames
    /// that moved.
    pub fn poll(&mut self, now: Nanos) -> usize {
        if !self.reader.is_online() {
            self.reader.online();
        }
        let mut frames = self.queues.receive_handed_over();
        for position in 0..self.queues.len() {
            let Some(port) = self.queues.receive(position, &mut self.rx, now) else { continue };
            frames += self.rx.len();
            let tables = self.tables.read(&self.reader);
            self.pipeline.run(tables, port, &mut self.rx, now, &mut self.queues);
        }
        if self.queues.has_parked() {
            frames += self.go_on_with_parked(now);
        }
        self.polls += 1;
        self.queues.flush(self.polls.is_multiple_of(IDLE_FLUSH_POLLS), now);
        self.reader.quiesce();
        self.pipeline.maintain(now);
        self.read_mail();
        self.counters.add(WorkerCounter::Polls, 1);
        self.counters.add(WorkerCounter::BusyPolls, u64::from(frames > 0));
        frames
    }

    /// Prepares to sleep: true when nothing waits, all queues will wake their descriptors, and nobody waits for
    /// this worker's quiescence.
    pub fn arm(&mut self) -> bool {
        let idle = self.commands.is_empty() && self.queues.arm();
        if idle {
            self.reader.offline();
            self.counters.add(WorkerCounter::Sleeps, 1);
        }
        idle
    }

    /// Takes [`arm`](Worker::arm) back, after the sleep.
    pub fn disarm(&mut self) {
        self.queues.disarm();
        self.reader.online();
    }

    /// The descriptors to wait for between [`arm`](Worker::arm) and [`disarm`](Worker::disarm). They change only by
    /// commands.
    pub fn wake_fds(&self) -> Vec<i32> {
        self.queues.wake_fds()
    }

    /// Its number.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Ports of which this worker polls a queue.
    pub fn ports(&self) -> Vec<PortId> {
        self.queues.ports()
    }

    /// Whether it was told to stop, and has let go of everything.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Sends on what waited for a neighbour that is known by now.
    #[cold]
    fn go_on_with_parked(&mut self, now: Nanos) -> usize {
        let mut frames = 0;
        let tables = self.tables.read(&self.reader);
        while let Some(port) = self.queues.unpark(tables, now, &mut self.rx) {
            frames += self.rx.len();
            self.pipeline.run_again(tables, port, &mut self.rx, now, &mut self.queues);
        }
        frames
    }

    fn read_mail(&mut self) {
        while let Ok(command) = self.commands.peek() {
            // It stays in the ring until there is room for its answers.
            let answers = match command {
                Command::Stop => self.queues.ports().len() + 1,
                Command::Detach { .. } => 1,
                Command::Attach { .. }
                | Command::Limit { .. }
                | Command::Owner { .. }
                | Command::Forget { .. } => 0,
            };
            if self.replies.slots() < answers {
                return;
            }
            let Ok(command) = self.commands.pop() else { return };
            match command {
                Command::Attach { port, queue, limits } => {
                    self.queues.attach(port, queue, limits);
                }
                Command::Limit { port, limits } => self.queues.limit(port, limits.as_ref()),
                Command::Detach { port } => self.detach(port),
                Command::Owner { port, worker } => self.queues.set_owner(port, Some(worker)),
                Command::Forget { port } => self.queues.set_owner(port, None),
                Command::Stop => self.stop(),
            }
        }
    }

    fn detach(&mut self, port: PortId) {
        let queues = self.queues.detach(port);
        self.answer(Reply::Detached { port, queues });
    }

    fn stop(&mut self) {
        for port in self.queues.ports() {
            self.detach(port);
        }
        self.stopped = true;
        self.reader.offline();
        self.answer(Reply::Stopped);
    }

    fn answer(&mut self, reply: Reply<F>) {
        // There is room: `read_mail` looked for it before it took the command.
        let _ = self.replies.push(reply);
    }
}
