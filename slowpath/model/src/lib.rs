//! The cluster as this node needs it, compiled to the fast path's tables.
//!
//! [`Model`] is fed with objects and ports (`apply`, `delete`, `reset`) in any order, and compiles what changed
//! since the last time into a [`TableSet`](millrace_fastpath::tables::TableSet). It knows no API client, no
//! runtime and no clock.
//!
//! `object` holds the few fields of Kubernetes objects that matter; `endpoints` says which endpoints of a service
//! take new connections; `index` finds what a change touches.

#![forbid(unsafe_code)]

mod endpoints;
mod health;
mod incoming;
mod index;
mod model;
mod object;
mod port;
mod routing;
pub mod underlay;
mod view;

pub use endpoints::{Choice, Conditions, Policy, Reason, choose};
pub use health::{HealthCheck, WithoutLocal};
pub use incoming::{Incoming, Seen};
pub use millrace_fastpath::wire::ethernet::MacAddr;
pub use model::{HostPort, Model, ModelConfig, PeerProblem};
pub use object::{
    AddressFamily, ContainerPort, Endpoint, EndpointSlice, Kind, LabelTest, Labels, LoadBalancerIp,
    Namespace, NetworkPolicy, Node, Object, ObjectName, Pod, PodPhase, PodPort, PolicyNumbers, PolicyPeer,
    PolicyPort, PolicyRule, Requirement, Selector, Service, ServicePort, ServiceType, SlicePort,
    TrafficPolicy, Transport,
};
pub use port::PortSpec;
pub use routing::{NodeRouting, OuterChecksum, OutgoingConfig, RoutingConfig, RoutingMode, tunnel_overhead};
pub use view::{
    EndpointView, ExcludedService, Exclusion, FrontendView, PoolView, ServicePortName, ServicePortView,
    ServiceView, SliceView, WhyNoEndpoints, WhyNot, WhyUnused,
};

#[cfg(test)]
mod tests;
