//! The frames of the workload.

use millrace_fastpath::wire::{IpProtocol, Sum, ipv4, ipv6};
use std::net::{Ipv4Addr, Ipv6Addr};

/// An IP version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Family {
    /// IPv4: frames of 60 bytes.
    V4,
    /// IPv6: frames of 80 bytes.
    V6,
}

/// UDP data in each packet: 60-byte frames with IPv4.
const PAYLOAD: usize = 18;
/// MAC addresses: the gateway's, then the sender's.
pub(crate) const MACS: [u8; 12] = [2, 0x4d, 0x52, 0, 0, 1, 2, 0, 0, 0, 0, 1];
/// The service's port.
pub(crate) const SERVICE_PORT: u16 = 80;

/// The client of flow `flow`: an address and a port. 2¹⁴ ports an address.
pub(crate) fn client(flow: u32) -> (u32, u16) {
    (flow >> 14, 1024 + (flow & 0x3fff) as u16)
}

/// The service's address with this number.
pub(crate) fn vip_v4(service: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(0x0a60_0000 + service)
}

/// As [`vip_v4`].
pub(crate) fn vip_v6(service: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits((0xfd96 << 112) + u128::from(service))
}

/// A UDP packet of flow `flow` to a service.
pub fn packet(family: Family, flow: u32, service: u32) -> Vec<u8> {
    let (host, port) = client(flow);
    let mut udp = [0; 8 + PAYLOAD];
    udp[..2].copy_from_slice(&port.to_be_bytes());
    udp[2..4].copy_from_slice(&SERVICE_PORT.to_be_bytes());
    udp[4..6].copy_from_slice(&((8 + PAYLOAD) as u16).to_be_bytes());
    let mut bytes = MACS.to_vec();
    let payload_len = udp.len() as u16;
    match family {
        Family::V4 => {
            let (source, destination) = (Ipv4Addr::from_bits(0x0a01_0000 + host), vip_v4(service));
            let fields = ipv4::Fields {
                source,
                destination,
                protocol: IpProtocol::UDP,
                ttl: 64,
                traffic_class: 0,
                identification: 0,
                do_not_fragment: true,
                payload_len,
            };
            let mut header = [0; ipv4::LEN];
            fields.emit(&mut header);
            bytes.extend([0x08, 0x00]);
            bytes.extend(header);
            let sum = Sum::pseudo_v4(source, destination, IpProtocol::UDP, payload_len);
            [udp[6], udp[7]] = sum.add_bytes(&udp).checksum_udp();
        }
        Family::V6 => {
            let source = Ipv6Addr::from_bits((0xfd01 << 112) + u128::from(host));
            let destination = vip_v6(service);
            let fields = ipv6::Fields {
                source,
                destination,
                next_header: IpProtocol::UDP,
                hop_limit: 64,
                traffic_class: 0,
                payload_len,
            };
            let mut header = [0; ipv6::LEN];
            fields.emit(&mut header);
            bytes.extend([0x86, 0xdd]);
            bytes.extend(header);
            let sum = Sum::pseudo_v6(source, destination, IpProtocol::UDP, u32::from(payload_len));
            [udp[6], udp[7]] = sum.add_bytes(&udp).checksum_udp();
        }
    }
    bytes.extend(udp);
    bytes
}
