//! Other nodes: whether their pods are reached as they are or through a tunnel, and by which next hops.

use super::ground::places;
use super::{Outcome, Pipe, Source, Target, Way, overlap};
use crate::model::Model;
use crate::object::{Node, ObjectName};
use crate::routing::{OuterChecksum, RoutingMode, tunnel_overhead};
use crate::underlay::{PeerView, Uplink, WhyMode};
use ipnet::IpNet;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::net::IpAddr;

/// First bytes of the inner MAC addresses of tunnel ends; the last four are the node's address.
const VTEP_PREFIX: [u8; 2] = [0x02, 0x56];

impl Model {
    /// Another node, if there is one of this name.
    pub(super) fn peer(&self, name: &ObjectName) -> Outcome {
        let mut outcome = Outcome::default();
        let Some(node) = self.nodes.other(name).filter(|_| !self.underlay.uplinks.is_empty()) else {
            return outcome;
        };
        outcome.addresses.extend(&node.addresses);
        let near = node.addresses.iter().copied().find(|address| self.underlay.on_link(*address).is_some());
        let (tunnelled, why) = self.mode_of(node, near.is_some());
        let mut peer = PeerView {
            name: node.name.clone(),
            tunnelled,
            why,
            address: near,
            vtep_mac: None,
            ranges: node.pod_cidrs.clone(),
            hops: Vec::new(),
            awaited: Vec::new(),
            mtu: None,
        };
        if tunnelled {
            self.plan_tunnel(node, &mut peer, &mut outcome);
        } else {
            self.plan_native(node, near, &mut peer, &mut outcome);
        }
        let is_known = |(port, address): &(_, _)| self.underlay.neighbour(*port, *address).is_some();
        (peer.hops, peer.awaited) = outcome.hops.iter().partition(|place| is_known(place));
        outcome.peer = Some(peer);
        outcome
    }

    fn mode_of(&self, node: &Node, is_near: bool) -> (bool, WhyMode) {
        let (mode, why) = match node.routing.mode {
            Some(mode) => (mode, WhyMode::Annotation),
            None => (self.config.routing.mode, WhyMode::Configuration),
        };
        match mode {
            RoutingMode::Native => (false, why),
            RoutingMode::Vxlan => (true, why),
            RoutingMode::Auto if is_near => (false, WhyMode::SameLink),
            RoutingMode::Auto => (true, WhyMode::OtherLink),
        }
    }

    fn plan_native(&self, node: &Node, near: Option<IpAddr>, peer: &mut PeerView, outcome: &mut Outcome) {
        for range in self.usable_ranges(node) {
            let same = |address: &&IpAddr| address.is_ipv4() == range.addr().is_ipv4();
            let on_link = |address: &&IpAddr| self.underlay.on_link(**address).is_some();
            let addresses = || node.addresses.iter();
            // A MAC address serves both families.
            let chosen = addresses().filter(same).find(on_link).or(near.as_ref());
            let chosen = chosen.or_else(|| addresses().find(same));
            let hops = chosen.map(|address| self.hops(*address)).unwrap_or_default();
            self.lead(peer, &hops, self.target(&hops, |way| way), range, outcome);
            peer.address = peer.address.or(chosen.copied());
        }
    }

    /// A peer behind a tunnel: its pods, and its own addresses for pods here.
    fn plan_tunnel(&self, node: &Node, peer: &mut PeerView, outcome: &mut Outcome) {
        let first = |addresses: &[IpAddr], v4: bool| addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
        let own = self.nodes.own_addresses();
        let ends = |v4| Some((first(own, v4)?, first(&node.addresses, v4)?));
        let macs = (self.vtep_mac(), mac_of(node));
        let (Some((local, remote)), (Some(source), Some(destination))) =
            (ends(true).or_else(|| ends(false)), macs)
        else {
            // Without an end there is no way, rather than whatever other routes say.
            for range in self.usable_ranges(node) {
                self.lead(peer, &[], Target::NOBODY, range, outcome);
            }
            return;
        };
        (peer.address, peer.vtep_mac) = (Some(remote), Some(destination));
        let hops = self.hops(remote);
        let checksum = match self.config.routing.checksum {
            OuterChecksum::Auto => remote.is_ipv6(),
            OuterChecksum::On => true,
            OuterChecksum::Off => false,
        };
        let overhead = tunnel_overhead(remote.is_ipv4());
        let narrowest = self.ways.path_mtus.get(&remote).copied().unwrap_or(u16::MAX);
        let through = |way: Way| Way {
            mtu: way.mtu.min(narrowest).saturating_sub(overhead),
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
        let target = self.target(&hops, through);
        let addresses = node.addresses.iter().map(|address| IpNet::from(*address));
        for range in self.usable_ranges(node).chain(addresses) {
            self.lead(peer, &hops, target.clone(), range, outcome);
        }
    }

    /// The ranges of a node's pods that hold no address of ours.
    fn usable_ranges<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = IpNet> + 'a {
        let own = self.node_pod_ranges();
        node.pod_cidrs.iter().copied().filter(|range| !own.iter().any(|ours| overlap(*range, *ours)))
    }

    fn lead(
        &self,
        peer: &mut PeerView,
        hops: &[(&Uplink, IpAddr)],
        target: Target,
        to: IpNet,
        outcome: &mut Outcome,
    ) {
        outcome.hops.extend(places(hops));
        if let Target::Ways(ways) = &target {
            peer.mtu = peer.mtu.into_iter().chain(ways.iter().map(|way| way.mtu)).min();
        }
        outcome.claims.insert((to.trunc(), Source::Peer(peer.name.clone())), target);
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
