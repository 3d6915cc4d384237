//! What parsing a frame comes to.

use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::IpProtocol;
use crate::wire::ethernet::EtherType;
use crate::wire::ipv6_extension::ExtensionError;
use crate::wire::vlan::VlanId;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// An IP packet, to be judged and forwarded.
    Ip(Parsed),
    /// An ARP message that begins `offset` bytes into the frame. Nothing of it has been looked at.
    Arp {
        /// Bytes before the message.
        offset: u8,
        /// The frame's VLAN, if it has a tag.
        vlan: Option<VlanId>,
    },
    /// An ICMPv6 message of neighbour discovery (types 133 to 137), which never leaves its link. Its hop limit of 255, its
    /// checksum and its options have not been looked at.
    Ndisc(Parsed),
}

/// The headers of an IP packet, checked against each other and against the frame's length.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Parsed {
    /// Source and destination.
    pub addresses: Addresses,
    /// Bytes from the frame's start to the IP header.
    pub l3: u8,
    /// Bytes from the frame's start to layer 4; behind IPv6's extension headers. For a later fragment, to its data.
    pub l4: u16,
    /// Bytes of the IP packet, its header included. The frame may be longer by padding.
    pub ip_total: u32,
    /// The protocol of layer 4.
    pub protocol: IpProtocol,
    /// TTL or hop limit.
    pub ttl: u8,
    /// The frame's VLAN, if it has a tag.
    pub vlan: Option<VlanId>,
    /// True for the first of several fragments: it has layer 4, more follow.
    pub first_fragment: bool,
    /// IPv4's identification (of any packet) or that of IPv6's fragment header (0 without one).
    pub fragment_id: u32,
    /// What kind of message layer 4 is.
    pub kind: L4Kind,
    /// The source port, or the identifier of an ICMP echo; 0 where there is none.
    pub source_port: u16,
    /// The destination port, or the identifier of an ICMP echo; 0 where there is none.
    pub destination_port: u16,
    /// TCP's flags as in [`tcp::Flags`](crate::wire::tcp::Flags); 0 for other protocols.
    pub tcp_flags: u8,
}

// One line of the cache per packet of a burst.
const _: () = assert!(size_of::<Parsed>() <= 64 && size_of::<Result<Class, ParseError>>() <= 64);

impl Parsed {
    /// The IP version.
    #[inline]
    pub const fn family(&self) -> Family {
        match self.addresses {
            Addresses::V4 { .. } => Family::V4,
            Addresses::V6 { .. } => Family::V6,
        }
    }

    /// True for every part of a fragmented packet, the first among them.
    #[inline]
    pub const fn is_fragment(&self) -> bool {
        self.first_fragment || matches!(self.kind, L4Kind::Fragment)
    }

    /// Bytes of the packet from layer 4 on.
    #[inline]
    pub const fn l4_len(&self) -> u32 {
        self.ip_total.saturating_sub((self.l4 - self.l3 as u16) as u32)
    }
}

/// Source and destination of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Addresses {
    /// IPv4.
    V4 {
        /// From whom.
        source: Ipv4Addr,
        /// To whom.
        destination: Ipv4Addr,
    },
    /// IPv6.
    V6 {
        /// From whom.
        source: Ipv6Addr,
        /// To whom.
        destination: Ipv6Addr,
    },
}

impl Addresses {
    /// Those of the answer.
    #[inline]
    pub const fn reversed(self) -> Addresses {
        match self {
            Addresses::V4 { source, destination } => {
                Addresses::V4 { source: destination, destination: source }
            }
            Addresses::V6 { source, destination } => {
                Addresses::V6 { source: destination, destination: source }
            }
        }
    }

    /// From whom.
    pub const fn source(&self) -> IpAddr {
        match *self {
            Addresses::V4 { source, .. } => IpAddr::V4(source),
            Addresses::V6 { source, .. } => IpAddr::V6(source),
        }
    }

    /// To whom.
    pub const fn destination(&self) -> IpAddr {
        match *self {
            Addresses::V4 { destination, .. } => IpAddr::V4(destination),
            Addresses::V6 { destination, .. } => IpAddr::V6(destination),
        }
    }
}

/// The IP version.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What kind of message layer 4 is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum L4Kind {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
    /// ICMP or ICMPv6 echo, of which the identifier stands for both ports.
    IcmpEcho(IcmpEcho),
    /// An ICMP or ICMPv6 error; it quotes the packet that it is about.
    IcmpError,
    /// Any other ICMP or ICMPv6 message.
    IcmpOther,
    /// A fragment that is not the first: layer 4 is not in it.
    Fragment,
    /// A protocol without ports, or whose ports cannot be seen.
    Other,
}

/// Which half of an echo.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IcmpEcho {
    /// "Ping".
    Request,
    /// The answer to it.
    Reply,
}

/// The header that reaches beyond the frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layer {
    /// Ethernet.
    Ethernet,
    /// The VLAN tag.
    Vlan,
    /// IPv4 with its options, or IPv6.
    Ip,
    /// Layer 4.
    Transport,
}

/// Why a frame cannot be parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// A header reaches beyond the head of the frame or beyond its packet.
    Truncated(Layer),
    /// Neither IPv4, IPv6 nor ARP.
    UnknownEtherType(EtherType),
    /// A second VLAN tag, or a service tag.
    StackedVlan,
    /// An IP version that the EtherType does not announce.
    Version(u8),
    /// An IPv4 header of fewer than 5 words of 4 bytes.
    HeaderLength(u8),
    /// An IP packet of so many bytes would be longer than its frame, or shorter than its header.
    TotalLength(u32),
    /// This is not the checksum of its IPv4 header.
    Ipv4Checksum(u16),
    /// IPv6's extension headers cannot be followed.
    Extension(ExtensionError),
    /// A fragment that begins at this offset, in units of 8 bytes, must not have the length or protocol it has.
    Fragment {
        /// Where it begins, in units of 8 bytes.
        offset: u16,
    },
    /// A TCP header of so many words of 4 bytes: fewer than 5, or more than there are.
    TcpHeaderLength(u8),
    /// A UDP datagram of so many bytes: fewer than 8, or more than there are.
    UdpLength(u16),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::Truncated(layer) => write!(f, "{layer:?} header reaches beyond the frame"),
            ParseError::UnknownEtherType(kind) => write!(f, "EtherType {:#06x} is not known", kind.0),
            ParseError::StackedVlan => write!(f, "more than one VLAN tag"),
            ParseError::Version(version) => write!(f, "IP version {version} is not the one announced"),
            ParseError::HeaderLength(words) => write!(f, "IPv4 header of {words} words"),
            ParseError::TotalLength(bytes) => write!(f, "IP packet of {bytes} bytes does not fit its frame"),
            ParseError::Ipv4Checksum(sum) => write!(f, "IPv4 header checksum {sum:#06x} is wrong"),
            ParseError::Extension(error) => error.fmt(f),
            ParseError::Fragment { offset } => write!(f, "fragment at offset {offset} must not be like this"),
            ParseError::TcpHeaderLength(words) => write!(f, "TCP header of {words} words"),
            ParseError::UdpLength(bytes) => write!(f, "UDP datagram of {bytes} bytes"),
        }
    }
}

impl core::error::Error for ParseError {}
