//! What the kernel may carry past the data path.

use crate::wire::ethernet::MacAddr;
use std::net::{Ipv4Addr, SocketAddr};

/// One direction of an established TCP connection or of a UDP flow between two interfaces that the kernel has, and what becomes of
/// its packets: the verdict of its flow, in words that a program in the kernel can act upon. Also, each packet's TTL or hop limit is one less.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shortcut {
    /// The number of the interface that its packets arrive by.
    pub arrival: u32,
    /// The number of the interface that they leave by.
    pub out: u32,
    /// IP protocol number: TCP 6, UDP 17.
    pub protocol: u8,
    /// Whose packets.
    pub arriving: Ends,
    /// What their addresses and ports become.
    pub leaving: Ends,
    /// Bytes of an IP packet that its way takes; through a tunnel, of the packet inside.
    pub mtu: u16,
    /// The destination MAC address that they arrive with; from a tunnel, that of the inner frame.
    pub own_mac: MacAddr,
    /// The source MAC address that they must arrive with, if there is but one.
    pub sender_mac: Option<MacAddr>,
    /// Destination and source MAC address that they leave with; through a tunnel, those of the inner frame.
    pub macs: [MacAddr; 2],
    /// The tunnel that they come out of.
    pub from: Option<TunnelEnds>,
    /// The tunnel that they are put into.
    pub into: Option<Wrapping>,
}

/// Both ends of one direction of a connection, of one family.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ends {
    /// Who sends.
    pub source: SocketAddr,
    /// Who receives.
    pub destination: SocketAddr,
}

/// A VXLAN tunnel over IPv4 (RFC 7348), without an outer UDP checksum.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TunnelEnds {
    /// This node's end.
    pub local: Ipv4Addr,
    /// The other node's.
    pub remote: Ipv4Addr,
    /// The network: 24 bits.
    pub vni: u32,
    /// Destination UDP port.
    pub port: u16,
}

/// What is put before a packet that leaves through a tunnel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wrapping {
    /// The tunnel.
    pub ends: TunnelEnds,
    /// Destination and source MAC address of the outer frame.
    pub macs: [MacAddr; 2],
    /// Source UDP port: the flow's mark.
    pub source_port: u16,
}
