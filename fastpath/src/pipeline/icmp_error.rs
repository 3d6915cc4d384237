//! Stage: an ICMP error goes to the sender of the packet that it is about, translated back on the way.
//!
//! The error quotes a packet as it was when the trouble came: after translation. Its 5-tuple, turned round, is the
//! key of the flow's entry for the opposite direction, which says what the quoted packet was before (RFC 5508 for
//! NATs in general). Comes in: an ICMP error. Goes out: the error, by that entry. Drops: errors about unknown flows.

use super::forward::set_macs;
use super::resolve::{Refusal, check_source, flow_key, neighbour, past};
use super::run::{Context, Pipeline, addresses};
use super::{Egress, Report};
use crate::conntrack::{EntryRef, FlowKey};
use crate::port::{DropReason, Frame};
use crate::tables::{Address, PortRole};
use crate::wire::parse::{Extent, Family, L4Kind, Parsed, parse_ip};
use crate::wire::{Delta, IpProtocol, Sum, icmpv4, icmpv6};

/// Type and code of "fragmentation needed and DF set".
const TOO_BIG_V4: (u8, u8) = (icmpv4::DESTINATION_UNREACHABLE, icmpv4::unreachable::FRAGMENTATION_NEEDED);
/// Bytes of an ICMP or ICMPv6 error before the packet that it quotes.
const ICMP_HEADER: usize = 8;

impl Pipeline {
    /// An ICMP error of either family.
    pub(super) fn icmp_error<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        egress: &mut impl Egress<F>,
    ) {
        let outer = flow_key(parsed);
        let words = outer.words();
        let hash = words.hash(self.tracker.table().secret());
        let related = match self.related(&frame, parsed) {
            Err(DropReason::IcmpUnrelated) => return self.unrelated(context, frame, parsed, hash, egress),
            related => related,
        };
        let found = related.and_then(|found| {
            check_source(context, &outer).map_err(reason_of)?;
            Ok(found)
        });
        let sent = found.and_then(|(number, quoted)| {
            let entry = self.tracker.entry(number);
            let known = context.tables.routes.adjacency(entry.adjacency());
            let adjacency = match known.filter(|_| entry.epoch() == context.tables.epoch) {
                Some(adjacency) => *adjacency,
                // No packet has come this way since the tables changed.
                None => neighbour(context.tables, entry.rewritten().destination, hash)
                    .map(|(_, adjacency)| adjacency)
                    .map_err(reason_of)?,
            };
            if parsed.ttl <= 1 {
                return Err(DropReason::TtlExceeded);
            }
            let (key, rewritten) = (entry.key(), entry.rewritten());
            // A router on the way speaks for itself; the flow's own end is known to the sender by another address.
            let source = if outer.source == key.source { rewritten.source } else { outer.source };
            let translated = Outer { source, destination: rewritten.destination };
            let done = translate(frame.head_mut(), parsed, &translated, &quoted, &rewritten.reversed());
            match done.is_some() && set_macs(frame.head_mut(), &adjacency) {
                true => Ok(adjacency),
                false => Err(DropReason::Truncated),
            }
        });
        match sent {
            Ok(way) => self.exit(context.tables, &way, hash).send(frame, egress),
            Err(reason) => egress.drop_frame(reason, frame),
        }
    }

    /// An error about no flow that is known: about one of our own encapsulated packets, or the network stack's to understand.
    fn unrelated<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: F,
        parsed: &Parsed,
        hash: u64,
        egress: &mut impl Egress<F>,
    ) {
        if let Some(report) = tunnel_mtu(context, &frame, parsed) {
            egress.report(report);
            return egress.drop_frame(DropReason::Consumed, frame);
        }
        let key = flow_key(parsed);
        match check_source(context, &key).ok().and_then(|()| past(context, &key, hash)) {
            Some(refusal) => self.refuse(context, frame, parsed, refusal, egress),
            None => egress.drop_frame(DropReason::IcmpUnrelated, frame),
        }
    }

    /// The entry of the direction that goes back to the quoted packet's sender, and the quoted packet.
    fn related<F: Frame>(&self, frame: &F, parsed: &Parsed) -> Result<(EntryRef, Parsed), DropReason> {
        let quoted = quoted(frame, parsed)?;
        let words = flow_key(&quoted).reversed().words();
        let table = self.tracker.table();
        let number = table.find(&words, words.hash(table.secret())).ok_or(DropReason::IcmpUnrelated)?;
        Ok((number, quoted))
    }
}

/// The packet that an error quotes; its offsets count from its own first byte.
pub(super) fn quoted<F: Frame>(frame: &F, parsed: &Parsed) -> Result<Parsed, DropReason> {
    let begin = usize::from(parsed.l4) + ICMP_HEADER;
    let end = usize::from(parsed.l3) + parsed.ip_total as usize;
    // The checksum over an error is made anew, so all of it has to be at hand.
    let quote = frame.head().get(begin..end).ok_or(DropReason::Truncated)?;
    let quoted = parse_ip(quote, quote.len(), Extent::Quoted).map_err(|_| DropReason::IcmpUnrelated)?;
    if quoted.family() == parsed.family() { Ok(quoted) } else { Err(DropReason::IcmpUnrelated) }
}

/// What an error says of the way to another node's tunnel end, if it is about one of our own encapsulated packets.
fn tunnel_mtu<F: Frame>(context: &Context<'_>, frame: &F, parsed: &Parsed) -> Option<Report> {
    let quoted = quoted(frame, parsed).ok()?;
    let (_, remote) = addresses(&quoted);
    let tables = context.tables;
    if context.port.role != PortRole::Uplink
        || !tables.is_own_tunnelled(&quoted)
        || !tables.tunnels.is_peer(remote)
    {
        return None;
    }
    let icmp = frame.head().get(usize::from(parsed.l4)..)?;
    let mtu = match parsed.family() {
        Family::V4 => {
            let header = icmpv4::Header::new_checked(icmp).ok()?;
            let is_too_big = (header.message(), header.code()) == TOO_BIG_V4;
            header.mtu() & if is_too_big { u16::MAX } else { 0 }
        }
        Family::V6 => {
            let header = icmpv6::Header::new_checked(icmp).ok()?;
            if header.message() == icmpv6::PACKET_TOO_BIG {
                header.mtu().min(u16::MAX.into()) as u16
            } else {
                0
            }
        }
    };
    (mtu > 0).then_some(Report::TunnelMtu { remote, mtu })
}

/// Why a packet is dropped that gets no answer: there is none to an error.
fn reason_of(refusal: Refusal) -> DropReason {
    match refusal {
        Refusal::Drop(reason) | Refusal::Answer(_, reason) => reason,
        Refusal::Local => DropReason::Consumed,
        Refusal::Unresolved { .. } => DropReason::NeighbourUnresolved,
        Refusal::Past(_) => DropReason::IcmpUnrelated,
    }
}

/// The error's own addresses after translation.
struct Outer {
    source: Address,
    destination: Address,
}

/// Rewrites an error: its own addresses, those and the ports of the packet it quotes, and all checksums.
fn translate(
    head: &mut [u8],
    parsed: &Parsed,
    outer: &Outer,
    quoted: &Parsed,
    original: &FlowKey,
) -> Option<()> {
    let (l3, l4) = (usize::from(parsed.l3), usize::from(parsed.l4));
    let end = l3 + parsed.ip_total as usize;
    let quote = head.get_mut(l4 + ICMP_HEADER..end)?;
    set_addresses(quote, quoted.family(), original.source, original.destination)?;
    set_ports(quote.get_mut(usize::from(quoted.l4)..)?, quoted, original)?;

    let ip = head.get_mut(l3..)?;
    set_addresses(ip, parsed.family(), outer.source, outer.destination)?;
    decrement_ttl(ip, parsed.family())?;
    let icmp = head.get_mut(l4..end)?;
    icmp.get_mut(2..4)?.fill(0);
    let pseudo = match (outer.source.to_ip(), outer.destination.to_ip()) {
        (core::net::IpAddr::V6(source), core::net::IpAddr::V6(destination)) => {
            Sum::pseudo_v6(source, destination, IpProtocol::ICMPV6, icmp.len() as u32)
        }
        _ => Sum::ZERO,
    };
    let checksum = pseudo.add_bytes(icmp).checksum();
    icmp.get_mut(2..4)?.copy_from_slice(&checksum);
    Some(())
}

/// Writes addresses into an IP header, and with IPv4 its checksum.
fn set_addresses(ip: &mut [u8], family: Family, source: Address, destination: Address) -> Option<()> {
    match family {
        Family::V4 => {
            let ip = ip.first_chunk_mut::<20>()?;
            let word =
                |ip: &[u8; 20], at: usize| u32::from_be_bytes([ip[at], ip[at + 1], ip[at + 2], ip[at + 3]]);
            let delta = Delta::of_u32(word(ip, 12), source.v4_bits())
                .join(Delta::of_u32(word(ip, 16), destination.v4_bits()));
            ip[12..16].copy_from_slice(&source.v4_bits().to_be_bytes());
            ip[16..20].copy_from_slice(&destination.v4_bits().to_be_bytes());
            [ip[10], ip[11]] = delta.apply([ip[10], ip[11]]);
        }
        Family::V6 => {
            let ip = ip.first_chunk_mut::<40>()?;
            ip[8..24].copy_from_slice(&source.bits().to_be_bytes());
            ip[24..40].copy_from_slice(&destination.bits().to_be_bytes());
        }
    }
    Some(())
}

pub(super) fn decrement_ttl(ip: &mut [u8], family: Family) -> Option<()> {
    match family {
        Family::V4 => {
            let ip = ip.first_chunk_mut::<20>()?;
            ip[8] = ip[8].wrapping_sub(1);
            [ip[10], ip[11]] = Delta::TTL_DECREMENT.apply([ip[10], ip[11]]);
        }
        Family::V6 => {
            let hop_limit = ip.get_mut(7)?;
            *hop_limit = hop_limit.wrapping_sub(1);
        }
    }
    Some(())
}

/// Writes the original ports, or identifier, into the quoted layer 4 header. Its checksum is left: it may be cut
/// off, and receivers match a quote by addresses and ports alone (RFC 5508, section 4.2 allows it).
fn set_ports(l4: &mut [u8], quoted: &Parsed, original: &FlowKey) -> Option<()> {
    match quoted.kind {
        L4Kind::Tcp | L4Kind::Udp | L4Kind::Sctp => {
            l4.get_mut(..2)?.copy_from_slice(&original.source_port.to_be_bytes());
            l4.get_mut(2..4)?.copy_from_slice(&original.destination_port.to_be_bytes());
        }
        L4Kind::IcmpEcho(_) => l4.get_mut(4..6)?.copy_from_slice(&original.source_port.to_be_bytes()),
        L4Kind::IcmpError | L4Kind::IcmpOther | L4Kind::Fragment | L4Kind::Other => {}
    }
    Some(())
}
