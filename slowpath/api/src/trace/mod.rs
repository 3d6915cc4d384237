//! What a packet would meet on this node, without one being sent.

mod request;
#[cfg(test)]
mod tests;

pub use request::{
    DEFAULT_SOURCE_PORT, DEFAULT_TTL, Destination, NotADestination, Sender, TraceRequest, Untraceable,
};

use crate::flows::Protocol;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// A packet's way through the stages of the packet path.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Trace {
    /// The packet, with all that the request left open.
    pub packet: TracedPacket,
    /// What the stages say, in their order.
    pub steps: Vec<TraceStep>,
    /// What becomes of the packet at last.
    pub verdict: TraceVerdict,
}

/// The packet that is traced.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TracedPacket {
    /// Name of the port that it would arrive by.
    pub port: String,
    /// The pod behind that port, as `namespace/name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// Protocol, addresses and ports, as it would arrive.
    #[serde(flatten)]
    pub tuple: Tuple,
    /// Whether the source port is [`DEFAULT_SOURCE_PORT`] because the request gave none. The choice of an endpoint
    /// depends on it.
    #[serde(default)]
    pub default_source_port: bool,
    /// Bytes of the IP packet.
    pub size: u16,
    /// TTL or hop limit.
    pub ttl: u8,
}

/// Protocol, addresses and ports of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tuple {
    /// The protocol.
    pub protocol: Protocol,
    /// Source address.
    pub source: IpAddr,
    /// Source port; of an ICMP echo, its identifier. Absent where the protocol has none, and where it is chosen only
    /// when the connection is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_port: Option<u16>,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port; absent where the protocol has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<u16>,
}

/// What one stage says.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TraceStep {
    /// The stage: `flow table`, `source check`, `services`, `source ranges`, `affinity`, `endpoint`, `source address`,
    /// `routes`, and those that only speak when they refuse: `ports`, `TTL`, `MTU`.
    pub stage: String,
    /// What the stage is asked.
    pub asked: String,
    /// What it says.
    pub answer: String,
    /// The parts of the answer, by name: `service`, `kind`, `origin`, `usable`, `endpoint`, `pod`, `node`, `port`, …
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, String>,
}

/// What becomes of a packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TraceVerdict {
    /// In one word.
    pub outcome: TraceOutcome,
    /// In one sentence without a full stop.
    pub text: String,
    /// Sent: name of the port that it leaves by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Sent: the MAC address that it is sent to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
    /// Sent: as what it leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaves_as: Option<Tuple>,
    /// Not sent: the reason that it is counted under.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Not sent: what the reason means.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
}

/// What becomes of a packet, in one word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TraceOutcome {
    /// It leaves by a port.
    Sent,
    /// It waits for its next hop's MAC address.
    Waits,
    /// It is for this node itself.
    Local,
    /// Its sender gets a TCP reset.
    Reset,
    /// Its sender gets an ICMP error.
    Icmp,
    /// It is dropped in silence.
    Dropped,
    /// An outcome of a later version.
    #[serde(other)]
    Unknown,
}

impl std::fmt::Display for Tuple {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let echo = matches!(self.protocol, Protocol::Icmp | Protocol::Icmpv6);
        match (self.source_port, self.destination_port) {
            (None, None) => write!(out, "{} {} -> {}", self.protocol, self.source, self.destination),
            (Some(identifier), None) if echo => {
                let (protocol, source, destination) = (self.protocol, self.source, self.destination);
                write!(out, "{protocol} {source} -> {destination}, identifier {identifier}")
            }
            (source, destination) => write!(
                out,
                "{} {} -> {}",
                self.protocol,
                place(self.source, source),
                place(self.destination, destination)
            ),
        }
    }
}

/// An address and port as they are written in URLs (RFC 3986, section 3.2.2); `*` for a port that is not known.
fn place(address: IpAddr, port: Option<u16>) -> String {
    let port = port.map_or_else(|| "*".to_owned(), |port| port.to_string());
    match address {
        IpAddr::V4(address) => format!("{address}:{port}"),
        IpAddr::V6(address) => format!("[{address}]:{port}"),
    }
}
