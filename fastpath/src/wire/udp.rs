//! UDP (RFC 768).

use super::error::{fixed, fixed_mut};
use super::{Delta, HeaderError, Sum};

#[cfg(test)]
mod tests;

/// Bytes of the header.
pub const LEN: usize = 8;
/// Where the checksum is in the header.
pub const CHECKSUM_OFFSET: usize = 6;

/// Fields of a header to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Bytes of the datagram, its header included.
    pub len: u16,
}

impl Fields {
    /// Writes the header without a checksum.
    #[inline]
    pub fn emit(&self, into: &mut [u8; LEN]) {
        into[..2].copy_from_slice(&self.source_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        into[4..6].copy_from_slice(&self.len.to_be_bytes());
        into[6..].copy_from_slice(&[0, 0]);
    }
}

/// A header to be read.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
}

impl<'a> Header<'a> {
    /// The header at the front of `bytes`.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        fixed(bytes).map(|bytes| Header { bytes })
    }

    /// Source port.
    #[inline]
    pub fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[0], self.bytes[1]])
    }

    /// Destination port.
    #[inline]
    pub fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.bytes[2], self.bytes[3]])
    }

    /// Bytes of the datagram, its header included.
    #[inline]
    pub fn datagram_len(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The checksum field as it is sent; zero when there is none.
    #[inline]
    pub fn checksum(&self) -> [u8; 2] {
        [self.bytes[6], self.bytes[7]]
    }
}

/// A header to be rewritten in place. Setters leave the checksum to [`update_checksum`](HeaderMut::update_checksum).
#[derive(Debug)]
pub struct HeaderMut<'a> {
    bytes: &'a mut [u8; LEN],
}

impl<'a> HeaderMut<'a> {
    /// The header at the front of `bytes`.
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        fixed_mut(bytes).map(|bytes| HeaderMut { bytes })
    }

    /// The same header, to be read.
    #[inline]
    pub fn as_header(&self) -> Header<'_> {
        Header { bytes: self.bytes }
    }

    /// Sets the source port.
    #[inline]
    pub fn set_source_port(&mut self, port: u16) {
        self.bytes[..2].copy_from_slice(&port.to_be_bytes());
    }

    /// Sets the destination port.
    #[inline]
    pub fn set_destination_port(&mut self, port: u16) {
        self.bytes[2..4].copy_from_slice(&port.to_be_bytes());
    }

    /// Brings a full checksum up to a change of ports and addresses; none stays none.
    #[inline]
    pub fn update_checksum(&mut self, delta: Delta) {
        let [a, b] = delta.apply_udp(self.as_header().checksum());
        (self.bytes[6], self.bytes[7]) = (a, b);
    }

    /// Brings a partial checksum up to a change of addresses.
    #[inline]
    pub fn update_partial(&mut self, delta: Delta) {
        let [a, b] = delta.apply_partial(self.as_header().checksum());
        (self.bytes[6], self.bytes[7]) = (a, b);
    }

    /// Sets the checksum of the datagram whose pseudo-header is `pseudo` and whose data is `data`.
    pub fn fill_checksum(&mut self, pseudo: Sum, data: &[u8]) {
        (self.bytes[6], self.bytes[7]) = (0, 0);
        let [a, b] = pseudo.add_bytes(self.bytes).add_bytes(data).checksum_udp();
        (self.bytes[6], self.bytes[7]) = (a, b);
    }
}
