//! Where things are: nodes and namespaces.

use super::{Labels, ObjectName};
use crate::routing::NodeRouting;
use ipnet::IpNet;
use std::net::IpAddr;

/// A node.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// Its name; the namespace is empty.
    pub name: ObjectName,
    /// Its labels.
    pub labels: Labels,
    /// Its zone: label `topology.kubernetes.io/zone`.
    pub zone: Option<String>,
    /// Its addresses, `InternalIP` before `ExternalIP`.
    pub addresses: Vec<IpAddr>,
    /// The ranges of its pods' addresses.
    pub pod_cidrs: Vec<IpNet>,
    /// What it says of the way to it.
    pub routing: NodeRouting,
    /// Whether it is about to go: being deleted, or tainted so by the cluster autoscaler.
    pub leaving: bool,
    /// Its condition `NetworkUnavailable`, as far as it says yes or no.
    pub network_unavailable: Option<bool>,
}

/// A namespace.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Namespace {
    /// Its name; the namespace is empty.
    pub name: ObjectName,
    /// Its labels.
    pub labels: Labels,
}
