//! Layer 4: ports, flags and the kind of message.

use super::{Family, IcmpEcho, L4Kind, Layer, ParseError};
use crate::wire::{IpProtocol, icmpv4, icmpv6, tcp};

/// What layer 4 adds to the result.
#[derive(Clone, Copy)]
pub(super) struct Transport {
    pub(super) kind: L4Kind,
    pub(super) source_port: u16,
    pub(super) destination_port: u16,
    pub(super) tcp_flags: u8,
}

impl Transport {
    pub(super) const NONE: Transport =
        Transport { kind: L4Kind::Other, source_port: 0, destination_port: 0, tcp_flags: 0 };
}

/// Parses layer 4. `bytes`: what of it is contiguous, padding included; `len`: what of it the IP header states. With
/// `fragmented`, this is the first of several parts.
#[inline(always)]
pub(super) fn transport<const QUOTED: bool>(
    protocol: IpProtocol,
    family: Family,
    bytes: &[u8],
    len: usize,
    fragmented: bool,
) -> Result<Transport, ParseError> {
    let truncated = ParseError::Truncated(Layer::Transport);
    match protocol {
        IpProtocol::UDP => {
            let header = first_bytes(bytes, len).ok_or(truncated)?;
            let [.., high, low, _, _] = *header;
            let stated = u16::from_be_bytes([high, low]);
            if QUOTED || fragmented || (8..=len).contains(&usize::from(stated)) {
                Ok(with_ports(L4Kind::Udp, header, 0))
            } else {
                Err(ParseError::UdpLength(stated))
            }
        }
        IpProtocol::TCP if QUOTED => {
            let header = first_bytes(bytes, len).ok_or(truncated)?;
            Ok(with_ports(L4Kind::Tcp, header, bytes.get(13).copied().unwrap_or(0)))
        }
        IpProtocol::TCP => {
            let Some(header) = bytes.first_chunk::<{ tcp::LEN }>() else { return Err(truncated) };
            let words = header[12] >> 4;
            if words < 5 || usize::from(words) * 4 > len {
                // A packet that ends within the fixed header is not the header's fault.
                return Err(if len < tcp::LEN { truncated } else { ParseError::TcpHeaderLength(words) });
            }
            let [first @ .., _, _, _, _, _, _, _, _, _, _, _, _] = header;
            Ok(with_ports(L4Kind::Tcp, first, header[13]))
        }
        _ => rare::<QUOTED>(protocol, family, bytes, len),
    }
}

/// The protocols that few packets have.
fn rare<const QUOTED: bool>(
    protocol: IpProtocol,
    family: Family,
    bytes: &[u8],
    len: usize,
) -> Result<Transport, ParseError> {
    let kind_of: fn(u8) -> L4Kind = match (protocol, family) {
        (IpProtocol::ICMPV4, Family::V4) => icmpv4_kind,
        (IpProtocol::ICMPV6, Family::V6) => icmpv6_kind,
        (IpProtocol::SCTP, _) => |_| L4Kind::Sctp,
        _ => return Ok(Transport::NONE),
    };
    let truncated = ParseError::Truncated(Layer::Transport);
    let header = first_bytes(bytes, len).ok_or(truncated)?;
    let [message, _, _, _, high, low, ..] = *header;
    match kind_of(message) {
        // The common header has 12 bytes, and a chunk of at least 4 must follow (RFC 9260, section 3).
        L4Kind::Sctp if !QUOTED && (len < 16 || bytes.len() < 16) => Err(truncated),
        L4Kind::Sctp => Ok(with_ports(L4Kind::Sctp, header, 0)),
        kind @ L4Kind::IcmpEcho(_) => {
            let identifier = u16::from_be_bytes([high, low]);
            Ok(Transport { kind, source_port: identifier, destination_port: identifier, tcp_flags: 0 })
        }
        kind => Ok(Transport { kind, ..Transport::NONE }),
    }
}

/// The bytes in which every protocol has its ports or its identifier, if the packet has them.
#[inline(always)]
fn first_bytes(bytes: &[u8], len: usize) -> Option<&[u8; 8]> {
    bytes.first_chunk().filter(|_| len >= 8)
}

#[inline(always)]
fn with_ports(kind: L4Kind, header: &[u8; 8], tcp_flags: u8) -> Transport {
    let [a, b, c, d, ..] = *header;
    let (source_port, destination_port) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    Transport { kind, source_port, destination_port, tcp_flags }
}

fn icmpv4_kind(message: u8) -> L4Kind {
    match message {
        icmpv4::ECHO_REQUEST => L4Kind::IcmpEcho(IcmpEcho::Request),
        icmpv4::ECHO_REPLY => L4Kind::IcmpEcho(IcmpEcho::Reply),
        message if icmpv4::is_error(message) => L4Kind::IcmpError,
        _ => L4Kind::IcmpOther,
    }
}

fn icmpv6_kind(message: u8) -> L4Kind {
    match message {
        icmpv6::ECHO_REQUEST => L4Kind::IcmpEcho(IcmpEcho::Request),
        icmpv6::ECHO_REPLY => L4Kind::IcmpEcho(IcmpEcho::Reply),
        message if icmpv6::is_error(message) => L4Kind::IcmpError,
        _ => L4Kind::IcmpOther,
    }
}
