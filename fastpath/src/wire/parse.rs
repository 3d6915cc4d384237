//! From the bytes of a frame to what the pipeline decides on, in one pass: the work done for every packet.
//!
//! Comes in: the head of a frame and its length. Goes out: a [`Class`], or the [`ParseError`] for which the frame
//! is dropped. The straight line is IPv4 without options and IPv6 without extension headers; everything else
//! (tags, options, fragments) is out of line.

mod common;
mod outcome;
#[cfg(test)]
mod tests;
mod transport;

pub use common::{Common, CommonL4};
pub use outcome::{Addresses, Class, Family, IcmpEcho, L4Kind, Layer, ParseError, Parsed};

use core::net::{Ipv4Addr, Ipv6Addr};

use super::ethernet::{self, EtherType};
use super::ipv6_extension::{is_extension, walk};
use super::vlan::{self, VlanId};
use super::{IpProtocol, Sum};
use transport::{Transport, transport};

/// Bytes of an IPv4 header without options.
const IPV4_LEN: usize = super::ipv4::LEN;
/// Bytes of the fixed IPv6 header.
const IPV6_LEN: usize = super::ipv6::LEN;

/// Types of neighbour discovery: router solicitation to redirect (RFC 4861).
const NEIGHBOUR_DISCOVERY: core::ops::RangeInclusive<u8> = 133..=137;

/// How much of a packet must be there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Extent {
    /// A packet on its way: all that its lengths state is there, and its header checksum is right.
    Whole,
    /// The packet quoted in an ICMP error: cut off anywhere after 8 bytes of layer 4, and changed on its way so that
    /// neither its lengths nor its header checksum need to be right.
    Quoted,
}

/// Parses a frame. `head`: its first segment, which must hold all headers; `total_len`: its bytes over all segments.
#[inline]
pub fn parse(head: &[u8], total_len: usize) -> Result<Class, ParseError> {
    let Some((header, rest)) = head.split_first_chunk::<{ ethernet::LEN }>() else {
        return Err(ParseError::Truncated(Layer::Ethernet));
    };
    let len = total_len.saturating_sub(ethernet::LEN);
    match EtherType(u16::from_be_bytes([header[12], header[13]])) {
        EtherType::IPV4 => ipv4::<false>(rest, len, Link::UNTAGGED).map(Class::Ip),
        EtherType::IPV6 => ipv6::<false>(rest, len, Link::UNTAGGED).map(classify_v6(rest)),
        EtherType::ARP => Ok(Class::Arp { offset: Link::UNTAGGED.len, vlan: None }),
        EtherType::VLAN => tagged(rest, len),
        EtherType::SERVICE_VLAN => Err(ParseError::StackedVlan),
        other => Err(ParseError::UnknownEtherType(other)),
    }
}

/// Parses an IP packet without its frame; offsets count from its first byte, which states its version. `len`: bytes
/// of the packet, of which `packet` is the contiguous beginning.
pub fn parse_ip(packet: &[u8], len: usize, extent: Extent) -> Result<Parsed, ParseError> {
    let version = packet.first().map(|byte| byte >> 4);
    match (version, extent) {
        (Some(4), Extent::Whole) => ipv4::<false>(packet, len, Link::NONE),
        (Some(4), Extent::Quoted) => ipv4::<true>(packet, len, Link::NONE),
        (Some(6), Extent::Whole) => ipv6::<false>(packet, len, Link::NONE),
        (Some(6), Extent::Quoted) => ipv6::<true>(packet, len, Link::NONE),
        (Some(version), _) => Err(ParseError::Version(version)),
        (None, _) => Err(ParseError::Truncated(Layer::Ip)),
    }
}

/// What precedes the IP header.
#[derive(Clone, Copy)]
struct Link {
    /// Bytes before the IP header.
    len: u8,
    vlan: Option<VlanId>,
}

impl Link {
    const NONE: Link = Link { len: 0, vlan: None };
    const UNTAGGED: Link = Link { len: ethernet::LEN as u8, vlan: None };
}

/// A frame with one tag: `rest` begins behind the tag's EtherType.
#[cold]
fn tagged(rest: &[u8], len: usize) -> Result<Class, ParseError> {
    let Some((tag, rest)) = rest.split_first_chunk::<{ vlan::LEN }>() else {
        return Err(ParseError::Truncated(Layer::Vlan));
    };
    let (id, ether_type) = vlan::split(tag);
    let link = Link { len: (ethernet::LEN + vlan::LEN) as u8, vlan: Some(id) };
    let len = len.saturating_sub(vlan::LEN);
    match ether_type {
        EtherType::IPV4 => ipv4::<false>(rest, len, link).map(Class::Ip),
        EtherType::IPV6 => ipv6::<false>(rest, len, link).map(classify_v6(rest)),
        EtherType::ARP => Ok(Class::Arp { offset: link.len, vlan: link.vlan }),
        EtherType::VLAN | EtherType::SERVICE_VLAN => Err(ParseError::StackedVlan),
        other => Err(ParseError::UnknownEtherType(other)),
    }
}

/// Tells neighbour discovery from what is to be forwarded. `packet` begins with the IPv6 header.
#[inline(always)]
fn classify_v6(packet: &[u8]) -> impl FnOnce(Parsed) -> Class {
    move |parsed| {
        if parsed.kind == L4Kind::IcmpOther {
            let offset = usize::from(parsed.l4) - usize::from(parsed.l3);
            if packet.get(offset).is_some_and(|kind| NEIGHBOUR_DISCOVERY.contains(kind)) {
                return Class::Ndisc(parsed);
            }
        }
        Class::Ip(parsed)
    }
}

#[inline(always)]
fn ipv4<const QUOTED: bool>(packet: &[u8], len: usize, link: Link) -> Result<Parsed, ParseError> {
    let Some((header, mut rest)) = packet.split_first_chunk::<IPV4_LEN>() else {
        return Err(ParseError::Truncated(Layer::Ip));
    };
    let mut sum = Sum::ZERO.add_ipv4_header(header);
    let mut header_len = IPV4_LEN;
    if header[0] != 0x45 {
        let options;
        (options, rest) = ipv4_options(header[0], rest)?;
        header_len += options.len();
        sum = sum.add_bytes(options);
    }
    let total = usize::from(u16::from_be_bytes([header[2], header[3]]));
    if !QUOTED {
        if total < header_len || total > len {
            return Err(ParseError::TotalLength(total as u32));
        }
        if !sum.is_valid() {
            return Err(ParseError::Ipv4Checksum(u16::from_be_bytes([header[10], header[11]])));
        }
    }
    let l4_len = if QUOTED { rest.len() } else { total - header_len };
    let protocol = IpProtocol(header[9]);
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    let mut first_fragment = false;
    // All but "do not fragment" and the reserved bit: more fragments, and the offset.
    let transport = if fragment & 0x3fff == 0 {
        transport::<QUOTED>(protocol, Family::V4, rest, l4_len, false)?
    } else {
        let part = FragmentPart { offset: fragment & 0x1fff, more: fragment & 0x2000 != 0 };
        first_fragment = part.offset == 0;
        part.transport::<QUOTED>(protocol, Family::V4, rest, l4_len)?
    };
    Ok(Parsed {
        addresses: Addresses::V4 { source: address_v4::<12>(header), destination: address_v4::<16>(header) },
        l3: link.len,
        l4: u16::from(link.len) + header_len as u16,
        ip_total: total as u32,
        protocol,
        ttl: header[8],
        vlan: link.vlan,
        first_fragment,
        fragment_id: u32::from(u16::from_be_bytes([header[4], header[5]])),
        kind: transport.kind,
        source_port: transport.source_port,
        destination_port: transport.destination_port,
        tcp_flags: transport.tcp_flags,
    })
}

/// The address at this offset.
#[inline(always)]
fn address_v4<const OFFSET: usize>(header: &[u8; IPV4_LEN]) -> Ipv4Addr {
    let mut octets = [0; 4];
    octets.copy_from_slice(&header[OFFSET..OFFSET + 4]);
    Ipv4Addr::from(octets)
}

/// The options of an IPv4 header whose first byte is not 0x45, and what follows them.
#[cold]
fn ipv4_options(first: u8, rest: &[u8]) -> Result<(&[u8], &[u8]), ParseError> {
    if first >> 4 != 4 {
        return Err(ParseError::Version(first >> 4));
    }
    let words = first & 0xf;
    let options = (usize::from(words) * 4).checked_sub(IPV4_LEN).ok_or(ParseError::HeaderLength(words))?;
    rest.split_at_checked(options).ok_or(ParseError::Truncated(Layer::Ip))
}

#[inline(always)]
fn ipv6<const QUOTED: bool>(packet: &[u8], len: usize, link: Link) -> Result<Parsed, ParseError> {
    let Some((header, mut rest)) = packet.split_first_chunk::<IPV6_LEN>() else {
        return Err(ParseError::Truncated(Layer::Ip));
    };
    if header[0] >> 4 != 6 {
        return Err(ParseError::Version(header[0] >> 4));
    }
    let payload = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let total = IPV6_LEN + payload;
    if !QUOTED && total > len {
        return Err(ParseError::TotalLength(total as u32));
    }
    let mut chain = Chain { protocol: IpProtocol(header[6]), len: 0, fragment: None };
    if is_extension(chain.protocol) {
        (chain, rest) = follow(chain.protocol, rest, if QUOTED { rest.len() } else { payload })?;
    }
    // The chain lies within the payload, so this does not go below zero.
    let l4_len = if QUOTED { rest.len() } else { payload - usize::from(chain.len) };
    let mut first_fragment = false;
    let mut fragment_id = 0;
    let transport = match chain.fragment {
        None => transport::<QUOTED>(chain.protocol, Family::V6, rest, l4_len, false)?,
        Some((part, identification)) => {
            first_fragment = part.offset == 0;
            fragment_id = identification;
            part.transport::<QUOTED>(chain.protocol, Family::V6, rest, l4_len)?
        }
    };
    let (_, addresses) = header.split_at(8);
    let (source, destination) = addresses.split_at(16);
    let address = |bytes: &[u8]| Ipv6Addr::from(*bytes.first_chunk::<16>().unwrap_or(&[0; 16]));
    Ok(Parsed {
        addresses: Addresses::V6 { source: address(source), destination: address(destination) },
        l3: link.len,
        l4: u16::from(link.len) + IPV6_LEN as u16 + chain.len,
        ip_total: total as u32,
        protocol: chain.protocol,
        ttl: header[7],
        vlan: link.vlan,
        first_fragment,
        fragment_id,
        kind: transport.kind,
        source_port: transport.source_port,
        destination_port: transport.destination_port,
        tcp_flags: transport.tcp_flags,
    })
}

/// Extension headers that were followed.
struct Chain {
    /// What comes behind them.
    protocol: IpProtocol,
    /// Their bytes.
    len: u16,
    /// The part, and the identification of the packet that it is a part of.
    fragment: Option<(FragmentPart, u32)>,
}

/// Follows extension headers; gives them and what comes behind them. `payload`: bytes that the fixed header states.
#[cold]
fn follow(first: IpProtocol, rest: &[u8], payload: usize) -> Result<(Chain, &[u8]), ParseError> {
    let upper = walk(first, rest.get(..payload).unwrap_or(rest)).map_err(ParseError::Extension)?;
    let (_, behind) = rest.split_at_checked(upper.len).ok_or(ParseError::Truncated(Layer::Ip))?;
    // A fragment header on a whole packet is legal and says nothing (RFC 6946).
    let fragment = upper.fragment.filter(|fragment| fragment.offset != 0 || fragment.more);
    let part = |fragment: super::ipv6_extension::Fragment| {
        (FragmentPart { offset: fragment.offset, more: fragment.more }, fragment.identification)
    };
    // Eight headers of 2 KiB at most: fits into 16 bits.
    let chain = Chain { protocol: upper.protocol, len: upper.len as u16, fragment: fragment.map(part) };
    Ok((chain, behind))
}

/// Which part of a packet a fragment is.
struct FragmentPart {
    /// Where it begins, in units of 8 bytes.
    offset: u16,
    /// True when it is not the last.
    more: bool,
}

impl FragmentPart {
    /// The layer 4 of the first fragment; of the others, only that they are fragments.
    #[cold]
    fn transport<const QUOTED: bool>(
        &self,
        protocol: IpProtocol,
        family: Family,
        bytes: &[u8],
        len: usize,
    ) -> Result<Transport, ParseError> {
        // A part that would end beyond the largest packet (the "ping of death"), one that is not the last and
        // no multiple of 8 bytes (RFC 791, RFC 8200), and one that would overwrite TCP's flags (RFC 3128).
        let beyond = usize::from(self.offset) * 8 + len > usize::from(u16::MAX);
        let uneven = self.more && !len.is_multiple_of(8);
        let overwrites = self.offset == 1 && protocol == IpProtocol::TCP;
        if !QUOTED && (beyond || uneven || overwrites) {
            return Err(ParseError::Fragment { offset: self.offset });
        }
        if self.offset != 0 {
            return Ok(Transport { kind: L4Kind::Fragment, ..Transport::NONE });
        }
        transport::<QUOTED>(protocol, family, bytes, len, true)
    }
}
