//! What every kind of port gives when it is opened.

use crate::mbuf::Mbuf;
use crate::xdp::XdpError;
use millrace_fastpath::port::{ClaimChanges, PortQueue};
use millrace_fastpath::wire::ethernet::MacAddr;

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

    /// Changes which packets come to a port that takes only what is claimed. Claiming what is claimed and releasing what is
    /// not changes nothing; after a failure the same changes can be made again.
    ///
    /// # Errors
    /// [`XdpError::Claim`] names the first claim that could not be made or released; the changes before it are made. A claim
    /// for which there is no room is no error, but [`unclaimed`](Device::unclaimed).
    fn steer(&self, changes: &ClaimChanges) -> Result<(), XdpError> {
        let _ = changes;
        Ok(())
    }

    /// What it should take by [`steer`](Device::steer) and has no room for, if there is anything, for people. It is tried
    /// again when there is room.
    fn unclaimed(&self) -> Option<String> {
        None
    }

    /// The MAC address of a NIC, or of the interface of an AF_XDP port.
    fn mac(&self) -> Option<MacAddr> {
        None
    }

    /// The largest IP packet in bytes that a NIC, or the interface of an AF_XDP port, takes now.
    fn mtu(&self) -> Option<u16> {
        None
    }

    /// Takes frames as long as the interface's MTU, which is this now. False when the port has to be opened anew for it.
    ///
    /// # Errors
    /// The kernel's.
    fn follow_mtu(&self, mtu: u16) -> Result<bool, XdpError> {
        let _ = mtu;
        Ok(true)
    }

    /// The number of the kernel's interface behind it, if the kernel can carry connections past the data path from and to that
    /// ([`Shortcuts`](crate::shortcut::Shortcuts)).
    fn shortcut_end(&self) -> Option<u32> {
        None
    }

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
