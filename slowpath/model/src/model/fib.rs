//! Ways behind the uplinks in the tables: adjacencies, tunnels and groups by number.

use super::Model;
use super::ways::{Pipe, Plan, Target, Way};
use crate::object::ObjectName;
use crate::routing::RoutingMode;
use crate::underlay::{PeerView, Underlay};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{
    AddressSet, Adjacency, AdjacencyId, GroupId, Outgoing, Route, Tunnel, TunnelId, Vtep,
};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What the tables hold of the uplinks.
#[derive(Debug, Default)]
pub(super) struct Fib {
    /// Something that ways depend on has changed.
    pub(super) dirty: bool,
    targets: BTreeMap<IpNet, Target>,
    neighbours: BTreeMap<Way, (AdjacencyId, Option<TunnelId>)>,
    groups: BTreeMap<Vec<Way>, GroupId>,
    peers: BTreeMap<ObjectName, PeerView>,
    /// Whose tunnels are listened to.
    ends: BTreeSet<IpAddr>,
    wanted: BTreeSet<(PortId, IpAddr)>,
}

impl Model {
    /// Replaces what is known of the uplinks, and of what lies behind them.
    pub fn set_underlay(&mut self, underlay: Underlay) {
        if self.underlay == underlay {
            return;
        }
        let ports = self.underlay.uplinks.iter().chain(&underlay.uplinks);
        let touched: BTreeSet<PortId> =
            ports.flat_map(|uplink| [Some(uplink.port), uplink.companion]).flatten().collect();
        if self.underlay.uplinks != underlay.uplinks {
            self.addresses.dirty.extend(touched);
        }
        self.underlay = underlay;
        self.fib.dirty = true;
        // Nobody asks for neighbours before the next compilation otherwise.
        self.fib.wanted = self.plan_ways().wanted;
    }

    /// The neighbours that are to be kept known: the next hops.
    pub fn wanted_neighbours(&self) -> impl Iterator<Item = (PortId, IpAddr)> {
        self.fib.wanted.iter().copied()
    }

    /// The other nodes, and the ways to them.
    pub fn peers(&self) -> impl Iterator<Item = &PeerView> {
        self.fib.peers.values()
    }

    /// What a prefix leads to behind the uplinks, by the numbers in the tables.
    pub(super) fn uplink_route(&self, prefix: IpNet) -> Option<Route> {
        match self.fib.targets.get(&prefix)? {
            Target::OnLink(port) => Some(Route::OnLink(*port)),
            Target::Ways(ways) => match ways[..] {
                [way] => self.fib.neighbours.get(&way).map(|(id, _)| Route::Via(*id)),
                _ => self.fib.groups.get(ways).map(|id| Route::Spread(*id)),
            },
        }
    }

    /// Makes what new ways need, and says which prefixes lead elsewhere now.
    pub(super) fn prepare_fib(&mut self, touched: &mut BTreeSet<IpNet>) -> Option<Obsolete> {
        if !std::mem::take(&mut self.fib.dirty) {
            return None;
        }
        let Plan { targets, peers, wanted } = self.plan_ways();
        self.compile_tunnel_end(&peers);
        let before = std::mem::replace(&mut self.fib.targets, targets);
        touched.extend(
            before.iter().filter(|(to, way)| self.fib.targets.get(to) != Some(way)).map(|(to, _)| *to),
        );
        touched.extend(self.fib.targets.keys().filter(|to| !before.contains_key(to)));
        (self.fib.peers, self.fib.wanted) = (peers, wanted);
        let mut used = BTreeSet::new();
        let mut groups = BTreeSet::new();
        for target in self.fib.targets.values() {
            if let Target::Ways(ways) = target {
                used.extend(ways.iter().copied());
                if ways.len() != 1 {
                    groups.insert(ways.clone());
                }
            }
        }
        for way in &used {
            self.add_way(*way);
        }
        for ways in groups.difference(&self.fib.groups.keys().cloned().collect()) {
            let members = ways.iter().filter_map(|way| Some(self.fib.neighbours.get(way)?.0)).collect();
            let id = self.tables.routes.add_group(members);
            self.fib.groups.insert(ways.clone(), id);
        }
        Some(Obsolete {
            ways: self.fib.neighbours.keys().filter(|way| !used.contains(way)).copied().collect(),
            groups: self.fib.groups.keys().filter(|ways| !groups.contains(*ways)).cloned().collect(),
        })
    }

    fn add_way(&mut self, way: Way) {
        if self.fib.neighbours.contains_key(&way) {
            return;
        }
        let tunnel = match way.tunnel {
            None => None,
            Some(pipe) => match self.tables.tunnels.insert(self.tunnel(&way, &pipe)) {
                Some(id) => Some(id),
                // More nodes than tunnels can be numbered: those that come last are not reached.
                None => return,
            },
        };
        let id = self.tables.routes.add_adjacency(Adjacency {
            port: way.port,
            mtu: way.mtu,
            destination_mac: way.destination_mac,
            source_mac: way.source_mac,
            tunnel,
        });
        self.fib.neighbours.insert(way, (id, tunnel));
    }

    fn tunnel(&self, way: &Way, pipe: &Pipe) -> Tunnel {
        Tunnel {
            port: way.port,
            destination_mac: pipe.destination_mac,
            source_mac: pipe.source_mac,
            local: pipe.local.into(),
            remote: pipe.remote.into(),
            vni: self.config.routing.vni,
            udp_port: self.config.routing.udp_port,
            checksum: pipe.checksum,
        }
    }

    /// Takes away what no route leads to any more. Whoever has its number must ask again: true if there was anything.
    pub(super) fn clean_fib(&mut self, obsolete: &Obsolete) -> bool {
        for ways in &obsolete.groups {
            if let Some(id) = self.fib.groups.remove(ways) {
                self.tables.routes.remove_group(id);
            }
        }
        for way in &obsolete.ways {
            if let Some((id, tunnel)) = self.fib.neighbours.remove(way) {
                self.tables.routes.remove_adjacency(id);
                if let Some(tunnel) = tunnel {
                    self.tables.tunnels.remove(tunnel);
                }
            }
        }
        !obsolete.ways.is_empty() || !obsolete.groups.is_empty()
    }

    /// This node's end of all tunnels, and who may send to it.
    fn compile_tunnel_end(&mut self, peers: &BTreeMap<ObjectName, PeerView>) {
        let routing = &self.config.routing;
        let is_used = routing.mode != RoutingMode::Native || peers.values().any(|peer| peer.tunnelled);
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
        for changed in ends.symmetric_difference(&self.fib.ends) {
            self.tables.tunnels.set_peer((*changed).into(), ends.contains(changed));
        }
        self.fib.ends = ends;
    }

    /// Which connections of pods take the node's address where they leave the cluster.
    pub(super) fn compile_outgoing(&mut self) {
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

/// What no route leads to any more, once the touched ones are up to date.
#[derive(Debug)]
pub(super) struct Obsolete {
    ways: Vec<Way>,
    groups: Vec<Vec<Way>>,
}
