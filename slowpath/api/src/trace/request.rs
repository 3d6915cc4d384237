//! Which packet is to be traced.

use crate::flows::Protocol;
use crate::path::{TRACE, with_query};
use millrace_config::{InvalidValue, PodRef, PortName};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use thiserror::Error;

/// The source port of a traced packet when the request gives none.
pub const DEFAULT_SOURCE_PORT: u16 = 40_000;
/// The TTL or hop limit of a traced packet when the request gives none.
pub const DEFAULT_TTL: u8 = 64;

/// Who sends the packet.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Sender {
    /// A pod of this node, written `namespace/name`, or `name` for one in namespace `default`.
    Pod(PodRef),
    /// Whoever is behind a port, written `port:NAME`.
    Port(PortName),
}

/// Where the packet is sent to: `ADDRESS:PORT`, `[ADDRESS]:PORT` or `ADDRESS`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Destination {
    /// The address.
    pub address: IpAddr,
    /// The port, if there is one.
    pub port: Option<u16>,
}

/// The first packet of a connection, as far as it matters what it looks like.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct TraceRequest {
    /// Who sends it.
    pub from: Sender,
    /// Where to.
    pub to: Destination,
    /// Its protocol. `icmp` means that of the destination's family.
    pub proto: Protocol,
    /// Its source port, or the identifier of an ICMP echo; [`DEFAULT_SOURCE_PORT`] if absent.
    pub source_port: Option<u16>,
    /// Its source address; if absent, the sender's own.
    pub source: Option<IpAddr>,
    /// Bytes of the IP packet; if absent, those of a usual TCP SYN.
    pub size: Option<u16>,
    /// TTL or hop limit; [`DEFAULT_TTL`] if absent.
    pub ttl: Option<u8>,
}

/// Text that is no destination.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{0}` is no destination: ADDRESS:PORT, [ADDRESS]:PORT or ADDRESS")]
pub struct NotADestination(String);

/// Why there is no such packet.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Untraceable {
    /// The protocol has ports, and the destination names none.
    #[error("`{to}` names no port, and a {proto} packet has one: ADDRESS:PORT or [ADDRESS]:PORT")]
    PortMissing {
        /// The destination.
        to: Destination,
        /// The protocol.
        proto: Protocol,
    },
    /// The protocol has no ports.
    #[error("`{to}` names a port, and a packet of protocol {proto} has none")]
    PortGiven {
        /// The destination.
        to: Destination,
        /// The protocol.
        proto: Protocol,
    },
    /// The protocol has no source port either.
    #[error("source port {port}: a packet of protocol {proto} has none")]
    SourcePortGiven {
        /// The source port.
        port: u16,
        /// The protocol.
        proto: Protocol,
    },
    /// Source and destination, or protocol and destination, are of different families.
    #[error("`{what}` and destination {to} are not of one address family")]
    Family {
        /// The source or the protocol.
        what: String,
        /// The destination.
        to: IpAddr,
    },
    /// IPv4 in the clothes of IPv6 is never on the wire (RFC 4291, section 2.5.5.2).
    #[error("`{0}` is an IPv4 address in the form of an IPv6 one")]
    Mapped(IpAddr),
    /// Less than the headers take.
    #[error("size {size}: a {proto} packet to {to} has at least {least} bytes")]
    TooSmall {
        /// The size that was given.
        size: u16,
        /// The protocol.
        proto: Protocol,
        /// The destination.
        to: IpAddr,
        /// Bytes of its headers.
        least: u16,
    },
}

impl TraceRequest {
    /// The packet, if there can be one like it.
    ///
    /// # Errors
    /// [`Untraceable`]: parts that do not go together.
    pub fn checked(self) -> Result<Self, Untraceable> {
        let (to, proto) = (self.to, self.protocol());
        for address in std::iter::once(to.address).chain(self.source) {
            if matches!(address, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some()) {
                return Err(Untraceable::Mapped(address));
            }
        }
        if proto == Protocol::Icmpv6 && to.address.is_ipv4() {
            return Err(Untraceable::Family { what: proto.to_string(), to: to.address });
        }
        if let Some(source) = self.source.filter(|source| source.is_ipv4() != to.address.is_ipv4()) {
            return Err(Untraceable::Family { what: source.to_string(), to: to.address });
        }
        match (has_ports(proto), to.port, self.source_port) {
            (true, None, _) => return Err(Untraceable::PortMissing { to, proto }),
            (false, Some(_), _) => return Err(Untraceable::PortGiven { to, proto }),
            (false, _, Some(port)) if !is_echo(proto) => {
                return Err(Untraceable::SourcePortGiven { port, proto });
            }
            _ => {}
        }
        let least = least_size(to.address, proto);
        match self.size.filter(|&size| size < least) {
            Some(size) => Err(Untraceable::TooSmall { size, proto, to: to.address, least }),
            None => Ok(self),
        }
    }

    /// The protocol in the packet's header: ICMP is another one in each address family.
    pub fn protocol(&self) -> Protocol {
        match self.proto {
            Protocol::Icmp if self.to.address.is_ipv6() => Protocol::Icmpv6,
            other => other,
        }
    }

    /// The source port or identifier; none for protocols that have neither.
    pub fn source_port(&self) -> Option<u16> {
        let proto = self.protocol();
        (has_ports(proto) || is_echo(proto)).then(|| self.source_port.unwrap_or(DEFAULT_SOURCE_PORT))
    }

    /// Bytes of the IP packet. A SYN of Linux has 40 bytes of TCP.
    pub fn size(&self) -> u16 {
        let usual = if self.to.address.is_ipv4() { 60 } else { 80 };
        self.size.unwrap_or(usual)
    }

    /// TTL or hop limit.
    pub fn ttl(&self) -> u8 {
        self.ttl.unwrap_or(DEFAULT_TTL)
    }

    /// The path and query of a request.
    pub fn to_path(&self) -> String {
        let number = |number: Option<u16>| number.map(|number| number.to_string());
        with_query(
            TRACE,
            &[
                ("from", Some(self.from.to_string())),
                ("to", Some(self.to.to_string())),
                ("proto", Some(self.proto.to_string())),
                ("sourcePort", number(self.source_port)),
                ("source", self.source.map(|source| source.to_string())),
                ("size", number(self.size)),
                ("ttl", number(self.ttl.map(u16::from))),
            ],
        )
    }
}

/// The request as it is written.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Fields {
    from: Sender,
    to: Destination,
    proto: Protocol,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source_port: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<IpAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ttl: Option<u8>,
}

impl TryFrom<Fields> for TraceRequest {
    type Error = Untraceable;
    fn try_from(fields: Fields) -> Result<Self, Untraceable> {
        let Fields { from, to, proto, source_port, source, size, ttl } = fields;
        TraceRequest { from, to, proto, source_port, source, size, ttl }.checked()
    }
}

impl From<TraceRequest> for Fields {
    fn from(request: TraceRequest) -> Fields {
        let TraceRequest { from, to, proto, source_port, source, size, ttl } = request;
        Fields { from, to, proto, source_port, source, size, ttl }
    }
}

impl FromStr for Sender {
    type Err = InvalidValue;
    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        match text.strip_prefix("port:") {
            Some(name) => name.parse().map(Sender::Port),
            None if text.contains('/') => text.parse().map(Sender::Pod),
            // The error is about what was written, not about what was made of it.
            None => format!("default/{text}")
                .parse()
                .map(Sender::Pod)
                .map_err(|_| InvalidValue::Form { value: text.to_owned(), expected: SENDER }),
        }
    }
}

const SENDER: &str = "a pod, `namespace/name` or `name`, or a port, `port:NAME`";

impl fmt::Display for Sender {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Sender::Pod(pod) => pod.fmt(out),
            Sender::Port(port) => write!(out, "port:{port}"),
        }
    }
}

impl TryFrom<String> for Sender {
    type Error = InvalidValue;
    fn try_from(text: String) -> Result<Self, InvalidValue> {
        text.parse()
    }
}

impl From<Sender> for String {
    fn from(sender: Sender) -> String {
        sender.to_string()
    }
}

impl FromStr for Destination {
    type Err = NotADestination;
    fn from_str(text: &str) -> Result<Self, NotADestination> {
        let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        if let Ok(socket) = text.parse::<SocketAddr>() {
            return Ok(Destination { address: socket.ip(), port: Some(socket.port()) });
        }
        let address = bare.parse().map_err(|_| NotADestination(text.to_owned()))?;
        Ok(Destination { address, port: None })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.address, port).fmt(out),
            None => self.address.fmt(out),
        }
    }
}

impl TryFrom<String> for Destination {
    type Error = NotADestination;
    fn try_from(text: String) -> Result<Self, NotADestination> {
        text.parse()
    }
}

impl From<Destination> for String {
    fn from(destination: Destination) -> String {
        destination.to_string()
    }
}

const fn has_ports(proto: Protocol) -> bool {
    matches!(proto, Protocol::Tcp | Protocol::Udp | Protocol::Sctp)
}

const fn is_echo(proto: Protocol) -> bool {
    matches!(proto, Protocol::Icmp | Protocol::Icmpv6)
}

/// Bytes of the headers of IP (without options) and of what it carries.
const fn least_size(to: IpAddr, proto: Protocol) -> u16 {
    let ip = if to.is_ipv4() { 20 } else { 40 };
    ip + match proto {
        Protocol::Tcp => 20,
        Protocol::Sctp => 12,
        Protocol::Udp | Protocol::Icmp | Protocol::Icmpv6 => 8,
        Protocol::Other(_) => 0,
    }
}
