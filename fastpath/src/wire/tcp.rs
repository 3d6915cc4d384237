//! TCP (RFC 9293).

use core::fmt;
use core::ops::BitOr;

use super::error::{fixed, fixed_mut};
use super::{Delta, HeaderError};

#[cfg(test)]
pub(crate) mod tests;

/// Bytes of the header without options.
pub const LEN: usize = 20;
/// Bytes of the header with as many options as there can be.
pub const MAX_LEN: usize = 60;
/// Where the checksum is in the header.
pub const CHECKSUM_OFFSET: usize = 16;

/// Kinds of options (IANA "TCP Option Kind Numbers").
pub mod option {
    /// End of the list.
    pub const END: u8 = 0;
    /// Nothing: padding of one byte.
    pub const NO_OPERATION: u8 = 1;
    /// Maximum segment size (RFC 9293).
    pub const MAXIMUM_SEGMENT_SIZE: u8 = 2;
    /// Window scale (RFC 7323).
    pub const WINDOW_SCALE: u8 = 3;
}

/// The control bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
#[repr(transparent)]
pub struct Flags(pub u8);

impl Flags {
    /// No more data from the sender.
    pub const FIN: Flags = Flags(0x01);
    /// Synchronises sequence numbers: opens a connection.
    pub const SYN: Flags = Flags(0x02);
    /// Ends the connection at once.
    pub const RST: Flags = Flags(0x04);
    /// Data is to be delivered without delay.
    pub const PSH: Flags = Flags(0x08);
    /// The acknowledgment number means something.
    pub const ACK: Flags = Flags(0x10);
    /// The urgent pointer means something.
    pub const URG: Flags = Flags(0x20);
    /// Congestion was seen (RFC 3168).
    pub const ECE: Flags = Flags(0x40);
    /// The congestion window was reduced (RFC 3168).
    pub const CWR: Flags = Flags(0x80);

    /// True when all of `flags` are set.
    #[inline]
    pub const fn contains(self, flags: Flags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// True when one of `flags` is set.
    #[inline]
    pub const fn intersects(self, flags: Flags) -> bool {
        self.0 & flags.0 != 0
    }
}

impl BitOr for Flags {
    type Output = Flags;

    fn bitor(self, other: Flags) -> Flags {
        Flags(self.0 | other.0)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flags(")?;
        for (bit, letter) in ["F", "S", "R", "P", "A", "U", "E", "C"].into_iter().enumerate() {
            if self.0 >> bit & 1 != 0 {
                f.write_str(letter)?;
            }
        }
        f.write_str(")")
    }
}

/// Fields of a header to be written: no options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Source port.
    pub source_port: u16,
    /// Destination port.
    pub destination_port: u16,
    /// Sequence number of the first byte.
    pub sequence: u32,
    /// The sequence number that is expected next from the other side.
    pub acknowledgment: u32,
    /// The control bits.
    pub flags: Flags,
    /// Receive window, not scaled.
    pub window: u16,
}

impl Fields {
    /// Writes the header without a checksum.
    pub fn emit(&self, into: &mut [u8; LEN]) {
        into[..2].copy_from_slice(&self.source_port.to_be_bytes());
        into[2..4].copy_from_slice(&self.destination_port.to_be_bytes());
        into[4..8].copy_from_slice(&self.sequence.to_be_bytes());
        into[8..12].copy_from_slice(&self.acknowledgment.to_be_bytes());
        into[12..14].copy_from_slice(&[5 << 4, self.flags.0]);
        into[14..16].copy_from_slice(&self.window.to_be_bytes());
        into[16..].copy_from_slice(&[0; 4]);
    }
}

/// A header to be read.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
    options: &'a [u8],
}

impl<'a> Header<'a> {
    /// The header at the front of `bytes`, with its options.
    #[inline]
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        let fixed = fixed::<LEN>(bytes)?;
        let len = usize::from(fixed[12] >> 4) * 4;
        let options = bytes.get(LEN..len).ok_or(if len < LEN {
            HeaderError::Length(len)
        } else {
            HeaderError::Truncated { needed: len, had: bytes.len() }
        })?;
        Ok(Header { bytes: fixed, options })
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

    /// Sequence number of the first byte.
    #[inline]
    pub fn sequence(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
    }

    /// The sequence number that is expected next from the other side.
    #[inline]
    pub fn acknowledgment(&self) -> u32 {
        u32::from_be_bytes([self.bytes[8], self.bytes[9], self.bytes[10], self.bytes[11]])
    }

    /// Bytes of the header with its options.
    #[inline]
    pub fn header_len(&self) -> usize {
        LEN + self.options.len()
    }

    /// The control bits.
    #[inline]
    pub fn flags(&self) -> Flags {
        Flags(self.bytes[13])
    }

    /// Receive window, not scaled.
    #[inline]
    pub fn window(&self) -> u16 {
        u16::from_be_bytes([self.bytes[14], self.bytes[15]])
    }

    /// The checksum field as it is sent.
    #[inline]
    pub fn checksum(&self) -> [u8; 2] {
        [self.bytes[16], self.bytes[17]]
    }

    /// The options, one after the other, until their end or the first that is malformed.
    pub fn options(&self) -> Options<'a> {
        Options { rest: self.options }
    }

    /// Maximum segment size, in bytes of payload.
    pub fn maximum_segment_size(&self) -> Option<u16> {
        self.options().find_map(|(kind, value)| match (kind, value) {
            (option::MAXIMUM_SEGMENT_SIZE, &[high, low]) => Some(u16::from_be_bytes([high, low])),
            _ => None,
        })
    }

    /// Window scale, in bits to shift by; more than 14 is taken as 14 (RFC 7323, section 2.3).
    pub fn window_scale(&self) -> Option<u8> {
        self.options().find_map(|(kind, value)| match (kind, value) {
            (option::WINDOW_SCALE, &[shift]) => Some(shift.min(14)),
            _ => None,
        })
    }
}

/// The options of a header as pairs of kind and value. Padding is left out.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Options<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        while let [option::NO_OPERATION, rest @ ..] = self.rest {
            self.rest = rest;
        }
        let whole = core::mem::take(&mut self.rest);
        let [kind, len, ..] = *whole else { return None };
        if kind == option::END {
            return None;
        }
        // The length counts kind and length too; one below 2 makes an empty range, and ends the walk.
        let value = whole.get(2..usize::from(len))?;
        self.rest = whole.get(usize::from(len)..)?;
        Some((kind, value))
    }
}

/// A header to be rewritten in place. Setters leave the checksum to [`update_checksum`](HeaderMut::update_checksum).
#[derive(Debug)]
pub struct HeaderMut<'a> {
    bytes: &'a mut [u8; LEN],
}

impl<'a> HeaderMut<'a> {
    /// The header at the front of `bytes`. Options are not looked at.
    #[inline]
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        fixed_mut(bytes).map(|bytes| HeaderMut { bytes })
    }

    /// The checksum field as it is sent.
    #[inline]
    pub fn checksum(&self) -> [u8; 2] {
        [self.bytes[16], self.bytes[17]]
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

    /// Sets the checksum field.
    #[inline]
    pub fn set_checksum(&mut self, field: [u8; 2]) {
        [self.bytes[16], self.bytes[17]] = field;
    }

    /// Brings a full checksum up to a change of ports and addresses.
    #[inline]
    pub fn update_checksum(&mut self, delta: Delta) {
        self.set_checksum(delta.apply(self.checksum()));
    }

    /// Brings a partial checksum up to a change of addresses.
    #[inline]
    pub fn update_partial(&mut self, delta: Delta) {
        self.set_checksum(delta.apply_partial(self.checksum()));
    }
}
