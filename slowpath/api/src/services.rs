//! Services as this node serves them.

use crate::flows::{Flow, Protocol};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All services with a frontend on this node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceList {
    /// In the order of namespaces and names.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `spec.type`; absent of a service that is not served.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// `spec.internalTrafficPolicy`: `Cluster` or `Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub internal_traffic_policy: Option<String>,
    /// `spec.externalTrafficPolicy`: `Cluster` or `Local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_traffic_policy: Option<String>,
    /// Seconds of `ClientIP` session affinity; absent without affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity_seconds: Option<u32>,
    /// `spec.loadBalancerSourceRanges`; empty admits everyone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_ranges: Vec<String>,
    /// `spec.healthCheckNodePort`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_node_port: Option<u16>,
    /// Why this node does not serve it; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_served: Option<Reason>,
    /// Its ports; none of a service that is not served.
    pub ports: Vec<ServicePort>,
    /// Its connections. Only where one service is asked for, not in the list of all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub flows: Option<ServiceFlows>,
}

/// Why something is as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Reason {
    /// A short name that does not change, as in `NotReady`.
    pub name: String,
    /// One sentence without a full stop.
    pub text: String,
}

/// One port of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The port's name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// The number at the service's addresses.
    #[serde(default)]
    pub port: u16,
    /// Where it answers.
    pub frontends: Vec<Frontend>,
    /// All endpoints of this port, of both families.
    pub endpoints: Vec<Endpoint>,
    /// Why there is no endpoint at all; absent if there is one, usable or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_endpoints: Option<Reason>,
    /// The slices that name the service.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<Slice>,
    /// Which clients stay with which endpoints. Only where one service is asked for, and if it has session affinity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,
}

/// An address at which a service port answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frontend {
    /// `ClusterIP`, `NodePort`, `ExternalIP` or `LoadBalancer`.
    pub kind: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The virtual port.
    pub port: u16,
    /// How many endpoints a new connection from a pod or from this node may be sent to.
    pub usable: u32,
    /// What meets such a connection when `usable` is 0.
    pub when_empty: WhenEmpty,
    /// What meets connections from pods and from this node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<EndpointPool>,
    /// What meets connections from elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outside: Option<EndpointPool>,
    /// Whether clients from outside keep their addresses.
    #[serde(default)]
    pub keeps_client: bool,
    /// Whether the service's source ranges hold here.
    #[serde(default)]
    pub restricted: bool,
    /// The service port that answers here instead, as `namespace/name:port`; absent if this one does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_by: Option<String>,
    /// Other services that want this address, port and protocol, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contested_by: Vec<String>,
}

/// Endpoints among which new connections are spread.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndpointPool {
    /// Which set it is: `Cluster` or `Local`.
    pub set: String,
    /// How many endpoints may be chosen.
    pub usable: u32,
    /// What meets a new connection when there are none.
    pub when_empty: WhenEmpty,
}

/// What meets a new connection that no endpoint can take.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenEmpty {
    /// A TCP reset or an ICMP error.
    Reject,
    /// Silence.
    Drop,
}

/// An endpoint of a service port, as one slice mentions it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoint {
    /// The endpoint's address.
    pub address: IpAddr,
    /// The endpoint's port.
    pub port: u16,
    /// Whether new connections are sent to it from this node.
    pub usable: bool,
    /// `ready`, `serving`, `terminating` and so on: its conditions, as the slices say.
    pub conditions: Vec<String>,
    /// The node that it is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The zone that it is in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The pod behind it, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The slice that mentions it, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slice: Option<String>,
    /// Why it is not in the cluster set; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in_cluster_set: Option<Reason>,
    /// Why it is not in this node's set; absent if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_in_local_set: Option<Reason>,
}

/// A slice that names a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Slice {
    /// Its name, as `namespace/name`.
    pub name: String,
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// How many endpoints it mentions for this port.
    pub endpoints: u32,
    /// Why it mentions none; absent if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unused: Option<Reason>,
}

/// Clients of a service port that stay with their endpoints.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Affinity {
    /// How many there are.
    pub total: u64,
    /// Some of them, or all, the last used first.
    pub clients: Vec<AffinityClient>,
}

/// A client that stays with its endpoint.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AffinityClient {
    /// The client.
    pub client: IpAddr,
    /// The endpoint's address; absent if no frontend may send there any more, so that the client gets another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<IpAddr>,
    /// The endpoint's port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_port: Option<u16>,
    /// Seconds since its last new connection.
    pub idle_seconds: u32,
}

/// Connections of a service.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceFlows {
    /// How many there are.
    pub total: u64,
    /// How many of them are in which state.
    pub by_state: BTreeMap<String, u64>,
    /// Some of them, or all.
    pub flows: Vec<Flow>,
}
