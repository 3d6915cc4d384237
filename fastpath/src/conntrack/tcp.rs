//! TCP connection state from what each direction has sent.
//!
//! Each direction notes the flags it has sent in its own entry; the state of the connection follows from both, so
//! nothing is written but by the worker that receives a direction. States as in RFC 9293, section 3.3.2, seen from the
//! middle, as Linux does it (`nf_conntrack_proto_tcp.c`).

/// TCP flags that one direction has sent until now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TcpSeen(pub u8);

impl TcpSeen {
    /// Nothing yet.
    pub const NONE: TcpSeen = TcpSeen(0);
    /// A SYN.
    pub const SYN: TcpSeen = TcpSeen(1);
    /// A segment without SYN that acknowledges.
    pub const ACK: TcpSeen = TcpSeen(2);
    /// A FIN.
    pub const FIN: TcpSeen = TcpSeen(4);
    /// A RST.
    pub const RST: TcpSeen = TcpSeen(8);

    /// What a segment with these header flags (RFC 9293: FIN 1, SYN 2, RST 4, ACK 16) shows.
    #[inline(always)]
    pub const fn of_flags(flags: u8) -> TcpSeen {
        let syn = flags >> 1 & 1;
        let ack = (flags >> 4 & 1) & (syn ^ 1);
        TcpSeen(syn | ack << 1 | (flags & 1) << 2 | (flags >> 2 & 1) << 3)
    }

    /// Whether all of `other` was seen.
    #[inline(always)]
    pub const fn has(self, other: TcpSeen) -> bool {
        self.0 & other.0 == other.0
    }
}

/// State of a TCP connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TcpState {
    /// The client has sent a SYN.
    SynSent,
    /// The server has answered with SYN and ACK.
    SynReceived,
    /// Both directions carry data.
    Established,
    /// Picked up in the middle; only one direction was seen.
    Unacknowledged,
    /// One side has closed.
    FinWait,
    /// Both sides have closed.
    TimeWait,
    /// Reset.
    Close,
}

impl TcpState {
    /// The state that follows from what both directions have sent.
    pub const fn of(original: TcpSeen, reply: TcpSeen) -> TcpState {
        if original.has(TcpSeen::RST) || reply.has(TcpSeen::RST) {
            return TcpState::Close;
        }
        match (original.has(TcpSeen::FIN), reply.has(TcpSeen::FIN)) {
            (true, true) => return TcpState::TimeWait,
            (true, false) | (false, true) => return TcpState::FinWait,
            (false, false) => {}
        }
        if original.has(TcpSeen::SYN) && !original.has(TcpSeen::ACK) {
            return if reply.has(TcpSeen::SYN) { TcpState::SynReceived } else { TcpState::SynSent };
        }
        if reply.0 == 0 || original.0 == 0 { TcpState::Unacknowledged } else { TcpState::Established }
    }

    /// Whether a new SYN may open another connection with the same 5-tuple.
    pub const fn is_over(self) -> bool {
        matches!(self, TcpState::TimeWait | TcpState::Close)
    }
}
