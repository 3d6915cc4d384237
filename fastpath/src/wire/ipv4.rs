//! IPv4 (RFC 791).

use core::net::Ipv4Addr;

use super::error::{fixed, fixed_mut};
use super::{Delta, HeaderError, IpProtocol, Sum};

#[cfg(test)]
mod tests;

/// Bytes of the header without options.
pub const LEN: usize = 20;
/// Bytes of the header with as many options as there can be.
pub const MAX_LEN: usize = 60;
/// Where the checksum is in the header.
pub const CHECKSUM_OFFSET: usize = 10;
/// Where the source address is in the header.
pub const SOURCE_OFFSET: usize = 12;
/// Where the destination address is in the header.
pub const DESTINATION_OFFSET: usize = 16;
/// TTL of packets that the node itself makes (IANA "IP Option Numbers", default TTL).
pub const DEFAULT_TTL: u8 = 64;

/// "Do not fragment", in the word that [`Header::fragment`] gives.
pub const DO_NOT_FRAGMENT: u16 = 0x4000;
/// "More fragments follow".
pub const MORE_FRAGMENTS: u16 = 0x2000;
/// The bits of the fragment's offset, in units of 8 bytes.
pub const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Fields of a header to be written: no options, no fragment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// From whom.
    pub source: Ipv4Addr,
    /// To whom.
    pub destination: Ipv4Addr,
    /// What follows.
    pub protocol: IpProtocol,
    /// Time to live.
    pub ttl: u8,
    /// Differentiated services and ECN.
    pub traffic_class: u8,
    /// Names the packet, should it be fragmented.
    pub identification: u16,
    /// Whether routers must not fragment it.
    pub do_not_fragment: bool,
    /// Bytes that follow the header; at most 65515, more are cut off.
    pub payload_len: u16,
}

impl Fields {
    /// Writes the header with its checksum.
    pub fn emit(&self, into: &mut [u8; LEN]) {
        let total = self.payload_len.saturating_add(LEN as u16).to_be_bytes();
        let identification = self.identification.to_be_bytes();
        let fragment = if self.do_not_fragment { DO_NOT_FRAGMENT } else { 0 }.to_be_bytes();
        into[..2].copy_from_slice(&[0x45, self.traffic_class]);
        into[2..4].copy_from_slice(&total);
        into[4..6].copy_from_slice(&identification);
        into[6..8].copy_from_slice(&fragment);
        into[8..12].copy_from_slice(&[self.ttl, self.protocol.0, 0, 0]);
        into[12..16].copy_from_slice(&self.source.octets());
        into[16..].copy_from_slice(&self.destination.octets());
        HeaderMut { bytes: into }.fill_checksum();
    }
}

/// A header to be read. Options, which hardly a packet has, are not in it.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
}

impl<'a> Header<'a> {
    /// The header at the front of `bytes`, of which it checks the version and that its options are there.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let header = Header { bytes: fixed(bytes)? };
        check(header, bytes.len()).map(|()| header)
    }

    /// Bytes of the header with its options.
    #[inline]
    pub fn header_len(&self) -> usize {
        usize::from(self.bytes[0] & 0xf) * 4
    }

    /// Differentiated services and ECN.
    #[inline]
    pub fn traffic_class(&self) -> u8 {
        self.bytes[1]
    }

    /// Bytes of the packet, its header included.
    #[inline]
    pub fn total_len(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Names the packet among its fragments.
    #[inline]
    pub fn identification(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The flags and the offset of a fragment, together.
    #[inline]
    pub fn fragment(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    /// True when routers must not fragment the packet.
    #[inline]
    pub fn do_not_fragment(&self) -> bool {
        self.fragment() & DO_NOT_FRAGMENT != 0
    }

    /// Time to live.
    #[inline]
    pub fn ttl(&self) -> u8 {
        self.bytes[8]
    }

    /// What follows.
    #[inline]
    pub fn protocol(&self) -> IpProtocol {
        IpProtocol(self.bytes[9])
    }

    /// The checksum field as it is sent.
    #[inline]
    pub fn checksum(&self) -> [u8; 2] {
        [self.bytes[10], self.bytes[11]]
    }

    /// From whom.
    #[inline]
    pub fn source(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.bytes[12], self.bytes[13], self.bytes[14], self.bytes[15])
    }

    /// To whom.
    #[inline]
    pub fn destination(&self) -> Ipv4Addr {
        Ipv4Addr::new(self.bytes[16], self.bytes[17], self.bytes[18], self.bytes[19])
    }

    /// The pseudo-header for `len` bytes of layer 4.
    #[inline]
    pub fn pseudo_header(&self, len: u16) -> Sum {
        Sum::pseudo_v4(self.source(), self.destination(), self.protocol(), len)
    }
}

fn check(header: Header<'_>, had: usize) -> Result<(), HeaderError> {
    let (version, len) = (header.bytes[0] >> 4, header.header_len());
    match () {
        () if version != 4 => Err(HeaderError::Kind(u16::from(version))),
        () if len < LEN => Err(HeaderError::Length(len)),
        () if len > had => Err(HeaderError::Truncated { needed: len, had }),
        () => Ok(()),
    }
}

/// A header to be rewritten in place. Setters leave the checksum to [`update_checksum`](HeaderMut::update_checksum).
#[derive(Debug)]
pub struct HeaderMut<'a> {
    bytes: &'a mut [u8; LEN],
}

impl<'a> HeaderMut<'a> {
    /// The header at the front of `bytes`, checked like [`Header::new_checked`].
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let had = bytes.len();
        let header = HeaderMut { bytes: fixed_mut(bytes)? };
        check(header.as_header(), had).map(|()| header)
    }

    /// The same header, to be read.
    #[inline]
    pub fn as_header(&self) -> Header<'_> {
        Header { bytes: self.bytes }
    }

    /// Sets from whom.
    #[inline]
    pub fn set_source(&mut self, address: Ipv4Addr) {
        self.bytes[12..16].copy_from_slice(&address.octets());
    }

    /// Sets to whom.
    #[inline]
    pub fn set_destination(&mut self, address: Ipv4Addr) {
        self.bytes[16..].copy_from_slice(&address.octets());
    }

    /// Sets the time to live.
    #[inline]
    pub fn set_ttl(&mut self, ttl: u8) {
        self.bytes[8] = ttl;
    }

    /// Sets the bytes of the packet, its header included.
    #[inline]
    pub fn set_total_len(&mut self, len: u16) {
        self.bytes[2..4].copy_from_slice(&len.to_be_bytes());
    }

    /// Sets what names the packet among its fragments.
    #[inline]
    pub fn set_identification(&mut self, identification: u16) {
        self.bytes[4..6].copy_from_slice(&identification.to_be_bytes());
    }

    /// Sets the flags and the offset of a fragment, together.
    #[inline]
    pub fn set_fragment(&mut self, fragment: u16) {
        self.bytes[6..8].copy_from_slice(&fragment.to_be_bytes());
    }

    /// Takes one off the TTL, and off the checksum what that changes. A TTL of 0 stays; the packet is to be dropped.
    #[inline]
    pub fn decrement_ttl(&mut self) {
        if self.bytes[8] > 0 {
            self.bytes[8] -= 1;
            self.update_checksum(Delta::TTL_DECREMENT);
        }
    }

    /// Brings the checksum up to a change of fields.
    #[inline]
    pub fn update_checksum(&mut self, delta: Delta) {
        let [a, b] = delta.apply([self.bytes[10], self.bytes[11]]);
        (self.bytes[10], self.bytes[11]) = (a, b);
    }

    /// Computes the checksum of a header without options.
    #[inline]
    pub fn fill_checksum(&mut self) {
        (self.bytes[10], self.bytes[11]) = (0, 0);
        let [a, b] = Sum::ZERO.add_ipv4_header(self.bytes).checksum();
        (self.bytes[10], self.bytes[11]) = (a, b);
    }
}
