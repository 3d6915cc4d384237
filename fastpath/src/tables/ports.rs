//! What workers must know of a port, and of the node as the pods' router.

use crate::port::PortId;
use crate::wire::ethernet::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// The node as it appears to its pods: their first hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Gateway {
    /// The MAC address of the node's end of every port.
    pub mac: MacAddr,
    /// The IPv4 address that pods use as gateway, and the source of ICMP errors.
    pub ipv4: Ipv4Addr,
    /// The IPv6 address that pods use as gateway, and the source of ICMPv6 errors.
    pub ipv6: Ipv6Addr,
}

/// A port as the pipeline sees it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortInfo {
    /// MAC address of the peer (the pod's interface). An uplink that shares a link with many has none: all zeroes.
    pub mac: MacAddr,
    /// MAC address of the node's end: the gateway's, on an uplink the NIC's.
    pub own_mac: MacAddr,
    /// Largest IP packet in bytes that the port takes; GSO frames are cut to it.
    pub mtu: u16,
    /// Whether the peer may send only from its own MAC and IP addresses.
    pub spoof_check: bool,
    /// Who is behind it.
    pub role: PortRole,
    /// Where frames go, as they are, that are not this node's to route. Of an uplink whose NIC the kernel has lost to us:
    /// the host's leg, behind which the kernel speaks for the host. Of that leg: the uplink.
    pub companion: Option<PortId>,
}

/// Who is behind a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PortRole {
    /// A pod of this node.
    #[default]
    Pod,
    /// This node's own processes.
    Host,
    /// Everything else: other nodes and the world.
    Uplink,
}

/// Some of the ports.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PortSet(Arc<Vec<u64>>);

impl PortSet {
    /// Whether this port is one of them.
    #[inline]
    pub fn contains(&self, id: PortId) -> bool {
        let word = self.0.get(usize::from(id.0 / u64::BITS as u16));
        word.is_some_and(|word| word >> (u32::from(id.0) % u64::BITS) & 1 != 0)
    }
}

impl FromIterator<PortId> for PortSet {
    fn from_iter<I: IntoIterator<Item = PortId>>(ids: I) -> Self {
        let mut words = Vec::new();
        for id in ids {
            let index = usize::from(id.0 / u64::BITS as u16);
            if words.len() <= index {
                words.resize(index + 1, 0);
            }
            words[index] |= 1 << (u32::from(id.0) % u64::BITS);
        }
        PortSet(Arc::new(words))
    }
}

/// Which connections the kernel can carry past the workers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shortcuts {
    /// Between these ports.
    pub ports: PortSet,
    /// Also IPv6 whose addresses or ports change on the way.
    pub translated_v6: bool,
}

/// Ports by number.
#[derive(Clone, Debug, Default)]
pub struct PortTable(Arc<Vec<Option<PortInfo>>>);

impl PortTable {
    /// The port with this number.
    #[inline]
    pub fn get(&self, id: PortId) -> Option<&PortInfo> {
        self.0.get(usize::from(id.0))?.as_ref()
    }

    /// Adds or replaces a port.
    pub fn insert(&mut self, id: PortId, info: PortInfo) {
        let ports = Arc::make_mut(&mut self.0);
        let index = usize::from(id.0);
        if ports.len() <= index {
            ports.resize(index + 1, None);
        }
        ports[index] = Some(info);
    }

    /// Removes a port; gives what it was.
    pub fn remove(&mut self, id: PortId) -> Option<PortInfo> {
        Arc::make_mut(&mut self.0).get_mut(usize::from(id.0))?.take()
    }
}
