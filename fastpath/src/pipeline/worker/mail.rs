//! What the control thread and a worker tell each other.

use super::super::Report;
use crate::port::{PortId, PortLimits, PortQueue, WorkerId};
use crate::sync::atomics::Arc;
use rtrb::{Consumer, Producer, RingBuffer};

/// Reports that wait for the control thread, at most.
const REPORTS: usize = 256;

/// What the control thread tells a worker.
pub enum Command<F> {
    /// Poll this queue, and send by it what goes to its port.
    Attach {
        /// Its port.
        port: PortId,
        /// The queue, owned by this worker from now on.
        queue: Box<dyn PortQueue<F>>,
        /// The port's bandwidth limits, shared by all its queues.
        limits: Option<Arc<PortLimits>>,
    },
    /// Give back all queues of a port. Frames that wait for them are sent before.
    Detach {
        /// The port.
        port: PortId,
    },
    /// Let a port carry so much from now on. Without effect for a port of which the worker has no queue.
    Limit {
        /// The port.
        port: PortId,
        /// Its limits, shared by all its queues.
        limits: Option<Arc<PortLimits>>,
    },
    /// Hand frames for a port to another worker, which has a queue of it.
    Owner {
        /// The port.
        port: PortId,
        /// That worker.
        worker: WorkerId,
    },
    /// Forget what [`Command::Owner`] said.
    Forget {
        /// The port.
        port: PortId,
    },
    /// Give back all queues and stop.
    Stop,
}

/// What a worker answers.
pub enum Reply<F> {
    /// The queues of a detached port: this worker has let go of them.
    Detached {
        /// The port.
        port: PortId,
        /// Its queues, none if it had none.
        queues: Vec<Box<dyn PortQueue<F>>>,
    },
    /// The worker does nothing any more.
    Stopped,
}

/// The control thread's end of a worker's mailbox.
pub struct ControlEnd<F> {
    /// To the worker.
    pub commands: Producer<Command<F>>,
    /// From the worker.
    pub replies: Consumer<Reply<F>>,
    /// What the worker came upon. What finds no room is lost, and told again as long as it matters.
    pub reports: Consumer<Report>,
}

/// The worker's end of its mailbox.
pub struct Mailbox<F> {
    pub(super) commands: Consumer<Command<F>>,
    pub(super) replies: Producer<Reply<F>>,
    pub(super) reports: Producer<Report>,
}

/// A mailbox for `capacity` commands and `capacity` replies. Who lets replies pile up stops the worker from taking
/// further commands, not from forwarding.
pub fn mailbox<F>(capacity: usize) -> (ControlEnd<F>, Mailbox<F>) {
    let (commands, command_end) = RingBuffer::new(capacity);
    let (reply_end, replies) = RingBuffer::new(capacity);
    let (report_end, reports) = RingBuffer::new(REPORTS);
    let mailbox = Mailbox { commands: command_end, replies: reply_end, reports: report_end };
    (ControlEnd { commands, replies, reports }, mailbox)
}
