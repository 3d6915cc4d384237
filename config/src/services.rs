//! How this node serves services.

use crate::address::Prefix;
use crate::error::InvalidValue;
use crate::node::bounded_number;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

/// What this node does as a service proxy.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Services {
    /// Which of the node's addresses answer at NodePorts. Empty: its primary addresses, one a family.
    pub node_port_addresses: Vec<Prefix>,
    /// The source ports of masqueraded connections.
    pub masquerade_ports: PortRange,
    /// Whether TCP connections to an endpoint that serves no longer are reset. Otherwise they are left to die.
    pub reset_vanished_endpoints: bool,
    /// For how many clients the endpoint is remembered that session affinity gave them.
    pub affinity_clients: ClientCount,
    /// Where `/healthz` and `/livez` are served as kube-proxy does it.
    pub health_address: HealthAddress,
    /// Where `/proxyMode` and `/metrics` are served as kube-proxy does it.
    pub status_address: HealthAddress,
}

impl Default for Services {
    fn default() -> Self {
        Services {
            node_port_addresses: Vec::new(),
            masquerade_ports: PortRange::default(),
            reset_vanished_endpoints: false,
            affinity_clients: ClientCount::default(),
            health_address: HealthAddress::default(),
            status_address: HealthAddress::At(SocketAddr::from(([127, 0, 0, 1], 10_249))),
        }
    }
}

/// A range of port numbers to masquerade with, written `first-last`, both included.
///
/// It holds no privileged port and none of the usual NodePorts, and at least [`PortRange::LEAST`] ports.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// How many ports there must be: with fewer, two busy clients of one endpoint would use them up.
    pub const LEAST: u32 = 256;
    /// The lowest port that is not privileged (`net.ipv4.ip_unprivileged_port_start`).
    pub const LOWEST: u16 = 1_024;

    /// The ports that Kubernetes gives to services of type NodePort unless told otherwise
    /// (`--service-node-port-range` of kube-apiserver).
    pub const NODE_PORTS: PortRange = PortRange { first: 30_000, last: 32_767 };

    /// A range from `first` to `last`, both included, if it can serve.
    pub fn try_new(first: u16, last: u16) -> Result<Self, InvalidValue> {
        let range = PortRange { first, last };
        let wrong = |expected| Err(InvalidValue::Form { value: range.to_string(), expected });
        if first > last {
            return wrong("a range of ports whose first is not greater than its last");
        }
        if first < Self::LOWEST {
            return wrong("a range of ports that are not privileged: the first must be at least 1024");
        }
        if u32::from(last - first) + 1 < Self::LEAST {
            return wrong("a range of at least 256 ports");
        }
        if first <= Self::NODE_PORTS.last && Self::NODE_PORTS.first <= last {
            return wrong("a range apart from that of NodePorts, 30000-32767");
        }
        Ok(range)
    }

    /// The first port.
    pub const fn first(self) -> u16 {
        self.first
    }

    /// The last port.
    pub const fn last(self) -> u16 {
        self.last
    }
}

impl Default for PortRange {
    fn default() -> Self {
        PortRange { first: 49_152, last: 65_535 }
    }
}

impl FromStr for PortRange {
    type Err = InvalidValue;
    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let wrong = || InvalidValue::Form {
            value: value.to_owned(),
            expected: "a range of ports, as in 49152-65535",
        };
        // `u16` would take a sign.
        let number = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
            true => text.parse().map_err(|_| wrong()),
            false => Err(wrong()),
        };
        let (first, last) = value.split_once('-').ok_or_else(wrong)?;
        PortRange::try_new(number(first)?, number(last)?)
    }
}

impl TryFrom<String> for PortRange {
    type Error = InvalidValue;
    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> String {
        range.to_string()
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}-{}", self.first, self.last)
    }
}

bounded_number! {
    /// A number of clients that session affinity remembers.
    ClientCount(u32), 1_024..=134_217_728, " clients"
}

impl Default for ClientCount {
    fn default() -> Self {
        ClientCount(1_048_576)
    }
}

/// An address to serve at, or `none`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum HealthAddress {
    /// Nowhere.
    None,
    /// At this address. `0.0.0.0` and `::` stand for all addresses of both families.
    At(SocketAddr),
}

impl HealthAddress {
    /// The address, if there is one.
    pub const fn address(self) -> Option<SocketAddr> {
        match self {
            HealthAddress::None => None,
            HealthAddress::At(address) => Some(address),
        }
    }
}

impl Default for HealthAddress {
    fn default() -> Self {
        HealthAddress::At(SocketAddr::from(([0, 0, 0, 0], 10_256)))
    }
}

impl FromStr for HealthAddress {
    type Err = InvalidValue;
    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        if value == "none" {
            return Ok(HealthAddress::None);
        }
        match value.parse::<SocketAddr>() {
            Ok(address) if address.port() != 0 => Ok(HealthAddress::At(address)),
            _ => Err(InvalidValue::Form {
                value: value.to_owned(),
                expected: "`none` or an address with a port, as in 0.0.0.0:10256 or [::1]:10256",
            }),
        }
    }
}

impl TryFrom<String> for HealthAddress {
    type Error = InvalidValue;
    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

impl From<HealthAddress> for String {
    fn from(address: HealthAddress) -> String {
        address.to_string()
    }
}

impl fmt::Display for HealthAddress {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HealthAddress::None => out.write_str("none"),
            HealthAddress::At(address) => write!(out, "{address}"),
        }
    }
}
