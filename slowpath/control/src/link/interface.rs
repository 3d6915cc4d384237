//! What a pod's interface is to look like.

use ipnet::IpNet;
use millrace_config::InterfaceName;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::net::{Ipv4Addr, Ipv6Addr};

/// A pod's interface, or the host's own leg into the pods' network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its name in the pod.
    pub name: InterfaceName,
    /// Its MAC address.
    pub mac: MacAddr,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// What the pod owns. Host addresses (/32, /128) are put on the interface; a whole prefix is routed to the
    /// pod, which sees to it itself.
    pub addresses: Vec<IpNet>,
    /// First hop for IPv4.
    pub gateway_v4: Ipv4Addr,
    /// First hop for IPv6.
    pub gateway_v6: Ipv6Addr,
    /// What lies behind the gateways: routes through them are added, for each family of which the interface has
    /// an address.
    pub destinations: Vec<IpNet>,
    /// Queues of the interface, in each direction.
    pub queues: u16,
}

impl Interface {
    /// The addresses that are put on the interface.
    pub(super) fn host_addresses(&self) -> impl Iterator<Item = IpNet> {
        self.addresses.iter().copied().filter(|net| net.prefix_len() == net.max_prefix_len())
    }

    /// Whether the pod has an IPv4 address of its own.
    pub(super) fn has_v4(&self) -> bool {
        self.host_addresses().any(|net| net.addr().is_ipv4())
    }

    /// Whether the pod has an IPv6 address of its own.
    pub(super) fn has_v6(&self) -> bool {
        self.host_addresses().any(|net| net.addr().is_ipv6())
    }
}
