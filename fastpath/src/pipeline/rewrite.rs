//! Header rewrites: addresses, ports, TTL, and the checksums over them, all incremental (RFC 1624).

use super::brief::Brief;
use crate::conntrack::Entry;
use crate::port::Checksum;
use crate::wire::checksum::Delta;
use crate::wire::crc32c;
use crate::wire::ethernet;
use crate::wire::parse::L4Kind;

/// Rewrites an IPv4 packet by its flow's entry: its TTL, and with `nat` (which says how the layer 4 checksum
/// stands) addresses and ports. False, with the packet half rewritten, when a header is not where
/// the parser saw it.
#[inline(always)]
pub(super) fn rewrite_v4(head: &mut [u8], packet: &Brief, entry: &Entry<'_>, nat: Option<Checksum>) -> bool {
    let Some((ip, l4)) = split(head, packet) else { return false };
    let Some(ip) = ip.first_chunk_mut::<20>() else { return false };
    ip[8] = ip[8].wrapping_sub(1);
    let mut header = Delta::TTL_DECREMENT;
    let mut done = true;
    if let Some(checksum) = nat {
        let (addresses, all) = entry.deltas();
        let (addresses, all) = (Delta::from_bits(addresses), Delta::from_bits(all));
        header = header.join(addresses);
        ip[12..20].copy_from_slice(&entry.new_v4_addresses().to_be_bytes());
        done = rewrite_l4(l4, packet, entry.new_ports(), addresses, all, checksum);
    }
    let checksum = header.apply([ip[10], ip[11]]);
    [ip[10], ip[11]] = checksum;
    done
}

/// Rewrites an IPv6 packet by its flow's entry. As [`rewrite_v4`].
#[inline(always)]
pub(super) fn rewrite_v6(head: &mut [u8], packet: &Brief, entry: &Entry<'_>, nat: Option<Checksum>) -> bool {
    let Some((ip, l4)) = split(head, packet) else { return false };
    let Some(ip) = ip.first_chunk_mut::<40>() else { return false };
    ip[7] = ip[7].wrapping_sub(1);
    let Some(checksum) = nat else { return true };
    let (addresses, all) = entry.deltas();
    let [source, destination] = entry.new_v6_addresses();
    ip[8..24].copy_from_slice(&source.to_be_bytes());
    ip[24..40].copy_from_slice(&destination.to_be_bytes());
    let (addresses, all) = (Delta::from_bits(addresses), Delta::from_bits(all));
    rewrite_l4(l4, packet, entry.new_ports(), addresses, all, checksum)
}

/// The IP header and what begins at layer 4.
#[inline(always)]
fn split<'a>(head: &'a mut [u8], packet: &Brief) -> Option<(&'a mut [u8], &'a mut [u8])> {
    let (before, l4) = head.split_at_mut_checked(usize::from(packet.l4))?;
    Some((before.get_mut(ethernet::LEN..)?, l4))
}

#[inline(always)]
fn rewrite_l4(
    l4: &mut [u8],
    packet: &Brief,
    new_ports: u32,
    addresses: Delta,
    all: Delta,
    checksum: Checksum,
) -> bool {
    if packet.kind == L4Kind::Udp {
        let Some(udp) = l4.first_chunk_mut::<8>() else { return false };
        udp[..4].copy_from_slice(&new_ports.to_be_bytes());
        let field = [udp[6], udp[7]];
        [udp[6], udp[7]] = match checksum {
            Checksum::Partial { .. } => addresses.apply_partial(field),
            _ => all.apply_udp(field),
        };
        return true;
    }
    if packet.kind == L4Kind::Tcp {
        let Some(tcp) = l4.first_chunk_mut::<20>() else { return false };
        tcp[..4].copy_from_slice(&new_ports.to_be_bytes());
        let field = [tcp[16], tcp[17]];
        [tcp[16], tcp[17]] = match checksum {
            Checksum::Partial { .. } => addresses.apply_partial(field),
            _ => all.apply(field),
        };
        return true;
    }
    rewrite_rare(l4, packet, new_ports, addresses)
}

/// The protocols that few packets have.
#[cold]
fn rewrite_rare(l4: &mut [u8], packet: &Brief, new_ports: u32, addresses: Delta) -> bool {
    match packet.kind {
        L4Kind::Sctp => rewrite_sctp(l4, packet, new_ports),
        // ICMP has no pseudo-header: addresses are not in its checksum; ICMPv6 has.
        L4Kind::IcmpEcho(_) if packet.v6 => rewrite_echo(l4, new_ports, addresses),
        L4Kind::IcmpEcho(_) => rewrite_echo(l4, new_ports, Delta::NONE),
        _ => true,
    }
}

/// SCTP's CRC32c covers its packet and no pseudo-header (RFC 9260, section 6.8). A CRC is linear, so a change of the
/// first four bytes changes it by the CRC of that change followed by zeroes: the payload is not touched.
#[cold]
fn rewrite_sctp(l4: &mut [u8], packet: &Brief, new_ports: u32) -> bool {
    let Some(sctp) = l4.first_chunk_mut::<12>() else { return false };
    let old = u32::from_be_bytes([sctp[0], sctp[1], sctp[2], sctp[3]]);
    let change = (old ^ new_ports).to_be_bytes();
    let behind = packet.l4_len().saturating_sub(4);
    sctp[..4].copy_from_slice(&new_ports.to_be_bytes());
    let checksum = u32::from_le_bytes([sctp[8], sctp[9], sctp[10], sctp[11]]);
    let changed = checksum ^ crc32c::shift(crc32c::of_change(change), behind);
    sctp[8..12].copy_from_slice(&changed.to_le_bytes());
    true
}

/// An echo's identifier stands for both ports; its checksum is never left to others.
#[cold]
fn rewrite_echo(l4: &mut [u8], new_ports: u32, addresses: Delta) -> bool {
    let Some(icmp) = l4.first_chunk_mut::<8>() else { return false };
    let identifier = new_ports as u16;
    let change = Delta::of_u16(u16::from_be_bytes([icmp[4], icmp[5]]), identifier);
    [icmp[4], icmp[5]] = identifier.to_be_bytes();
    [icmp[2], icmp[3]] = addresses.join(change).apply([icmp[2], icmp[3]]);
    true
}
