//! The whole configuration of a node, and its smaller parts.

use crate::address::Gateway;
use crate::cluster::Cluster;
use crate::cni::Cni;
use crate::error::{ConfigError, InvalidValue};
use crate::flow_table::FlowTable;
use crate::host_leg::HostLeg;
use crate::memory::Memory;
use crate::names::{FilePrefix, NodeName, ServerUrl};
use crate::port::PortConfig;
use crate::routing::{Masquerade, PortMtu, Routing};
use crate::services::Services;
use crate::uplink::Uplink;
use crate::workers::Workers;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;

/// Gives a number type its range and conversions.
macro_rules! bounded_number {
    ($(#[$doc:meta])* $name:ident($repr:ident), $least:literal..=$most:literal, $unit:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(try_from = "u64", into = "u64")]
        pub struct $name($repr);

        impl $name {
            /// The least legal value.
            pub const LEAST: $repr = $least;
            /// The greatest legal value.
            pub const MOST: $repr = $most;

            /// The number.
            pub const fn get(self) -> $repr {
                self.0
            }
        }

        impl TryFrom<u64> for $name {
            type Error = $crate::error::InvalidValue;
            fn try_from(value: u64) -> Result<Self, Self::Error> {
                match $repr::try_from(value) {
                    Ok(number) if (Self::LEAST..=Self::MOST).contains(&number) => Ok($name(number)),
                    _ => Err($crate::error::InvalidValue::Range { value, least: $least, most: $most, unit: $unit }),
                }
            }
        }

        impl From<$name> for u64 {
            fn from(number: $name) -> u64 {
                number.0.into()
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(out, "{}", self.0)
            }
        }
    };
}
pub(crate) use bounded_number;

/// Where the admin API listens unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/millrace/millrace.sock";

/// The configuration of one node.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Config {
    /// This node's name in the cluster; see [`Config::node_name`] for the default.
    pub node_name: Option<NodeName>,
    /// Where the cluster's objects come from.
    pub source: Source,
    /// The threads that carry packets.
    pub workers: Workers,
    /// Packet memory.
    pub memory: Memory,
    /// DPDK's environment.
    pub eal: Eal,
    /// Connection tracking.
    pub flow_table: FlowTable,
    /// The router that pods see.
    pub gateway: Gateway,
    /// The cluster's address ranges.
    pub cluster: Cluster,
    /// Attachments of containers.
    pub cni: Cni,
    /// How the host itself reaches pods and services.
    pub host_leg: HostLeg,
    /// The MTU of ports that have none of their own.
    pub mtu: PortMtu,
    /// How connections are spread over the endpoints of a service.
    pub load_balancing: LoadBalancing,
    /// What this node does as a service proxy.
    pub services: Services,
    /// The admin API.
    pub api: Api,
    /// Metrics and health.
    pub metrics: Metrics,
    /// What must survive a restart is kept here.
    pub state_directory: PathBuf,
    /// Ports that are there from the start.
    pub ports: Vec<PortConfig>,
    /// The node's ways to other nodes and to the world.
    pub uplinks: Vec<Uplink>,
    /// How packets get to other nodes.
    pub routing: Routing,
    /// Which connections of pods leave the cluster under this node's address.
    pub masquerade: Masquerade,
    /// Whether the kernel carries established connections past the workers where it can.
    pub shortcuts: bool,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node_name: None,
            source: Source::default(),
            workers: Workers::default(),
            memory: Memory::default(),
            eal: Eal::default(),
            flow_table: FlowTable::default(),
            gateway: Gateway::default(),
            cluster: Cluster::default(),
            cni: Cni::default(),
            host_leg: HostLeg::default(),
            mtu: PortMtu::default(),
            load_balancing: LoadBalancing::default(),
            services: Services::default(),
            api: Api::default(),
            metrics: Metrics::default(),
            state_directory: "/var/lib/millrace".into(),
            ports: Vec::new(),
            uplinks: Vec::new(),
            routing: Routing::default(),
            masquerade: Masquerade::default(),
            shortcuts: true,
        }
    }
}

impl Config {
    /// This node's name: the configured one, else what the environment variable `NODE_NAME` says, else the host's name in
    /// lower case, as the kubelet does it.
    pub fn node_name(&self) -> Result<NodeName, ConfigError> {
        if let Some(name) = &self.node_name {
            return Ok(name.clone());
        }
        if let Some(name) = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty()) {
            return name.parse().map_err(|reason| ConfigError::NodeName { reason });
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        host.trim().to_lowercase().parse().map_err(|reason| ConfigError::NodeName { reason })
    }

    /// The prefix of DPDK's files: the configured one, else one that is the same for the same API socket and
    /// different for any other, so that several daemons of one machine do not meet.
    pub fn eal_file_prefix(&self) -> String {
        match &self.eal.file_prefix {
            Some(prefix) => prefix.to_string(),
            None => format!("millrace-{:016x}", fnv1a(self.api.socket.as_os_str().as_encoded_bytes())),
        }
    }
}

/// Where the cluster's objects come from.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A directory of ordinary manifests, watched for changes, with all directories below it.
    Directory(PathBuf),
    /// A Kubernetes API server.
    Kubernetes(Kubernetes),
}

/// How the API server is found, and who asks.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Kubernetes {
    /// A kubeconfig file; without one, what a pod of the cluster has: environment and service account.
    pub kubeconfig: Option<PathBuf>,
    /// The context of the file, if it is not its current one.
    pub context: Option<String>,
    /// The server's URL, if it is not that of the file or of the environment: a node whose services this daemon serves cannot
    /// reach the server by a service before.
    pub server: Option<ServerUrl>,
}

impl Default for Source {
    fn default() -> Self {
        Source::Directory("/etc/millrace/manifests".into())
    }
}

/// DPDK's environment abstraction layer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Eal {
    /// Prefix of DPDK's run-time files; see [`Config::eal_file_prefix`] for the default.
    pub file_prefix: Option<FilePrefix>,
}

/// The admin API.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Api {
    /// The Unix socket, made with mode 0600.
    pub socket: PathBuf,
}

impl Default for Api {
    fn default() -> Self {
        Api { socket: DEFAULT_SOCKET.into() }
    }
}

/// Prometheus metrics and health.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    pub address: SocketAddr,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics { address: SocketAddr::from(([127, 0, 0, 1], 9470)) }
    }
}

/// How connections are spread over the endpoints of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LoadBalancing {
    /// By a Maglev table: a client stays with its endpoint when others come and go.
    #[default]
    Maglev,
    /// By chance.
    Random,
}

bounded_number! {
    /// The largest IP packet that a port carries. Not less than IPv6 asks of every link (RFC 8200 section 5).
    Mtu(u16), 1_280..=9_216, " bytes"
}

impl Default for Mtu {
    fn default() -> Self {
        Mtu(1_500)
    }
}

/// FNV-1a, 64 bits: a hash that stays the same from build to build.
pub fn fnv1a(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

/// The value in an error about an impossible choice of fields.
pub(crate) fn missing(field: &'static str, reason: &'static str) -> InvalidValue {
    InvalidValue::Missing { field, reason }
}
