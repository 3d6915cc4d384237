//! Keys of the maps of programs in the kernel, whose layout is that of `bpf/keys.h`.

use aya::Pod;
use std::net::IpAddr;

/// `struct endpoint`: where something is served.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
#[repr(C)]
pub(crate) struct EndpointKey {
    address: [u8; 16],
    /// In network order.
    port: [u8; 2],
    protocol: u8,
    zero: u8,
}

// SAFETY: twenty bytes without padding, of which any pattern is a value.
unsafe impl Pod for EndpointKey {}

impl EndpointKey {
    /// Of an IP protocol's port.
    pub(crate) fn new(address: IpAddr, protocol: u8, port: u16) -> EndpointKey {
        EndpointKey { address: octets(address), port: port.to_be_bytes(), protocol, zero: 0 }
    }
}

/// `struct address`: either family's, IPv4 mapped (RFC 4291, section 2.5.5.2).
pub(crate) fn octets(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_laid_out_as_programs_read_it() {
        let bytes = |address: &str| {
            let key = EndpointKey::new(address.parse().unwrap(), 6, 0x1234);
            [&key.address[..], &key.port, &[key.protocol, key.zero]].concat()
        };
        let v4 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 192, 0, 2, 1, 0x12, 0x34, 6, 0];
        assert_eq!(bytes("192.0.2.1"), v4);
        let v6 = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0x12, 0x34, 6, 0];
        assert_eq!(bytes("::1"), v6);
        assert_eq!(size_of::<EndpointKey>(), 20);
    }
}
