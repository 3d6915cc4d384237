//! Services.

use super::{AddressFamily, Labels, ObjectName, Transport};
use ipnet::IpNet;
use std::net::IpAddr;

/// A service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// Its name.
    pub name: ObjectName,
    /// Its labels.
    pub labels: Labels,
    /// `spec.type`.
    pub kind: ServiceType,
    /// `spec.clusterIPs` without `None`; empty for a headless service.
    pub cluster_ips: Vec<IpAddr>,
    /// `spec.externalIPs`.
    pub external_ips: Vec<IpAddr>,
    /// Addresses of `status.loadBalancer.ingress`.
    pub load_balancer_ips: Vec<LoadBalancerIp>,
    /// `spec.loadBalancerSourceRanges`.
    pub source_ranges: Vec<IpNet>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `spec.internalTrafficPolicy`.
    pub internal_policy: TrafficPolicy,
    /// `spec.externalTrafficPolicy`.
    pub external_policy: TrafficPolicy,
    /// Seconds of `ClientIP` session affinity; absent without affinity.
    pub affinity_seconds: Option<u32>,
    /// `spec.healthCheckNodePort`.
    pub health_check_node_port: Option<u16>,
    /// Whether another proxy serves it: label `service.kubernetes.io/service-proxy-name`.
    pub foreign_proxy: bool,
}

impl Service {
    /// Whether it has a ClusterIP of a family. In others it has no frontend at all: upstream runs a proxy a family.
    pub fn serves(&self, family: AddressFamily) -> bool {
        self.cluster_ips.iter().any(|&ip| AddressFamily::of(ip) == family)
    }
}

/// `spec.type` of a service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ServiceType {
    /// Reachable inside the cluster.
    #[default]
    ClusterIp,
    /// At a port of every node, too.
    NodePort,
    /// At addresses of a load balancer, too.
    LoadBalancer,
    /// A DNS alias.
    ExternalName,
}

/// An address of a load balancer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct LoadBalancerIp {
    /// The address.
    pub ip: IpAddr,
    /// Whether packets arrive with it as destination (`ipMode: VIP` or none), not translated before (`Proxy`).
    pub vip: bool,
}

impl ServiceType {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            ServiceType::ClusterIp => "ClusterIP",
            ServiceType::NodePort => "NodePort",
            ServiceType::LoadBalancer => "LoadBalancer",
            ServiceType::ExternalName => "ExternalName",
        }
    }
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServicePort {
    /// Its name; empty if it has none.
    pub name: String,
    /// The protocol.
    pub protocol: Transport,
    /// The number at the service's addresses.
    pub port: u16,
    /// The number at the nodes' addresses.
    pub node_port: Option<u16>,
}

/// Which endpoints traffic may go to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TrafficPolicy {
    /// Those of the cluster.
    #[default]
    Cluster,
    /// Those of this node.
    Local,
}

impl TrafficPolicy {
    /// The name in the API.
    pub const fn name(self) -> &'static str {
        match self {
            TrafficPolicy::Cluster => "Cluster",
            TrafficPolicy::Local => "Local",
        }
    }
}
