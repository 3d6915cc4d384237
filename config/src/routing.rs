//! Ways to other nodes and to the world.

use crate::address::Prefix;
use crate::error::InvalidValue;
use crate::node::{Mtu, bounded_number};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How packets get to other nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Routing {
    /// Whether as they are or in tunnels.
    pub mode: RoutingMode,
    /// The tunnels.
    pub vxlan: Vxlan,
    /// Routes by uplinks, besides the kernel's, before which they go.
    pub routes: Vec<StaticRoute>,
    /// Whether TCP connections are made to announce no larger segments than their way takes whole.
    pub clamp_mss: bool,
    /// Whether packets that come by one uplink and are for somewhere behind another are forwarded. Never back by the same.
    pub transit: bool,
}

/// How packets for another node's pods cross the network between.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RoutingMode {
    /// As they are to nodes of the same subnet, in tunnels to others.
    #[default]
    Auto,
    /// As they are: the network between knows where pods are.
    Native,
    /// In tunnels.
    Vxlan,
}

/// VXLAN (RFC 7348).
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Vxlan {
    /// The network.
    pub vni: VniNumber,
    /// The UDP port.
    pub port: VxlanPort,
    /// Outer UDP checksums.
    pub checksum: OuterChecksum,
}

bounded_number! {
    /// A VXLAN network identifier.
    VniNumber(u32), 0..=16_777_215, ""
}

impl Default for VniNumber {
    fn default() -> Self {
        VniNumber(77)
    }
}

bounded_number! {
    /// A UDP port for tunnels.
    VxlanPort(u16), 1..=65_535, ""
}

impl Default for VxlanPort {
    fn default() -> Self {
        VxlanPort(4_789)
    }
}

/// Whether outer UDP checksums are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OuterChecksum {
    /// Over IPv6 only.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never, but for what the kernel cuts: pieces of large frames, and rows of packets of one connection.
    Off,
}

/// A route by uplinks.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "RawStaticRoute")]
pub struct StaticRoute {
    /// Its destination.
    pub to: Prefix,
    /// Routers on uplinks' links, of the destination's family; flows are spread over them.
    pub via: Vec<IpAddr>,
}

/// As it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawStaticRoute {
    to: Prefix,
    via: Vec<IpAddr>,
}

impl TryFrom<RawStaticRoute> for StaticRoute {
    type Error = InvalidValue;
    fn try_from(raw: RawStaticRoute) -> Result<Self, InvalidValue> {
        let RawStaticRoute { to, via } = raw;
        if via.is_empty() {
            let value = to.to_string();
            return Err(InvalidValue::Form { value, expected: "a route with at least one router in `via`" });
        }
        let twice = via.iter().enumerate().find(|(at, router)| via[..*at].contains(router));
        if let Some((_, router)) = twice {
            return Err(InvalidValue::Twice { field: "via", value: router.to_string() });
        }
        let unusable =
            |router: &&IpAddr| router.is_unspecified() || router.is_multicast() || router.is_loopback();
        if let Some(router) = via.iter().find(unusable) {
            let value = router.to_string();
            return Err(InvalidValue::Form { value, expected: "the address of a router" });
        }
        match via.iter().find(|router| router.is_ipv4() != to.net().addr().is_ipv4()) {
            Some(other) => Err(InvalidValue::Form {
                value: other.to_string(),
                expected: "a router of the family of the route's destination",
            }),
            None => Ok(StaticRoute { to, via }),
        }
    }
}

/// Which connections of pods leave the cluster under their node's address.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Masquerade {
    /// Whether any do.
    pub outgoing: bool,
    /// Those from these ranges. Empty: from all pods.
    pub sources: Vec<Prefix>,
    /// Never those to these, besides pods, nodes and services.
    pub exceptions: Vec<Prefix>,
}

impl Default for Masquerade {
    fn default() -> Self {
        Masquerade { outgoing: true, sources: Vec::new(), exceptions: Vec::new() }
    }
}

/// The MTU of ports that have none of their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "RawMtu")]
pub enum PortMtu {
    /// What the uplinks leave of theirs to a packet.
    #[default]
    Auto,
    /// This.
    Fixed(Mtu),
}

/// As it is written.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawMtu {
    Number(i64),
    Text(String),
}

impl TryFrom<RawMtu> for PortMtu {
    type Error = InvalidValue;
    fn try_from(raw: RawMtu) -> Result<Self, InvalidValue> {
        let wrong = |value: String| InvalidValue::Form { value, expected: "a number of bytes or `auto`" };
        match raw {
            RawMtu::Text(text) if text == "auto" => Ok(PortMtu::Auto),
            RawMtu::Text(text) => Err(wrong(text)),
            RawMtu::Number(number) => match u64::try_from(number) {
                Ok(number) => Ok(PortMtu::Fixed(number.try_into()?)),
                Err(_) => Err(wrong(number.to_string())),
            },
        }
    }
}
