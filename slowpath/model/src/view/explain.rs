//! From the model to the views.

use super::{
    EndpointView, FrontendView, PoolView, ServicePortName, ServicePortView, ServiceView, SliceView,
    WhyNoEndpoints, WhyNot, WhyUnused,
};
use crate::endpoints::choose;
use crate::index::{Mention, counted, mentions};
use crate::model::{ClaimKey, Model, sets_of};
use crate::object::{AddressFamily, EndpointSlice, ObjectName, Service, ServicePort, TrafficPolicy};
use millrace_fastpath::tables::{Backend, Frontend, Pool, ServiceId};
use std::collections::BTreeMap;

/// For each endpoint that counts: whether it is in the cluster set and in the local set.
type Standings = BTreeMap<Backend, [Result<(), WhyNot>; 2]>;

impl Model {
    /// Services with a frontend on this node. Frontends are those of the last compilation.
    pub fn services(&self) -> impl Iterator<Item = ServiceView> + '_ {
        let served = self.services.services.values().filter(|service| service.is_served());
        served.map(|service| self.view(service))
    }

    /// One service, if it has a frontend on this node.
    pub fn service(&self, name: &ObjectName) -> Option<ServiceView> {
        let service = self.services.services.get(name).filter(|service| service.is_served())?;
        Some(self.view(service))
    }

    fn view(&self, service: &Service) -> ServiceView {
        ServiceView {
            name: service.name.clone(),
            kind: service.kind,
            internal_policy: service.internal_policy,
            external_policy: service.external_policy,
            affinity_seconds: service.affinity_seconds,
            source_ranges: service.source_ranges.clone(),
            health_check_node_port: service.health_check_node_port,
            ports: service.ports.iter().map(|port| self.port_view(service, port)).collect(),
        }
    }

    fn port_view(&self, service: &Service, port: &ServicePort) -> ServicePortView {
        let naming: Vec<&EndpointSlice> = self.services.slices_naming(&service.name).collect();
        let slices: Vec<SliceView> = naming.iter().map(|slice| slice_view(slice, port)).collect();
        let id = self.programmed.ids.get(&ServicePortName {
            service: service.name.clone(),
            port: port.name.clone(),
            protocol: port.protocol,
        });
        let frontends = self.frontend_views(service, id);
        let endpoints = self.endpoint_views(service, port, &frontends);
        ServicePortView {
            id,
            name: port.name.clone(),
            protocol: port.protocol,
            port: port.port,
            no_endpoints: endpoints.is_empty().then(|| why_no_endpoints(&slices, port)),
            frontends,
            endpoints,
            slices,
        }
    }

    /// Where a port wants to answer, in the order of kinds.
    fn frontend_views(&self, service: &Service, id: Option<ServiceId>) -> Vec<FrontendView> {
        let planned = self.programmed.frontends(&service.name);
        let of_port = planned.filter(|(_, frontend)| Some(frontend.service) == id);
        let mut views: Vec<FrontendView> =
            of_port.map(|(key, frontend)| self.frontend_view(service, key, frontend)).collect();
        views.sort_by_key(|view| (view.kind, view.address, view.port));
        views
    }

    fn frontend_view(&self, service: &Service, key: &ClaimKey, frontend: &Frontend) -> FrontendView {
        let [inside, outside] = sets_of(service, frontend.kind);
        let others = self.programmed.claims.of(key).filter(|name| **name != service.name);
        let holder = self.programmed.holder(key).filter(|holder| holder.service != service.name);
        FrontendView {
            kind: frontend.kind,
            address: key.address,
            port: key.port,
            inside: pool_view(&frontend.inside, inside),
            outside: pool_view(&frontend.outside, outside),
            keeps_client: frontend.keeps_client,
            restricted: frontend.sources.is_some(),
            held_by: holder.cloned(),
            contested_by: others.cloned().collect(),
        }
    }

    /// Every mention of an endpoint, in the order of the slices.
    fn endpoint_views(
        &self,
        service: &Service,
        port: &ServicePort,
        frontends: &[FrontendView],
    ) -> Vec<EndpointView> {
        let slices = self.services.slices_of(&service.name);
        let counted = counted(&slices, port);
        let standings = self.standings(service, &counted);
        let view = |mention: Mention<'_>| {
            let endpoint = mention.endpoint;
            let (cluster, local) = standing(&mention, &counted, &standings);
            let in_set = |set| match set {
                TrafficPolicy::Cluster => cluster.is_ok(),
                TrafficPolicy::Local => local.is_ok(),
            };
            let taken = |frontend: &FrontendView| {
                frontend.held_by.is_none()
                    && frontend.address.is_ipv4() == endpoint.address.is_ipv4()
                    && (in_set(frontend.inside.set) || in_set(frontend.outside.set))
            };
            EndpointView {
                address: endpoint.address,
                port: mention.backend.port,
                slice: mention.slice.name.clone(),
                node: endpoint.node.clone(),
                zone: endpoint.zone.clone(),
                pod: endpoint.pod.clone(),
                conditions: endpoint.conditions,
                usable: frontends.iter().any(taken),
                cluster,
                local,
            }
        };
        mentions(&slices, port).map(view).collect()
    }

    fn standings(&self, service: &Service, counted: &BTreeMap<Backend, Mention<'_>>) -> Standings {
        let mut standings = Standings::new();
        for family in [AddressFamily::V4, AddressFamily::V6] {
            let of_family = |mention: &&Mention<'_>| AddressFamily::of(mention.endpoint.address) == family;
            let members: Vec<&Mention<'_>> = counted.values().filter(of_family).collect();
            let endpoints: Vec<_> = members.iter().map(|mention| mention.endpoint).collect();
            let served = service.serves(family);
            let [cluster, local] = [TrafficPolicy::Cluster, TrafficPolicy::Local]
                .map(|traffic| choose(&endpoints, self.nodes.policy(traffic)).standings);
            for ((mention, cluster), local) in members.into_iter().zip(cluster).zip(local) {
                let explain = |standing: Result<(), _>| match served {
                    true => standing.map_err(|reason| WhyNot::new(reason, mention.endpoint)),
                    false => Err(WhyNot::FamilyNotServed { family }),
                };
                standings.insert(mention.backend, [explain(cluster), explain(local)]);
            }
        }
        standings
    }
}

/// The standing of the mention that counts; of another, that it does not.
fn standing(
    mention: &Mention<'_>,
    counted: &BTreeMap<Backend, Mention<'_>>,
    standings: &Standings,
) -> (Result<(), WhyNot>, Result<(), WhyNot>) {
    match (counted.get(&mention.backend), standings.get(&mention.backend)) {
        (Some(counted), Some([cluster, local])) if std::ptr::eq(counted.endpoint, mention.endpoint) => {
            (cluster.clone(), local.clone())
        }
        (counted, _) => {
            let slice = counted.unwrap_or(mention).slice.name.clone();
            (Err(WhyNot::DuplicateOf { slice: slice.clone() }), Err(WhyNot::DuplicateOf { slice }))
        }
    }
}

fn pool_view(pool: &Pool, set: TrafficPolicy) -> PoolView {
    PoolView { set, usable: pool.backends.backends().len(), when_empty: pool.when_empty }
}

fn slice_view(slice: &EndpointSlice, port: &ServicePort) -> SliceView {
    let matching = slice.ports.iter().filter(|candidate| candidate.serves(port)).count();
    let endpoints = match matching {
        _ if slice.headless => Err(WhyUnused::Headless),
        0 => Err(WhyUnused::NoSuchPort { ports: slice.ports.clone() }),
        _ if slice.endpoints.is_empty() => Err(WhyUnused::Empty),
        ports => Ok(ports * slice.endpoints.len()),
    };
    SliceView { name: slice.name.clone(), family: slice.family, endpoints }
}

fn why_no_endpoints(slices: &[SliceView], port: &ServicePort) -> WhyNoEndpoints {
    let counting = || slices.iter().filter(|slice| slice.endpoints != Err(WhyUnused::Headless));
    let unmatched = |slice: &SliceView| matches!(slice.endpoints, Err(WhyUnused::NoSuchPort { .. }));
    if counting().next().is_none() {
        WhyNoEndpoints::NoSlice
    } else if counting().all(unmatched) {
        WhyNoEndpoints::NoSuchPort { port: port.name.clone(), protocol: port.protocol }
    } else {
        WhyNoEndpoints::Empty
    }
}
