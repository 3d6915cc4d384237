//! The packets that nearly all are: untagged, UDP or TCP, without options, extension headers or fragments.
//!
//! One pass over fixed offsets. It finds what [`parse`](super::parse) finds, or nothing: what is anything else, or wrong
//! in any way, is left to that.

use super::L4Kind;
use crate::wire::checksum::Sum;
use crate::wire::{IpProtocol, ethernet, ipv4, ipv6, tcp, udp};

/// Where layer 4 begins.
const L4_V4: usize = ethernet::LEN + ipv4::LEN;
const L4_V6: usize = ethernet::LEN + ipv6::LEN;
/// More fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;

/// A packet of the common kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Common {
    /// Whether it is IPv6, its addresses of 16 bytes at offsets 22 and 38; else of 4 bytes at 26 and 30.
    pub v6: bool,
    /// Bytes of the IP packet.
    pub ip_total: u32,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What layer 4 says.
    pub l4: CommonL4,
}

/// Layer 4 of a packet of the common kind.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CommonL4 {
    /// UDP or TCP.
    pub kind: L4Kind,
    /// Its number.
    pub protocol: IpProtocol,
    /// Source port in the upper half, destination port in the lower.
    pub ports: u32,
}

impl Common {
    /// From the head of a frame of `len` bytes in all.
    #[inline(always)]
    pub fn parse(head: &[u8], len: usize) -> Option<Common> {
        let start = head.first_chunk::<{ L4_V4 + udp::LEN }>()?;
        // EtherType and the first byte of the IP header.
        let kind = u32::from_be_bytes([0, start[12], start[13], start[14]]);
        if kind == 0x0008_0045 {
            v4(start, head, len)
        } else if kind >> 4 == 0x0008_6dd6 {
            v6(head, len)
        } else {
            None
        }
    }

    /// Bytes from the frame's start to layer 4.
    #[inline(always)]
    pub const fn l4_offset(&self) -> u16 {
        if self.v6 { L4_V6 as u16 } else { L4_V4 as u16 }
    }
}

#[inline(always)]
fn v4(start: &[u8; L4_V4 + udp::LEN], head: &[u8], len: usize) -> Option<Common> {
    let (_, packet) = start.split_at(ethernet::LEN);
    let header = packet.first_chunk::<{ ipv4::LEN }>()?;
    let total = u16::from_be_bytes([header[2], header[3]]);
    let fragment = u16::from_be_bytes([header[6], header[7]]) & FRAGMENT;
    let l4_len = u32::from(total).checked_sub(ipv4::LEN as u32)?;
    let whole = fragment == 0 && usize::from(total) + ethernet::LEN <= len;
    if !whole || !Sum::ZERO.add_ipv4_header(header).is_valid() {
        return None;
    }
    let l4 = layer4(IpProtocol(header[9]), head.get(L4_V4..)?, l4_len)?;
    Some(Common { v6: false, ip_total: total.into(), ttl: header[8], l4 })
}

#[inline(always)]
fn v6(head: &[u8], len: usize) -> Option<Common> {
    let header = head.get(ethernet::LEN..)?.first_chunk::<{ ipv6::LEN }>()?;
    let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
    let total = payload + ipv6::LEN as u32;
    if total as usize + ethernet::LEN > len {
        return None;
    }
    let l4 = layer4(IpProtocol(header[6]), head.get(L4_V6..)?, payload)?;
    Some(Common { v6: true, ip_total: total, ttl: header[7], l4 })
}

/// `bytes`: what of layer 4 is contiguous; `len`: what of it the IP header states.
#[inline(always)]
fn layer4(protocol: IpProtocol, bytes: &[u8], len: u32) -> Option<CommonL4> {
    let header = bytes.first_chunk::<{ udp::LEN }>()?;
    let ports = u32::from_be_bytes([header[0], header[1], header[2], header[3]]);
    if protocol == IpProtocol::UDP {
        let stated = u32::from(u16::from_be_bytes([header[4], header[5]]));
        let l4 = CommonL4 { kind: L4Kind::Udp, protocol, ports };
        return (stated >= udp::LEN as u32 && stated <= len).then_some(l4);
    }
    if protocol != IpProtocol::TCP {
        return None;
    }
    let header = bytes.first_chunk::<{ tcp::LEN }>()?;
    let header_len = u32::from(header[12] >> 4) * 4;
    let l4 = CommonL4 { kind: L4Kind::Tcp, protocol, ports };
    (header_len >= tcp::LEN as u32 && header_len <= len).then_some(l4)
}
