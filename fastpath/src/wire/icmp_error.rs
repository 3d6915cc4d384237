//! The ICMP errors that a router sends (RFC 1122, RFC 1812, RFC 4443): whether it may, how much of the offending
//! packet goes into one, and the headers.
//!
//! An error is built around the offending packet where it lies: grow the packet at its front by
//! [`IcmpError::overhead`], cut it after [`quote_len`] bytes of the original, then [`IcmpError::emit`].

use core::net::{Ipv4Addr, Ipv6Addr};

use super::parse::{Addresses, Family, L4Kind, Parsed};
use super::{HeaderError, IpProtocol, MacAddr, Sum, icmpv4, icmpv6, ipv4, ipv6};

#[cfg(test)]
mod tests;

/// Bytes that an IPv4 error may have in all (RFC 1812, section 4.3.2.3).
pub const MAX_LEN_V4: usize = 576;
/// Bytes that an IPv6 error may have in all (RFC 4443, section 2.4 (c)).
pub const MAX_LEN_V6: usize = ipv6::MIN_MTU;
/// Bytes before the offending packet in an IPv4 error.
pub const OVERHEAD_V4: usize = ipv4::LEN + icmpv4::LEN;
/// Bytes before the offending packet in an IPv6 error.
pub const OVERHEAD_V6: usize = ipv6::LEN + icmpv6::LEN;

/// Internetwork control, the precedence that RFC 1812 (section 4.3.2.5) asks for.
const TRAFFIC_CLASS: u8 = 0xc0;

/// What is wrong with the offending packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Problem {
    /// No route to its destination.
    NoRoute,
    /// Its destination is known and does not answer.
    HostUnreachable,
    /// Nobody listens at its destination port.
    PortUnreachable,
    /// A policy forbids it.
    Prohibited,
    /// Larger than the MTU of the way out, in bytes, and not to be fragmented.
    TooBig {
        /// The MTU in bytes.
        mtu: u16,
    },
    /// Its TTL or hop limit came to its end.
    HopLimitExceeded,
}

impl Problem {
    /// Type, code and second word for IPv4.
    fn v4(self) -> icmpv4::Fields {
        use icmpv4::{DESTINATION_UNREACHABLE, TIME_EXCEEDED, unreachable};
        let (message, code, mtu) = match self {
            Problem::NoRoute => (DESTINATION_UNREACHABLE, unreachable::NETWORK, 0),
            Problem::HostUnreachable => (DESTINATION_UNREACHABLE, unreachable::HOST, 0),
            Problem::PortUnreachable => (DESTINATION_UNREACHABLE, unreachable::PORT, 0),
            Problem::Prohibited => (DESTINATION_UNREACHABLE, unreachable::PROHIBITED, 0),
            Problem::TooBig { mtu } => (DESTINATION_UNREACHABLE, unreachable::FRAGMENTATION_NEEDED, mtu),
            Problem::HopLimitExceeded => (TIME_EXCEEDED, 0, 0),
        };
        icmpv4::Fields { message, code, rest: u32::from(mtu).to_be_bytes() }
    }

    /// Type, code and second word for IPv6.
    fn v6(self) -> icmpv6::Fields {
        use icmpv6::{DESTINATION_UNREACHABLE, PACKET_TOO_BIG, TIME_EXCEEDED, unreachable};
        let (message, code, mtu) = match self {
            Problem::NoRoute => (DESTINATION_UNREACHABLE, unreachable::NO_ROUTE, 0),
            Problem::HostUnreachable => (DESTINATION_UNREACHABLE, unreachable::ADDRESS, 0),
            Problem::PortUnreachable => (DESTINATION_UNREACHABLE, unreachable::PORT, 0),
            Problem::Prohibited => (DESTINATION_UNREACHABLE, unreachable::PROHIBITED, 0),
            Problem::TooBig { mtu } => (PACKET_TOO_BIG, 0, mtu),
            Problem::HopLimitExceeded => (TIME_EXCEEDED, 0, 0),
        };
        icmpv6::Fields { message, code, rest: u32::from(mtu).to_be_bytes() }
    }
}

/// An error to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IcmpError {
    /// What is wrong.
    pub problem: Problem,
    /// From the router to the sender of the offending packet, and of the same family as that packet.
    pub addresses: Addresses,
}

impl IcmpError {
    /// Bytes that come before the offending packet.
    pub const fn overhead(&self) -> usize {
        match self.addresses {
            Addresses::V4 { .. } => OVERHEAD_V4,
            Addresses::V6 { .. } => OVERHEAD_V6,
        }
    }

    /// Writes the headers over the first [`overhead`](IcmpError::overhead) bytes of `packet`, behind which is what is
    /// quoted of the offending packet. `packet` is the whole error from the IP header on. `identification`: IPv4's.
    pub fn emit(&self, packet: &mut [u8], identification: u16) -> Result<(), HeaderError> {
        let had = packet.len();
        let too_short = HeaderError::Truncated { needed: self.overhead(), had };
        let len = u16::try_from(had).map_err(|_| HeaderError::Length(had))?;
        match self.addresses {
            Addresses::V4 { source, destination } => {
                let (ip, icmp) = packet.split_first_chunk_mut().ok_or(too_short)?;
                let (icmp, quote) = icmp.split_first_chunk_mut().ok_or(too_short)?;
                self.problem.v4().emit(icmp, quote);
                let header = ipv4::Fields {
                    source,
                    destination,
                    protocol: IpProtocol::ICMPV4,
                    ttl: ipv4::DEFAULT_TTL,
                    traffic_class: TRAFFIC_CLASS,
                    identification,
                    do_not_fragment: false,
                    payload_len: len.saturating_sub(ipv4::LEN as u16),
                };
                header.emit(ip);
            }
            Addresses::V6 { source, destination } => {
                let (ip, icmp) = packet.split_first_chunk_mut().ok_or(too_short)?;
                let (icmp, quote) = icmp.split_first_chunk_mut().ok_or(too_short)?;
                let payload_len = len.saturating_sub(ipv6::LEN as u16);
                let pseudo = Sum::pseudo_v6(source, destination, IpProtocol::ICMPV6, u32::from(payload_len));
                self.problem.v6().emit(icmp, pseudo, quote);
                let header = ipv6::Fields {
                    source,
                    destination,
                    next_header: IpProtocol::ICMPV6,
                    hop_limit: ipv6::DEFAULT_HOP_LIMIT,
                    traffic_class: TRAFFIC_CLASS,
                    payload_len,
                };
                header.emit(ip);
            }
        }
        Ok(())
    }
}

/// How many bytes of the offending packet an error quotes: as many as fit. `packet_len`: bytes of it that can be
/// quoted, from its IP header on, without the frame's padding.
pub const fn quote_len(family: Family, packet_len: usize) -> usize {
    let room = match family {
        Family::V4 => MAX_LEN_V4 - OVERHEAD_V4,
        Family::V6 => MAX_LEN_V6 - OVERHEAD_V6,
    };
    if packet_len < room { packet_len } else { room }
}

/// Whether `problem` may be reported to the sender of `offending`, whose frame was sent to `link_destination`.
///
/// Never about errors, about later fragments, about what was sent to many, or to a source that is not one host
/// (RFC 1122, section 3.2.2; RFC 4443, section 2.4 (e), which lets "too big" through for multicast).
pub fn may_be_sent(problem: Problem, offending: &Parsed, link_destination: MacAddr) -> bool {
    if matches!(offending.kind, L4Kind::IcmpError | L4Kind::Fragment) {
        return false;
    }
    match offending.addresses {
        Addresses::V4 { source, destination } => {
            !link_destination.is_multicast()
                && is_one_host_v4(source)
                && !destination.is_multicast()
                && !destination.is_broadcast()
        }
        Addresses::V6 { source, destination } => {
            let to_many = link_destination.is_multicast() || destination.is_multicast();
            is_one_host_v6(source) && (!to_many || matches!(problem, Problem::TooBig { .. }))
        }
    }
}

fn is_one_host_v4(address: Ipv4Addr) -> bool {
    // 0.0.0.0/8, loopback, and everything from multicast up: class E and broadcast.
    let [first, ..] = address.octets();
    !matches!(first, 0 | 127 | 224..)
}

fn is_one_host_v6(address: Ipv6Addr) -> bool {
    !address.is_unspecified() && !address.is_loopback() && !address.is_multicast()
}
