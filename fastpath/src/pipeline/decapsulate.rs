//! Stage: an encapsulated packet is taken out of its tunnel (VXLAN, RFC 7348).
//!
//! Comes in: a frame that came by an uplink and is addressed to it. Goes out: the inner frame, as if it had come by the
//! uplink itself; or the frame as it is, when it is none of a tunnel. Drops: senders that are no nodes, other networks, headers
//! that are malformed, wrong checksums, fragments, inner frames that are for somebody else, congestion that the inner
//! packet cannot carry on.

use crate::port::{Checksum, DropReason, Frame, Offload};
use crate::tables::{Address, TunnelTable, Vtep};
use crate::wire::ethernet::MacAddr;
use crate::wire::ipv6_extension::{Fragment, Upper, walk};
use crate::wire::{Delta, IpProtocol, Sum, ethernet, icmpv6, ipv4, ipv6, udp, vxlan};

/// Congestion notification (RFC 3168): the bits, and that congestion was met.
const ECN: u8 = 3;
const CONGESTED: u8 = 3;

/// What a frame on an uplink is to this node's tunnel end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Taken {
    /// Not encapsulated, or not for this node.
    Nothing,
    /// The frame is the inner one now.
    Inner,
}

/// The outer headers of a packet for this node's tunnel end.
struct Outer {
    source: Address,
    destination: Address,
    /// Bytes before the UDP header.
    l4: usize,
    /// Bytes of the UDP datagram.
    datagram: usize,
    traffic_class: u8,
    is_fragment: bool,
}

/// Takes the inner frame out of a frame that is addressed to `own_mac`, which is what the inner one is addressed to then.
pub(super) fn decapsulate<F: Frame>(
    frame: &mut F,
    tunnels: &TunnelTable,
    own_mac: MacAddr,
) -> Result<Taken, DropReason> {
    let Some(vtep) = tunnels.vtep() else { return Ok(Taken::Nothing) };
    let Some(outer) = outer(frame.head(), frame.total_len(), vtep)? else { return Ok(Taken::Nothing) };
    if outer.is_fragment {
        return Err(DropReason::TunnelFragment);
    }
    if !tunnels.is_peer(outer.source) {
        return Err(DropReason::TunnelPeer);
    }
    let overhead = outer.l4 + udp::LEN + vxlan::LEN;
    let header = frame.head().get(outer.l4 + udp::LEN..).and_then(<[u8]>::first_chunk);
    let vni = header.and_then(vxlan::vni).ok_or(DropReason::TunnelHeader)?;
    if vni != vtep.vni.get() {
        return Err(DropReason::TunnelVni);
    }
    let end = outer.l4 + outer.datagram;
    if outer.datagram < udp::LEN + vxlan::LEN + ethernet::LEN || end > frame.total_len() {
        return Err(DropReason::TunnelHeader);
    }
    if !checksum_holds(frame, &outer) {
        return Err(DropReason::TunnelChecksum);
    }
    check_inner(frame.head(), overhead, vtep.mac)?;
    let offload = inner_offload(frame.offload(), overhead).ok_or(DropReason::TunnelHeader)?;
    frame.truncate(end);
    if !frame.trim_front(overhead) {
        return Err(DropReason::TunnelHeader);
    }
    frame.set_offload(offload);
    let head = frame.head_mut();
    combine_ecn(head, outer.traffic_class & ECN)?;
    head.get_mut(..6).ok_or(DropReason::TunnelHeader)?.copy_from_slice(&own_mac.0);
    Ok(Taken::Inner)
}

/// The outer headers, if they are those of a UDP datagram for the tunnel end. Those of later fragments are not known to be.
fn outer(head: &[u8], len: usize, vtep: &Vtep) -> Result<Option<Outer>, DropReason> {
    let Some((link, packet)) = head.split_first_chunk::<{ ethernet::LEN }>() else { return Ok(None) };
    let (found, whole) = match [link[12], link[13]] {
        [0x08, 0x00] => outer_v4(packet),
        [0x86, 0xdd] => outer_v6(packet),
        _ => return Ok(None),
    }
    .unzip();
    let (Some(mut outer), Some(whole)) = (found, whole) else { return Ok(None) };
    let Some(header) = head.get(outer.l4..).and_then(|rest| rest.first_chunk::<{ udp::LEN }>()) else {
        return Ok(None);
    };
    let port = u16::from_be_bytes([header[2], header[3]]);
    if port != vtep.udp_port || !vtep.addresses.contains(&outer.destination) {
        return Ok(None);
    }
    outer.datagram = usize::from(u16::from_be_bytes([header[4], header[5]]));
    let is_sound =
        whole.header_is_right && outer.datagram <= whole.payload && outer.l4 + whole.payload <= len;
    if is_sound || outer.is_fragment { Ok(Some(outer)) } else { Err(DropReason::TunnelHeader) }
}

/// What the outer IP header says of itself.
struct Whole {
    payload: usize,
    header_is_right: bool,
}

/// Options are of no interest here, whatever they are.
fn outer_v4(packet: &[u8]) -> Option<(Outer, Whole)> {
    let view = ipv4::Header::new_checked(packet).ok()?;
    let header = packet.get(..view.header_len())?;
    let fragment = u16::from_be_bytes([header[6], header[7]]);
    if header[9] != IpProtocol::UDP.0 || fragment & ipv4::FRAGMENT_OFFSET != 0 {
        return None;
    }
    let payload = usize::from(view.total_len()).checked_sub(header.len())?;
    let outer = Outer {
        source: view.source().into(),
        destination: view.destination().into(),
        l4: ethernet::LEN + header.len(),
        datagram: 0,
        traffic_class: header[1],
        is_fragment: fragment & ipv4::MORE_FRAGMENTS != 0,
    };
    let header_is_right = Sum::ZERO.add_bytes(header).is_valid();
    Some((outer, Whole { payload, header_is_right }))
}

/// Extension headers are stepped over. A chain that cannot be followed is named by the parser, which sees the packet next.
fn outer_v6(packet: &[u8]) -> Option<(Outer, Whole)> {
    let header = ipv6::Header::new_checked(packet).ok()?;
    let upper = match header.next_header() {
        IpProtocol::UDP => Upper { protocol: IpProtocol::UDP, len: 0, fragment: None },
        first => walk(first, packet.get(ipv6::LEN..)?).ok()?,
    };
    let fragment = upper.fragment.unwrap_or(Fragment { offset: 0, more: false, identification: 0 });
    if upper.protocol != IpProtocol::UDP || fragment.offset != 0 {
        return None;
    }
    let outer = Outer {
        source: header.source().into(),
        destination: header.destination().into(),
        l4: ethernet::LEN + ipv6::LEN + upper.len,
        datagram: 0,
        traffic_class: header.traffic_class(),
        is_fragment: fragment.more,
    };
    let payload = usize::from(header.payload_len()).checked_sub(upper.len)?;
    Some((outer, Whole { payload, header_is_right: true }))
}

/// Whether the outer UDP checksum is right, or there is none, or somebody has vouched for it.
fn checksum_holds<F: Frame>(frame: &F, outer: &Outer) -> bool {
    let at = outer.l4 + udp::CHECKSUM_OFFSET;
    let none = frame.head().get(at..at + 2).is_some_and(|field| *field == [0, 0]);
    if none || frame.offload().checksum != Checksum::Complete {
        return true;
    }
    let sum = frame.sum(outer.l4, outer.datagram);
    let len = outer.datagram;
    let pseudo = match (outer.source.to_ip(), outer.destination.to_ip()) {
        (std::net::IpAddr::V4(source), std::net::IpAddr::V4(destination)) => {
            Sum::pseudo_v4(source, destination, IpProtocol::UDP, len as u16)
        }
        (std::net::IpAddr::V6(source), std::net::IpAddr::V6(destination)) => {
            Sum::pseudo_v6(source, destination, IpProtocol::UDP, len as u32)
        }
        _ => return false,
    };
    sum.is_some_and(|sum| pseudo.add_u16(sum).is_valid())
}

/// Whether the inner frame is an IP packet for this node's tunnel end. Neighbours are not looked for through tunnels.
fn check_inner(head: &[u8], overhead: usize, mac: MacAddr) -> Result<(), DropReason> {
    let inner = head.get(overhead..).unwrap_or_default();
    let link = inner.first_chunk::<{ ethernet::LEN }>().ok_or(DropReason::TunnelHeader)?;
    if link[..6] != mac.0 {
        let to_many = link[0] & 1 != 0;
        return Err(if to_many { DropReason::Multicast } else { DropReason::ForeignMac });
    }
    match [link[12], link[13]] {
        [0x08, 0x00] => Ok(()),
        [0x86, 0xdd] if is_neighbour_discovery(&inner[ethernet::LEN..]) => Err(DropReason::NeighbourForeign),
        [0x86, 0xdd] => Ok(()),
        _ => Err(DropReason::UnknownEtherType),
    }
}

fn is_neighbour_discovery(packet: &[u8]) -> bool {
    let is_icmp = packet.get(6) == Some(&IpProtocol::ICMPV6.0);
    let range = icmpv6::ROUTER_SOLICITATION..=icmpv6::REDIRECT;
    is_icmp && packet.get(ipv6::LEN).is_some_and(|kind| range.contains(kind))
}

/// What is left to be done to the inner frame. An outer checksum says nothing of the inner one, unless what is partial is the
/// inner one's (Linux calls that local checksum offload). A large frame has to be one inner frame: what is many packets of a tunnel
/// in one is not. Nothing for what cannot be.
fn inner_offload(outer: Offload, overhead: usize) -> Option<Offload> {
    let overhead = overhead as u16;
    if outer.outer != if outer.gso.is_some() { overhead } else { 0 } {
        return None;
    }
    Some(match outer.checksum {
        Checksum::Partial { start, offset }
            if start >= overhead + ethernet::LEN as u16 + ipv4::LEN as u16 =>
        {
            Offload {
                checksum: Checksum::Partial { start: start - overhead, offset },
                gso: outer.gso,
                outer: 0,
            }
        }
        _ if outer.gso.is_some() => return None,
        _ => Offload::NONE,
    })
}

/// Carries congestion that the outer packet has met over to the inner one (RFC 6040, figure 4).
fn combine_ecn(head: &mut [u8], outer: u8) -> Result<(), DropReason> {
    let is_v4 = head.get(12) == Some(&0x08);
    let fields = head.get_mut(ethernet::LEN..).unwrap_or_default();
    let Some(ip) = fields.first_chunk_mut::<{ ipv4::LEN }>() else { return Err(DropReason::TunnelHeader) };
    let inner = if is_v4 { ip[1] } else { ip[1] >> 4 } & ECN;
    let combined = match (inner, outer) {
        (0, CONGESTED) => return Err(DropReason::TunnelEcn),
        (0, _) => 0,
        (_, CONGESTED) => CONGESTED,
        // ECT(1) goes over ECT(0).
        (2, 1) => 1,
        (inner, _) => inner,
    };
    if combined == inner {
        return Ok(());
    }
    let old = u16::from_be_bytes([ip[0], ip[1]]);
    if is_v4 {
        ip[1] = ip[1] & !ECN | combined;
        let change = Delta::of_u16(old, u16::from_be_bytes([ip[0], ip[1]]));
        [ip[10], ip[11]] = change.apply([ip[10], ip[11]]);
    } else {
        ip[1] = ip[1] & !(ECN << 4) | combined << 4;
    }
    Ok(())
}
