//! Stage: a packet with a verdict is rewritten and sent.
//!
//! Comes in: a packet and its flow's entry. Goes out: the port that it leaves by, or nothing when the verdict cannot
//! be used as it is (older epoch, other port of arrival, TTL at its end, too big, a connection begun anew): then
//! the packet is resolved. Drops: none.

use super::rewrite::{rewrite_v4, rewrite_v6};
use super::run::{Context, Pipeline};
use crate::conntrack::{Entry, EntryFlags, EntryRef, TcpSeen, TcpState};
use crate::port::{Frame, PortId};
use crate::tables::Adjacency;
use crate::wire::parse::{Addresses, L4Kind, Parsed};

/// TCP's SYN and ACK in the header's flags (RFC 9293, section 3.1).
const SYN: u8 = 2;
const ACK: u8 = 16;

impl Pipeline {
    /// Forwards a packet by its entry's verdict, if that holds; gives the port to send it by.
    #[inline(always)]
    pub(super) fn established<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: &mut F,
        parsed: &Parsed,
        number: EntryRef,
    ) -> Option<PortId> {
        let entry = self.tracker.entry(number);
        let stale = entry.epoch() != context.tables.epoch || entry.arrival() != context.arrival;
        if stale || parsed.ttl <= 1 {
            return None;
        }
        let adjacency = context.tables.routes.adjacency(entry.adjacency())?;
        if parsed.ip_total > u32::from(adjacency.mtu) && !fits(frame, parsed, adjacency.mtu) {
            return None;
        }
        if parsed.kind == L4Kind::Tcp && !self.tcp(&entry, number, parsed.tcp_flags) {
            return None;
        }
        entry.touch(context.now.ticks());
        apply(frame, parsed, &entry, adjacency).then_some(adjacency.port)
    }

    /// Notes what a segment shows; false when it opens a connection anew under a 5-tuple whose last one is over.
    #[inline(always)]
    fn tcp(&self, entry: &Entry<'_>, number: EntryRef, flags: u8) -> bool {
        let peer = || self.tracker.entry(number.peer()).tcp_seen();
        if flags & (SYN | ACK) == SYN && TcpState::of(entry.tcp_seen(), peer()).is_over() {
            return false;
        }
        entry.note_tcp(TcpSeen::of_flags(flags));
        true
    }
}

/// Whether a packet larger than the MTU is a GSO frame whose segments are not.
#[cold]
pub(super) fn fits<F: Frame>(frame: &F, parsed: &Parsed, mtu: u16) -> bool {
    let Some(gso) = frame.offload().gso else { return false };
    let l4_header = match parsed.kind {
        L4Kind::Tcp => match frame.head().get(usize::from(parsed.l4) + 12) {
            Some(offset) => usize::from(offset >> 4) * 4,
            None => return false,
        },
        _ => 8,
    };
    let headers = usize::from(parsed.l4) - usize::from(parsed.l3) + l4_header;
    headers + usize::from(gso.size) <= usize::from(mtu)
}

/// Rewrites a packet as its entry says and gives it the neighbour's Ethernet header. False when the headers are
/// not where the parser saw them.
#[inline(always)]
pub(super) fn apply<F: Frame>(frame: &mut F, parsed: &Parsed, entry: &Entry<'_>, to: &Adjacency) -> bool {
    let nat = entry.flags().has(EntryFlags::NAT);
    let offload = frame.offload();
    let done = match parsed.addresses {
        Addresses::V4 { .. } => rewrite_v4(frame.head_mut(), parsed, entry, nat, offload),
        Addresses::V6 { .. } => rewrite_v6(frame.head_mut(), parsed, entry, nat, offload),
    };
    done && set_ethernet(frame, to)
}

/// Writes the neighbour's MAC addresses.
#[inline(always)]
pub(super) fn set_ethernet<F: Frame>(frame: &mut F, to: &Adjacency) -> bool {
    let Some(macs) = frame.head_mut().first_chunk_mut::<12>() else { return false };
    let (destination, source) = macs.split_at_mut(6);
    destination.copy_from_slice(&to.destination_mac.0);
    source.copy_from_slice(&to.source_mac.0);
    true
}
