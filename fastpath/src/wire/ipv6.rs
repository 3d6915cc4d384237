//! The fixed header of IPv6 (RFC 8200). What may stand between it and layer 4 is in
//! [`ipv6_extension`](super::ipv6_extension).

use core::net::Ipv6Addr;

use super::error::{fixed, fixed_mut};
use super::{HeaderError, IpProtocol, Sum};

#[cfg(test)]
mod tests;

/// Bytes of the fixed header.
pub const LEN: usize = 40;
/// Where the source address is in the header.
pub const SOURCE_OFFSET: usize = 8;
/// Where the destination address is in the header.
pub const DESTINATION_OFFSET: usize = 24;
/// Bytes that every link carries in one packet (RFC 8200, section 5).
pub const MIN_MTU: usize = 1280;
/// Hop limit of packets that the node itself makes.
pub const DEFAULT_HOP_LIMIT: u8 = 64;

/// Fields of a header to be written. Its flow label is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// From whom.
    pub source: Ipv6Addr,
    /// To whom.
    pub destination: Ipv6Addr,
    /// What follows.
    pub next_header: IpProtocol,
    /// Hop limit.
    pub hop_limit: u8,
    /// Differentiated services and ECN.
    pub traffic_class: u8,
    /// Bytes that follow the header.
    pub payload_len: u16,
}

impl Fields {
    /// Writes the header.
    pub fn emit(&self, into: &mut [u8; LEN]) {
        into[..4].copy_from_slice(&(6 << 28 | u32::from(self.traffic_class) << 20).to_be_bytes());
        into[4..6].copy_from_slice(&self.payload_len.to_be_bytes());
        into[6..8].copy_from_slice(&[self.next_header.0, self.hop_limit]);
        into[8..24].copy_from_slice(&self.source.octets());
        into[24..].copy_from_slice(&self.destination.octets());
    }
}

/// A header to be read.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
}

impl<'a> Header<'a> {
    /// The header at the front of `bytes`, of which it checks the version.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        check(Header { bytes: fixed(bytes)? })
    }

    /// Differentiated services and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.bytes[0] << 4 | self.bytes[1] >> 4
    }

    /// The flow label: 20 bits.
    #[inline]
    pub fn flow_label(&self) -> u32 {
        u32::from_be_bytes([0, self.bytes[1] & 0xf, self.bytes[2], self.bytes[3]])
    }

    /// Bytes that follow the header.
    #[inline]
    pub fn payload_len(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// What follows.
    #[inline]
    pub fn next_header(&self) -> IpProtocol {
        IpProtocol(self.bytes[6])
    }

    /// Hop limit.
    #[inline]
    pub fn hop_limit(&self) -> u8 {
        self.bytes[7]
    }

    /// From whom.
    #[inline]
    pub fn source(&self) -> Ipv6Addr {
        self.address::<SOURCE_OFFSET>()
    }

    /// To whom.
    #[inline]
    pub fn destination(&self) -> Ipv6Addr {
        self.address::<DESTINATION_OFFSET>()
    }

    /// The pseudo-header for `len` bytes of `protocol`, which is what the last extension header is followed by.
    #[inline]
    pub fn pseudo_header(&self, protocol: IpProtocol, len: u32) -> Sum {
        Sum::pseudo_v6(self.source(), self.destination(), protocol, len)
    }

    #[inline]
    fn address<const OFFSET: usize>(&self) -> Ipv6Addr {
        let mut octets = [0; 16];
        octets.copy_from_slice(&self.bytes[OFFSET..OFFSET + 16]);
        Ipv6Addr::from(octets)
    }
}

#[inline]
fn check(header: Header<'_>) -> Result<Header<'_>, HeaderError> {
    match header.bytes[0] >> 4 {
        6 => Ok(header),
        version => Err(HeaderError::Kind(u16::from(version))),
    }
}

/// A header to be rewritten in place.
#[derive(Debug)]
pub struct HeaderMut<'a> {
    bytes: &'a mut [u8; LEN],
}

impl<'a> HeaderMut<'a> {
    /// The header at the front of `bytes`, checked like [`Header::new_checked`].
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let header = HeaderMut { bytes: fixed_mut(bytes)? };
        check(header.as_header())?;
        Ok(header)
    }

    /// The same header, to be read.
    #[inline]
    pub fn as_header(&self) -> Header<'_> {
        Header { bytes: self.bytes }
    }

    /// Sets from whom.
    #[inline]
    pub fn set_source(&mut self, address: Ipv6Addr) {
        self.bytes[8..24].copy_from_slice(&address.octets());
    }

    /// Sets to whom.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv6Addr) {
        self.bytes[24..].copy_from_slice(&address.octets());
    }

    /// Sets the bytes that follow the header.
    #[inline]
    pub fn set_payload_len(&mut self, len: u16) {
        self.bytes[4..6].copy_from_slice(&len.to_be_bytes());
    }

    /// Takes one off the hop limit. A limit of 0 stays; the packet is to be dropped.
    #[inline]
    pub fn decrement_hop_limit(&mut self) {
        self.bytes[7] = self.bytes[7].saturating_sub(1);
    }
}
