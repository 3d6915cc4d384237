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
    let truncated = Err(ParseError::Truncated(Layer::Transport));
    let icmp =
        matches!((protocol, family), (IpProtocol::ICMPV4, Family::V4) | (IpProtocol::ICMPV6, Family::V6));
    if !icmp && !matches!(protocol, IpProtocol::UDP | IpProtocol::TCP | IpProtocol::SCTP) {
        return Ok(Transport::NONE);
    }
    // All of them have their ports, or ICMP's identifier, in the first 8 bytes.
    let Some(header) = bytes.first_chunk::<8>() else { return truncated };
    if len < 8 {
        return truncated;
    }
    let [a, b, c, d, e, f, ..] = *header;
    let ports = Transport {
        kind: L4Kind::Udp,
        source_port: u16::from_be_bytes([a, b]),
        destination_port: u16::from_be_bytes([c, d]),
        tcp_flags: 0,
    };
    let udp_len = usize::from(u16::from_be_bytes([e, f]));
    match protocol {
        IpProtocol::UDP if QUOTED || fragmented || (8..=len).contains(&udp_len) => Ok(ports),
        IpProtocol::UDP => Err(ParseError::UdpLength(udp_len as u16)),
        IpProtocol::TCP if QUOTED => {
            let tcp_flags = bytes.get(13).copied().unwrap_or(0);
            Ok(Transport { kind: L4Kind::Tcp, tcp_flags, ..ports })
        }
        IpProtocol::TCP => {
            let Some(header) = bytes.first_chunk::<{ tcp::LEN }>() else { return truncated };
            let words = header[12] >> 4;
            if words < 5 || usize::from(words) * 4 > len {
                return Err(ParseError::TcpHeaderLength(words));
            }
            Ok(Transport { kind: L4Kind::Tcp, tcp_flags: header[13], ..ports })
        }
        // The common header has 12 bytes, and a chunk of at least 4 must follow (RFC 9260, section 3).
        IpProtocol::SCTP if QUOTED || (len >= 16 && bytes.len() >= 16) => {
            Ok(Transport { kind: L4Kind::Sctp, ..ports })
        }
        IpProtocol::SCTP => truncated,
        _ => {
            let kind = if family == Family::V4 { icmpv4_kind(a) } else { icmpv6_kind(a) };
            let identifier = if matches!(kind, L4Kind::IcmpEcho(_)) { u16::from_be_bytes([e, f]) } else { 0 };
            Ok(Transport { kind, source_port: identifier, destination_port: identifier, tcp_flags: 0 })
        }
    }
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
