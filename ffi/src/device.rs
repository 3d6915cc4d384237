//! What every kind of port gives when it is opened.

use crate::mbuf::Mbuf;
use millrace_fastpath::port::PortQueue;

/// An opened port: the device, and one queue for each worker that is to poll it.
pub struct Opened {
    /// Owns what the queues work on. Drop the queues first, then this.
    pub device: Box<dyn Device>,
    /// Each belongs to one worker at a time.
    pub queues: Vec<Box<dyn PortQueue<Mbuf>>>,
}

/// The control thread's side of a port. Dropping it, after its queues, gives back everything it holds: socket
/// files, programs, interfaces, DPDK devices.
pub trait Device: Send {
    /// The kind of port, as the configuration names it.
    fn kind(&self) -> &'static str;

    /// Whether there is somebody at the other end.
    fn link(&self) -> Link;

    /// What else there is to say of it, for people: name and value.
    fn details(&self) -> Vec<(&'static str, String)>;

    /// Says whether what the other end has stays there when this is dropped, and when the process ends in whatever way: the
    /// interface of a TAP. Other kinds make nothing that could stay.
    ///
    /// # Errors
    /// The kernel's.
    fn set_lasting(&self, lasting: bool) -> std::io::Result<()> {
        let _ = lasting;
        Ok(())
    }
}

/// Whether there is somebody at the other end of a port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// Frames can be exchanged.
    Up,
    /// Frames cannot be exchanged.
    Down {
        /// Why, for people.
        reason: String,
    },
}
