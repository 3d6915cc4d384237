//! Frames to send.

use millrace_fastpath::port::BufferFrame;
use std::net::Ipv4Addr;

/// A UDP packet over IPv4 without a UDP checksum, which must not be fragmented.
pub(super) struct Udp {
    pub(super) source: (Ipv4Addr, u16),
    pub(super) destination: (Ipv4Addr, u16),
    /// Bytes of the IP packet.
    pub(super) size: u16,
    pub(super) ttl: u8,
}

impl Udp {
    /// The frame as the peer of `port-N` sends it.
    pub(super) fn frame(&self, from: u8) -> BufferFrame {
        let mut ip = vec![0x45, 0];
        ip.extend(self.size.to_be_bytes());
        ip.extend([0, 0, 0x40, 0, self.ttl, 17, 0, 0]);
        ip.extend(self.source.0.octets());
        ip.extend(self.destination.0.octets());
        let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
        ip.extend(self.source.1.to_be_bytes());
        ip.extend(self.destination.1.to_be_bytes());
        ip.extend((self.size - 20).to_be_bytes());
        ip.resize(self.size.into(), 0);
        let mut bytes = vec![2, 0x4d, 0x52, 0, 0, 1, 2, 0, 0, 0, 0, from, 8, 0];
        bytes.extend(ip);
        BufferFrame::new(&bytes)
    }
}
