//! Which packets of a network interface that is shared with the kernel are this node's data path's.

use ipnet::IpNet;
use std::fmt;
use std::net::IpAddr;

/// One kind of packet that an uplink takes from the kernel's interface. What no claim names stays with the kernel, and
/// so do ARP and neighbour discovery in any case.
///
/// An ICMP error is claimed when a packet that goes the other way than the one it quotes would be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Claim {
    /// To an address in this prefix; of several that hold it the longest decides.
    Destination(IpNet),
    /// To an address in this prefix, which gives back to the kernel a part of a shorter [`Claim::Destination`].
    Returned(IpNet),
    /// From an address in this prefix to a [`Claim::Host`] address: other nodes' pods that speak to this node itself.
    Source(IpNet),
    /// This is an address of the node itself: what [`Claim::Source`] applies to.
    Host(IpAddr),
    /// To this address, protocol and port: a service's frontend.
    Frontend {
        /// Destination address.
        address: IpAddr,
        /// IP protocol number: TCP 6, UDP 17, SCTP 132.
        protocol: u8,
        /// Destination port.
        port: u16,
    },
    /// TCP, UDP and SCTP to these ports of an address, and ICMP echo replies with these identifiers: answers to
    /// masqueraded connections. An address has one range.
    SourcePorts {
        /// Destination address.
        address: IpAddr,
        /// First port.
        first: u16,
        /// Last port; not below the first.
        last: u16,
    },
    /// UDP to this address and port: encapsulated packets. Here an ICMP error quotes what was sent *to* the port.
    Tunnel {
        /// Destination address.
        address: IpAddr,
        /// UDP port.
        port: u16,
    },
}

impl fmt::Display for Claim {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Claim::Destination(prefix) => write!(out, "destination {prefix}"),
            Claim::Returned(prefix) => write!(out, "returned {prefix}"),
            Claim::Source(prefix) => write!(out, "source {prefix}"),
            Claim::Host(address) => write!(out, "host {address}"),
            Claim::Frontend { address, protocol, port } => {
                write!(out, "frontend {address} port {port} protocol {protocol}")
            }
            Claim::SourcePorts { address, first, last } => {
                write!(out, "source ports {first}-{last} of {address}")
            }
            Claim::Tunnel { address, port } => write!(out, "tunnel {address} port {port}"),
        }
    }
}

/// How the claims on an uplink change, all of them at once. What is claimed may contradict what is released, but nothing
/// else.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClaimChanges {
    /// No longer claimed.
    pub released: Vec<Claim>,
    /// Claimed from now on.
    pub claimed: Vec<Claim>,
}

impl ClaimChanges {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.released.is_empty() && self.claimed.is_empty()
    }
}
