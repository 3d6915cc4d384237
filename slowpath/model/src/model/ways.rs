//! Which way to everything behind the uplinks: other nodes' pods, routers, neighbours. No numbers yet, and no tables.

use super::Model;
use crate::object::{Node, ObjectName};
use crate::routing::{OuterChecksum, RoutingMode, tunnel_overhead};
use crate::underlay::{PeerView, Uplink};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// First bytes of the inner MAC addresses of tunnel ends; the last four are the node's address.
const VTEP_PREFIX: [u8; 2] = [0x02, 0x56];

/// A next hop whose MAC address is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Way {
    pub(super) port: PortId,
    /// Of the packet that takes it, in bytes.
    pub(super) mtu: u16,
    pub(super) destination_mac: MacAddr,
    pub(super) source_mac: MacAddr,
    pub(super) tunnel: Option<Pipe>,
}

/// A tunnel by one next hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Pipe {
    pub(super) destination_mac: MacAddr,
    pub(super) source_mac: MacAddr,
    pub(super) local: IpAddr,
    pub(super) remote: IpAddr,
    pub(super) checksum: bool,
}

/// What a prefix leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Target {
    /// Whoever has the address on the link.
    OnLink(PortId),
    /// One of these; if there are none, nobody.
    Ways(Vec<Way>),
}

impl Target {
    const NOBODY: Target = Target::Ways(Vec::new());
}

/// All of it.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) targets: BTreeMap<IpNet, Target>,
    pub(super) peers: BTreeMap<ObjectName, PeerView>,
    /// Next hops to be kept known.
    pub(super) wanted: BTreeSet<(PortId, IpAddr)>,
}

impl Plan {
    fn want(&mut self, hops: &[(&Uplink, IpAddr)]) {
        self.wanted.extend(hops.iter().map(|(uplink, address)| (uplink.port, *address)));
    }
}

impl Model {
    /// The ways for what is known now.
    pub(super) fn plan_ways(&self) -> Plan {
        let mut plan = Plan::default();
        if self.underlay.uplinks.is_empty() {
            return plan;
        }
        // What follows goes before what is there for the same prefix.
        let unclaimed = self.config.routing.service_ranges.iter().chain(&self.config.pod_ranges);
        plan.targets.extend(unclaimed.map(|range| (range.trunc(), Target::NOBODY)));
        self.plan_routes(&mut plan);
        self.plan_links(&mut plan);
        for node in self.nodes.others() {
            self.plan_peer(node, &mut plan);
        }
        // Addresses of this node's range that no pod has are nobody's, whatever a default route says.
        let own = self.node_pod_ranges().iter();
        plan.targets.extend(own.map(|range| (range.trunc(), Target::NOBODY)));
        plan
    }

    /// The kernel's and the configured routes; of several for one prefix, the preferred one that leads anywhere.
    fn plan_routes(&self, plan: &mut Plan) {
        let mut routes: Vec<_> = self.underlay.routes.iter().filter(|route| is_routed(route.to)).collect();
        routes.sort_by_key(|route| route.metric);
        let mut done = BTreeSet::new();
        for route in routes {
            let hops = self.underlay.live_hops(route);
            let to = route.to.trunc();
            if hops.is_empty() || !done.insert(to) {
                continue;
            }
            let target = match hops[..] {
                [(uplink, None)] => Target::OnLink(uplink.port),
                _ => {
                    let hops: Vec<_> =
                        hops.into_iter().filter_map(|(uplink, gateway)| Some((uplink, gateway?))).collect();
                    plan.want(&hops);
                    Target::Ways(self.ways(&hops))
                }
            };
            plan.targets.insert(to, target);
        }
    }

    /// What is on the uplinks' links, and the neighbours there that are known.
    fn plan_links(&self, plan: &mut Plan) {
        for uplink in self.underlay.uplinks.iter().filter(|uplink| uplink.is_up) {
            let nets = uplink.addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
            for net in nets.filter(|net| is_routed(**net)) {
                plan.targets.insert(net.trunc(), Target::OnLink(uplink.port));
            }
        }
        for &(port, address) in self.underlay.neighbours.keys() {
            let is_here = self.underlay.on_link(address).is_some_and(|uplink| uplink.port == port);
            if let Some(uplink) = self.underlay.uplink(port).filter(|_| is_here && is_routed(address.into()))
            {
                plan.targets.insert(address.into(), Target::Ways(self.ways(&[(uplink, address)])));
            }
        }
    }

    fn plan_peer(&self, node: &Node, plan: &mut Plan) {
        let near = node.addresses.iter().copied().find(|address| self.underlay.on_link(*address).is_some());
        let tunnelled = match node.routing.mode.unwrap_or(self.config.routing.mode) {
            RoutingMode::Native => false,
            RoutingMode::Vxlan => true,
            RoutingMode::Auto => near.is_none(),
        };
        let mut peer = PeerView {
            name: node.name.clone(),
            tunnelled,
            address: near,
            ranges: node.pod_cidrs.clone(),
            hops: Vec::new(),
            mtu: None,
        };
        if tunnelled {
            self.plan_tunnel(node, &mut peer, plan);
        } else {
            for &range in &node.pod_cidrs {
                let same = |address: &&IpAddr| address.is_ipv4() == range.addr().is_ipv4();
                let on_link = |address: &&IpAddr| self.underlay.on_link(**address).is_some();
                let addresses = || node.addresses.iter();
                // A MAC address serves both families.
                let chosen = addresses().filter(same).find(on_link).or(near.as_ref());
                let chosen = chosen.or_else(|| addresses().find(same));
                let hops = chosen.map(|address| self.underlay.hops(*address)).unwrap_or_default();
                self.lead(&mut peer, &hops, &self.ways(&hops), range, plan);
                peer.address = peer.address.or(chosen.copied());
            }
        }
        plan.peers.insert(node.name.clone(), peer);
    }

    /// A peer behind a tunnel: its pods, and its own addresses for pods here.
    fn plan_tunnel(&self, node: &Node, peer: &mut PeerView, plan: &mut Plan) {
        let first = |addresses: &[IpAddr], v4: bool| addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let own = self.nodes.own_addresses();
        let ends = |v4| Some((first(own, v4)?, first(&node.addresses, v4)?));
        let Some((local, remote)) = ends(true).or_else(|| ends(false)) else { return };
        peer.address = Some(remote);
        let hops = self.underlay.hops(remote);
        let (Some(source), Some(destination)) = (self.vtep_mac(), mac_of(node)) else { return };
        let checksum = match self.config.routing.checksum {
            OuterChecksum::Auto => remote.is_ipv6(),
            OuterChecksum::On => true,
            OuterChecksum::Off => false,
        };
        let through = |way: Way| Way {
            mtu: way.mtu.saturating_sub(tunnel_overhead(remote.is_ipv4())),
            destination_mac: destination,
            source_mac: source,
            tunnel: Some(Pipe {
                destination_mac: way.destination_mac,
                source_mac: way.source_mac,
                local,
                remote,
                checksum,
            }),
            ..way
        };
        let ways: Vec<Way> = self.ways(&hops).into_iter().map(through).collect();
        let addresses = node.addresses.iter().map(|address| IpNet::from(*address));
        for range in node.pod_cidrs.iter().copied().chain(addresses) {
            self.lead(peer, &hops, &ways, range, plan);
        }
    }

    fn lead(
        &self,
        peer: &mut PeerView,
        hops: &[(&Uplink, IpAddr)],
        ways: &[Way],
        to: IpNet,
        plan: &mut Plan,
    ) {
        plan.want(hops);
        let known =
            hops.iter().filter(|(uplink, address)| self.underlay.neighbour(uplink.port, *address).is_some());
        peer.hops.extend(known.map(|(uplink, address)| (uplink.port, *address)));
        peer.hops.sort_unstable();
        peer.hops.dedup();
        peer.mtu = peer.mtu.into_iter().chain(ways.iter().map(|way| way.mtu)).min();
        plan.targets.insert(to.trunc(), Target::Ways(ways.to_vec()));
    }

    /// The next hops whose MAC addresses are known.
    fn ways(&self, hops: &[(&Uplink, IpAddr)]) -> Vec<Way> {
        let way = |(uplink, address): &(&Uplink, IpAddr)| {
            Some(Way {
                port: uplink.port,
                mtu: uplink.mtu,
                destination_mac: self.underlay.neighbour(uplink.port, *address)?,
                source_mac: uplink.mac,
                tunnel: None,
            })
        };
        hops.iter().filter_map(way).collect()
    }

    /// The inner MAC address of this node's tunnel end.
    pub(super) fn vtep_mac(&self) -> Option<MacAddr> {
        let told = self.own_node().and_then(|node| node.routing.vtep_mac);
        told.or_else(|| derived_mac(self.nodes.own_addresses()))
    }
}

fn mac_of(node: &Node) -> Option<MacAddr> {
    node.routing.vtep_mac.or_else(|| derived_mac(&node.addresses))
}

/// From a node's first IPv4 address, else its first one.
fn derived_mac(addresses: &[IpAddr]) -> Option<MacAddr> {
    let v4 = addresses.iter().find(|address| address.is_ipv4());
    let [a, b, c, d] = match v4.or(addresses.first())? {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => (address.to_bits() as u32).to_be_bytes(),
    };
    let [first, second] = VTEP_PREFIX;
    Some(MacAddr([first, second, a, b, c, d]))
}

/// Whether packets to such addresses are forwarded at all.
fn is_routed(net: IpNet) -> bool {
    let first = net.addr();
    let is_local = matches!(first, IpAddr::V6(address) if address.is_unicast_link_local());
    !is_local && !first.is_multicast()
}
