//! Pods.

use super::{Labels, ObjectName, Transport};
use std::net::IpAddr;

/// A pod.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pod {
    /// Its name.
    pub name: ObjectName,
    /// Its labels.
    pub labels: Labels,
    /// The node that it is scheduled to.
    pub node: Option<String>,
    /// Whether it lives in the node's own network namespace.
    pub host_network: bool,
    /// Where it is in its life.
    pub phase: PodPhase,
    /// `status.podIPs`: at most one address a family.
    pub ips: Vec<IpAddr>,
    /// The ports that its containers declare.
    pub ports: Vec<ContainerPort>,
    /// What it wants of its port on this node.
    pub port: PodPort,
}

/// What a pod says of its port. The texts are those of annotations, and checked when the port is made: a wrong one
/// concerns nobody else.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct PodPort {
    /// Its UID as the kubelet tells it to the container runtime: a pod may be made anew under its name.
    pub uid: Option<String>,
    /// `millrace.io/port`.
    pub kind: Option<String>,
    /// `millrace.io/vhost-user-uid`.
    pub vhost_user_uid: Option<String>,
    /// `kubernetes.io/ingress-bandwidth`.
    pub ingress_bandwidth: Option<String>,
    /// `kubernetes.io/egress-bandwidth`.
    pub egress_bandwidth: Option<String>,
}

impl Pod {
    /// The addresses that are its own and in use: none of a finished pod, and none that are the node's.
    pub fn own_ips(&self) -> &[IpAddr] {
        let finished = matches!(self.phase, PodPhase::Succeeded | PodPhase::Failed);
        if finished || self.host_network { &[] } else { &self.ips }
    }
}

/// Where a pod is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum PodPhase {
    /// Accepted, not yet running.
    #[default]
    Pending,
    /// Running.
    Running,
    /// All containers have ended well.
    Succeeded,
    /// All containers have ended, not all well.
    Failed,
    /// The node does not tell.
    Unknown,
}

/// A port that a container declares.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ContainerPort {
    /// Its name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// The number.
    pub port: u16,
}
