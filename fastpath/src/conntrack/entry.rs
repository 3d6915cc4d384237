//! One direction of a connection: its key, its whole verdict and its state.
//!
//! Words of an entry's own line:
//!
//! | word | content (upper bits first) | written |
//! |---|---|---|
//! | 0 | IPv4: source address 32, destination address 32 | at creation |
//! | 1 | source port 16, destination port 16, protocol 8, kind 8, port of arrival 16 | at creation; the last on a move |
//! | 2 | IPv4: new source address 32, new destination address 32 | at creation |
//! | 3 | new source port 16, new destination port 16, checksum delta of the addresses 16, of addresses and ports 16 | at creation |
//! | 4 | adjacency 32, service 32 | at creation; the first when routed again |
//! | 5 | epoch of the verdict 32, flags 8, TCP flags or SCTP chunks seen 8, TCP: what is known 8, free 8 | by the receiving worker |
//! | 6 | last seen 32; TCP: end of the highest sequence number sent 32; SCTP: verification tag sent 32 | by the receiving worker |
//! | 7 | TCP: highest acknowledgment 32, highest acknowledgment plus window 32; SCTP: tag asked for 32, free 32 | by the receiving worker |
//!
//! What is known of TCP: the window scale in the low 4 bits, and the bits of [`super::tcp_window`].
//!
//! The connection's shared line holds, for IPv6, the four addresses (source, destination, new source, new
//! destination of the original direction); the reply direction reads them crosswise. It is not written after creation.

use super::key::{FlowKey, KIND_FRAGMENT, KIND_V6, KeyWords, halves, pair};
use super::line::Line;
use super::sctp::{SctpPacket, SctpSeen, SctpSide};
use super::shown::{Judgment, Shown};
use super::tcp::{TcpSeen, TcpState};
use super::tcp_window::{TcpSegment, TcpSide};
use super::timeouts::Ticks;
use crate::port::PortId;
use crate::tables::{Address, AdjacencyId, ServiceId};

/// Names an entry: twice its connection's number, plus 1 for the reply direction.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EntryRef(pub(super) u32);

impl EntryRef {
    /// The other direction of the same connection.
    #[inline(always)]
    pub fn peer(self) -> EntryRef {
        EntryRef(self.0 ^ 1)
    }

    /// Whether this is the direction of the replies.
    #[inline(always)]
    pub fn is_reply(self) -> bool {
        self.0 & 1 != 0
    }

    /// The connection's number.
    #[inline(always)]
    pub fn connection(self) -> u32 {
        self.0 >> 1
    }
}

/// What a packet of this direction needs, besides its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EntryFlags(pub u8);

impl EntryFlags {
    /// Addresses or ports are rewritten.
    pub const NAT: EntryFlags = EntryFlags(1);
    /// The flow ends at this node itself.
    pub const LOCAL: EntryFlags = EntryFlags(2);
    /// Packets may pass that are not seen here, so TCP's numbers are not known.
    pub const SHORTENED: EntryFlags = EntryFlags(4);

    /// Whether all bits of `other` are set.
    #[inline(always)]
    pub const fn has(self, other: EntryFlags) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: EntryFlags) -> EntryFlags {
        EntryFlags(self.0 | other.0)
    }
}

/// The verdict on one direction: rewrite and way out. What it was made from is in the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    /// The 5-tuple that the packet leaves with.
    pub rewritten: FlowKey,
    /// The neighbour that it is sent to.
    pub adjacency: AdjacencyId,
    /// The port that it must arrive by.
    pub arrival: PortId,
    /// The service that it was translated for.
    pub service: ServiceId,
    /// Epoch of the tables that this was made from.
    pub epoch: u32,
    /// Further properties.
    pub flags: EntryFlags,
}

/// A view of one entry: its own line and its connection's shared line.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    own: &'a Line,
    shared: &'a Line,
    reply: bool,
}

impl<'a> Entry<'a> {
    #[inline(always)]
    pub(super) fn new(own: &'a Line, shared: &'a Line, reply: bool) -> Self {
        Entry { own, shared, reply }
    }

    /// Whether this is the entry of `key`.
    #[inline(always)]
    pub fn is(&self, key: &KeyWords) -> bool {
        let same_tuple = (self.own.get(1) ^ key.tuple_word()) >> 16 == 0;
        match key {
            KeyWords::V4 { addresses, .. } => same_tuple && self.own.get(0) == *addresses,
            KeyWords::V6 { addresses: [source, destination], .. } => {
                let (a, b) = if self.reply { (6, 4) } else { (0, 2) };
                let differs = (self.shared.get(a) ^ source[0])
                    | (self.shared.get(a + 1) ^ source[1])
                    | (self.shared.get(b) ^ destination[0])
                    | (self.shared.get(b + 1) ^ destination[1]);
                same_tuple && differs == 0
            }
        }
    }

    /// Starts to load the lines that a packet of this entry will need.
    #[inline(always)]
    pub fn prefetch(&self, v6: bool) {
        crate::sync::prefetch(self.own);
        if v6 {
            crate::sync::prefetch(self.shared);
        }
    }

    /// Whether the entry holds a flow at all.
    pub(super) fn is_used(&self) -> bool {
        self.own.get(1) != 0
    }

    /// The key.
    pub fn key(&self) -> FlowKey {
        let tuple = self.own.get(1);
        let (source, destination) = self.addresses(tuple, 0);
        FlowKey {
            source,
            destination,
            source_port: (tuple >> 48) as u16,
            destination_port: (tuple >> 32) as u16,
            protocol: (tuple >> 24) as u8,
            fragment: (tuple >> 16) as u8 & KIND_FRAGMENT != 0,
        }
    }

    /// The 5-tuple that packets leave with.
    pub fn rewritten(&self) -> FlowKey {
        let tuple = self.own.get(1);
        let (source, destination) = self.addresses(tuple, 2);
        let ports = self.own.get(3);
        FlowKey {
            source,
            destination,
            source_port: (ports >> 48) as u16,
            destination_port: (ports >> 32) as u16,
            ..self.key()
        }
    }

    fn addresses(&self, tuple: u64, word: usize) -> (Address, Address) {
        if (tuple >> 16) as u8 & KIND_V6 == 0 {
            let both = self.own.get(word);
            return (Address::from_v4((both >> 32) as u32), Address::from_v4(both as u32));
        }
        // What the original direction is rewritten to is, turned round, what its replies arrive with.
        let (source, destination) = match (self.reply, word) {
            (false, 0) => (0, 2),
            (false, _) => (4, 6),
            (true, 0) => (6, 4),
            (true, _) => (2, 0),
        };
        (self.v6_address(source), self.v6_address(destination))
    }

    #[inline(always)]
    fn v6_address(&self, word: usize) -> Address {
        Address::from_v6(u128::from(self.shared.get(word)) << 64 | u128::from(self.shared.get(word + 1)))
    }

    /// New IPv4 source and destination as one word, in host order.
    #[inline(always)]
    pub fn new_v4_addresses(&self) -> u64 {
        self.own.get(2)
    }

    /// New IPv6 source and destination, in host order.
    #[inline(always)]
    pub fn new_v6_addresses(&self) -> [u128; 2] {
        let (source, destination) = if self.reply { (2, 0) } else { (4, 6) };
        [self.v6_address(source).bits(), self.v6_address(destination).bits()]
    }

    /// New source and destination port as one 32-bit value, in host order.
    #[inline(always)]
    pub fn new_ports(&self) -> u32 {
        (self.own.get(3) >> 32) as u32
    }

    /// What the rewrite adds to a checksum, for the addresses alone and with the ports
    /// ([`wire::checksum`](crate::wire::checksum)).
    #[inline(always)]
    pub fn deltas(&self) -> (u16, u16) {
        let word = self.own.get(3);
        ((word >> 16) as u16, word as u16)
    }

    /// The neighbour to send to.
    #[inline(always)]
    pub fn adjacency(&self) -> AdjacencyId {
        AdjacencyId((self.own.get(4) >> 32) as u32)
    }

    /// The service that the flow was translated for.
    #[inline(always)]
    pub fn service(&self) -> ServiceId {
        ServiceId(self.own.get(4) as u32)
    }

    /// The port that packets must arrive by.
    #[inline(always)]
    pub fn arrival(&self) -> PortId {
        PortId(self.own.get(1) as u16)
    }

    /// The tables' epoch that the verdict was made from.
    #[inline(always)]
    pub fn epoch(&self) -> u32 {
        (self.own.get(5) >> 32) as u32
    }

    /// Flags of the verdict.
    #[inline(always)]
    pub fn flags(&self) -> EntryFlags {
        EntryFlags((self.own.get(5) >> 24) as u8)
    }

    /// What this direction of a TCP connection has sent until now.
    #[inline(always)]
    pub(super) fn tcp_side(&self) -> TcpSide {
        let (state, sent, window) = (self.own.get(5), self.own.get(6), self.own.get(7));
        // Of what passes unseen nothing is known, as if the connection had been picked up in its midst.
        let shortened = (state >> 24) as u8 & EntryFlags::SHORTENED.0 != 0;
        let forgotten = if shortened { TcpSide::FORGOTTEN } else { 0 };
        let noted = state & !forgotten;
        TcpSide {
            seen: TcpSeen((noted >> 16) as u8),
            known: (noted >> 8) as u8,
            end: sent as u32,
            acknowledged: (window >> 32) as u32,
            edge: window as u32,
        }
    }

    /// Notes a segment that shows nothing but progress. False, and nothing is noted, when it is not such: then it is
    /// for [`note`](Entry::note).
    #[inline(always)]
    pub fn note_ordinary(&self, segment: &TcpSegment, now: Ticks) -> bool {
        let Some(side) = self.tcp_side().after_ordinary(segment) else { return false };
        self.set_if_new(6, pair(now.0, side.end));
        self.set_if_new(7, pair(side.acknowledged, side.edge));
        true
    }

    /// What becomes of a packet of this direction, whose other direction's entry is `peer`. Nothing is noted.
    pub fn judge(&self, peer: &Entry<'_>, shown: &Shown) -> Judgment {
        match shown {
            Shown::Tcp(segment) => self.tcp_side().judge(&peer.tcp_side(), segment),
            Shown::Sctp(packet) => self.sctp_side().judge(&peer.sctp_side(), packet),
            Shown::Nothing => Judgment::Valid,
        }
    }

    /// Judges a packet and notes what it shows if it is valid. That it came is noted if it goes on; otherwise the entry
    /// stays as it is, so the judgment of [`judge`](Entry::judge) afterwards is the same.
    pub fn note(&self, peer: &Entry<'_>, shown: &Shown, now: Ticks) -> Judgment {
        let judgment = match shown {
            Shown::Tcp(segment) => self.note_segment(peer, segment),
            Shown::Sctp(packet) => self.note_packet(peer, packet),
            Shown::Nothing => Judgment::Valid,
        };
        if judgment.goes_on() {
            self.touch(now);
        }
        judgment
    }

    fn note_segment(&self, peer: &Entry<'_>, segment: &TcpSegment) -> Judgment {
        let (own, peer) = (self.tcp_side(), peer.tcp_side());
        let judgment = own.judge(&peer, segment);
        if judgment == Judgment::Valid {
            let side = own.after(&peer, segment);
            self.set_seen(side.seen.0, side.known);
            self.set_if_new(6, pair(self.last_seen().0, side.end));
            self.set_if_new(7, pair(side.acknowledged, side.edge));
        }
        judgment
    }

    /// What this direction of an SCTP association has sent until now.
    pub(super) fn sctp_side(&self) -> SctpSide {
        SctpSide {
            seen: SctpSeen((self.own.get(5) >> 16) as u8),
            tag: self.own.get(6) as u32,
            asked: (self.own.get(7) >> 32) as u32,
        }
    }

    fn note_packet(&self, peer: &Entry<'_>, packet: &SctpPacket) -> Judgment {
        let own = self.sctp_side();
        if own.is_ordinary(packet) {
            return Judgment::Valid;
        }
        let judgment = own.judge(&peer.sctp_side(), packet);
        if judgment == Judgment::Valid {
            let side = own.after(packet);
            self.set_seen(side.seen.0, 0);
            self.set_if_new(6, pair(self.last_seen().0, side.tag));
            self.set_if_new(7, pair(side.asked, 0));
        }
        judgment
    }

    /// Sets the flags or chunks seen, and what is known.
    fn set_seen(&self, seen: u8, known: u8) {
        let noted = u64::from(seen) << 16 | u64::from(known) << 8;
        self.set_if_new(5, self.own.get(5) & !0x00ff_ff00 | noted);
    }

    /// Writes a word only when it changes: a line that is not written stays in every core's cache.
    #[inline(always)]
    fn set_if_new(&self, word: usize, value: u64) {
        if self.own.get(word) != value {
            self.own.set(word, value);
        }
    }

    /// Whether this direction belongs to an established TCP connection, whose other direction's entry is `peer`.
    pub(crate) fn is_established(&self, peer: &Entry<'_>) -> bool {
        let (own, other) = (self.tcp_side().seen, peer.tcp_side().seen);
        let (original, reply) = if self.reply { (other, own) } else { (own, other) };
        // A side that has only answered a SYN would be one that was never heard of, once its SYN is forgotten.
        own.has(TcpSeen::ACK) && TcpState::of(original, reply) == TcpState::Established
    }

    /// Notes that packets of this direction may pass unseen from now on, for as long as the flow lives.
    pub(crate) fn shorten(&self) {
        let flags = u64::from(EntryFlags::SHORTENED.0) << 24;
        self.set_if_new(5, self.own.get(5) | flags);
    }

    /// When the last packet came; zero when there was none yet.
    #[inline(always)]
    pub fn last_seen(&self) -> Ticks {
        Ticks((self.own.get(6) >> 32) as u32)
    }

    /// Notes that a packet came; writes only when the clock has moved on.
    #[inline(always)]
    pub fn touch(&self, now: Ticks) {
        let word = self.own.get(6);
        if (word >> 32) as u32 != now.0 {
            self.own.set(6, u64::from(now.0) << 32 | (word & 0xffff_ffff));
        }
    }

    /// Sets the way out, the port of arrival and the epoch after the flow was resolved again.
    pub fn reroute(&self, adjacency: AdjacencyId, arrival: PortId, epoch: u32) {
        self.own.set(4, pair(adjacency.0, self.service().0));
        self.own.set(1, self.own.get(1) & !0xffff | u64::from(arrival.0));
        self.own.set(5, pair(epoch, self.own.get(5) as u32));
    }

    /// Fills the entry of a new flow. `deltas` as in [`Entry::deltas`].
    pub(super) fn fill(&self, key: &KeyWords, verdict: &Verdict, deltas: (u16, u16), now: Ticks) {
        let new = &verdict.rewritten;
        if let KeyWords::V4 { addresses, .. } = key {
            self.own.set(0, *addresses);
            self.own.set(2, pair(new.source.v4_bits(), new.destination.v4_bits()));
        }
        let ports = pair(
            u32::from(new.source_port) << 16 | u32::from(new.destination_port),
            u32::from(deltas.0) << 16 | u32::from(deltas.1),
        );
        self.own.set(3, ports);
        self.own.set(4, pair(verdict.adjacency.0, verdict.service.0));
        self.own.set(5, pair(verdict.epoch, u32::from(verdict.flags.0) << 24));
        self.own.set(6, u64::from(now.0) << 32);
        self.own.set(7, 0);
        self.own.set(1, key.tuple_word() | u64::from(verdict.arrival.0));
    }

    /// Fills the shared line from the original direction's key and rewritten key.
    pub(super) fn fill_shared(&self, key: &FlowKey, rewritten: &FlowKey) {
        if key.source.is_v4() {
            return;
        }
        let addresses = [key.source, key.destination, rewritten.source, rewritten.destination];
        for (position, address) in addresses.into_iter().enumerate() {
            let [upper, lower] = halves(address.bits());
            self.shared.set(2 * position, upper);
            self.shared.set(2 * position + 1, lower);
        }
    }

    /// Marks the entry as unused.
    pub(super) fn clear(&self) {
        self.own.set(1, 0);
    }
}
