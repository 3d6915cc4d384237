//! ARP (RFC 826) for IPv4 over Ethernet.

use core::net::Ipv4Addr;

use super::error::{fixed, fixed_mut};
use super::{EtherType, HeaderError, MacAddr};

#[cfg(test)]
mod tests;

/// Bytes of a message.
pub const LEN: usize = 28;

/// Hardware type of Ethernet.
pub const ETHERNET: u16 = 1;
/// Operation: who has the target's address?
pub const REQUEST: u16 = 1;
/// Operation: the sender has the sender's address.
pub const REPLY: u16 = 2;

/// Fields of a message to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// [`REQUEST`] or [`REPLY`].
    pub operation: u16,
    /// Who sends.
    pub sender_mac: MacAddr,
    /// Who sends.
    pub sender_ip: Ipv4Addr,
    /// Who is asked or answered; zero in a request.
    pub target_mac: MacAddr,
    /// Who is asked or answered.
    pub target_ip: Ipv4Addr,
}

impl Fields {
    /// Writes the message.
    pub fn emit(&self, into: &mut [u8; LEN]) {
        into[..2].copy_from_slice(&ETHERNET.to_be_bytes());
        into[2..4].copy_from_slice(&EtherType::IPV4.0.to_be_bytes());
        into[4..6].copy_from_slice(&[6, 4]);
        into[6..8].copy_from_slice(&self.operation.to_be_bytes());
        into[8..14].copy_from_slice(&self.sender_mac.0);
        into[14..18].copy_from_slice(&self.sender_ip.octets());
        into[18..24].copy_from_slice(&self.target_mac.0);
        into[24..].copy_from_slice(&self.target_ip.octets());
    }
}

/// A message to be read.
#[derive(Clone, Copy, Debug)]
pub struct Header<'a> {
    bytes: &'a [u8; LEN],
}

impl<'a> Header<'a> {
    /// The message at the front of `bytes`, which must be about IPv4 over Ethernet.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, HeaderError> {
        check(Header { bytes: fixed(bytes)? })
    }

    /// [`REQUEST`] or [`REPLY`].
    pub fn operation(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    /// Who sends.
    pub fn sender_mac(&self) -> MacAddr {
        self.mac::<8>()
    }

    /// Who sends.
    pub fn sender_ip(&self) -> Ipv4Addr {
        self.ip::<14>()
    }

    /// Who is asked or answered.
    pub fn target_mac(&self) -> MacAddr {
        self.mac::<18>()
    }

    /// Who is asked or answered.
    pub fn target_ip(&self) -> Ipv4Addr {
        self.ip::<24>()
    }

    fn mac<const OFFSET: usize>(&self) -> MacAddr {
        let mut octets = [0; 6];
        octets.copy_from_slice(&self.bytes[OFFSET..OFFSET + 6]);
        MacAddr(octets)
    }

    fn ip<const OFFSET: usize>(&self) -> Ipv4Addr {
        let mut octets = [0; 4];
        octets.copy_from_slice(&self.bytes[OFFSET..OFFSET + 4]);
        Ipv4Addr::from(octets)
    }
}

fn check(header: Header<'_>) -> Result<Header<'_>, HeaderError> {
    let [a, b, c, d, hardware_len, protocol_len, ..] = *header.bytes;
    let (hardware, protocol) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    match (hardware, EtherType(protocol), hardware_len, protocol_len) {
        (ETHERNET, EtherType::IPV4, 6, 4) => Ok(header),
        (ETHERNET, EtherType::IPV4, 6, len) | (ETHERNET, EtherType::IPV4, len, _) => {
            Err(HeaderError::Length(usize::from(len)))
        }
        (ETHERNET, EtherType(protocol), ..) => Err(HeaderError::Kind(protocol)),
        (hardware, ..) => Err(HeaderError::Kind(hardware)),
    }
}

/// A message to be rewritten in place.
#[derive(Debug)]
pub struct HeaderMut<'a> {
    bytes: &'a mut [u8; LEN],
}

impl<'a> HeaderMut<'a> {
    /// The message at the front of `bytes`, checked like [`Header::new_checked`].
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, HeaderError> {
        let header = HeaderMut { bytes: fixed_mut(bytes)? };
        check(header.as_header())?;
        Ok(header)
    }

    /// The same message, to be read.
    pub fn as_header(&self) -> Header<'_> {
        Header { bytes: self.bytes }
    }

    /// Turns a request into the reply that the owner of `mac` gives.
    pub fn make_reply(&mut self, mac: MacAddr) {
        let request = self.as_header();
        let reply = Fields {
            operation: REPLY,
            sender_mac: mac,
            sender_ip: request.target_ip(),
            target_mac: request.sender_mac(),
            target_ip: request.sender_ip(),
        };
        reply.emit(self.bytes);
    }
}
