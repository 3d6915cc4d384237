//! Addresses: MAC addresses, prefixes, and those of the gateway that every pod sees.

use crate::error::InvalidValue;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// The MAC address of one interface: unicast and not zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MacAddr([u8; 6]);

impl MacAddr {
    /// Takes six octets, unless they are a group address or zero.
    pub fn try_new(octets: [u8; 6]) -> Result<Self, InvalidValue> {
        let mac = MacAddr(octets);
        if octets[0] & 1 != 0 || octets == [0; 6] {
            return Err(InvalidValue::Form {
                value: mac.to_string(),
                expected: "the MAC address of one interface",
            });
        }
        Ok(mac)
    }

    /// The octets in the order of transmission.
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// A locally administered address that is always the same for the same name.
    pub fn derived_from(name: &str) -> Self {
        let hash = crate::node::fnv1a(name.as_bytes()).to_be_bytes();
        // 02: locally administered, unicast. 4d ("M") tells people where it comes from.
        MacAddr([0x02, 0x4d, hash[4], hash[5], hash[6], hash[7]])
    }
}

impl FromStr for MacAddr {
    type Err = InvalidValue;
    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let wrong = || InvalidValue::Form {
            value: value.to_owned(),
            expected: "a MAC address: six pairs of hexadecimal digits, as in 02:00:00:00:00:01",
        };
        let mut octets = [0; 6];
        let mut parts = value.split(':');
        for octet in &mut octets {
            let part =
                parts.next().filter(|part| part.len() == 2 && !part.starts_with('+')).ok_or_else(wrong)?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        if parts.next().is_some() {
            return Err(wrong());
        }
        MacAddr::try_new(octets)
    }
}

impl TryFrom<String> for MacAddr {
    type Error = InvalidValue;
    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

impl From<MacAddr> for String {
    fn from(mac: MacAddr) -> String {
        mac.to_string()
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// A range of addresses in CIDR form, without bits behind its length. A plain address means itself alone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix(IpNet);

impl Prefix {
    /// The prefix as a network.
    pub const fn net(self) -> IpNet {
        self.0
    }

    /// Whether the two have an address in common.
    pub fn overlaps(self, other: Prefix) -> bool {
        self.0.contains(&other.0) || other.0.contains(&self.0)
    }

    /// The one address of a host prefix (/32, /128).
    pub fn host(self) -> Option<IpAddr> {
        (self.0.prefix_len() == self.0.max_prefix_len()).then(|| self.0.addr())
    }
}

impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Prefix(address.into())
    }
}

impl FromStr for Prefix {
    type Err = InvalidValue;
    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        let wrong = |expected| InvalidValue::Form { value: value.to_owned(), expected };
        let net = match value.parse::<IpAddr>() {
            Ok(address) => IpNet::from(address),
            Err(_) => {
                value.parse().map_err(|_| wrong("an address or prefix, as in 10.0.0.0/16 or fd00::/64"))?
            }
        };
        if matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some()) {
            return Err(wrong("a plain IPv4 prefix; an IPv4-mapped IPv6 address never is on the wire"));
        }
        if net != net.trunc() {
            return Err(InvalidValue::HostBits { value: value.to_owned(), meant: Prefix(net.trunc()) });
        }
        Ok(Prefix(net))
    }
}

impl TryFrom<String> for Prefix {
    type Error = InvalidValue;
    fn try_from(value: String) -> Result<Self, InvalidValue> {
        value.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> String {
        prefix.to_string()
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.0)
    }
}

/// The router that every pod of the node sees: one MAC address and one address a family, the same on every port.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "RawGateway")]
pub struct Gateway {
    /// The source of every frame that is sent to a pod, and the destination of every frame that a pod sends.
    pub mac: MacAddr,
    /// The next hop of pods' IPv4 default route.
    pub ipv4: Ipv4Addr,
    /// The next hop of pods' IPv6 default route.
    pub ipv6: Ipv6Addr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawGateway {
    mac: MacAddr,
    ipv4: Ipv4Addr,
    ipv6: Ipv6Addr,
}

impl Default for RawGateway {
    fn default() -> Self {
        RawGateway {
            mac: MacAddr([0x02, 0x4d, 0x52, 0, 0, 1]),
            ipv4: Ipv4Addr::new(169, 254, 1, 1),
            ipv6: Ipv6Addr::new(0xfe80, 0, 0, 0, 0x4d, 0x52ff, 0xfe00, 1),
        }
    }
}

impl Default for Gateway {
    fn default() -> Self {
        let RawGateway { mac, ipv4, ipv6 } = RawGateway::default();
        Gateway { mac, ipv4, ipv6 }
    }
}

impl TryFrom<RawGateway> for Gateway {
    type Error = InvalidValue;
    fn try_from(raw: RawGateway) -> Result<Self, InvalidValue> {
        let wrong = |value: String, expected| Err(InvalidValue::Form { value, expected });
        if raw.ipv4.is_unspecified()
            || raw.ipv4.is_multicast()
            || raw.ipv4.is_broadcast()
            || raw.ipv4.is_loopback()
        {
            return wrong(raw.ipv4.to_string(), "an IPv4 address that a gateway can have");
        }
        if raw.ipv6.is_unspecified() || raw.ipv6.is_multicast() || raw.ipv6.is_loopback() {
            return wrong(raw.ipv6.to_string(), "an IPv6 address that a gateway can have");
        }
        Ok(Gateway { mac: raw.mac, ipv4: raw.ipv4, ipv6: raw.ipv6 })
    }
}
