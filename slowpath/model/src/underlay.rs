//! The network that the nodes stand on, as the kernel knows it.

use crate::Model;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What lies behind this node's uplinks.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Underlay {
    /// The uplinks.
    pub uplinks: Vec<Uplink>,
    /// Routes by uplinks: the kernel's and the configured ones.
    pub routes: Vec<UnderlayRoute>,
    /// Known neighbours on the uplinks' links.
    pub neighbours: BTreeMap<(PortId, IpAddr), MacAddr>,
}

/// An uplink.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Uplink {
    /// Its port.
    pub port: PortId,
    /// The NIC's MAC address.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// This node's addresses there, each with the prefix of the link.
    pub addresses: Vec<IpNet>,
    /// Whether it carries anything.
    pub is_up: bool,
    /// The host's leg, if the kernel has lost the NIC to us and speaks through it.
    pub companion: Option<PortId>,
}

/// A route by uplinks.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnderlayRoute {
    /// Its destination.
    pub to: IpNet,
    /// The least is preferred.
    pub metric: u32,
    /// Next hops, among which flows are spread.
    pub hops: Vec<Hop>,
}

/// A next hop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The uplink that it is reached by.
    pub port: PortId,
    /// The router; `None` if the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

impl Model {
    /// Replaces what is known of the uplinks, and of what lies behind them.
    pub fn set_underlay(&mut self, underlay: Underlay) {
        if self.underlay == underlay {
            return;
        }
        for uplink in self.underlay.uplinks.iter().chain(&underlay.uplinks) {
            self.addresses.dirty.insert(uplink.port);
            self.addresses.dirty.extend(uplink.companion);
        }
        self.underlay = underlay;
    }

    /// The neighbours that are to be kept known: the next hops.
    pub fn wanted_neighbours(&self) -> impl Iterator<Item = (PortId, IpAddr)> {
        let hops = self.underlay.routes.iter().flat_map(|route| &route.hops);
        hops.filter_map(|hop| Some((hop.port, hop.gateway?)))
    }
}
