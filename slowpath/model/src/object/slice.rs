//! Slices of the endpoints of a service.

use super::{ObjectName, ServicePort, Transport};
use crate::endpoints::Conditions;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::SystemTime;

/// A slice of the endpoints of a service: one address family, the same ports for all.
///
/// Two slices are equal if they say the same of the endpoints, whenever they began to.
#[derive(Clone, Eq, Debug)]
pub struct EndpointSlice {
    /// Its name.
    pub name: ObjectName,
    /// The service, by the label `kubernetes.io/service-name`; in the slice's own namespace.
    pub service: Option<String>,
    /// The family of all its addresses.
    pub family: AddressFamily,
    /// Whether it belongs to a headless service: label `service.kubernetes.io/headless`.
    pub headless: bool,
    /// The ports of every endpoint.
    pub ports: Vec<SlicePort>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// When the cluster changed so that the slice had to: annotation `endpoints.kubernetes.io/last-change-trigger-time`.
    pub trigger_time: Option<SystemTime>,
}

impl PartialEq for EndpointSlice {
    fn eq(&self, other: &Self) -> bool {
        let EndpointSlice { name, service, family, headless, ports, endpoints, trigger_time: _ } = self;
        (name, service, family, headless, ports, endpoints)
            == (&other.name, &other.service, &other.family, &other.headless, &other.ports, &other.endpoints)
    }
}

impl Hash for EndpointSlice {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let EndpointSlice { name, service, family, headless, ports, endpoints, trigger_time: _ } = self;
        (name, service, family, headless, ports, endpoints).hash(state);
    }
}

impl EndpointSlice {
    /// The service whose endpoints these are, if this node has to know.
    pub fn service_name(&self) -> Option<ObjectName> {
        self.labelled_service().filter(|_| !self.headless)
    }

    /// The service that the label names.
    pub(crate) fn labelled_service(&self) -> Option<ObjectName> {
        let name = self.service.clone()?;
        Some(ObjectName::new(self.name.namespace.clone(), name))
    }
}

/// A family of addresses.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum AddressFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl AddressFamily {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { AddressFamily::V4 } else { AddressFamily::V6 }
    }
}

impl fmt::Display for AddressFamily {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            AddressFamily::V4 => "IPv4",
            AddressFamily::V6 => "IPv6",
        })
    }
}

/// A port of all endpoints of a slice.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SlicePort {
    /// The name of the service's port; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// The number at the endpoints.
    pub port: u16,
}

impl SlicePort {
    /// Whether it is the port of a service's port: by name and protocol.
    pub(crate) fn serves(&self, port: &ServicePort) -> bool {
        self.name == port.name && self.protocol == port.protocol
    }
}

/// An endpoint.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// The first address: the others mean the same endpoint and are not used, as upstream does it.
    pub address: IpAddr,
    /// Whether it takes connections.
    pub conditions: Conditions,
    /// The node that it is on.
    pub node: Option<String>,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// `hints.forNodes`.
    pub for_nodes: Vec<String>,
    /// `hints.forZones`.
    pub for_zones: Vec<String>,
    /// The pod behind it.
    pub pod: Option<ObjectName>,
}
