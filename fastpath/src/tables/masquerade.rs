//! The source of connections whose replies have to come back to this node.

use super::{Address, AddressSet, Gateway, RouteTable};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Addresses and ports that masqueraded connections leave from. The ports are reserved on the host
/// (`net.ipv4.ip_local_reserved_ports`), so none of them is ever one of the host's own connections.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Masquerade {
    /// This node's primary IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// This node's primary IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// What stands for this node toward its own network stack, which takes no packet from its own addresses off a wire: an
    /// address of the node's range of pods that no pod gets.
    pub toward_host: (Option<Ipv4Addr>, Option<Ipv6Addr>),
    /// The ports.
    pub ports: SourcePorts,
    /// Which of the pods' connections leave the cluster under the node's address; none do without it.
    pub outgoing: Option<Arc<Outgoing>>,
}

/// Which connections of pods are masqueraded when they leave by an uplink.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Outgoing {
    /// Those from these addresses …
    pub sources: AddressSet,
    /// … unless they go to one of these: the cluster's own, and exceptions.
    pub exceptions: AddressSet,
}

impl Outgoing {
    /// Whether a connection from here to there is masqueraded.
    pub fn applies(&self, source: Address, destination: Address) -> bool {
        self.sources.contains(source) && !self.exceptions.contains(destination)
    }
}

/// A range of source ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SourcePorts {
    /// The first.
    pub first: u16,
    /// The last; not below the first.
    pub last: u16,
}

impl SourcePorts {
    /// The dynamic ports (RFC 6335, section 6).
    pub const DYNAMIC: SourcePorts = SourcePorts { first: 49_152, last: u16::MAX };

    /// The port at a position that wraps at the number of ports.
    pub fn at(&self, position: u32) -> u16 {
        let count = u32::from(self.last.saturating_sub(self.first)) + 1;
        self.first + (position % count) as u16
    }
}

impl Default for Masquerade {
    /// The dynamic ports, and no address.
    fn default() -> Self {
        Masquerade {
            ipv4: None,
            ipv6: None,
            toward_host: (None, None),
            ports: SourcePorts::DYNAMIC,
            outgoing: None,
        }
    }
}

impl Masquerade {
    /// The address for connections of one family. A node without an address of that family has nothing but its pods'
    /// gateway: enough for replies of its own pods.
    pub fn address(&self, v4: bool, gateway: &Gateway) -> Address {
        if v4 { self.ipv4.unwrap_or(gateway.ipv4).into() } else { self.ipv6.unwrap_or(gateway.ipv6).into() }
    }

    /// The address for connections of one family to this node's own network stack. If there is none, or a pod has it
    /// nevertheless, it is the pods' gateway, whose IPv6 address is good enough for TCP.
    pub fn address_toward_host(&self, v4: bool, gateway: &Gateway, routes: &RouteTable) -> Address {
        let (ipv4, ipv6) = self.toward_host;
        let spare = if v4 { ipv4.map(IpAddr::V4) } else { ipv6.map(IpAddr::V6) };
        match spare.filter(|&spare| routes.get(spare.into()).is_none()) {
            Some(spare) => spare.into(),
            None if v4 => gateway.ipv4.into(),
            None => gateway.ipv6.into(),
        }
    }
}
