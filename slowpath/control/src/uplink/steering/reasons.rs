//! How the reasons for claims differ between two versions of the tables.

use super::ClaimInput;
use ipnet::IpNet;
use millrace_fastpath::port::{Claim, PortId};
use millrace_fastpath::tables::{
    AdjacencyId, Frontend, FrontendKey, FrontendKind, PortRole, Route, RouteChange, RouteTable, TableSet,
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
        if before.ranges == now.ranges {
            reasons.add_difference(before, now);
        } else {
            // What needs a claim of its own depends on the ranges.
            let nothing = ClaimInput::nothing();
            reasons.add_difference(before, &nothing);
            reasons.add_difference(&nothing, now);
            before.ranges.iter().for_each(|&range| reasons.add(of_range(range), -1));
            now.ranges.iter().for_each(|&range| reasons.add(of_range(range), 1));
        }
        reasons
    }

    fn add_difference(&mut self, before: &ClaimInput, now: &ClaimInput) {
        self.compare(&before.remote_ranges, &now.remote_ranges, of_remote_range);
        self.compare(&before.addresses, &now.addresses, of_own_address);
        self.compare(&before.addresses, &now.addresses, of_own_address_in_range);
        let (former, latter) = (of_node(&before.tables), of_node(&now.tables));
        self.compare(&former, &latter, |claim| claim);
        let changes = now.tables.services.frontend_changes(&before.tables.services);
        for change in changes.filter(|change| !change.key.address.is_loopback()) {
            let of = |input: &ClaimInput, frontend: &Frontend| {
                outside(&input.ranges, of_frontend(change.key, frontend.kind))
            };
            let former = change.before.and_then(|frontend| of(before, frontend));
            self.swap(former, change.now.and_then(|frontend| of(now, frontend)));
        }
        self.routes(before, now);
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

    fn routes(&mut self, before: &ClaimInput, now: &ClaimInput) {
        let of = |input: &ClaimInput, prefix, route: Option<Route>| {
            outside(&input.ranges, of_route(&input.tables, prefix, route?)?)
        };
        if are_same_ways(&before.tables, &now.tables) {
            let changes = now.tables.routes.changes_since(&before.tables.routes);
            for RouteChange { prefix, before: former, now: latter } in changes {
                self.swap(of(before, prefix, former), of(now, prefix, latter));
            }
            return;
        }
        // A number means another neighbour now: any route may lead elsewhere.
        let nothing = RouteTable::default();
        for (input, difference) in [(before, -1), (now, 1)] {
            for RouteChange { prefix, now: route, .. } in input.tables.routes.changes_since(&nothing) {
                of(input, prefix, route).into_iter().for_each(|claim| self.add(claim, difference));
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

/// A claim that the ranges do not cover anyway: each further prefix makes the search for the longest one slower.
fn outside(ranges: &[IpNet], claim: Claim) -> Option<Claim> {
    match claim {
        Claim::Destination(prefix) if ranges.iter().any(|range| range.contains(&prefix)) => None,
        _ => Some(claim),
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
        Route::OnLink(_) | Route::Local | Route::Refused(_) => false,
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
