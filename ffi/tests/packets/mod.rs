//! Large packets and packets with unfinished checksums, and how they lie in mbufs.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part, by its own path")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use etherparse::PacketBuilder;
use millrace_fastpath::port::{Checksum, Gso, GsoKind, Offload};
use millrace_ffi::gso::{Caps, settle};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::Mempool;
use std::collections::VecDeque;

/// Bytes of payload of a piece.
pub const SIZE: u16 = 1390;

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Packet {
    Tcp4,
    Tcp6,
    Udp4,
    Udp6,
}

pub const ALL: [Packet; 4] = [Packet::Tcp4, Packet::Tcp6, Packet::Udp4, Packet::Udp6];
pub const V6: ([u8; 16], [u8; 16]) = ([0xfd; 16], [0xfe; 16]);

impl Packet {
    pub fn start(self) -> u16 {
        if matches!(self, Packet::Tcp4 | Packet::Udp4) { 34 } else { 54 }
    }

    pub fn is_tcp(self) -> bool {
        matches!(self, Packet::Tcp4 | Packet::Tcp6)
    }

    pub fn gso(self, size: u16) -> Gso {
        let kind = match self {
            Packet::Tcp4 => GsoKind::TcpV4,
            Packet::Tcp6 => GsoKind::TcpV6,
            Packet::Udp4 | Packet::Udp6 => GsoKind::Udp,
        };
        Gso { kind, size }
    }

    /// The frame, with its pseudo-header's sum where the checksum belongs.
    pub fn bytes(self, payload: &[u8]) -> Vec<u8> {
        let l2 = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let mut frame = Vec::new();
        match self {
            Packet::Tcp4 => l2
                .ipv4([10, 1, 2, 3], [10, 4, 5, 6], 9)
                .tcp(7, 80, 0xffff_ff00, 512)
                .psh()
                .fin()
                .cwr()
                .ack(1)
                .write(&mut frame, payload),
            Packet::Tcp6 => l2
                .ipv6(V6.0, V6.1, 9)
                .tcp(7, 80, 0xffff_ff00, 512)
                .psh()
                .fin()
                .cwr()
                .ack(1)
                .write(&mut frame, payload),
            Packet::Udp4 => l2.ipv4([10, 1, 2, 3], [10, 4, 5, 6], 9).udp(7, 80).write(&mut frame, payload),
            Packet::Udp6 => l2.ipv6(V6.0, V6.1, 9).udp(7, 80).write(&mut frame, payload),
        }
        .unwrap();
        self.leave_open(&mut frame);
        frame
    }

    /// Puts the pseudo-header's sum where the checksum belongs.
    pub fn leave_open(self, frame: &mut [u8]) {
        let start = usize::from(self.start());
        let l4_len = (frame.len() - start) as u64;
        let addresses = if start == 34 { 26..34 } else { 22..54 };
        let mut sum = l4_len + if self.is_tcp() { 6 } else { 17 };
        sum +=
            frame[addresses].chunks(2).map(|pair| u64::from(pair[0]) << 8 | u64::from(pair[1])).sum::<u64>();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        let field = start + self.offset() as usize;
        frame[field..field + 2].copy_from_slice(&(sum as u16).to_be_bytes());
    }

    pub fn offset(self) -> u16 {
        if self.is_tcp() { 16 } else { 6 }
    }

    pub fn partial(self) -> Checksum {
        Checksum::Partial { start: self.start(), offset: self.offset() }
    }
}

pub fn payload(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 31 + i / 251) as u8).collect()
}

/// `bytes` in segments of `cut` bytes behind a first one of `head`.
pub fn chained(pool: &Mempool, bytes: &[u8], head: usize, cut: usize) -> Mbuf {
    let (first, rest) = bytes.split_at(head.min(bytes.len()));
    let mut frame = pool.alloc_with(first).unwrap();
    for piece in rest.chunks(cut) {
        frame.chain(pool.alloc_with(piece).unwrap()).unwrap();
    }
    frame
}

/// Outer Ethernet, IP, UDP and VXLAN headers for an inner frame; the UDP checksum holds the pseudo-header's sum.
pub fn outer(v6: bool, checksum: bool, inner_len: usize) -> Vec<u8> {
    let datagram = inner_len + 16;
    let mut inside = vec![8, 0, 0, 0, 0, 0, 77, 0];
    inside.resize(8 + inner_len, 0);
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let mut bytes = Vec::new();
    let length = if datagram + 20 > 65_535 { 8 } else { inside.len() };
    match v6 {
        true => link.ipv6(V6.0, V6.1, 64).udp(40_000, 4789).write(&mut bytes, &inside[..length]).unwrap(),
        false => {
            link.ipv4([192, 0, 2, 1], [192, 0, 2, 2], 64)
                .udp(40_000, 4789)
                .write(&mut bytes, &inside[..length])
                .unwrap();
        }
    }
    let l4 = if v6 { 54 } else { 34 };
    bytes.truncate(l4 + 16);
    let mut sum: u32 = 17 + datagram as u32;
    let addresses = if v6 { 22..54 } else { 26..34 };
    sum += bytes[addresses].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum::<u32>();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let seed = if checksum { sum as u16 } else { 0 };
    bytes[l4 + 6..l4 + 8].copy_from_slice(&seed.to_be_bytes());
    bytes
}

/// The state of a packet behind so many bytes of a tunnel's headers: its checksum is left open, and it may be large.
pub fn state(packet: Packet, outer: u16, is_large: bool) -> Offload {
    let checksum = Checksum::Partial { start: packet.start() + outer, offset: packet.offset() };
    Offload { checksum, gso: is_large.then(|| packet.gso(SIZE)), outer }
}

/// Frames as they are on a wire, without the kernel's help.
pub fn on_the_wire(pool: &Mempool, frames: impl IntoIterator<Item = Mbuf>) -> Vec<Vec<u8>> {
    let mut out = VecDeque::new();
    frames.into_iter().for_each(|frame| settle(frame, &Caps::none(9100), pool, &mut out).unwrap());
    out.iter().map(Mbuf::to_vec).collect()
}

/// Compares without printing all bytes.
pub fn assert_same(arrived: &[Vec<u8>], wanted: &[Vec<u8>], what: &str) {
    let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(arrived), lengths(wanted), "{what}");
    assert!(arrived == wanted, "{what}: bytes differ");
}

/// TCP segments in their order, of which `first` is the first. GRO has the kernel see a tunnel's last packet with PSH first.
pub fn by_sequence(mut frames: Vec<Vec<u8>>, packet: Packet, first: &[u8]) -> Vec<Vec<u8>> {
    let at = usize::from(packet.start()) + 4;
    let sequence = |frame: &[u8]| u32::from_be_bytes(frame[at..at + 4].try_into().unwrap());
    frames.sort_by_key(|frame| sequence(frame).wrapping_sub(sequence(first)));
    frames
}
