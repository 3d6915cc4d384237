//! Services as this node serves them.

use crate::flows::Protocol;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// All services with a frontend on this node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct ServiceList {
    /// In the order of namespaces and names.
    pub services: Vec<Service>,
}

/// One service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its ports.
    pub ports: Vec<ServicePort>,
}

/// One port of a service.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServicePort {
    /// The port's name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Protocol,
    /// Where it answers.
    pub frontends: Vec<Frontend>,
    /// All endpoints of this port, of both families.
    pub endpoints: Vec<Endpoint>,
}

/// An address at which a service port answers.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Frontend {
    /// `ClusterIP`, and later other kinds.
    pub kind: String,
    /// The virtual address.
    pub address: IpAddr,
    /// The virtual port.
    pub port: u16,
    /// How many endpoints a new connection may be sent to.
    pub usable: u32,
    /// What meets a new connection when `usable` is 0.
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

/// An endpoint of a service port.
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
}
