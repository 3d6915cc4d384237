//! SCTP (RFC 9260).

use super::HeaderError;
use super::crc32c::Crc32c;
use super::error::{fixed, fixed_mut};

#[cfg(test)]
mod tests;

/// Bytes of the common header.
pub const LEN: usize = 12;
/// Where the checksum is in the header.
pub const CHECKSUM_OFFSET: usize = 8;

/// Types of chunks (IANA "SCTP Chunk Types").
pub mod chunk {
    /// Payload data.
    pub const DATA: u8 = 0;
    /// Opens an association.
    pub const INIT: u8 = 1;
    /// Answers [`INIT`].
    pub const INIT_ACK: u8 = 2;
    /// Selective acknowledgment.
    pub const SACK: u8 = 3;
    /// Asks whether a path is alive.
    pub const HEARTBEAT: u8 = 4;
    /// Answers [`HEARTBEAT`].
    pub const HEARTBEAT_ACK: u8 = 5;
    /// Ends the association at once.
    pub const ABORT: u8 = 6;
    /// Begins to end the association.
    pub const SHUTDOWN: u8 = 7;
    /// Answers [`SHUTDOWN`].
    pub const SHUTDOWN_ACK: u8 = 8;
    /// Operation error.
    pub const ERROR: u8 = 9;
    /// Returns the cookie of [`INIT_ACK`].
    pub const COOKIE_ECHO: u8 = 10;
    /// Answers [`COOKIE_ECHO`]; the association is up.
    pub const COOKIE_ACK: u8 = 11;
    /// Answers [`SHUTDOWN_ACK`]; the association is over.
    pub const SHUTDOWN_COMPLETE: u8 = 14;
}

/// Fields of a common header to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Verification tag of the association.
    pub verification_tag: u32,
}

impl Fields {
    /// Writes the header without a checksum.
    pub fn emit(&self, into: &mut [u8; LEN]) {
        into[..2].copy_from_slice(&self.source_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        into[4..8].copy_from_slice(&self.verification_tag.to_be_bytes());
        into[8..].copy_from_slice(&[0; 4]);
    }
}

/// A common header to be read, and the type of the chunk behind it.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
    chunks: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header at the front of `bytes`.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let fixed = fixed(bytes)?;
        Ok(Header { bytes: fixed, chunks: bytes.get(LEN..).unwrap_or_default() })
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

    /// Verification tag of the association; 0 in a packet with INIT.
    #[inline]
    pub fn verification_tag(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// The checksum as it is sent: little-endian.
    #[inline]
    pub fn checksum(&self) -> [u8; 4] {
        [self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]]
    }

    /// Type of the first chunk (see [`chunk`]); none when the packet ends before it.
    #[inline]
    pub fn first_chunk(&self) -> Option<u8> {
        self.chunks.first().copied()
    }
}

/// A common header to be rewritten in place. Setters leave the checksum as it is: see [`fill_checksum`], and
/// [`crc32c`](super::crc32c) for the way that does not read the packet.
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

    /// Sets the checksum as it is sent.
    #[inline]
    pub fn set_checksum(&mut self, field: [u8; 4]) {
        self.bytes[8..].copy_from_slice(&field);
    }
}

/// Begins the checksum of a packet whose first segment is `first`; the others follow by [`Crc32c::add_bytes`], and the
/// field is [`checksum_field`]. What the field holds now does not matter.
pub fn begin_checksum(first: &[u8]) -> Result<Crc32c, HeaderError> {
    let needed = HeaderError::Truncated { needed: LEN, had: first.len() };
    let (header, chunks) = first.split_first_chunk::<LEN>().ok_or(needed)?;
    let (before, _) = header.split_at(CHECKSUM_OFFSET);
    Ok(Crc32c::new().add_bytes(before).add_bytes(&[0; 4]).add_bytes(chunks))
}

/// The bytes of the checksum field (RFC 9260, appendix A).
pub fn checksum_field(crc: Crc32c) -> [u8; 4] {
    crc.finish().to_le_bytes()
}

/// Computes the checksum of a contiguous packet and stores it.
pub fn fill_checksum(packet: &mut [u8]) -> Result<(), HeaderError> {
    let field = checksum_field(begin_checksum(packet)?);
    HeaderMut::new_checked(packet)?.set_checksum(field);
    Ok(())
}
