//! The network that the nodes stand on, as the kernel knows it.

use crate::object::ObjectName;
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
    /// Next hops, among which flows are spread; none if it refuses.
    pub hops: Vec<Hop>,
    /// How it refuses what it is for, if it does.
    pub refuses: Option<Refuses>,
}

/// What a route does that leads nowhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Refuses {
    /// Drops in silence.
    Blackhole,
    /// Says that the destination is unreachable.
    Unreachable,
    /// Says that it is forbidden.
    Prohibit,
    /// Says nothing of it: as if there were no route, whatever shorter ones there are (`throw`).
    Throw,
}

/// A next hop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hop {
    /// The uplink that it is reached by.
    pub port: PortId,
    /// The router; `None` if the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

/// Where a neighbour is: the uplink of its link, and its address.
pub type Place = (PortId, IpAddr);

/// Another node, and the way to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerView {
    /// Its name.
    pub name: ObjectName,
    /// Whether its packets go through a tunnel.
    pub tunnelled: bool,
    /// What decided that.
    pub why: WhyMode,
    /// Its address that decides: its tunnel end, or the next hop toward its pods.
    pub address: Option<IpAddr>,
    /// The MAC address of its tunnel end, if there is a tunnel.
    pub vtep_mac: Option<MacAddr>,
    /// The ranges of its pods.
    pub ranges: Vec<IpNet>,
    /// The uplinks, with next hops, that lead there and whose neighbours are known.
    pub hops: Vec<Place>,
    /// Those whose neighbours are not known.
    pub awaited: Vec<Place>,
    /// Largest packet that gets there whole, in bytes; nothing while there is no way.
    pub mtu: Option<u16>,
}

/// Why another node is reached as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhyMode {
    /// Its annotation says so.
    Annotation,
    /// The configuration says so.
    Configuration,
    /// It is on a link of this node.
    SameLink,
    /// It is on no link of this node.
    OtherLink,
}

/// Whether another node is reached.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PeerState {
    /// By at least one next hop.
    Reached,
    /// There are next hops, and none is known yet.
    Resolving,
    /// There is no way to it.
    Unreachable,
}

impl PeerView {
    /// Whether it is reached.
    pub fn state(&self) -> PeerState {
        match (self.hops.is_empty(), self.awaited.is_empty()) {
            (false, _) => PeerState::Reached,
            (true, false) => PeerState::Resolving,
            (true, true) => PeerState::Unreachable,
        }
    }
}

/// Next hops by uplinks that are up, each with its router if it has one.
pub(crate) type LiveHops<'a> = Vec<(&'a Uplink, Option<IpAddr>)>;

/// What a route does with packets.
pub(crate) enum Led<'a> {
    /// It refuses them.
    Nowhere(Refuses),
    /// It leads them on by one of these, of which there is at least one.
    By(LiveHops<'a>),
}

impl Underlay {
    /// The uplink on whose link an address is: of several the one with the longest prefix, as the kernel has it.
    pub(crate) fn on_link(&self, address: IpAddr) -> Option<&Uplink> {
        let up = self.uplinks.iter().filter(|uplink| uplink.is_up);
        let links = up.flat_map(|uplink| uplink.addresses.iter().map(move |net| (net, uplink)));
        let links = links.filter(|(net, _)| net.contains(&address));
        // The first of equals.
        links.rev().max_by_key(|(net, _)| net.prefix_len()).map(|(_, uplink)| uplink)
    }

    /// An uplink that is up.
    pub(crate) fn uplink(&self, port: PortId) -> Option<&Uplink> {
        self.uplinks.iter().find(|uplink| uplink.port == port && uplink.is_up)
    }

    /// What the first of some routes that counts does: one that refuses, or one that leads anywhere.
    pub(crate) fn first_live<'a>(
        &self,
        mut routes: impl Iterator<Item = &'a UnderlayRoute>,
    ) -> Option<Led<'_>> {
        routes.find_map(|route| match route.refuses {
            Some(how) => Some(Led::Nowhere(how)),
            None => Some(self.live_hops(route)).filter(|hops| !hops.is_empty()).map(Led::By),
        })
    }

    /// Those of a route's hops whose uplink is up.
    fn live_hops(&self, route: &UnderlayRoute) -> LiveHops<'_> {
        route.hops.iter().filter_map(|hop| Some((self.uplink(hop.port)?, hop.gateway))).collect()
    }

    /// The MAC address of a neighbour.
    pub(crate) fn neighbour(&self, port: PortId, address: IpAddr) -> Option<MacAddr> {
        self.neighbours.get(&(port, address)).copied()
    }
}
