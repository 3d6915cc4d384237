//! Typed configuration of Millrace: `/etc/millrace/millrace.yaml`.
//!
//! Every field has a default, so an empty file is a valid configuration. What is written is checked while it is
//! read: a [`Config`] that exists is valid, and nothing behind it checks again. An error names the file, the
//! field and the offending value. `config/samples/millrace.yaml` shows every field with its default.

#![forbid(unsafe_code)]

mod address;
mod cluster;
mod cni;
mod error;
mod file;
mod flow_table;
mod host_leg;
mod memory;
mod names;
mod node;
mod port;
mod routing;
mod services;
mod uplink;
mod workers;

pub use address::{Gateway, MacAddr, Prefix};
pub use cluster::Cluster;
pub use cni::{Cni, ContainerPortKind, DEFAULT_VHOST_USER_DIRECTORY, DefaultPort};
pub use error::{ConfigError, Conflict, InvalidValue};
pub use file::{DEFAULT_FILE, load, parse};
pub use flow_table::{FlowCount, FlowTable, FlowTimeouts, Seconds};
pub use host_leg::HostLeg;
pub use memory::{FrameCount, Hugepages, Mebibytes, Memory};
pub use names::{FilePrefix, InterfaceName, Netns, NodeName, PodRef, PortName, ServerUrl};
pub use node::{Api, Config, DEFAULT_SOCKET, Eal, Kubernetes, LoadBalancing, Metrics, Mtu, Source, fnv1a};
pub use port::{Attachment, PortConfig, PortKind, PortRole, QueueCount, VhostMode, XdpMode};
pub use routing::{
    Masquerade, OuterChecksum, PortMtu, Routing, RoutingMode, StaticRoute, VniNumber, Vxlan, VxlanPort,
};
pub use services::{ClientCount, HealthAddress, PortRange, Services};
pub use uplink::Uplink;
pub use workers::{CoreId, Cores, Idle, Workers};

#[cfg(test)]
mod tests;
