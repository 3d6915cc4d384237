//! Services as this node serves them, for people.

mod endpoint;
mod exclusion;
mod explain;

pub use endpoint::{EndpointView, SliceView, WhyNoEndpoints, WhyNot, WhyUnused};
pub use exclusion::{ExcludedService, Exclusion};

use crate::model::Model;
use crate::object::{ObjectName, ServiceType, TrafficPolicy, Transport};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{FrontendKind, ServiceId, WhenEmpty};
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
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// Seconds of `ClientIP` session affinity; absent without affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<IpNet>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// Its ports.
    pub ports: Vec<ServicePortView>,
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServicePortView {
    /// What names it in flows and in affinities; absent until the service has been compiled.
    pub id: Option<ServiceId>,
    /// The port's name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// The number at the service's addresses.
    pub port: u16,
    /// Where it answers.
    pub frontends: Vec<FrontendView>,
    /// All its endpoints, each mention of one in a slice.
    pub endpoints: Vec<EndpointView>,
    /// The slices that name the service, and what each gives this port.
    pub slices: Vec<SliceView>,
    /// Why the port has no endpoints at all; absent if it has some, usable or not.
    pub no_endpoints: Option<WhyNoEndpoints>,
}

/// An address of a service.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FrontendView {
    /// Why the service answers here.
    pub kind: FrontendKind,
    /// The virtual address.
    pub address: IpAddr,
    /// The virtual port: the service's, or its NodePort.
    pub port: u16,
    /// For connections from pods and from the node itself.
    pub inside: PoolView,
    /// For connections from elsewhere.
    pub outside: PoolView,
    /// Whether clients from outside keep their addresses.
    pub keeps_client: bool,
    /// Whether the service's source ranges hold here.
    pub restricted: bool,
    /// The service port that answers here instead, because it comes first among those that want the address. Absent if
    /// this one does.
    pub held_by: Option<ServicePortName>,
    /// Other services that want this very address, port and protocol.
    pub contested_by: Vec<ObjectName>,
}

/// What a new connection to a frontend meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PoolView {
    /// Which set it is: the cluster's or this node's.
    pub set: TrafficPolicy,
    /// How many endpoints take new connections.
    pub usable: usize,
    /// What happens when there are none.
    pub when_empty: WhenEmpty,
}

impl Model {
    /// The service port that an id in the tables names.
    pub fn service_name(&self, id: ServiceId) -> Option<&ServicePortName> {
        self.programmed.name(id)
    }

    /// All prefixes that a port owns, its pod's addresses among them.
    pub fn port_prefixes(&self, id: PortId) -> Vec<IpNet> {
        let port = self.addresses.ports.get(&id);
        port.map(|port| self.addresses.prefixes_of(port).into_iter().collect()).unwrap_or_default()
    }
}
