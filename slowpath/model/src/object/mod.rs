//! Kubernetes objects, reduced to what a node's network needs. Whoever makes one has checked its fields.

mod pod;
mod policy;
mod service;
mod slice;
mod topology;

pub use pod::{ContainerPort, Pod, PodPhase, PodPort};
pub use policy::{
    LabelTest, NetworkPolicy, PolicyNumbers, PolicyPeer, PolicyPort, PolicyRule, Requirement, Selector,
};
pub use service::{LoadBalancerIp, Service, ServicePort, ServiceType, TrafficPolicy};
pub use slice::{AddressFamily, Endpoint, EndpointSlice, SlicePort};
pub use topology::{Namespace, Node};

use std::fmt;

/// Labels of an object.
pub type Labels = std::collections::BTreeMap<String, String>;

/// The name of an object in its namespace. Objects of the whole cluster have an empty namespace.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectName {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl ObjectName {
    /// A name in a namespace.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        ObjectName { namespace: namespace.into(), name: name.into() }
    }

    /// The name of an object of the whole cluster.
    pub fn cluster_wide(name: impl Into<String>) -> Self {
        ObjectName { namespace: String::new(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            out.write_str(&self.name)
        } else {
            write!(out, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A transport protocol that services know.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Transport {
    /// TCP, the default everywhere in Kubernetes.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Transport {
    /// The protocol number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Transport::Tcp => 6,
            Transport::Udp => 17,
            Transport::Sctp => 132,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Transport::Tcp => "TCP",
            Transport::Udp => "UDP",
            Transport::Sctp => "SCTP",
        })
    }
}

/// Any object that the model takes.
#[derive(Clone, PartialEq, Hash, Debug)]
pub enum Object {
    /// A pod.
    Pod(Pod),
    /// A service.
    Service(Service),
    /// A slice of a service's endpoints.
    EndpointSlice(EndpointSlice),
    /// A node.
    Node(Node),
    /// A namespace.
    Namespace(Namespace),
    /// Who may talk to some pods.
    NetworkPolicy(NetworkPolicy),
}

impl Object {
    /// The kind.
    pub fn kind(&self) -> Kind {
        match self {
            Object::Pod(_) => Kind::Pod,
            Object::Service(_) => Kind::Service,
            Object::EndpointSlice(_) => Kind::EndpointSlice,
            Object::Node(_) => Kind::Node,
            Object::Namespace(_) => Kind::Namespace,
            Object::NetworkPolicy(_) => Kind::NetworkPolicy,
        }
    }

    /// The name.
    pub fn name(&self) -> &ObjectName {
        match self {
            Object::Pod(pod) => &pod.name,
            Object::Service(service) => &service.name,
            Object::EndpointSlice(slice) => &slice.name,
            Object::Node(node) => &node.name,
            Object::Namespace(namespace) => &namespace.name,
            Object::NetworkPolicy(policy) => &policy.name,
        }
    }
}

/// The kind of an object.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Kind {
    /// `v1` Pod.
    Pod,
    /// `v1` Service.
    Service,
    /// `discovery.k8s.io/v1` EndpointSlice.
    EndpointSlice,
    /// `v1` Node.
    Node,
    /// `v1` Namespace.
    Namespace,
    /// `networking.k8s.io/v1` NetworkPolicy.
    NetworkPolicy,
}

impl fmt::Display for Kind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, out)
    }
}
