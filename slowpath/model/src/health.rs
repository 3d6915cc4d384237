//! What load balancers and people ask of a node's health: the pure part.
//!
//! The rules are those of kube-proxy (pkg/proxy/healthcheck and `EndpointsChangeTracker` of Kubernetes).

use crate::index::mentions;
use crate::model::Model;
use crate::object::{AddressFamily, Endpoint, ObjectName, Service, ServicePort, ServiceType, TrafficPolicy};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// What a load balancer is told at a `healthCheckNodePort`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HealthCheck {
    /// The service.
    pub service: ObjectName,
    /// How many ready endpoints it has on this node, by their addresses. Of both families, that with more counts: most
    /// endpoints have an address of each.
    pub local_endpoints: usize,
}

/// How many service ports have endpoints, but none on this node where a policy wants them here: `[IPv4, IPv6]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WithoutLocal {
    /// By `internalTrafficPolicy: Local`.
    pub internal: [usize; 2],
    /// By `externalTrafficPolicy: Local`.
    pub external: [usize; 2],
}

/// The health checks of all services, kept up to date by what changes.
#[derive(Debug, Default)]
pub(crate) struct HealthChecks {
    /// Port and local endpoints, by service.
    services: BTreeMap<ObjectName, (u16, usize)>,
    generation: u64,
}

impl Model {
    /// The health checks that this node answers, by port, as of the last compilation. Of several services with one port
    /// the first by name has it.
    pub fn health_checks(&self) -> BTreeMap<u16, HealthCheck> {
        let mut checks = BTreeMap::new();
        for (service, &(port, local_endpoints)) in &self.health.services {
            checks.entry(port).or_insert_with(|| HealthCheck { service: service.clone(), local_endpoints });
        }
        checks
    }

    /// Changes whenever [`health_checks`](Model::health_checks) may.
    pub fn health_generation(&self) -> u64 {
        self.health.generation
    }

    /// Whether this node is about to go; nothing while it is not known.
    pub fn is_leaving(&self) -> Option<bool> {
        self.own_node().map(|node| node.leaving)
    }

    /// Looks at all services with a `Local` policy.
    pub fn without_local_endpoints(&self) -> WithoutLocal {
        let mut found = WithoutLocal::default();
        for service in self.services.services.values().filter(|service| service.is_served()) {
            let internal = service.internal_policy == TrafficPolicy::Local;
            let external = service.external_policy == TrafficPolicy::Local && is_external(service);
            if !internal && !external {
                continue;
            }
            let slices = self.services.slices_of(&service.name);
            for port in &service.ports {
                for &ip in &service.cluster_ips {
                    let endpoints = mentions(&slices, port).map(|mention| mention.endpoint);
                    let family = AddressFamily::of(ip);
                    let of_family = |endpoint: &&Endpoint| AddressFamily::of(endpoint.address) == family;
                    if self.lacks_local(endpoints.filter(of_family)) {
                        let at = usize::from(ip.is_ipv6());
                        found.internal[at] += usize::from(internal);
                        found.external[at] += usize::from(external);
                    }
                }
            }
        }
        found
    }

    /// Brings the health checks up to date with the services that changed.
    pub(crate) fn compile_health(&mut self) {
        let dirty = &self.services.dirty;
        let change_of = |name: &ObjectName| {
            let wanted = self.health_of(name);
            (self.health.services.get(name) != wanted.as_ref()).then(|| (name.clone(), wanted))
        };
        let changes: Vec<_> = dirty.iter().filter_map(change_of).collect();
        self.health.generation += u64::from(!changes.is_empty());
        for (name, wanted) in changes {
            match wanted {
                Some(wanted) => self.health.services.insert(name, wanted),
                None => self.health.services.remove(&name),
            };
        }
    }

    /// Port and local endpoints of a service, if it is to have a health check.
    fn health_of(&self, name: &ObjectName) -> Option<(u16, usize)> {
        let port = health_port(self.services.services.get(name)?)?;
        let (v4, v6): (Vec<_>, Vec<_>) = self.ready_here(name).into_iter().partition(IpAddr::is_ipv4);
        // Upstream has a server a family, each of which counts its own.
        Some((port, v4.len().max(v6.len())))
    }

    /// Addresses of ready endpoints on this node, both families. As upstream does it, all ports of the slices count, and
    /// an endpoint that ends counts only if it is said to be ready nevertheless (`publishNotReadyAddresses`).
    fn ready_here(&self, service: &ObjectName) -> BTreeSet<IpAddr> {
        let slices = self.services.slices_of(service).into_iter().filter(|slice| !slice.ports.is_empty());
        slices
            .flat_map(|slice| &slice.endpoints)
            .filter(|endpoint| endpoint.conditions.ready && self.is_local(endpoint))
            .map(|endpoint| endpoint.address)
            .collect()
    }

    /// Whether there are endpoints to use, and none of them is here.
    fn lacks_local<'a>(&self, endpoints: impl Iterator<Item = &'a Endpoint>) -> bool {
        let mut usable = endpoints.filter(|endpoint| endpoint.conditions.may_take_connections()).peekable();
        usable.peek().is_some() && !usable.any(|endpoint| self.is_local(endpoint))
    }

    fn is_local(&self, endpoint: &Endpoint) -> bool {
        endpoint.node.as_ref() == Some(&self.config.node)
    }
}

/// The port of a service's health check, if it is to have one (`NeedsHealthCheck`, pkg/api/v1/service).
fn health_port(service: &Service) -> Option<u16> {
    let needed = service.is_served()
        && service.kind == ServiceType::LoadBalancer
        && service.external_policy == TrafficPolicy::Local;
    service.health_check_node_port.filter(|_| needed)
}

/// Whether a service has frontends besides its ClusterIPs.
fn is_external(service: &Service) -> bool {
    let has_node_port = |port: &ServicePort| port.node_port.is_some();
    service.ports.iter().any(has_node_port)
        || !service.external_ips.is_empty()
        || !service.load_balancer_ips.is_empty()
}
