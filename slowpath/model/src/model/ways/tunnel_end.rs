//! This node's end of tunnels, and what leaves the cluster under this node's address.

use crate::model::Model;
use crate::routing::RoutingMode;
use ipnet::IpNet;
use millrace_fastpath::tables::{AddressSet, Outgoing, Vtep};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

impl Model {
    /// This node's end of all tunnels, and who may send to it.
    pub(super) fn compile_tunnel_end(&mut self) {
        if !std::mem::take(&mut self.ways.end_dirty) {
            return;
        }
        let routing = &self.config.routing;
        let is_used = routing.mode != RoutingMode::Native || self.ways.tunnelled > 0;
        let (v4, v6) = self.nodes.primary_addresses();
        let addresses = v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).map(Into::into);
        let mac = self.vtep_mac().filter(|_| is_used && !self.underlay.uplinks.is_empty());
        let vtep = mac.map(|mac| Vtep {
            addresses: addresses.collect(),
            mac,
            vni: routing.vni,
            udp_port: routing.udp_port,
        });
        if self.tables.tunnels.vtep() != vtep.as_ref() {
            self.tables.tunnels.set_vtep(vtep);
        }
        let ends: BTreeSet<IpAddr> = match mac {
            Some(_) => self.nodes.others().flat_map(|node| &node.addresses).copied().collect(),
            None => BTreeSet::new(),
        };
        for changed in ends.symmetric_difference(&self.ways.ends) {
            self.tables.tunnels.set_peer((*changed).into(), ends.contains(changed));
        }
        self.ways.ends = ends;
    }

    /// Which connections of pods take the node's address where they leave the cluster.
    pub(in crate::model) fn compile_outgoing(&mut self) {
        let routing = &self.config.routing;
        self.tables.masquerade.outgoing = routing.outgoing.as_ref().map(|outgoing| {
            let nodes = self.nodes.nodes.values().flat_map(|node| &node.addresses).copied();
            let own = self.nodes.own_addresses().iter().copied();
            let exceptions = nodes.chain(own).map(IpNet::from).chain(self.pod_ranges());
            let exceptions = exceptions.chain(routing.service_ranges.iter().copied());
            let sources = match outgoing.sources.is_empty() {
                true => AddressSet::new(self.pod_ranges()),
                false => AddressSet::new(outgoing.sources.iter().copied()),
            };
            let exceptions = AddressSet::new(exceptions.chain(outgoing.exceptions.iter().copied()));
            Arc::new(Outgoing { sources, exceptions })
        });
    }
}
