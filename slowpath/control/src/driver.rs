//! What the control thread needs of whoever opens devices.

use millrace_config::{ContainerPortKind, InterfaceName, PortConfig};
use millrace_fastpath::port::{ClaimChanges, PortCounters, PortId, PortQueue, Shortcut};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::error::Error;
use std::sync::Arc;

/// Why a driver or the host refused; its text names the offending value.
pub type Refusal = Box<dyn Error + Send + Sync>;

/// Opens ports. The daemon's drivers speak to DPDK and the kernel, those of tests to plain memory.
pub trait Driver<F>: Send {
    /// Opens a port: its device, and `request.config.queues` queues. Nothing is left of it on failure.
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Opened<F>, Refusal>;

    /// On how many queues a NIC receives now, from all of which an AF_XDP port is to take packets; `None` when its driver does
    /// not say.
    fn receive_queues(&self, nic: &InterfaceName) -> Option<u32> {
        let _ = nic;
        None
    }

    /// The kind of port for containers of which nobody says one.
    fn container_kind(&self) -> ContainerPortKind {
        ContainerPortKind::Tap
    }

    /// Has the kernel carry one direction of an established connection past the workers, from and to interfaces that devices name by
    /// [`Device::shortcut_end`]. It may be told again, and ends by itself after some seconds.
    fn shorten(&mut self, shortcut: &Shortcut) -> Result<(), Refusal> {
        let _ = shortcut;
        Ok(())
    }

    /// Whether the kernel can carry IPv6 connections whose addresses or ports change on the way.
    fn shortens_translated_ipv6(&self) -> bool {
        true
    }

    /// Has workers see the next packet of every connection that the kernel carries.
    fn end_shortcuts(&mut self) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What a driver is to open.
#[derive(Debug)]
pub struct OpenRequest<'a> {
    /// The port's number.
    pub id: PortId,
    /// What was asked for.
    pub config: &'a PortConfig,
    /// For AF_XDP the interface to bind to, for a veth the pair's end here, for a TAP the name to make it under.
    pub interface: Option<&'a InterfaceName>,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Where the port's losses are counted.
    pub counters: Arc<PortCounters>,
    /// Where a TAP is.
    pub place: Place,
    /// Which packets an AF_XDP port, or the host's leg, takes from the kernel.
    pub take: Take,
}

/// Which received packets a port takes from an interface that is the kernel's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Take {
    /// All: a pod's veth, a link to one peer.
    #[default]
    Everything,
    /// What [`Device::steer`] claims, nothing at first: an uplink that is shared with the host, and of what the host keeps to
    /// itself its leg.
    Claimed,
}

/// Where a TAP is when it is opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// It is to be made in this namespace.
    Here,
    /// It is to be made in the pod's.
    Pod,
    /// It is in the pod's already.
    Adopted,
}

/// An open port. The queues are to be dropped before the device.
pub struct Opened<F> {
    /// The device behind the queues. Dropping it releases everything.
    pub device: Box<dyn Device>,
    /// Its queues, each for one worker.
    pub queues: Vec<Box<dyn PortQueue<F>>>,
}

/// What a device tells about itself.
pub trait Device: Send {
    /// Whether its peer is there. Also the moment to add to the port's counters what the kernel lost.
    fn link(&self) -> Link;

    /// Further properties, for people.
    fn details(&self) -> Vec<(&'static str, String)>;

    /// Changes which packets of a port that was opened with [`Take::Claimed`] come to it. Claiming what is claimed and
    /// releasing what is not changes nothing. On failure a part of the changes may have been made; the same changes can be
    /// tried again.
    fn steer(&self, changes: &ClaimChanges) -> Result<(), Refusal> {
        let _ = changes;
        Ok(())
    }

    /// What it should take by [`steer`](Device::steer) and has no room for, if there is anything: it is tried again when there
    /// is.
    fn unclaimed(&self) -> Option<String> {
        None
    }

    /// The MAC address of the NIC or interface behind an uplink.
    fn mac(&self) -> Option<MacAddr> {
        None
    }

    /// The largest IP packet in bytes that an uplink's NIC or interface takes now.
    fn mtu(&self) -> Option<u16> {
        None
    }

    /// Takes packets of a shared interface that are as long as its MTU, which is this now. False when the port has to be opened
    /// anew for that.
    fn follow_mtu(&self, mtu: u16) -> Result<bool, Refusal> {
        let _ = mtu;
        Ok(true)
    }

    /// The number of the kernel's interface behind it, if connections from and to that can go past the workers.
    fn shortcut_end(&self) -> Option<u32> {
        None
    }

    /// Says whether what the pod has stays when this is dropped or the process ends. Without effect where that is not up to
    /// the device.
    fn set_lasting(&self, lasting: bool) -> Result<(), Refusal> {
        let _ = lasting;
        Ok(())
    }
}

/// Whether the peer of a port is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Link {
    /// It is.
    Up,
    /// It is not, for this reason.
    Down(String),
}
