//! How the reasons for claims differ between two versions of the tables.

use super::ClaimInput;
use ipnet::IpNet;
use millrace_fastpath::port::{Claim, PortId};
use millrace_fastpath::tables::{
    AdjacencyId, Change, Frontend, FrontendKey, FrontendKind, PortRole, Route, RouteChange, TableSet,
};
use std::collections::HashMap;
use std::collections::hash_map;
use std::net::IpAddr;

/// For each claim, how many reasons more or less there are than before.
#[derive(Debug, Default)]
pub(super) struct Reasons(HashMap<Claim, i32>);

impl Reasons {
    /// What has to be added to the reasons in `before` to have those in `now`.
    pub(super) fn between(before: &ClaimInput, now: &ClaimInput) -> Reasons {
        let mut reasons = Reasons::default();
        reasons.compare(&before.ranges, &now.ranges, of_range);
        reasons.compare(&before.remote_ranges, &now.remote_ranges, of_remote_range);
        reasons.compare(&before.addresses, &now.addresses, of_own_address);
        reasons.compare(&before.addresses, &now.addresses, of_own_address_in_range);
        let (former, latter) = (of_node(&before.tables), of_node(&now.tables));
        reasons.compare(&former, &latter, |claim| claim);
        for change in now.tables.services.frontend_changes(&before.tables.services) {
            reasons.frontend(&change);
        }
        reasons.routes(&before.tables, &now.tables);
        reasons
    }

    fn add(&mut self, claim: Claim, difference: i32) {
        *self.0.entry(claim).or_insert(0) += difference;
    }

    fn swap(&mut self, before: Option<Claim>, now: Option<Claim>) {
        if before == now {
            return;
        }
        before.into_iter().for_each(|claim| self.add(claim, -1));
        now.into_iter().for_each(|claim| self.add(claim, 1));
    }

    /// Takes what one list gives reasons for away, and adds what the other does.
    fn compare<T: Copy + PartialEq>(&mut self, before: &[T], now: &[T], claim: fn(T) -> Claim) {
        if before == now {
            return;
        }
        before.iter().for_each(|&item| self.add(claim(item), -1));
        now.iter().for_each(|&item| self.add(claim(item), 1));
    }

    fn frontend(&mut self, change: &Change<'_, FrontendKey, Frontend>) {
        let claim = |frontend: &Frontend| of_frontend(change.key, frontend.kind);
        self.swap(change.before.map(claim), change.now.map(claim));
    }

    fn routes(&mut self, before: &TableSet, now: &TableSet) {
        if are_same_ways(before, now) {
            for RouteChange { prefix, before: former, now: latter } in
                now.routes.changes_since(&before.routes)
            {
                let former = former.and_then(|route| of_route(before, prefix, route));
                self.swap(former, latter.and_then(|route| of_route(now, prefix, route)));
            }
            return;
        }
        // A number means another neighbour now: any route may lead elsewhere.
        let nothing = millrace_fastpath::tables::RouteTable::default();
        for (tables, difference) in [(before, -1), (now, 1)] {
            for RouteChange { prefix, now: route, .. } in tables.routes.changes_since(&nothing) {
                let claim = route.and_then(|route| of_route(tables, prefix, route));
                claim.into_iter().for_each(|claim| self.add(claim, difference));
            }
        }
    }
}

impl IntoIterator for Reasons {
    type Item = (Claim, i32);
    type IntoIter = hash_map::IntoIter<Claim, i32>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

fn of_range(range: IpNet) -> Claim {
    Claim::Destination(range.trunc())
}

fn of_remote_range(range: IpNet) -> Claim {
    Claim::Source(range.trunc())
}

fn of_own_address(address: IpAddr) -> Claim {
    Claim::Host(address)
}

fn of_own_address_in_range(address: IpAddr) -> Claim {
    Claim::Returned(address.into())
}

fn of_frontend(key: &FrontendKey, kind: FrontendKind) -> Claim {
    let address = key.address.to_ip();
    match kind {
        // All of its ports are the service's, also those that it refuses.
        FrontendKind::ClusterIp => Claim::Destination(address.into()),
        FrontendKind::NodePort
        | FrontendKind::ExternalIp
        | FrontendKind::LoadBalancer
        | FrontendKind::HostPort => Claim::Frontend { address, protocol: key.protocol, port: key.port },
    }
}

/// What this node's masquerade and its tunnels' end claim.
fn of_node(tables: &TableSet) -> Vec<Claim> {
    let ports = tables.masquerade.ports;
    let v4 = tables.masquerade.ipv4.map(IpAddr::V4);
    let v6 = tables.masquerade.ipv6.map(IpAddr::V6);
    let masquerade = v4.into_iter().chain(v6).map(|address| Claim::SourcePorts {
        address,
        first: ports.first,
        last: ports.last,
    });
    let tunnels = tables.tunnels.vtep().into_iter().flat_map(|vtep| {
        let port = vtep.udp_port;
        vtep.addresses.iter().map(move |address| Claim::Tunnel { address: address.to_ip(), port })
    });
    masquerade.chain(tunnels).collect()
}

/// What leads to a pod of this node, or through one, is claimed.
fn of_route(tables: &TableSet, prefix: IpNet, route: Route) -> Option<Claim> {
    let leads_to_pod = match route {
        Route::Via(id) => is_pods(tables, id),
        Route::Spread(group) => {
            tables.routes.group(group).is_some_and(|members| members.iter().any(|&id| is_pods(tables, id)))
        }
        Route::OnLink(_) | Route::Local => false,
    };
    leads_to_pod.then(|| Claim::Destination(prefix.trunc()))
}

fn is_pods(tables: &TableSet, id: AdjacencyId) -> bool {
    tables.routes.adjacency(id).is_some_and(|to| is_pod(tables, to.port))
}

fn is_pod(tables: &TableSet, port: PortId) -> bool {
    tables.ports.get(port).is_some_and(|info| info.role == PortRole::Pod)
}

/// Whether the numbers of neighbours and groups that both versions have lead to the same kinds of port.
fn are_same_ways(before: &TableSet, now: &TableSet) -> bool {
    let is_same = |tables: &TableSet, id| is_pods(tables, AdjacencyId(id));
    let (former, latter) = (before.routes.adjacencies(), now.routes.adjacencies());
    let neighbours = (0_u32..).zip(former.iter().zip(latter)).all(|(id, (former, latter))| {
        former.is_none() || latter.is_none() || is_same(before, id) == is_same(now, id)
    });
    let groups = before.routes.groups().iter().zip(now.routes.groups());
    neighbours && groups.into_iter().all(|(before, now)| before.is_none() || now.is_none() || before == now)
}
