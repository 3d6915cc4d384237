//! Stage: a packet with a verdict is rewritten and sent.
//!
//! Comes in: a packet and its flow's entry. Goes out: the neighbour that it is sent to, or nothing when the verdict cannot
//! be used as it is (older epoch, other port of arrival, TTL at its end, too big, an invalid RST, a connection begun
//! anew): then the packet is resolved. Drops: none.

use super::brief::Brief;
use super::clamp::clamp;
use super::rewrite::{rewrite_v4, rewrite_v6};
use super::run::Context;
use crate::conntrack::{Entry, EntryFlags, EntryRef, FlowView, TcpSegment, Ticks};
use crate::port::Frame;
use crate::tables::Adjacency;
use crate::wire::ethernet;
use crate::wire::parse::L4Kind;

/// Forwards a packet by its entry's verdict, if that holds; gives the neighbour to send it to.
#[inline(always)]
pub(super) fn established<'a, F: Frame>(
    context: &Context<'a>,
    flows: &FlowView<'_>,
    frame: &mut F,
    packet: &Brief,
    entry: &Entry<'_>,
    number: EntryRef,
) -> Option<&'a Adjacency> {
    let stale = entry.epoch() != context.tables.epoch || entry.arrival() != context.arrival;
    if stale || packet.ttl <= 1 || packet.first_fragment {
        return None;
    }
    let adjacency = context.adjacencies.get(entry.adjacency().0 as usize)?.as_ref()?;
    if packet.ip_total > u32::from(adjacency.mtu) && !fits(frame, packet, adjacency.mtu) {
        return None;
    }
    let now = context.now.ticks();
    if packet.kind == L4Kind::Udp {
        entry.touch(now);
    } else if !is_ordinary(frame.head(), packet, entry, now) {
        if !note_rare(flows, frame.head(), packet, entry, number, now) {
            return None;
        }
        if context.tables.clamp_mss {
            clamp(context, frame, packet, entry, &flows.entry(number.peer()));
        }
    }
    apply(frame, packet, entry, adjacency).then_some(adjacency)
}

/// Notes a TCP segment in the midst of a connection; false for everything else.
#[inline(always)]
fn is_ordinary(head: &[u8], packet: &Brief, entry: &Entry<'_>, now: Ticks) -> bool {
    packet.kind == L4Kind::Tcp
        && head
            .get(usize::from(packet.l4)..)
            .and_then(<[u8]>::first_chunk)
            .is_some_and(|header| entry.note_ordinary(&TcpSegment::of(header, packet.l4_len()), now))
}

/// What only both directions together can judge (SYN, FIN, RST, numbers far from the last ones), and other protocols. False
/// when it is invalid or opens a connection.
#[inline(never)]
fn note_rare(
    flows: &FlowView<'_>,
    head: &[u8],
    packet: &Brief,
    entry: &Entry<'_>,
    number: EntryRef,
    now: Ticks,
) -> bool {
    let shown = packet.shown(head);
    // A client that begins anew asks whether its endpoint still serves.
    !shown.opens() && entry.note(&flows.entry(number.peer()), &shown, now).goes_on()
}

/// Whether a packet larger than the MTU is a GSO frame whose segments are not.
#[cold]
pub(super) fn fits<F: Frame>(frame: &F, packet: &Brief, mtu: u16) -> bool {
    let Some(gso) = frame.offload().gso else { return false };
    let l4_header = match packet.kind {
        L4Kind::Tcp => match frame.head().get(usize::from(packet.l4) + 12) {
            Some(offset) => usize::from(offset >> 4) * 4,
            None => return false,
        },
        _ => 8,
    };
    let headers = usize::from(packet.l4) - ethernet::LEN + l4_header;
    headers + usize::from(gso.size) <= usize::from(mtu)
}

/// Rewrites a packet as its entry says and gives it the neighbour's Ethernet header. False when the headers are
/// not where the parser saw them.
#[inline(always)]
pub(super) fn apply<F: Frame>(frame: &mut F, packet: &Brief, entry: &Entry<'_>, to: &Adjacency) -> bool {
    // Only a rewrite asks how the checksum stands.
    let nat = entry.flags().has(EntryFlags::NAT).then(|| frame.offload().checksum);
    let head = frame.head_mut();
    let done =
        if packet.v6 { rewrite_v6(head, packet, entry, nat) } else { rewrite_v4(head, packet, entry, nat) };
    done && set_macs(head, to)
}

/// Writes the neighbour's MAC addresses.
#[inline(always)]
pub(super) fn set_macs(head: &mut [u8], to: &Adjacency) -> bool {
    let Some(macs) = head.first_chunk_mut::<12>() else { return false };
    let (destination, source) = macs.split_at_mut(6);
    destination.copy_from_slice(&to.destination_mac.0);
    source.copy_from_slice(&to.source_mac.0);
    true
}
