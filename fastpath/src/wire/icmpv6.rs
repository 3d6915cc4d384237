//! ICMP for IPv6 (RFC 4443). Its checksum covers the pseudo-header of IPv6.

use super::error::{fixed, fixed_mut};
use super::{Delta, HeaderError, Sum};

#[cfg(test)]
mod tests;

/// Bytes of the header with its first word of data, which all types have.
pub const LEN: usize = 8;
/// Where the checksum is in the header.
pub const CHECKSUM_OFFSET: usize = 2;
/// Where an echo's identifier is in the header.
pub const IDENTIFIER_OFFSET: usize = 4;

/// Destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 1;
/// Packet too big.
pub const PACKET_TOO_BIG: u8 = 2;
/// Time exceeded.
pub const TIME_EXCEEDED: u8 = 3;
/// Parameter problem.
pub const PARAMETER_PROBLEM: u8 = 4;
/// Echo request.
pub const ECHO_REQUEST: u8 = 128;
/// Echo reply.
pub const ECHO_REPLY: u8 = 129;
/// Router solicitation (RFC 4861).
pub const ROUTER_SOLICITATION: u8 = 133;
/// Router advertisement (RFC 4861).
pub const ROUTER_ADVERTISEMENT: u8 = 134;
/// Neighbour solicitation (RFC 4861).
pub const NEIGHBOUR_SOLICITATION: u8 = 135;
/// Neighbour advertisement (RFC 4861).
pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
/// Redirect (RFC 4861).
pub const REDIRECT: u8 = 137;

/// Codes of [`DESTINATION_UNREACHABLE`].
pub mod unreachable {
    /// No route to the destination.
    pub const NO_ROUTE: u8 = 0;
    /// Communication administratively prohibited.
    pub const PROHIBITED: u8 = 1;
    /// Address unreachable.
    pub const ADDRESS: u8 = 3;
    /// Port unreachable.
    pub const PORT: u8 = 4;
}

/// True for the types that report an error and quote the packet that it is about: all below 128 (RFC 4443,
/// section 2.1), known or not.
#[inline]
pub const fn is_error(message: u8) -> bool {
    message < 128
}

/// Fields of a message to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fields {
    /// Type.
    pub message: u8,
    /// Code.
    pub code: u8,
    /// The second word, which means something else for each type.
    pub rest: [u8; 4],
}

impl Fields {
    /// Writes the header of a message whose data is `data`, with the checksum over both and over `pseudo`.
    pub fn emit(&self, into: &mut [u8; LEN], pseudo: Sum, data: &[u8]) {
        let [a, b, c, d] = self.rest;
        *into = [self.message, self.code, 0, 0, a, b, c, d];
        [into[2], into[3]] = pseudo.add_bytes(into).add_bytes(data).checksum();
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

    /// Type.
    #[inline]
    pub fn message(&self) -> u8 {
        self.bytes[0]
    }

    /// Code.
    #[inline]
    pub fn code(&self) -> u8 {
        self.bytes[1]
    }

    /// The checksum field as it is sent.
    #[inline]
    pub fn checksum(&self) -> [u8; 2] {
        [self.bytes[2], self.bytes[3]]
    }

    /// The identifier of an echo.
    #[inline]
    pub fn identifier(&self) -> u16 {
        u16::from_be_bytes([self.bytes[4], self.bytes[5]])
    }

    /// The sequence number of an echo.
    #[inline]
    pub fn sequence(&self) -> u16 {
        u16::from_be_bytes([self.bytes[6], self.bytes[7]])
    }

    /// The MTU of the next hop, in bytes, that "packet too big" states.
    #[inline]
    pub fn mtu(&self) -> u32 {
        u32::from_be_bytes([self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]])
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

    /// Sets the type. The checksum is left as it is.
    #[inline]
    pub fn set_message(&mut self, message: u8) {
        self.bytes[0] = message;
    }

    /// Sets the identifier of an echo. The checksum is left as it is.
    #[inline]
    pub fn set_identifier(&mut self, identifier: u16) {
        [self.bytes[4], self.bytes[5]] = identifier.to_be_bytes();
    }

    /// Sets the MTU that "packet too big" states. The checksum is left as it is.
    #[inline]
    pub fn set_mtu(&mut self, mtu: u32) {
        [self.bytes[4], self.bytes[5], self.bytes[6], self.bytes[7]] = mtu.to_be_bytes();
    }

    /// Brings the checksum up to a change.
    #[inline]
    pub fn update_checksum(&mut self, delta: Delta) {
        [self.bytes[2], self.bytes[3]] = delta.apply(self.as_header().checksum());
    }

    /// Turns an echo request into its reply, checksum included. False, and no change, for other messages.
    pub fn make_echo_reply(&mut self) -> bool {
        let is_request = self.bytes[0] == ECHO_REQUEST && self.bytes[1] == 0;
        if is_request {
            self.set_message(ECHO_REPLY);
            self.update_checksum(Delta::of_u16(u16::from(ECHO_REQUEST) << 8, u16::from(ECHO_REPLY) << 8));
        }
        is_request
    }
}
