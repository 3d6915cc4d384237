//! Ethernet II (IEEE 802.3).

use core::fmt;
use core::str::FromStr;

use super::HeaderError;
use super::error::{fixed, fixed_mut};

#[cfg(test)]
mod tests;

/// Bytes of the header.
pub const LEN: usize = 14;

/// A MAC address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct MacAddr(pub [u8; 6]);

impl MacAddr {
    /// Everybody on the link.
    pub const BROADCAST: MacAddr = MacAddr([0xff; 6]);

    /// The bytes as they are sent.
    #[inline]
    pub const fn octets(self) -> [u8; 6] {
        self.0
    }

    /// True for group addresses, broadcast among them.
    #[inline]
    pub const fn is_multicast(self) -> bool {
        self.0[0] & 1 != 0
    }

    /// True for the address of one station: not a group, not all zeroes.
    #[inline]
    pub const fn is_unicast(self) -> bool {
        !self.is_multicast() && !matches!(self.0, [0, 0, 0, 0, 0, 0])
    }
}

impl fmt::Display for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for MacAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A text that is not six pairs of hexadecimal digits with colons or hyphens between them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MacAddrError {
    /// Which of the six parts is wrong, counted from 0; 6 when there are more.
    pub part: usize,
}

impl fmt::Display for MacAddrError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a MAC address like 02:4d:52:00:00:01: part {} of 6 is wrong", self.part + 1)
    }
}

impl core::error::Error for MacAddrError {}

impl FromStr for MacAddr {
    type Err = MacAddrError;

    fn from_str(text: &str) -> Result<Self, MacAddrError> {
        let separator = if text.contains('-') { '-' } else { ':' };
        let mut parts = text.split(separator);
        let mut octets = [0; 6];
        for (part, octet) in octets.iter_mut().enumerate() {
            let digits = parts.next().unwrap_or_default();
            // `from_str_radix` would take a sign.
            let hexadecimal = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *octet =
                u8::from_str_radix(digits, 16).ok().filter(|_| hexadecimal).ok_or(MacAddrError { part })?;
        }
        if parts.next().is_some() { Err(MacAddrError { part: 6 }) } else { Ok(MacAddr(octets)) }
    }
}

/// What follows the header (IANA "IEEE 802 Numbers").
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[repr(transparent)]
pub struct EtherType(pub u16);

impl EtherType {
    /// IPv4.
    pub const IPV4: EtherType = EtherType(0x0800);
    /// Address resolution protocol.
    pub const ARP: EtherType = EtherType(0x0806);
    /// An 802.1Q tag.
    pub const VLAN: EtherType = EtherType(0x8100);
    /// IPv6.
    pub const IPV6: EtherType = EtherType(0x86dd);
    /// An 802.1ad service tag.
    pub const SERVICE_VLAN: EtherType = EtherType(0x88a8);
}

/// Fields of a header to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// To whom.
    pub destination: MacAddr,
    /// From whom.
    pub source: MacAddr,
    /// What follows.
    pub ether_type: EtherType,
}

impl Fields {
    /// Writes the header.
    #[inline]
    pub fn emit(&self, into: &mut [u8; LEN]) {
        let mut header = HeaderMut { bytes: into };
        header.set_destination(self.destination);
        header.set_source(self.source);
        header.set_ether_type(self.ether_type);
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

    /// To whom.
    #[inline]
    pub fn destination(&self) -> MacAddr {
        let [a, b, c, d, e, f, ..] = *self.bytes;
        MacAddr([a, b, c, d, e, f])
    }

    /// From whom.
    #[inline]
    pub fn source(&self) -> MacAddr {
        let [_, _, _, _, _, _, a, b, c, d, e, f, ..] = *self.bytes;
        MacAddr([a, b, c, d, e, f])
    }

    /// What follows.
    #[inline]
    pub fn ether_type(&self) -> EtherType {
        EtherType(u16::from_be_bytes([self.bytes[12], self.bytes[13]]))
    }
}

/// A header to be rewritten in place.
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

    /// Sets to whom.
    #[inline]
    pub fn set_destination(&mut self, address: MacAddr) {
        self.bytes[..6].copy_from_slice(&address.0);
    }

    /// Sets from whom.
    #[inline]
    pub fn set_source(&mut self, address: MacAddr) {
        self.bytes[6..12].copy_from_slice(&address.0);
    }

    /// Sets what follows.
    #[inline]
    pub fn set_ether_type(&mut self, ether_type: EtherType) {
        self.bytes[12..].copy_from_slice(&ether_type.0.to_be_bytes());
    }
}
