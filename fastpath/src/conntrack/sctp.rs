//! SCTP association state from what each direction has sent (RFC 9260).
//!
//! As with TCP, each direction notes in its own entry which chunks it has sent; the state of the association follows
//! from both. A packet is known by its first chunk: those that begin or end an association come first or alone. Beside
//! them a direction keeps the verification tag that it sends and the one that it has asked for in its INIT or INIT ACK
//! ([`SctpSide`]): a packet with another tag is forwarded, and changes nothing (RFC 9260, section 8.5).
//!
//! An association that is restarted while it lives (section 5.2) goes on as the old one; since its tags are
//! others, its end is not noticed and it is forgotten by its timeout.

use super::shown::Judgment;
use crate::wire::sctp::{Header, chunk};

/// Chunks that one direction has sent until now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SctpSeen(pub u8);

impl SctpSeen {
    /// Nothing yet.
    pub const NONE: SctpSeen = SctpSeen(0);
    /// INIT.
    pub const INIT: SctpSeen = SctpSeen(1);
    /// INIT ACK.
    pub const INIT_ACK: SctpSeen = SctpSeen(2);
    /// COOKIE ECHO.
    pub const COOKIE_ECHO: SctpSeen = SctpSeen(4);
    /// COOKIE ACK.
    pub const COOKIE_ACK: SctpSeen = SctpSeen(8);
    /// What only an open association carries: DATA, SACK, HEARTBEAT and all that is not named here.
    pub const DATA: SctpSeen = SctpSeen(16);
    /// SHUTDOWN or SHUTDOWN ACK.
    pub const SHUTDOWN: SctpSeen = SctpSeen(32);
    /// ABORT or SHUTDOWN COMPLETE.
    pub const END: SctpSeen = SctpSeen(64);

    /// What a packet whose first chunk has this type shows.
    pub const fn of_chunk(kind: u8) -> SctpSeen {
        match kind {
            chunk::INIT => SctpSeen::INIT,
            chunk::INIT_ACK => SctpSeen::INIT_ACK,
            chunk::COOKIE_ECHO => SctpSeen::COOKIE_ECHO,
            chunk::COOKIE_ACK => SctpSeen::COOKIE_ACK,
            chunk::SHUTDOWN | chunk::SHUTDOWN_ACK => SctpSeen::SHUTDOWN,
            chunk::ABORT | chunk::SHUTDOWN_COMPLETE => SctpSeen::END,
            _ => SctpSeen::DATA,
        }
    }

    /// Whether one of `other` was seen.
    pub const fn has(self, other: SctpSeen) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: SctpSeen) -> SctpSeen {
        SctpSeen(self.0 | other.0)
    }
}

/// State of an SCTP association.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SctpState {
    /// The handshake is not finished, or one direction only was seen.
    Opening,
    /// Open.
    Established,
    /// One side has begun to close.
    Shutdown,
    /// Closed or aborted.
    Closed,
}

impl SctpState {
    /// The state that follows from what both directions have sent.
    pub const fn of(original: SctpSeen, reply: SctpSeen) -> SctpState {
        let either = original.with(reply);
        if either.has(SctpSeen::END) {
            return SctpState::Closed;
        }
        if either.has(SctpSeen::SHUTDOWN) {
            return SctpState::Shutdown;
        }
        // Who is past the handshake, by what it sends itself: the client from its COOKIE ECHO on.
        let past = SctpSeen::COOKIE_ECHO.with(SctpSeen::COOKIE_ACK).with(SctpSeen::DATA);
        if original.has(past) && reply.has(past) { SctpState::Established } else { SctpState::Opening }
    }

    /// Whether an INIT may open another association with the same 5-tuple.
    pub const fn is_over(self) -> bool {
        matches!(self, SctpState::Closed)
    }
}

/// What connection tracking reads of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SctpPacket {
    /// Verification tag; 0 with INIT.
    pub tag: u32,
    /// Type of the first chunk.
    pub kind: u8,
    /// The first chunk's T bit: the tag is that of the receiver's own packets, since the sender knows no other.
    pub reflected: bool,
    /// The tag that INIT and INIT ACK ask for; 0 in others.
    pub initiate: u32,
}

impl SctpPacket {
    /// An INIT.
    pub const OPENING: SctpPacket = SctpPacket { tag: 0, kind: chunk::INIT, reflected: false, initiate: 0 };

    /// From the contiguous front of layer 4. None when the first chunk's header is cut off.
    pub fn parse(l4: &[u8]) -> Option<SctpPacket> {
        let header = Header::new_checked(l4).ok()?;
        let kind = header.first_chunk()?;
        let flags = *l4.get(13)?;
        let asks = matches!(kind, chunk::INIT | chunk::INIT_ACK);
        let initiate = l4.get(16..20).and_then(|bytes| bytes.first_chunk()).filter(|_| asks);
        Some(SctpPacket {
            tag: header.verification_tag(),
            kind,
            reflected: flags & 1 != 0 && SctpSeen::of_chunk(kind) == SctpSeen::END,
            initiate: initiate.map_or(0, |bytes| u32::from_be_bytes(*bytes)),
        })
    }

    /// Whether it can be the first of a flow.
    pub fn may_begin(&self) -> bool {
        SctpSeen::of_chunk(self.kind) != SctpSeen::END
    }
}

/// What one direction has sent until now. A tag of 0 is not known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct SctpSide {
    pub(super) seen: SctpSeen,
    /// The verification tag of its packets.
    pub(super) tag: u32,
    /// The tag that it asks of the other direction.
    pub(super) asked: u32,
}

impl SctpSide {
    /// Judges a packet of this direction by what is known of both.
    pub(super) fn judge(&self, peer: &SctpSide, packet: &SctpPacket) -> Judgment {
        let state = SctpState::of(self.seen, peer.seen);
        let opening = state == SctpState::Opening;
        let valid = match packet.kind {
            chunk::INIT if state.is_over() => return Judgment::OpensAnew,
            chunk::INIT => opening,
            _ if packet.reflected => is_tag(packet.tag, peer.tag, self.asked),
            chunk::INIT_ACK | chunk::COOKIE_ECHO if opening => is_tag(packet.tag, peer.asked, 0),
            _ => is_tag(packet.tag, self.tag, peer.asked),
        };
        if valid { Judgment::Valid } else { Judgment::Ignored }
    }

    /// Whether a packet shows nothing new, whatever the other direction has sent.
    pub(super) fn is_ordinary(&self, packet: &SctpPacket) -> bool {
        let data = SctpSeen::of_chunk(packet.kind) == SctpSeen::DATA && self.seen.has(SctpSeen::DATA);
        data && packet.tag == self.tag && packet.tag != 0
    }

    /// What is known after a packet that was judged valid.
    pub(super) fn after(&self, packet: &SctpPacket) -> SctpSide {
        SctpSide {
            seen: self.seen.with(SctpSeen::of_chunk(packet.kind)),
            tag: if packet.reflected || packet.tag == 0 { self.tag } else { packet.tag },
            asked: if packet.initiate == 0 { self.asked } else { packet.initiate },
        }
    }
}

/// Whether a packet's tag is the one in use, or where none was seen the one that was asked for, if that was seen.
fn is_tag(tag: u32, used: u32, asked: u32) -> bool {
    match (used, asked) {
        (0, 0) => true,
        (0, asked) => tag == asked,
        (used, _) => tag == used,
    }
}

#[cfg(test)]
mod tests;
