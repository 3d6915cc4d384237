//! Neighbour discovery for IPv6 (RFC 4861): what a router on a point-to-point link needs of it.

use core::net::Ipv6Addr;

use super::error::fixed;
use super::icmpv6::{
    self, NEIGHBOUR_ADVERTISEMENT, NEIGHBOUR_SOLICITATION, ROUTER_ADVERTISEMENT, ROUTER_SOLICITATION,
};
use super::{HeaderError, IpProtocol, MacAddr, Sum};

#[cfg(test)]
mod tests;

/// The hop limit that proves that a message comes from this link.
pub const HOP_LIMIT: u8 = 255;
/// Bytes of a solicitation or an advertisement of a neighbour, without options.
pub const NEIGHBOUR_LEN: usize = 24;
/// Bytes of a router solicitation without options.
pub const ROUTER_SOLICITATION_LEN: usize = 8;
/// Bytes of a router advertisement without options.
pub const ROUTER_ADVERTISEMENT_LEN: usize = 16;
/// Bytes of every message that [`Fields::emit`] writes: options included.
pub const LEN: usize = 32;

/// Types of options (IANA "IPv6 Neighbor Discovery Option Formats").
pub mod option {
    /// The sender's MAC address.
    pub const SOURCE_LINK_ADDRESS: u8 = 1;
    /// The target's MAC address.
    pub const TARGET_LINK_ADDRESS: u8 = 2;
    /// The link's MTU.
    pub const MTU: u8 = 5;
}

/// In the first byte of an advertisement's flags: the sender is a router.
pub const FLAG_ROUTER: u8 = 0x80;
/// The advertisement answers a solicitation.
pub const FLAG_SOLICITED: u8 = 0x40;
/// The advertisement replaces what is known.
pub const FLAG_OVERRIDE: u8 = 0x20;

/// The multicast address to which solicitations for `target` are sent (RFC 4291, section 2.7.1).
pub const fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | target.to_bits() & 0xff_ffff)
}

/// A message to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fields {
    /// Who has `target`?
    NeighbourSolicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The sender's MAC address.
        source_mac: MacAddr,
    },
    /// `target` is at `target_mac`.
    NeighbourAdvertisement {
        /// The address told about.
        target: Ipv6Addr,
        /// Where it is.
        target_mac: MacAddr,
        /// [`FLAG_ROUTER`], [`FLAG_SOLICITED`], [`FLAG_OVERRIDE`].
        flags: u8,
    },
    /// The sender is a router; no prefix is on the link.
    RouterAdvertisement {
        /// The sender's MAC address.
        source_mac: MacAddr,
        /// For how many seconds it is a default router.
        lifetime: u16,
        /// The link's MTU, in bytes.
        mtu: u32,
    },
}

impl Fields {
    /// Writes the message that goes from `source` to `destination`, with its checksum.
    pub fn emit(&self, into: &mut [u8; LEN], source: Ipv6Addr, destination: Ipv6Addr) {
        *into = [0; LEN];
        let (kind, option, mac) = match *self {
            Fields::NeighbourSolicitation { target, source_mac } => {
                into[8..24].copy_from_slice(&target.octets());
                (NEIGHBOUR_SOLICITATION, option::SOURCE_LINK_ADDRESS, source_mac)
            }
            Fields::NeighbourAdvertisement { target, target_mac, flags } => {
                into[4] = flags;
                into[8..24].copy_from_slice(&target.octets());
                (NEIGHBOUR_ADVERTISEMENT, option::TARGET_LINK_ADDRESS, target_mac)
            }
            Fields::RouterAdvertisement { source_mac, lifetime, mtu } => {
                into[4] = super::ipv6::DEFAULT_HOP_LIMIT;
                into[6..8].copy_from_slice(&lifetime.to_be_bytes());
                into[16..18].copy_from_slice(&[option::MTU, 1]);
                into[20..24].copy_from_slice(&mtu.to_be_bytes());
                (ROUTER_ADVERTISEMENT, option::SOURCE_LINK_ADDRESS, source_mac)
            }
        };
        into[0] = kind;
        into[24..26].copy_from_slice(&[option, 1]);
        into[26..].copy_from_slice(&mac.0);
        let pseudo = Sum::pseudo_v6(source, destination, IpProtocol::ICMPV6, LEN as u32);
        [into[2], into[3]] = pseudo.add_bytes(into).checksum();
    }
}

/// A message to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Header {
    /// Who has `target`?
    NeighbourSolicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// The sender's MAC address, where it says it.
        source_mac: Option<MacAddr>,
    },
    /// `target` is at `target_mac`.
    NeighbourAdvertisement {
        /// The address told about.
        target: Ipv6Addr,
        /// Where it is, where the message says it.
        target_mac: Option<MacAddr>,
        /// [`FLAG_ROUTER`], [`FLAG_SOLICITED`], [`FLAG_OVERRIDE`].
        flags: u8,
    },
    /// Who is a router?
    RouterSolicitation {
        /// The sender's MAC address, where it says it.
        source_mac: Option<MacAddr>,
    },
    /// The sender is a router.
    RouterAdvertisement {
        /// The sender's MAC address, where it says it.
        source_mac: Option<MacAddr>,
        /// For how many seconds it is a default router.
        lifetime: u16,
    },
}

/// Where a message comes from and goes to, by its IPv6 header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Envelope {
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// As it arrived.
    pub hop_limit: u8,
}

/// Why a message must be discarded (RFC 4861, sections 6.1 and 7.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NdiscError {
    /// Shorter than its type requires, or not a type that is read here.
    Header(HeaderError),
    /// This hop limit says that it was forwarded by a router.
    HopLimit(u8),
    /// A code other than 0.
    Code(u8),
    /// The checksum is wrong.
    Checksum([u8; 2]),
    /// An option of length 0, or one that reaches beyond the message.
    Option(u8),
    /// A multicast target.
    Target(Ipv6Addr),
    /// A sender without an address that tells its MAC address, or solicits other than by multicast.
    Unspecified,
}

impl core::fmt::Display for NdiscError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            NdiscError::Header(error) => error.fmt(f),
            NdiscError::HopLimit(limit) => write!(f, "hop limit {limit}, not 255"),
            NdiscError::Code(code) => write!(f, "code {code}, not 0"),
            NdiscError::Checksum([a, b]) => write!(f, "checksum {a:02x}{b:02x} is wrong"),
            NdiscError::Option(kind) => write!(f, "option {kind} has a wrong length"),
            NdiscError::Target(target) => write!(f, "target {target} is multicast"),
            NdiscError::Unspecified => write!(f, "sender without an address breaks the rules for it"),
        }
    }
}

impl core::error::Error for NdiscError {}

impl Header {
    /// Reads `message`, which is all of the ICMPv6 message and nothing behind it.
    pub fn new_checked(message: &[u8], envelope: &Envelope) -> Result<Self, NdiscError> {
        let header = icmpv6::Header::new_checked(message).map_err(NdiscError::Header)?;
        let pseudo = Sum::pseudo_v6(
            envelope.source,
            envelope.destination,
            IpProtocol::ICMPV6,
            u32::try_from(message.len()).unwrap_or(u32::MAX),
        );
        if envelope.hop_limit != HOP_LIMIT {
            return Err(NdiscError::HopLimit(envelope.hop_limit));
        }
        if header.code() != 0 {
            return Err(NdiscError::Code(header.code()));
        }
        if !pseudo.add_bytes(message).is_valid() {
            return Err(NdiscError::Checksum(header.checksum()));
        }
        let read = Self::read(header.message(), message)?;
        if envelope.source.is_unspecified() && !read.is_legal_without_address(envelope.destination) {
            return Err(NdiscError::Unspecified);
        }
        Ok(read)
    }

    fn read(kind: u8, message: &[u8]) -> Result<Self, NdiscError> {
        match kind {
            NEIGHBOUR_SOLICITATION => {
                let (target, _, options) = neighbour(message)?;
                let source_mac = link_address(options, option::SOURCE_LINK_ADDRESS)?;
                Ok(Header::NeighbourSolicitation { target, source_mac })
            }
            NEIGHBOUR_ADVERTISEMENT => {
                let (target, flags, options) = neighbour(message)?;
                let target_mac = link_address(options, option::TARGET_LINK_ADDRESS)?;
                Ok(Header::NeighbourAdvertisement { target, target_mac, flags })
            }
            ROUTER_SOLICITATION => {
                let (_, options) = split::<ROUTER_SOLICITATION_LEN>(message)?;
                let source_mac = link_address(options, option::SOURCE_LINK_ADDRESS)?;
                Ok(Header::RouterSolicitation { source_mac })
            }
            ROUTER_ADVERTISEMENT => {
                let (fixed, options) = split::<ROUTER_ADVERTISEMENT_LEN>(message)?;
                let source_mac = link_address(options, option::SOURCE_LINK_ADDRESS)?;
                let lifetime = u16::from_be_bytes([fixed[6], fixed[7]]);
                Ok(Header::RouterAdvertisement { source_mac, lifetime })
            }
            other => Err(NdiscError::Header(HeaderError::Kind(u16::from(other)))),
        }
    }

    /// Whether the unspecified address may send this: a probe for a duplicate, or a question from a starting host.
    fn is_legal_without_address(&self, destination: Ipv6Addr) -> bool {
        match self {
            Header::NeighbourSolicitation { target, source_mac } => {
                source_mac.is_none() && destination == solicited_node(*target)
            }
            Header::RouterSolicitation { source_mac } => source_mac.is_none(),
            Header::NeighbourAdvertisement { .. } | Header::RouterAdvertisement { .. } => false,
        }
    }
}

fn split<const N: usize>(message: &[u8]) -> Result<(&[u8; N], &[u8]), NdiscError> {
    let header = fixed::<N>(message).map_err(NdiscError::Header)?;
    Ok((header, message.get(N..).unwrap_or_default()))
}

/// Target, flags and options.
fn neighbour(message: &[u8]) -> Result<(Ipv6Addr, u8, &[u8]), NdiscError> {
    let (fixed, options) = split::<NEIGHBOUR_LEN>(message)?;
    let mut octets = [0; 16];
    octets.copy_from_slice(&fixed[8..24]);
    let target = Ipv6Addr::from(octets);
    if target.is_multicast() {
        return Err(NdiscError::Target(target));
    }
    Ok((target, fixed[4], options))
}

/// The MAC address in the first option of type `wanted`. All options are checked.
fn link_address(mut options: &[u8], wanted: u8) -> Result<Option<MacAddr>, NdiscError> {
    let mut found = None;
    while let [kind, words, ..] = *options {
        let (option, rest) =
            options.split_at_checked(usize::from(words) * 8).ok_or(NdiscError::Option(kind))?;
        let &[_, _, a, b, c, d, e, f, ..] = option else { return Err(NdiscError::Option(kind)) };
        if kind == wanted && found.is_none() {
            found = Some(MacAddr([a, b, c, d, e, f]));
        }
        options = rest;
    }
    if let [kind] = *options { Err(NdiscError::Option(kind)) } else { Ok(found) }
}
