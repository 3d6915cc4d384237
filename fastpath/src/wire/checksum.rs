//! The internet checksum (RFC 1071), and its update without reading the packet again (RFC 1624).
//!
//! The one's complement sum does not depend on the order of bytes, only its result does. So words are taken as
//! the machine loads them, and every value stays in that order until it is asked for as a number.

use core::net::{Ipv4Addr, Ipv6Addr};

use super::IpProtocol;

#[cfg(test)]
mod tests;

/// A one's complement sum on its way: 32-bit words gathered in 64 bits, so that carries are folded once at the
/// end. Room for 2³² words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Sum(u64);

impl Sum {
    /// The sum of nothing.
    pub const ZERO: Sum = Sum(0);

    /// The sum over `bytes`; a last odd byte counts as if a zero followed.
    #[inline(always)]
    pub fn of(bytes: &[u8]) -> Sum {
        Sum::ZERO.add_bytes(bytes)
    }

    /// Adds `bytes`, which begin an even number of bytes into what is summed.
    #[inline(always)]
    pub fn add_bytes(self, bytes: &[u8]) -> Sum {
        let (words, rest) = bytes.as_chunks::<4>();
        let mut sum = self.0;
        for word in words {
            sum += u64::from(u32::from_ne_bytes(*word));
        }
        let last = match *rest {
            [a] => [a, 0, 0, 0],
            [a, b] => [a, b, 0, 0],
            [a, b, c] => [a, b, c, 0],
            _ => return Sum(sum),
        };
        Sum(sum + u64::from(u32::from_ne_bytes(last)))
    }

    /// Adds one segment of a chain, which begins `offset` bytes into what is summed, whether even or odd.
    #[inline(always)]
    pub fn add_segment(self, segment: &[u8], offset: usize) -> Sum {
        if offset.is_multiple_of(2) {
            return self.add_bytes(segment);
        }
        // An odd start exchanges the bytes of every word, and thereby of their sum (RFC 1071, section 2 (B)).
        Sum(self.0 + u64::from(fold(Sum::of(segment).0).swap_bytes()))
    }

    /// Adds one 16-bit number of the packet.
    #[inline(always)]
    pub const fn add_u16(self, number: u16) -> Sum {
        Sum(self.0 + number.to_be() as u64)
    }

    /// Adds one 32-bit number of the packet.
    #[inline(always)]
    pub const fn add_u32(self, number: u32) -> Sum {
        Sum(self.0 + number.to_be() as u64)
    }

    /// Adds an IPv4 header without options: the same as [`add_bytes`](Sum::add_bytes), without its loop.
    #[inline(always)]
    pub fn add_ipv4_header(self, header: &[u8; 20]) -> Sum {
        let (words, _) = header.as_chunks::<4>();
        Sum(words.iter().fold(self.0, |sum, word| sum + u64::from(u32::from_ne_bytes(*word))))
    }

    /// The pseudo-header of TCP and UDP over IPv4 (RFC 9293, section 3.1). `len`: bytes of layer 4.
    #[inline(always)]
    pub fn pseudo_v4(source: Ipv4Addr, destination: Ipv4Addr, protocol: IpProtocol, len: u16) -> Sum {
        Sum::ZERO
            .add_bytes(&source.octets())
            .add_bytes(&destination.octets())
            .add_u16(u16::from(protocol.0))
            .add_u16(len)
    }

    /// The pseudo-header of layer 4 over IPv6 (RFC 8200, section 8.1). `len`: bytes of layer 4.
    #[inline(always)]
    pub fn pseudo_v6(source: Ipv6Addr, destination: Ipv6Addr, protocol: IpProtocol, len: u32) -> Sum {
        Sum::ZERO
            .add_bytes(&source.octets())
            .add_bytes(&destination.octets())
            .add_u32(len)
            .add_u32(u32::from(protocol.0))
    }

    /// The sum itself, not complemented: what the checksum field holds while the checksum is partial.
    #[inline(always)]
    #[must_use]
    pub fn partial(self) -> [u8; 2] {
        fold(self.0).to_ne_bytes()
    }

    /// The checksum field of IPv4, TCP and ICMP.
    #[inline(always)]
    #[must_use]
    pub fn checksum(self) -> [u8; 2] {
        (!fold(self.0)).to_ne_bytes()
    }

    /// The checksum field of UDP: zero would say "no checksum" and is sent as all ones (RFC 768).
    #[inline(always)]
    #[must_use]
    pub fn checksum_udp(self) -> [u8; 2] {
        match !fold(self.0) {
            0 => [0xff, 0xff],
            sum => sum.to_ne_bytes(),
        }
    }

    /// True when this is the sum over something that includes its own, right checksum.
    #[inline(always)]
    #[must_use]
    pub fn is_valid(self) -> bool {
        // A multiple of 0xffff that is not zero folds to 0xffff: one multiplication instead of four additions.
        self.0 != 0 && self.0.is_multiple_of(0xffff)
    }
}

/// What a change of header fields does to the checksum over them: `~m + m'` of RFC 1624, equation 3.
///
/// Computed once per flow, applied per packet. Deltas of several fields [`join`](Delta::join) into one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[must_use]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const NONE: Delta = Delta(0);

    /// TTL or hop limit less one. It is the upper byte of its word: 0x0100 is taken off, whatever it was.
    pub const TTL_DECREMENT: Delta = Delta(0xfeff_u16.to_be());

    /// As a number, to be kept in a flow's entry.
    #[inline(always)]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// From what [`bits`](Delta::bits) gave.
    #[inline(always)]
    pub const fn from_bits(bits: u16) -> Delta {
        Delta(bits)
    }

    /// A 16-bit field at an even offset: a port, an identifier.
    #[inline(always)]
    pub const fn of_u16(old: u16, new: u16) -> Delta {
        Delta(add((!old).to_be(), new.to_be()))
    }

    /// A 32-bit field at an even offset.
    #[inline(always)]
    pub const fn of_u32(old: u32, new: u32) -> Delta {
        Delta(fold((!old).to_be() as u64 + new.to_be() as u64))
    }

    /// An IPv4 address.
    #[inline(always)]
    pub const fn of_v4(old: Ipv4Addr, new: Ipv4Addr) -> Delta {
        Delta::of_u32(old.to_bits(), new.to_bits())
    }

    /// An IPv6 address.
    #[inline(always)]
    pub fn of_v6(old: Ipv6Addr, new: Ipv6Addr) -> Delta {
        let old = fold(Sum::of(&old.octets()).0);
        Delta(fold(u64::from(!old) + Sum::of(&new.octets()).0))
    }

    /// Both changes at once.
    #[inline(always)]
    pub const fn join(self, other: Delta) -> Delta {
        Delta(add(self.0, other.0))
    }

    /// The change that takes this one back: what the replies of a translated flow need.
    #[inline(always)]
    pub const fn inverse(self) -> Delta {
        // Of the two zeros of one's complement, `NONE` is the one that leaves every checksum as it is.
        Delta(if self.0 == 0 { 0 } else { !self.0 })
    }

    /// The changed checksum of IPv4, TCP or ICMP.
    #[inline(always)]
    #[must_use]
    pub const fn apply(self, field: [u8; 2]) -> [u8; 2] {
        (!add(!u16::from_ne_bytes(field), self.0)).to_ne_bytes()
    }

    /// The changed checksum of UDP: none stays none, and zero becomes all ones (RFC 768).
    #[inline(always)]
    #[must_use]
    pub const fn apply_udp(self, field: [u8; 2]) -> [u8; 2] {
        let field = u16::from_ne_bytes(field);
        let changed = !add(!field, self.0);
        let changed = if changed == 0 { 0xffff } else { changed };
        if field == 0 { [0, 0] } else { changed.to_ne_bytes() }
    }

    /// The changed field of a partial checksum, which holds the pseudo-header's sum, not complemented. Only what
    /// is part of the pseudo-header may be in such a delta: addresses, never ports.
    #[inline(always)]
    #[must_use]
    pub const fn apply_partial(self, field: [u8; 2]) -> [u8; 2] {
        add(u16::from_ne_bytes(field), self.0).to_ne_bytes()
    }
}

/// The one's complement sum: the carry is added back in.
#[inline(always)]
const fn add(a: u16, b: u16) -> u16 {
    let (sum, carry) = a.overflowing_add(b);
    sum + carry as u16
}

/// Adds the carries back in until 16 bits hold the sum. Zero only if `sum` is.
#[inline]
const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}
