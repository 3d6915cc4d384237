//! What one service wants in the tables.

use super::claims::{ClaimKey, precedence};
use super::ids::Ids;
use super::sets::Sets;
use crate::endpoints::{Policy, choose};
use crate::index::counted;
use crate::object::{
    AddressFamily, Endpoint, EndpointSlice, Service, ServicePort, ServiceType, TrafficPolicy,
};
use crate::view::ServicePortName;
use ipnet::IpNet;
use millrace_fastpath::tables::{AddressSet, Backend, Frontend, FrontendKind, Pool, ServiceId};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What one service wants in the tables: nothing, if it is gone or not ours.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) frontends: BTreeMap<ClaimKey, Frontend>,
    /// Endpoints whose flows may stay.
    pub(in crate::model) serving: BTreeSet<(ServiceId, Backend)>,
    /// Its ports.
    pub(in crate::model) ids: BTreeSet<ServiceId>,
}

/// What a plan is made from.
pub(super) struct Planner<'a> {
    pub(super) service: &'a Service,
    pub(super) slices: Vec<&'a EndpointSlice>,
    /// This node. Which set is asked for does not matter here.
    pub(super) place: Policy<'a>,
    /// Where NodePorts answer.
    pub(super) node_addresses: &'a [IpAddr],
    pub(super) sets: Sets,
}

impl Planner<'_> {
    pub(super) fn plan(mut self, ids: &mut Ids) -> Plan {
        let mut plan = Plan::default();
        let service = self.service;
        let families = [AddressFamily::V4, AddressFamily::V6].map(|family| (family, self.sources(family)));
        for port in &service.ports {
            let id = ids.claim(ServicePortName {
                service: service.name.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            });
            plan.ids.insert(id);
            let counted = counted(&self.slices, port);
            for (family, sources) in families.iter().filter(|(family, _)| service.serves(*family)) {
                let of_family = |endpoint: &&Endpoint| AddressFamily::of(endpoint.address) == *family;
                let endpoints: Vec<(Backend, &Endpoint)> = counted
                    .iter()
                    .map(|(backend, mention)| (*backend, mention.endpoint))
                    .filter(|(_, endpoint)| of_family(endpoint))
                    .collect();
                let serving = endpoints.iter().filter(|(_, endpoint)| endpoint.conditions.keeps_flows());
                plan.serving.extend(serving.map(|(backend, _)| (id, *backend)));
                let mut pools = Pools { endpoints, place: self.place, made: [None, None] };
                for (kind, address, number) in self.addresses(port, *family) {
                    let key = ClaimKey { address, port: number, protocol: port.protocol };
                    let frontend = self.frontend(id, kind, &mut pools, sources);
                    plan.offer(key, frontend);
                }
            }
        }
        plan
    }

    /// Every address and port at which a port of the service is to answer.
    fn addresses(&self, port: &ServicePort, family: AddressFamily) -> Vec<(FrontendKind, IpAddr, u16)> {
        let service = self.service;
        let at = |kind, ips: &[IpAddr], port: u16| {
            let ips = ips.iter().copied().filter(|&ip| AddressFamily::of(ip) == family);
            ips.map(|ip| (kind, ip, port)).collect::<Vec<_>>()
        };
        // An address with `ipMode: Proxy` is that of a proxy, which comes by the NodePort.
        let balancers: Vec<IpAddr> =
            service.load_balancer_ips.iter().filter(|entry| entry.vip).map(|entry| entry.ip).collect();
        let has_node_port = matches!(service.kind, ServiceType::NodePort | ServiceType::LoadBalancer);
        let node_port = port.node_port.filter(|_| has_node_port);
        [
            at(FrontendKind::ClusterIp, &service.cluster_ips, port.port),
            at(FrontendKind::LoadBalancer, &balancers, port.port),
            at(FrontendKind::ExternalIp, &service.external_ips, port.port),
            node_port.map_or_else(Vec::new, |number| at(FrontendKind::NodePort, self.node_addresses, number)),
        ]
        .concat()
    }

    fn frontend(
        &mut self,
        id: ServiceId,
        kind: FrontendKind,
        pools: &mut Pools<'_>,
        sources: &Option<Arc<AddressSet>>,
    ) -> Frontend {
        let service = self.service;
        let [inside, outside] = sets_of(service, kind).map(|set| pools.get(set, &mut self.sets));
        Frontend {
            service: id,
            kind,
            inside,
            outside,
            keeps_client: kind != FrontendKind::ClusterIp && service.external_policy == TrafficPolicy::Local,
            sources: sources.clone().filter(|_| kind == FrontendKind::LoadBalancer),
            affinity: service.affinity_seconds,
        }
    }

    /// Who may come to load balancers' addresses of a family. As upstream does it (`pkg/proxy/serviceport.go`), ranges hold
    /// for their own family only; one that holds everybody restricts nobody.
    fn sources(&self, family: AddressFamily) -> Option<Arc<AddressSet>> {
        let of_family = |range: &&IpNet| AddressFamily::of(range.addr()) == family;
        let ranges: Vec<IpNet> = self.service.source_ranges.iter().filter(of_family).copied().collect();
        let restricts = !ranges.is_empty() && ranges.iter().all(|range| range.prefix_len() > 0);
        restricts.then(|| Arc::new(AddressSet::new(ranges)))
    }
}

/// Which sets of endpoints a frontend offers: inside, outside.
pub(crate) fn sets_of(service: &Service, kind: FrontendKind) -> [TrafficPolicy; 2] {
    match kind {
        FrontendKind::ClusterIp => [service.internal_policy; 2],
        FrontendKind::NodePort
        | FrontendKind::ExternalIp
        | FrontendKind::LoadBalancer
        | FrontendKind::HostPort => [TrafficPolicy::Cluster, service.external_policy],
    }
}

impl Plan {
    /// Adds a frontend, unless another of the same service comes first there.
    fn offer(&mut self, key: ClaimKey, frontend: Frontend) {
        match self.frontends.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(frontend);
            }
            Entry::Occupied(mut entry) if precedence(frontend.kind) < precedence(entry.get().kind) => {
                entry.insert(frontend);
            }
            Entry::Occupied(_) => {}
        }
    }
}

/// The sets of endpoints of one service port and family, made when first wanted.
struct Pools<'a> {
    endpoints: Vec<(Backend, &'a Endpoint)>,
    place: Policy<'a>,
    made: [Option<Pool>; 2],
}

impl Pools<'_> {
    fn get(&mut self, traffic: TrafficPolicy, sets: &mut Sets) -> Pool {
        let (endpoints, place) = (&self.endpoints, self.place);
        let make = || {
            let candidates: Vec<&Endpoint> = endpoints.iter().map(|(_, endpoint)| *endpoint).collect();
            let choice = choose(&candidates, Policy { traffic, ..place });
            let backends = choice.usable().map(|index| endpoints[index].0).collect();
            Pool { backends: sets.get(backends), when_empty: choice.when_empty }
        };
        self.made[usize::from(traffic == TrafficPolicy::Local)].get_or_insert_with(make).clone()
    }
}
