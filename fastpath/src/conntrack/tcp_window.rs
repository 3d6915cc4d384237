//! TCP sequence numbers: which segments may change what is known of a connection.
//!
//! Each direction keeps three numbers in its own entry ([`TcpSide`]): the end of the highest sequence number that it
//! sent, its highest acknowledgment, and the highest edge of the window that it announced. An ordinary segment
//! (ACK, no SYN, FIN or RST) whose numbers are at most [`NEAR`] away from those of its own direction moves them
//! without a look at the other direction, whose line another worker writes. Any other is judged here against both
//! directions: what is known of the peer says which numbers can be, so an injected segment moves the numbers by
//! [`NEAR`] at most.
//!
//! The rules are those of Linux (`nf_conntrack_proto_tcp.c`) with `nf_conntrack_tcp_be_liberal`: segments outside the
//! window are translated and forwarded, and leave no trace; only a RST outside the window is dropped, for which
//! RFC 5961, section 3, gives the reason.

use super::shown::Judgment;
use super::tcp::{TcpSeen, TcpState};
use crate::wire::tcp::{Flags, Header};

/// How far numbers may move without a look at the peer, in bytes, forward or back. More than is lost or reordered
/// between two segments that are seen, and a small part of all sequence numbers.
const NEAR: u32 = 1 << 23;
/// The largest window (RFC 7323, section 2.3): what is farther than that from the peer's numbers cannot be.
const MAX_WINDOW: u32 = 1 << 30;
/// The window scale that is assumed of a sender whose SYN was not seen: the largest (RFC 7323, section 2.3).
const ASSUMED_SCALE: u8 = 14;

/// Bits of [`TcpSide::known`]: the window scale.
const SCALE: u8 = 0x0f;
/// The SYN had the window scale option.
const OFFERED: u8 = 0x10;
/// `end` is known.
const SENT: u8 = 0x20;
/// `acknowledged` and `edge` are known; before that, both are the sequence number behind the SYN.
const ACKED: u8 = 0x40;
/// `end` is that of a SYN which came in the middle of a connection that is not over.
const SYN_AGAIN: u8 = 0x80;

/// Of `seen` and `known`, what says whether ordinary segments need no look at the peer, and how it stands then.
const READY_MASK: u16 = READY | SYN_AGAIN as u16;
const READY: u16 = (TcpSeen::ACK.0 as u16) << 8 | (SENT | ACKED) as u16;

/// What connection tracking reads of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TcpSegment {
    /// Sequence number of its first byte.
    pub sequence: u32,
    /// The sequence number behind its last byte; SYN and FIN count as one each.
    pub end: u32,
    /// The sequence number that is expected next from the other side.
    pub acknowledgment: u32,
    /// Receive window, not scaled.
    pub window: u16,
    /// The control bits.
    pub flags: Flags,
    /// Window scale option of a SYN.
    pub scale: Option<u8>,
}

impl TcpSegment {
    /// Bytes that [`of`](TcpSegment::of) reads.
    pub const LEN: usize = 16;

    /// A SYN.
    pub const OPENING: TcpSegment =
        TcpSegment { sequence: 0, end: 1, acknowledgment: 0, window: 0, flags: Flags::SYN, scale: None };

    /// From the front of a header whose length was checked, without its options; `l4_len`: bytes of header and payload,
    /// of the whole of a GSO frame.
    #[inline(always)]
    pub fn of(header: &[u8; TcpSegment::LEN], l4_len: u32) -> TcpSegment {
        let word =
            |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (sequence, flags) = (word(4), header[13]);
        let payload = l4_len.wrapping_sub(u32::from(header[12] >> 4) * 4);
        let counted = u32::from(flags & 1) + u32::from(flags >> 1 & 1);
        TcpSegment {
            sequence,
            end: sequence.wrapping_add(payload).wrapping_add(counted),
            acknowledgment: word(8),
            window: u16::from_be_bytes([header[14], header[15]]),
            flags: Flags(flags),
            scale: None,
        }
    }

    /// From the contiguous front of layer 4, with the options of a SYN. None when the header is cut off.
    pub fn parse(l4: &[u8], l4_len: u32) -> Option<TcpSegment> {
        let segment = TcpSegment::of(l4.first_chunk()?, l4_len);
        let options = Header::new_checked(l4).ok().filter(|_| segment.flags.contains(Flags::SYN));
        Some(TcpSegment { scale: options.and_then(|header| header.window_scale()), ..segment })
    }

    /// Whether it can be the first of a flow.
    pub fn may_begin(&self) -> bool {
        !self.flags.contains(Flags::RST)
    }

    /// Whether it is neither the beginning nor the end of anything.
    #[inline(always)]
    fn is_ordinary(&self) -> bool {
        self.flags.0 & (Flags::SYN | Flags::FIN | Flags::RST | Flags::ACK).0 == Flags::ACK.0
    }
}

/// What one direction has sent until now. Comparisons of numbers are modulo 2^32.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct TcpSide {
    pub(super) seen: TcpSeen,
    /// Bits [`SCALE`] to [`SYN_AGAIN`].
    pub(super) known: u8,
    /// Behind the highest sequence number sent.
    pub(super) end: u32,
    /// The highest acknowledgment.
    pub(super) acknowledged: u32,
    /// The highest sum of an acknowledgment and its window.
    pub(super) edge: u32,
}

/// Whether `number` comes after `than`.
#[inline(always)]
const fn is_after(number: u32, than: u32) -> bool {
    (number.wrapping_sub(than) as i32) > 0
}

#[inline(always)]
const fn later(a: u32, b: u32) -> u32 {
    if is_after(b, a) { b } else { a }
}

/// Whether `number` lies from `first` to `last`, both included.
const fn is_within(number: u32, first: u32, last: u32) -> bool {
    number.wrapping_sub(first) <= last.wrapping_sub(first)
}

/// Whether two numbers are at most [`NEAR`] apart.
#[inline(always)]
const fn is_near(number: u32, other: u32) -> bool {
    number.wrapping_sub(other).wrapping_add(NEAR) < 2 * NEAR
}

impl TcpSide {
    /// Where an entry's state (its word 5) has what is not to be trusted of a direction of which not all packets are seen: that there was
    /// a SYN, and all numbers.
    pub(super) const FORGOTTEN: u64 = (TcpSeen::SYN.0 as u64) << 16 | (!SCALE as u64) << 8;

    /// What is known after an ordinary segment near what was known; none when it has to be [judged](TcpSide::judge).
    #[inline(always)]
    pub(super) fn after_ordinary(&self, segment: &TcpSegment) -> Option<TcpSide> {
        let ready = u16::from(self.seen.0) << 8 | u16::from(self.known);
        if ready & READY_MASK != READY || !segment.is_ordinary() || !self.is_near(segment) {
            return None;
        }
        Some(self.advanced(segment))
    }

    /// Whether both numbers of a segment are near those known.
    #[inline(always)]
    fn is_near(&self, segment: &TcpSegment) -> bool {
        is_near(segment.end, self.end) & is_near(segment.acknowledgment, self.acknowledged)
    }

    #[inline(always)]
    fn advanced(&self, segment: &TcpSegment) -> TcpSide {
        TcpSide {
            end: later(self.end, segment.end),
            acknowledged: later(self.acknowledged, segment.acknowledgment),
            edge: later(self.edge, self.edge_of(segment)),
            ..*self
        }
    }

    #[inline(always)]
    fn edge_of(&self, segment: &TcpSegment) -> u32 {
        segment.acknowledgment.wrapping_add(u32::from(segment.window) << (self.known & SCALE))
    }

    const fn knows(&self, bits: u8) -> bool {
        self.known & bits == bits
    }

    /// The end, unless it is not known or that of a SYN which may have been injected.
    const fn sure_end(&self) -> Option<u32> {
        if self.known & (SENT | SYN_AGAIN) == SENT { Some(self.end) } else { None }
    }

    /// Judges a segment of this direction by what is known of both.
    pub(super) fn judge(&self, peer: &TcpSide, segment: &TcpSegment) -> Judgment {
        let over = TcpState::of(self.seen, peer.seen).is_over();
        let valid = |valid| if valid { Judgment::Valid } else { Judgment::Ignored };
        if segment.flags.contains(Flags::RST) {
            return if over { Judgment::Ignored } else { self.judge_reset(peer, segment) };
        }
        if segment.flags.contains(Flags::SYN) {
            let opens = !segment.flags.contains(Flags::ACK);
            return match (over, opens) {
                (true, true) => Judgment::OpensAnew,
                (true, false) => Judgment::Ignored,
                // Noted in one way or another, see `after`.
                (false, true) => Judgment::Valid,
                (false, false) => valid(self.may_answer(peer, segment)),
            };
        }
        let fin = segment.flags.contains(Flags::FIN);
        // RFC 9293, section 3.10.7.4: without ACK, it is none of a connection's.
        valid(
            segment.flags.contains(Flags::ACK)
                && self.is_plausible(peer, segment)
                && (!fin || self.is_fin_in_window(peer, segment)),
        )
    }

    /// What is known after a segment that was judged valid.
    pub(super) fn after(&self, peer: &TcpSide, segment: &TcpSegment) -> TcpSide {
        let seen = TcpSeen::of_flags(segment.flags.0);
        if segment.flags.contains(Flags::RST) {
            return TcpSide { seen: TcpSeen(self.seen.0 | TcpSeen::RST.0), ..*self };
        }
        if segment.flags.contains(Flags::SYN) {
            let live = !segment.flags.contains(Flags::ACK) && self.seen.0 != 0 && peer.seen.0 != 0;
            return if live { self.after_syn_again(segment) } else { TcpSide::opened(segment) };
        }
        // After a SYN that the peer has answered anew, all that was before is history.
        let restarted = self.knows(SYN_AGAIN) && segment.sequence == self.end && peer.seen == TcpSeen::SYN;
        // Whose packets pass unseen, and who goes on after a RST, has not sent that.
        let goes_on = if self.knows(SENT) { self.seen } else { TcpSeen(self.seen.0 & !TcpSeen::RST.0) };
        let before = if restarted { TcpSeen::SYN } else { goes_on };
        let scaled = TcpSide { known: self.known & !SCALE | self.scale(peer, restarted), ..*self };
        let (end, acknowledged) = (segment.end, segment.acknowledgment);
        let fresh = TcpSide { end, acknowledged, edge: scaled.edge_of(segment), ..scaled };
        let moved = if restarted || self.is_replaced(peer, segment) {
            fresh
        } else {
            let known = if self.knows(ACKED) { scaled.advanced(segment) } else { fresh };
            TcpSide { end: self.sure_end().map_or(end, |sure| later(sure, end)), ..known }
        };
        TcpSide {
            seen: TcpSeen(before.0 | seen.0),
            known: (scaled.known | SENT | ACKED) & !SYN_AGAIN,
            ..moved
        }
    }

    /// A direction that begins with this SYN. Its window is not scaled (RFC 7323, section 2.2).
    fn opened(segment: &TcpSegment) -> TcpSide {
        let behind = segment.sequence.wrapping_add(1);
        let scale = segment.scale.map_or(0, |scale| OFFERED | scale.min(ASSUMED_SCALE));
        let acks = segment.flags.contains(Flags::ACK);
        let acknowledged = if acks { segment.acknowledgment } else { behind };
        let window = if acks { u32::from(segment.window) } else { 0 };
        TcpSide {
            seen: TcpSeen::SYN,
            known: scale | SENT | if acks { ACKED } else { 0 },
            end: segment.end,
            acknowledged,
            edge: acknowledged.wrapping_add(window),
        }
    }

    /// A SYN in the middle of a connection: from a sender that has forgotten it, or injected. The state stays. Only
    /// its end is kept, until the next segment: if the peer answers it, both have begun anew and we follow.
    fn after_syn_again(&self, segment: &TcpSegment) -> TcpSide {
        if self.knows(SENT) && segment.end == self.end {
            return *self;
        }
        let again = TcpSide { end: segment.end, known: self.known | SENT | SYN_AGAIN, ..*self };
        let behind = segment.sequence.wrapping_add(1);
        if self.knows(ACKED) { again } else { TcpSide { acknowledged: behind, edge: behind, ..again } }
    }

    /// This direction's scale from its first segment without SYN on: assumed when its SYN was not seen or its scale
    /// not kept, none when one of two SYNs had no option.
    fn scale(&self, peer: &TcpSide, restarted: bool) -> u8 {
        let offered = !peer.seen.has(TcpSeen::SYN) || peer.knows(OFFERED);
        match (self.seen.has(TcpSeen::SYN), self.seen.has(TcpSeen::ACK)) {
            _ if restarted => ASSUMED_SCALE,
            (false, false) => ASSUMED_SCALE,
            (true, false) if !offered => 0,
            _ => self.known & SCALE,
        }
    }

    /// Whether a SYN with ACK may begin this direction: as the answer to a SYN that waits for one.
    fn may_answer(&self, peer: &TcpSide, segment: &TcpSegment) -> bool {
        if peer.knows(SYN_AGAIN) {
            return segment.acknowledgment == peer.end;
        }
        let waiting = !self.seen.has(TcpSeen::ACK) && !peer.seen.has(TcpSeen::ACK);
        (self.seen.0 == 0 || waiting) && peer.allows_acknowledgment(segment.acknowledgment)
    }

    /// Whether the numbers of a segment with ACK can be true.
    fn is_plausible(&self, peer: &TcpSide, segment: &TcpSegment) -> bool {
        let sent = self.sure_end().is_some_and(|end| is_near(segment.end, end));
        let acknowledged = self.knows(ACKED) && is_near(segment.acknowledgment, self.acknowledged);
        if !peer.knows(SENT) {
            // Nobody can say. Where a SYN was seen it is believed, elsewhere the latest segment.
            return sent || !self.seen.has(TcpSeen::SYN);
        }
        (sent || peer.allows_end(segment.end))
            && (acknowledged || peer.allows_acknowledgment(segment.acknowledgment))
    }

    /// Whether a segment's numbers take the place of those known, rather than move them: there are none, or the
    /// peer's numbers contradict them but not the segment.
    fn is_replaced(&self, peer: &TcpSide, segment: &TcpSegment) -> bool {
        if !self.knows(SENT) {
            return true;
        }
        if !peer.knows(SENT) {
            return !self.seen.has(TcpSeen::SYN) && !self.is_near(segment);
        }
        let sent = self.sure_end().is_none_or(|end| peer.allows_end(end));
        let acknowledged = !self.knows(ACKED) || peer.allows_acknowledgment(self.acknowledged);
        let allowed = peer.allows_end(segment.end) && peer.allows_acknowledgment(segment.acknowledgment);
        allowed && !(sent && acknowledged)
    }

    /// Whether the other direction can have sent up to `end`, for all that is known of this one.
    fn allows_end(&self, end: u32) -> bool {
        let (first, last) = (self.acknowledged.wrapping_sub(MAX_WINDOW), self.edge.wrapping_add(NEAR));
        !self.knows(ACKED) || is_within(end, first, last)
    }

    /// Whether the other direction can have acknowledged this.
    fn allows_acknowledgment(&self, acknowledgment: u32) -> bool {
        let last = self.end.wrapping_add(NEAR);
        match (self.knows(SENT), self.knows(ACKED)) {
            _ if self.knows(SYN_AGAIN) => false,
            (false, _) => true,
            // Nothing below its SYN: that would be a straggler of an earlier connection.
            (true, false) => is_within(acknowledgment, self.acknowledged, last),
            (true, true) => is_within(acknowledgment, self.end.wrapping_sub(MAX_WINDOW), last),
        }
    }

    /// The lowest sequence number that the peer still waits for. It cannot have acknowledged what was not sent, so a
    /// forged acknowledgment does not move it beyond this direction's end.
    fn awaited(&self, peer: &TcpSide) -> u32 {
        match self.sure_end() {
            Some(end) if is_after(peer.acknowledged, end) => end,
            _ => peer.acknowledged,
        }
    }

    /// Whether the peer's window holds the FIN itself. It may have acknowledged that already.
    fn is_fin_in_window(&self, peer: &TcpSide, segment: &TcpSegment) -> bool {
        let awaited = self.awaited(peer);
        !peer.knows(ACKED)
            || is_within(segment.end.wrapping_sub(1), awaited.wrapping_sub(1), later(awaited, peer.edge))
    }

    /// A RST ends the connection when its receiver would believe it at once (RFC 5961, section 3.2): its sequence number
    /// is the one awaited, or follows on what was sent. Elsewhere in the window it is answered by an ACK, so the
    /// connection lives until the sender resets by the right number.
    fn judge_reset(&self, peer: &TcpSide, segment: &TcpSegment) -> Judgment {
        let follows = self.sure_end() == Some(segment.sequence);
        let acks = segment.flags.contains(Flags::ACK);
        if !peer.knows(SENT) {
            return Judgment::Valid;
        }
        if peer.knows(SYN_AGAIN) && acks && segment.acknowledgment == peer.end {
            // The answer to a SYN that may have been injected: its sender knows.
            return Judgment::Ignored;
        }
        if !peer.knows(ACKED) {
            let answers = acks && is_within(segment.acknowledgment, peer.acknowledged, peer.end);
            return if answers || follows { Judgment::Valid } else { Judgment::Invalid };
        }
        let awaited = self.awaited(peer);
        if !is_within(segment.sequence, awaited, later(awaited, peer.edge)) {
            return Judgment::Invalid;
        }
        // Of a direction whose packets pass unseen nobody can say what follows.
        let unseen = !self.knows(SENT);
        let exact = segment.sequence == peer.acknowledged || segment.sequence == awaited || follows || unseen;
        if exact { Judgment::Valid } else { Judgment::Ignored }
    }
}

#[cfg(test)]
mod tests;
