//! Packets as bytes, with checksums by the book (RFC 1071, RFC 9260 appendix A).

use crate::world::Packet;
use std::net::IpAddr;

const ETHERNET: usize = 14;

/// What a frame turned out to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    /// A packet of the protocol that was sent.
    Packet { source: (IpAddr, u16), destination: (IpAddr, u16) },
    /// A TCP reset.
    Reset { to: IpAddr },
    /// ICMP or ICMPv6 port unreachable.
    PortUnreachable { to: IpAddr },
}

/// A SYN, a datagram or an INIT.
pub(crate) fn build(packet: &Packet, source_mac: [u8; 6], gateway_mac: [u8; 6]) -> Vec<u8> {
    let mut l4 = [packet.ports.0.to_be_bytes(), packet.ports.1.to_be_bytes()].concat();
    match packet.protocol {
        6 => l4.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0x20, 0, 0, 0, 0, 0]),
        17 => l4.extend([0, 12, 0, 0, 1, 2, 3, 4]),
        // An INIT chunk: tag, window, streams, TSN (RFC 9260, section 3.3.2).
        _ => l4.extend([0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1, 0, 1, 0, 0, 0, 1]),
    }
    let at = match packet.protocol {
        6 => 16,
        17 => 6,
        _ => 8,
    };
    match packet.protocol {
        132 => {
            let crc = crc32c(&l4);
            l4[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        protocol => {
            let sum = !ones_sum(&[&pseudo(packet.source, packet.destination, protocol, l4.len())[..], &l4]);
            l4[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        }
    }
    let mut frame = [gateway_mac, source_mac].concat();
    match (packet.source, packet.destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let len = (20 + l4.len()) as u16;
            let mut header =
                vec![0x45, 0, (len >> 8) as u8, len as u8, 0, 1, 0x40, 0, 64, packet.protocol, 0, 0];
            header.extend(source.octets().into_iter().chain(destination.octets()));
            let sum = !ones_sum(&[&header]);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend([8, 0]);
            frame.extend(header);
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, l4.len() as u8, packet.protocol, 64]);
            frame.extend(source.octets().into_iter().chain(destination.octets()));
        }
        mixed => panic!("{mixed:?}"),
    }
    frame.extend(l4);
    frame
}

/// Reads a frame without VLAN tag, options and extension headers, and checks its checksums.
pub(crate) fn see(frame: &[u8], sent: u8) -> Seen {
    let v4 = frame[12..14] == [8, 0];
    let (source, destination, protocol, l4) = match v4 {
        true => {
            let header = &frame[ETHERNET..ETHERNET + 20];
            assert_eq!(ones_sum(&[header]), 0xffff, "IPv4 header checksum");
            let end = ETHERNET + usize::from(u16::from_be_bytes([header[2], header[3]]));
            let address = |at: usize| IpAddr::from(<[u8; 4]>::try_from(&header[at..at + 4]).unwrap());
            (address(12), address(16), header[9], &frame[ETHERNET + 20..end])
        }
        false => {
            let header = &frame[ETHERNET..ETHERNET + 40];
            let address = |at: usize| IpAddr::from(<[u8; 16]>::try_from(&header[at..at + 16]).unwrap());
            (address(8), address(24), header[6], &frame[ETHERNET + 40..])
        }
    };
    let pseudo = pseudo(source, destination, protocol, l4.len());
    match protocol {
        1 => assert_eq!(ones_sum(&[l4]), 0xffff, "ICMP checksum"),
        132 => {
            let zeroed = [&l4[..8], &[0; 4], &l4[12..]].concat();
            assert_eq!(l4[8..12], crc32c(&zeroed).to_le_bytes(), "SCTP checksum");
        }
        _ => assert_eq!(ones_sum(&[&pseudo, l4]), 0xffff, "checksum of protocol {protocol}"),
    }
    let port = |at: usize| u16::from_be_bytes([l4[at], l4[at + 1]]);
    match protocol {
        6 if l4[13] & 4 != 0 => Seen::Reset { to: destination },
        1 if l4[..2] == [3, 3] => Seen::PortUnreachable { to: destination },
        58 if l4[..2] == [1, 4] => Seen::PortUnreachable { to: destination },
        protocol if protocol == sent => {
            Seen::Packet { source: (source, port(0)), destination: (destination, port(2)) }
        }
        protocol => panic!("protocol {protocol} that begins with {:?} for one of {sent}", &l4[..4]),
    }
}

/// The pseudo-header (RFC 9293 section 3.1, RFC 8200 section 8.1).
fn pseudo(source: IpAddr, destination: IpAddr, protocol: u8, len: usize) -> Vec<u8> {
    let octets = |ip| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    [octets(source), octets(destination), (len as u32).to_be_bytes().to_vec(), vec![0, 0, 0, protocol]]
        .concat()
}

/// The ones' complement sum of 16-bit words; each part but the last has an even length.
fn ones_sum(parts: &[&[u8]]) -> u16 {
    let word = |pair: &[u8]| u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
    let mut sum: u32 = parts.iter().flat_map(|part| part.chunks(2)).map(word).sum();
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC32c, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { (crc >> 1) ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}
