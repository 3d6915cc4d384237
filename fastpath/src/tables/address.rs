//! An IP address of either family in one shape.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An IPv4 or IPv6 address as 128 bits; IPv4 as `::ffff:a.b.c.d` (RFC 4291, section 2.5.5.2). That range never
/// appears on the wire as IPv6: the parser's users drop it, so the two families cannot be confused.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(u128);

const MAPPED: u128 = 0xffff_0000_0000;

impl Address {
    /// From the four bytes of an IPv4 address, in host order.
    #[inline]
    pub const fn from_v4(bits: u32) -> Self {
        Address(MAPPED | bits as u128)
    }

    /// From the sixteen bytes of an IPv6 address, in host order.
    #[inline]
    pub const fn from_v6(bits: u128) -> Self {
        Address(bits)
    }

    /// All 128 bits.
    #[inline]
    pub const fn bits(self) -> u128 {
        self.0
    }

    /// Whether it is an IPv4 address.
    #[inline]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == MAPPED >> 32
    }

    /// The IPv4 address's bits; of an IPv6 address the last 32.
    #[inline]
    pub const fn v4_bits(self) -> u32 {
        self.0 as u32
    }

    /// In the standard library's form.
    pub const fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from_bits(self.v4_bits()))
        } else {
            IpAddr::V6(Ipv6Addr::from_bits(self.0))
        }
    }

    /// Whether no packet may be routed from or to it: unspecified, loopback, multicast, broadcast and, in IPv6,
    /// the IPv4-mapped range (RFC 6890).
    #[inline]
    pub const fn is_unroutable(self) -> bool {
        if self.is_v4() {
            let first = (self.0 >> 24) as u8;
            first == 0 || first == 127 || first >= 224
        } else {
            (self.0 >> 120) as u8 == 0xff || self.0 <= 1
        }
    }

    /// Whether it is valid within one network stack only: 127.0.0.0/8 or ::1.
    #[inline]
    pub const fn is_loopback(self) -> bool {
        if self.is_v4() { (self.0 >> 24) as u8 == 127 } else { self.0 == 1 }
    }

    /// Whether it is valid on one link only: 169.254.0.0/16 or fe80::/10.
    #[inline]
    pub const fn is_link_local(self) -> bool {
        if self.is_v4() { (self.0 >> 16) as u16 == 0xa9fe } else { self.0 >> 118 == 0xfe80 >> 6 }
    }
}

impl From<IpAddr> for Address {
    fn from(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(v4) => Address::from_v4(v4.to_bits()),
            IpAddr::V6(v6) => Address::from_v6(v6.to_bits()),
        }
    }
}

impl From<Ipv4Addr> for Address {
    fn from(ip: Ipv4Addr) -> Self {
        Address::from_v4(ip.to_bits())
    }
}

impl From<Ipv6Addr> for Address {
    fn from(ip: Ipv6Addr) -> Self {
        Address::from_v6(ip.to_bits())
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.to_ip().fmt(f)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
