//! Ports and addresses to the port and route tables.

use super::Model;
use crate::port::PortSpec;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{Adjacency, AdjacencyId, PortInfo, Route};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What the tables hold of ports and routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    programmed: BTreeMap<PortId, ProgrammedPort>,
    /// Who wants a prefix. The lowest port number has it: ports that are there stay undisturbed by newcomers.
    claims: BTreeMap<IpNet, BTreeSet<PortId>>,
    /// This node's own addresses.
    local: BTreeSet<IpNet>,
}

#[derive(Debug)]
struct ProgrammedPort {
    adjacency: AdjacencyId,
    info: PortInfo,
    prefixes: BTreeSet<IpNet>,
}

impl Model {
    /// Brings ports and routes up to date. True when a cached verdict may have become wrong.
    pub(super) fn compile_routes(&mut self) -> bool {
        let mut stale = false;
        let mut touched = BTreeSet::new();
        for id in std::mem::take(&mut self.addresses.dirty) {
            stale |= self.compile_port(id, &mut touched);
        }
        if std::mem::take(&mut self.nodes.addresses_changed) {
            let local = self.local_addresses();
            touched.extend(local.symmetric_difference(&self.routes.local).copied());
            self.routes.local = local;
        }
        let released = self.prepare_ways(&mut touched);
        for prefix in touched {
            stale |= self.compile_prefix(prefix);
        }
        stale | self.clean_ways(released)
    }

    fn compile_port(&mut self, id: PortId, touched: &mut BTreeSet<IpNet>) -> bool {
        let wanted =
            self.addresses.ports.get(&id).map(|spec| (spec.clone(), self.addresses.prefixes_of(spec)));
        let former = self.routes.programmed.remove(&id);
        if let Some(former) = &former {
            for prefix in &former.prefixes {
                if let Some(claims) = self.routes.claims.get_mut(prefix) {
                    claims.remove(&id);
                }
                touched.insert(*prefix);
            }
        }
        let Some((spec, prefixes)) = wanted else {
            if let Some(former) = &former {
                self.tables.ports.remove(id);
                self.tables.routes.remove_adjacency(former.adjacency);
            }
            return former.is_some();
        };
        let info = self.port_info(&spec);
        let unchanged = former.as_ref().filter(|former| former.info == info).map(|former| former.adjacency);
        let adjacency = unchanged.unwrap_or_else(|| self.add_port(id, info, former.as_ref(), touched));
        for prefix in &prefixes {
            self.routes.claims.entry(*prefix).or_default().insert(id);
            touched.insert(*prefix);
        }
        let changed = former.is_some() && unchanged.is_none();
        self.routes.programmed.insert(id, ProgrammedPort { adjacency, info, prefixes });
        changed
    }

    /// What workers know of a port. Uplinks have the NIC's MAC address, and share their link with many.
    fn port_info(&self, spec: &PortSpec) -> PortInfo {
        let info = PortInfo {
            mac: spec.mac,
            own_mac: self.config.gateway.mac,
            mtu: spec.mtu,
            spoof_check: spec.spoof_check,
            role: spec.role,
            companion: None,
        };
        let mut uplinks = self.underlay.uplinks.iter();
        match uplinks.clone().find(|uplink| uplink.port == spec.id) {
            Some(uplink) => {
                PortInfo { mac: MacAddr::default(), own_mac: uplink.mac, companion: uplink.companion, ..info }
            }
            None => {
                let spoken_for = uplinks.find(|uplink| uplink.companion == Some(spec.id));
                PortInfo { companion: spoken_for.map(|uplink| uplink.port), ..info }
            }
        }
    }

    fn add_port(
        &mut self,
        id: PortId,
        info: PortInfo,
        former: Option<&ProgrammedPort>,
        touched: &mut BTreeSet<IpNet>,
    ) -> AdjacencyId {
        self.tables.ports.insert(id, info);
        if let Some(former) = former {
            self.tables.routes.remove_adjacency(former.adjacency);
            touched.extend(&former.prefixes);
        }
        self.tables.routes.add_adjacency(Adjacency {
            port: id,
            mtu: info.mtu,
            destination_mac: info.mac,
            source_mac: info.own_mac,
            tunnel: None,
        })
    }

    /// Sets the route of one prefix to its owner. True when packets may have gone another way before.
    fn compile_prefix(&mut self, prefix: IpNet) -> bool {
        let claims = self.routes.claims.get(&prefix);
        if claims.is_some_and(BTreeSet::is_empty) {
            self.routes.claims.remove(&prefix);
        }
        let owner = self.routes.claims.get(&prefix).and_then(BTreeSet::first);
        let wanted = match owner.and_then(|owner| self.routes.programmed.get(owner)) {
            Some(port) => Some(Route::Via(port.adjacency)),
            None if self.routes.local.contains(&prefix) => Some(Route::Local),
            None => self.uplink_route(prefix),
        };
        let routes = &mut self.tables.routes;
        let before = routes.get(prefix);
        if before == wanted {
            return false;
        }
        // Even a new route may take over from a shorter one.
        let covered = before.is_some() || routes.lookup(prefix.addr().into()).is_some();
        match wanted {
            Some(route) => routes.insert(prefix, route),
            None => routes.remove(prefix),
        };
        covered
    }

    /// The gateway's addresses, and those of this node.
    fn local_addresses(&self) -> BTreeSet<IpNet> {
        let gateway = [IpAddr::V4(self.config.gateway.ipv4), IpAddr::V6(self.config.gateway.ipv6)];
        gateway.iter().chain(self.nodes.own_addresses()).map(|&address| IpNet::from(address)).collect()
    }
}
