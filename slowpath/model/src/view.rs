//! Services as this node serves them, for people.

use crate::endpoints::Conditions;
use crate::index::endpoints_of;
use crate::model::Model;
use crate::object::{ObjectName, Service, ServicePort, Transport};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{FrontendKey, ServiceId, TableSet, WhenEmpty};
use std::fmt;
use std::net::IpAddr;

/// One port of a service.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServicePortName {
    /// The service.
    pub service: ObjectName,
    /// The name of its port; empty if it has none.
    pub port: String,
    /// The protocol.
    pub protocol: Transport,
}

impl fmt::Display for ServicePortName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.service)?;
        if self.port.is_empty() { Ok(()) } else { write!(out, ":{}", self.port) }
    }
}

/// A service with all its ports.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceView {
    /// Its name.
    pub name: ObjectName,
    /// Its ports.
    pub ports: Vec<ServicePortView>,
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePortView {
    /// The port's name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// Where it answers.
    pub frontends: Vec<FrontendView>,
    /// All its endpoints.
    pub endpoints: Vec<EndpointView>,
}

/// An address of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendView {
    /// The virtual address.
    pub address: IpAddr,
    /// The virtual port.
    pub port: u16,
    /// How many endpoints take new connections.
    pub usable: usize,
    /// What happens when there are none.
    pub when_empty: WhenEmpty,
}

/// An endpoint of a service port.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointView {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// Its conditions.
    pub conditions: Conditions,
    /// Whether it takes new connections from this node.
    pub usable: bool,
    /// The node that it is on.
    pub node: Option<String>,
}

impl Model {
    /// Services with a frontend on this node, as in `tables`, which this model has compiled.
    pub fn services<'a>(&'a self, tables: &'a TableSet) -> impl Iterator<Item = ServiceView> + 'a {
        let served = self.services.services.values().filter(|service| service.is_served());
        served.map(|service| self.view(service, tables))
    }

    /// One service, if it has a frontend on this node.
    pub fn service(&self, name: &ObjectName, tables: &TableSet) -> Option<ServiceView> {
        let service = self.services.services.get(name).filter(|service| service.is_served())?;
        Some(self.view(service, tables))
    }

    /// The service port that an id in the tables names.
    pub fn service_name(&self, id: ServiceId) -> Option<&ServicePortName> {
        self.programmed.name(id)
    }

    /// All prefixes that a port owns, its pod's addresses among them.
    pub fn port_prefixes(&self, id: PortId) -> Vec<IpNet> {
        let port = self.addresses.ports.get(&id);
        port.map(|port| self.addresses.prefixes_of(port).into_iter().collect()).unwrap_or_default()
    }

    fn view(&self, service: &Service, tables: &TableSet) -> ServiceView {
        let ports = service.ports.iter().map(|port| self.port_view(service, port, tables)).collect();
        ServiceView { name: service.name.clone(), ports }
    }

    fn port_view(&self, service: &Service, port: &ServicePort, tables: &TableSet) -> ServicePortView {
        let found: Vec<_> = service
            .cluster_ips
            .iter()
            .filter_map(|&address| {
                let protocol = port.protocol.number();
                let key = FrontendKey { address: address.into(), port: port.port, protocol };
                Some((address, tables.services.frontend(&key)?))
            })
            .collect();
        let slices = self.services.slices_of(&service.name);
        let endpoints = endpoints_of(&slices, port).into_iter().map(|(backend, endpoint)| EndpointView {
            address: endpoint.address,
            port: backend.port,
            conditions: endpoint.conditions,
            usable: found.iter().any(|(_, frontend)| frontend.inside.backends.backends().contains(&backend)),
            node: endpoint.node.clone(),
        });
        ServicePortView {
            name: port.name.clone(),
            protocol: port.protocol,
            endpoints: endpoints.collect(),
            frontends: found
                .iter()
                .map(|(address, frontend)| FrontendView {
                    address: *address,
                    port: port.port,
                    usable: frontend.inside.backends.backends().len(),
                    when_empty: frontend.inside.when_empty,
                })
                .collect(),
        }
    }
}
