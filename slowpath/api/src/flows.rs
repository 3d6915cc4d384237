//! The flow table.

use crate::path::{FLOWS, with_query};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use thiserror::Error;

/// How many flows are listed when the request does not say.
pub const DEFAULT_FLOW_LIMIT: u32 = 1_000;

/// Flows that match a filter.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct FlowList {
    /// In no order.
    pub flows: Vec<Flow>,
    /// Whether more flows match than are listed.
    pub truncated: bool,
}

/// One connection, seen from the side that opened it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Flow {
    /// The protocol.
    pub protocol: Protocol,
    /// Who opened it.
    pub source: IpAddr,
    /// The opener's port; of an ICMP echo, its identifier.
    pub source_port: u16,
    /// What the opener addressed.
    pub destination: IpAddr,
    /// The port that the opener addressed; of an ICMP echo, its identifier.
    pub destination_port: u16,
    /// Where it really goes, if the destination is a service's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<IpAddr>,
    /// The port that it really goes to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend_port: Option<u16>,
    /// The service, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// The state of the connection, as in `established`.
    pub state: String,
    /// Name of the port that its packets enter by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub in_port: Option<String>,
    /// Name of the port that its packets leave by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_port: Option<String>,
    /// Seconds since the opener's last packet.
    #[serde(default)]
    pub idle_seconds: u32,
    /// Seconds since the last packet of the answer; absent when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_idle_seconds: Option<u32>,
}

/// Which flows to list. Every condition must hold.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowFilter {
    /// The protocol.
    pub proto: Option<Protocol>,
    /// Source, destination or backend.
    pub address: Option<IpAddr>,
    /// Source, destination or backend port.
    pub port: Option<u16>,
    /// The service, as `namespace/name`.
    pub service: Option<String>,
    /// The state.
    pub state: Option<String>,
    /// How many flows to list at most; [`DEFAULT_FLOW_LIMIT`] if absent.
    pub limit: Option<u32>,
}

impl FlowFilter {
    /// The path and query of a request.
    pub fn to_path(&self) -> String {
        let fields = [
            ("proto", self.proto.map(|proto| proto.to_string())),
            ("address", self.address.map(|address| address.to_string())),
            ("port", self.port.map(|port| port.to_string())),
            ("service", self.service.clone()),
            ("state", self.state.clone()),
            ("limit", self.limit.map(|limit| limit.to_string())),
        ];
        with_query(FLOWS, &fields)
    }

    /// Whether a flow is wanted; the limit is not looked at.
    pub fn matches(&self, flow: &Flow) -> bool {
        let addresses = [Some(flow.source), Some(flow.destination), flow.backend];
        let ports = [Some(flow.source_port), Some(flow.destination_port), flow.backend_port];
        self.proto.is_none_or(|proto| proto == flow.protocol)
            && self.address.is_none_or(|address| addresses.contains(&Some(address)))
            && self.port.is_none_or(|port| ports.contains(&Some(port)))
            && self.service.as_ref().is_none_or(|service| Some(service) == flow.service.as_ref())
            && self.state.as_ref().is_none_or(|state| *state == flow.state)
    }
}

/// A layer 4 protocol.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP of IPv4.
    Icmp,
    /// ICMPv6.
    Icmpv6,
    /// Any other, by its number.
    Other(u8),
}

/// Text that names no protocol.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{0}` is not a protocol: tcp, udp, sctp, icmp, icmpv6 or a number from 0 to 255")]
pub struct UnknownProtocol(String);

impl Protocol {
    /// From the number in an IP header.
    pub const fn from_number(number: u8) -> Self {
        match number {
            6 => Protocol::Tcp,
            17 => Protocol::Udp,
            132 => Protocol::Sctp,
            1 => Protocol::Icmp,
            58 => Protocol::Icmpv6,
            other => Protocol::Other(other),
        }
    }

    /// The number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Tcp => 6,
            Protocol::Udp => 17,
            Protocol::Sctp => 132,
            Protocol::Icmp => 1,
            Protocol::Icmpv6 => 58,
            Protocol::Other(number) => number,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::Tcp => out.write_str("tcp"),
            Protocol::Udp => out.write_str("udp"),
            Protocol::Sctp => out.write_str("sctp"),
            Protocol::Icmp => out.write_str("icmp"),
            Protocol::Icmpv6 => out.write_str("icmpv6"),
            Protocol::Other(number) => write!(out, "{number}"),
        }
    }
}

impl FromStr for Protocol {
    type Err = UnknownProtocol;
    fn from_str(text: &str) -> Result<Self, UnknownProtocol> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Protocol::Tcp),
            "udp" => Ok(Protocol::Udp),
            "sctp" => Ok(Protocol::Sctp),
            "icmp" => Ok(Protocol::Icmp),
            "icmpv6" => Ok(Protocol::Icmpv6),
            other => other.parse().map(Protocol::from_number).map_err(|_| UnknownProtocol(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Protocol {
    type Error = UnknownProtocol;
    fn try_from(text: String) -> Result<Self, UnknownProtocol> {
        text.parse()
    }
}

impl From<Protocol> for String {
    fn from(protocol: Protocol) -> String {
        protocol.to_string()
    }
}
