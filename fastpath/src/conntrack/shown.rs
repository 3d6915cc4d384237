//! What a packet shows of its connection, and what becomes of it for that.

use super::sctp::SctpPacket;
use super::tcp_window::TcpSegment;
use crate::wire::IpProtocol;
use crate::wire::parse::L4Kind;
use crate::wire::sctp::chunk;
use crate::wire::tcp::Flags;

/// What connection tracking reads of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shown {
    /// A TCP segment.
    Tcp(TcpSegment),
    /// An SCTP packet.
    Sctp(SctpPacket),
    /// That there was a packet.
    Nothing,
}

impl Shown {
    /// From the contiguous front of layer 4, whose headers were checked; `l4_len`: its bytes, of the whole of a GSO frame.
    pub fn parse(kind: L4Kind, l4: &[u8], l4_len: u32) -> Shown {
        match kind {
            L4Kind::Tcp => TcpSegment::parse(l4, l4_len).map(Shown::Tcp),
            L4Kind::Sctp => SctpPacket::parse(l4).map(Shown::Sctp),
            _ => None,
        }
        .unwrap_or(Shown::Nothing)
    }

    /// A packet that opens a connection: SYN or INIT.
    pub fn opening(protocol: IpProtocol) -> Shown {
        match protocol {
            IpProtocol::TCP => Shown::Tcp(TcpSegment::OPENING),
            IpProtocol::SCTP => Shown::Sctp(SctpPacket::OPENING),
            _ => Shown::Nothing,
        }
    }

    /// Whether it opens a connection: a SYN without ACK, or an INIT.
    pub fn opens(&self) -> bool {
        match self {
            Shown::Tcp(segment) => segment.flags.contains(Flags::SYN) && !segment.flags.contains(Flags::ACK),
            Shown::Sctp(packet) => packet.kind == chunk::INIT,
            Shown::Nothing => false,
        }
    }

    /// Whether it can be the first of a flow: not what ends one.
    pub fn may_begin(&self) -> bool {
        match self {
            Shown::Tcp(segment) => segment.may_begin(),
            Shown::Sctp(packet) => packet.may_begin(),
            Shown::Nothing => true,
        }
    }
}

/// What becomes of a packet of a known connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Judgment {
    /// It belongs to the connection, and is noted.
    Valid,
    /// It is forwarded, and changes nothing that is known of the connection.
    Ignored,
    /// It is dropped: a RST that its receiver cannot have asked for.
    Invalid,
    /// A SYN or INIT under the 5-tuple of a connection that is over: that is forgotten, and another begins.
    OpensAnew,
}

impl Judgment {
    /// Whether the packet goes the connection's way.
    pub const fn goes_on(self) -> bool {
        matches!(self, Judgment::Valid | Judgment::Ignored)
    }
}
