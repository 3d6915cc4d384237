//! Queues of ports: what a worker polls.

use super::Frame;
use arrayvec::ArrayVec;

/// Frames in a burst, at most.
pub const BURST: usize = 64;

/// Frames on their way through a worker, in order.
pub type Burst<F> = ArrayVec<F, BURST>;

/// Names a port on this node. Handed out by the control thread; a number is used again only after every worker
/// has forgotten its former holder.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PortId(pub u16);

impl PortId {
    /// No port: frames that the node itself made.
    pub const NONE: PortId = PortId(u16::MAX);
}

/// Names a worker thread, counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkerId(pub u16);

/// One receive queue and one transmit queue of a port, owned by one worker. No call takes a lock or waits. What it gives and takes
/// it counts itself ([`PortCounters`](super::PortCounters)).
pub trait PortQueue<F: Frame>: Send {
    /// Appends the frames that have arrived to `into`, as many as it has room for; gives their number.
    fn rx_burst(&mut self, into: &mut Burst<F>) -> usize;

    /// Sends frames from the front of `frames` and removes them; gives their number. What the queue has no room
    /// for stays in `frames`. A frame that can never be sent is dropped and counted by the port.
    fn tx_burst(&mut self, frames: &mut Burst<F>) -> usize;

    /// Called once at the end of every poll of the worker: the place for what is done in one go for many bursts
    /// (a wake-up of the kernel or a guest, reaping of completions).
    fn flush(&mut self) {}

    /// Asks for an event on the queue's file descriptors when frames arrive. False when frames are already
    /// waiting, or when this queue can only be polled.
    fn arm(&mut self) -> bool {
        false
    }

    /// Takes [`arm`](PortQueue::arm) back: the worker polls again.
    fn disarm(&mut self) {}

    /// File descriptors that become readable when frames arrive on an armed queue.
    fn wake_fds(&self) -> Vec<i32> {
        Vec::new()
    }
}
