//! What the packet path has to tell the control thread.

use super::Nanos;
use crate::conntrack::FlowKey;
use crate::port::PortId;
use crate::tables::{Address, AdjacencyId};

/// Something that a worker came upon and only the control thread can deal with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Report {
    /// Packets wait for the MAC address of somebody on the link behind an uplink.
    Unresolved {
        /// The uplink.
        port: PortId,
        /// Whose MAC address it is.
        address: Address,
    },
    /// A router on the way to another node's tunnel end takes no outer packets of more than `mtu` bytes.
    TunnelMtu {
        /// The other node's tunnel end.
        remote: Address,
        /// Bytes of an outer IP packet, at most.
        mtu: u16,
    },
    /// A TCP connection is established, or a UDP flow goes, between ports between which the kernel can carry it.
    Established(Established),
}

/// One direction of a flow that the kernel can carry. Told of each by itself, and again as long as its packets come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Established {
    /// The port that its packets arrive by.
    pub arrival: PortId,
    /// Whose packets.
    pub key: FlowKey,
    /// What their addresses and ports become.
    pub rewritten: FlowKey,
    /// The neighbour that they are sent to.
    pub adjacency: AdjacencyId,
    /// Source UDP port of the outer packet, where they are put into a tunnel.
    pub mark: u16,
    /// Epoch of the tables that this was made from.
    pub epoch: u32,
}

/// What a packet waits for whose neighbour is not known yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    /// The port that it arrived by.
    pub arrival: PortId,
    /// The uplink behind which the neighbour is.
    pub port: PortId,
    /// The neighbour's address.
    pub address: Address,
    /// When the packet came.
    pub since: Nanos,
}
