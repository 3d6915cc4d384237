//! What a pod's interface is to look like.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use millrace_api::Route;
use millrace_config::{InterfaceName, Prefix};
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
    /// What is reached through the gateways.
    pub routes: Routes,
    /// Queues of the interface, in each direction.
    pub queues: u16,
}

/// Which routes an interface gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Routes {
    /// To everything, in each family of which it has an address and the namespace no default route yet.
    Default,
    /// These, in each family of which it has an address.
    Of(Vec<Route>),
}

impl Routes {
    /// Plain routes to these ranges.
    pub fn to(ranges: &[Prefix]) -> Self {
        Routes::Of(ranges.iter().map(|&range| Route::to(range)).collect())
    }
}

impl Interface {
    /// The routes that it is to have, each with the gateway of its family.
    pub(super) fn wanted_routes(&self) -> Vec<Route> {
        let wanted = match &self.routes {
            Routes::Of(routes) => routes.clone(),
            Routes::Default => [IpNet::from(Ipv4Net::default()), Ipv6Net::default().into()]
                .into_iter()
                .filter_map(|everything| everything.to_string().parse().ok())
                .map(Route::to)
                .collect(),
        };
        let gateway_of = |route: &Route| match route.destination.net() {
            IpNet::V4(_) if self.has_v4() => Some(self.gateway_v4.into()),
            IpNet::V6(_) if self.has_v6() => Some(self.gateway_v6.into()),
            _ => None,
        };
        wanted
            .into_iter()
            .filter_map(|route| Some(Route { gateway: Some(gateway_of(&route)?), ..route }))
            .collect()
    }

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
