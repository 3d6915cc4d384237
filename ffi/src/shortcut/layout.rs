//! What the programs' maps hold, laid out as in `bpf/shortcut.c`.

use crate::bpf_key::octets;
use aya::Pod;
use millrace_fastpath::port::{Ends, Shortcut, TunnelEnds};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::net::SocketAddr;

/// Bits of [`Value::how`].
const TRANSLATED: u16 = 1;
const KNOWN_SENDER: u16 = 2;

/// `struct key`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Key {
    source: [u8; 16],
    destination: [u8; 16],
    /// Source and destination, in network order.
    ports: [u8; 4],
    arrival: u32,
    protocol: u32,
}

/// `struct tunnel`: numbers in network order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
struct Tunnel {
    local: [u8; 4],
    remote: [u8; 4],
    vni: [u8; 4],
    port: [u8; 2],
    source_port: [u8; 2],
}

/// `struct shortcut`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub(super) struct Value {
    until: u64,
    generation: u32,
    out: u32,
    source: [u8; 16],
    destination: [u8; 16],
    ports: [u8; 4],
    mtu: u16,
    how: u16,
    arrives: [[u8; 6]; 2],
    leaves: [[u8; 6]; 2],
    from: Tunnel,
    to: Tunnel,
    outer: [[u8; 6]; 2],
    zero: u32,
}

/// `struct carried`: what an interface has carried past the data path.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub(super) struct Carried {
    pub(super) packets_in: u64,
    pub(super) bytes_in: u64,
    pub(super) packets_out: u64,
    pub(super) bytes_out: u64,
    pub(super) lost: u64,
}

// SAFETY: 44 bytes without padding, of which any pattern is a value.
unsafe impl Pod for Key {}
// SAFETY: 128 bytes without padding, of which any pattern is a value.
unsafe impl Pod for Value {}
// SAFETY: five numbers without padding, of which any pattern is a value.
unsafe impl Pod for Carried {}

impl Key {
    pub(super) fn of(shortcut: &Shortcut) -> Key {
        let Ends { source, destination } = shortcut.arriving;
        Key {
            source: octets(source.ip()),
            destination: octets(destination.ip()),
            ports: ports(source, destination),
            arrival: shortcut.arrival,
            protocol: shortcut.protocol.into(),
        }
    }
}

impl Value {
    /// Good until this time of the monotonic clock, in nanoseconds, and as long as this is the generation.
    pub(super) fn of(shortcut: &Shortcut, until: u64, generation: u32) -> Value {
        let Ends { source, destination } = shortcut.leaving;
        let translated = if is_translated(shortcut) { TRANSLATED } else { 0 };
        let known = if shortcut.sender_mac.is_some() { KNOWN_SENDER } else { 0 };
        let from = shortcut.from.map(|ends| tunnel(&ends, 0)).unwrap_or_default();
        let into = shortcut.into.as_ref();
        Value {
            until,
            generation,
            out: shortcut.out,
            source: octets(source.ip()),
            destination: octets(destination.ip()),
            ports: ports(source, destination),
            mtu: shortcut.mtu,
            how: translated | known,
            arrives: macs([shortcut.own_mac, shortcut.sender_mac.unwrap_or_default()]),
            leaves: macs(shortcut.macs),
            from,
            to: into.map(|into| tunnel(&into.ends, into.source_port)).unwrap_or_default(),
            outer: into.map(|into| macs(into.macs)).unwrap_or_default(),
            zero: 0,
        }
    }
}

/// Whether addresses or ports change on the way.
pub(super) fn is_translated(shortcut: &Shortcut) -> bool {
    shortcut.arriving != shortcut.leaving
}

fn tunnel(ends: &TunnelEnds, source_port: u16) -> Tunnel {
    Tunnel {
        local: ends.local.octets(),
        remote: ends.remote.octets(),
        vni: (ends.vni << 8).to_be_bytes(),
        port: ends.port.to_be_bytes(),
        source_port: source_port.to_be_bytes(),
    }
}

fn macs(macs: [MacAddr; 2]) -> [[u8; 6]; 2] {
    macs.map(|mac| mac.0)
}

fn ports(source: SocketAddr, destination: SocketAddr) -> [u8; 4] {
    let ([a, b], [c, d]) = (source.port().to_be_bytes(), destination.port().to_be_bytes());
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_fastpath::port::Wrapping;

    #[test]
    fn a_shortcut_is_laid_out_as_the_program_reads_it() {
        let ends = TunnelEnds {
            local: [192, 0, 2, 1].into(),
            remote: [192, 0, 2, 2].into(),
            vni: 0x01_02_03,
            port: 4789,
        };
        let mac = |last| MacAddr([2, 0, 0, 0, 0, last]);
        let shortcut = Shortcut {
            arrival: 7,
            out: 9,
            protocol: 6,
            arriving: Ends {
                source: "10.0.0.1:258".parse().unwrap(),
                destination: "10.96.0.1:80".parse().unwrap(),
            },
            leaving: Ends {
                source: "10.0.0.1:258".parse().unwrap(),
                destination: "10.0.1.2:8080".parse().unwrap(),
            },
            mtu: 1450,
            own_mac: mac(1),
            sender_mac: Some(mac(2)),
            macs: [mac(3), mac(4)],
            from: None,
            into: Some(Wrapping { ends, macs: [mac(5), mac(6)], source_port: 0x8001 }),
        };
        assert_eq!((size_of::<Key>(), size_of::<Value>()), (44, 128));
        let key = Key::of(&shortcut);
        assert_eq!((key.ports, key.arrival, key.protocol), ([1, 2, 0, 80], 7, 6));
        assert_eq!(key.destination[10..], [0xff, 0xff, 10, 96, 0, 1]);
        let value = Value::of(&shortcut, 11, 12);
        assert_eq!((value.until, value.generation, value.out, value.mtu), (11, 12, 9, 1450));
        assert_eq!((value.how, value.ports), (TRANSLATED | KNOWN_SENDER, [1, 2, 0x1f, 0x90]));
        assert_eq!(value.from, Tunnel::default());
        assert_eq!((value.to.vni, value.to.port), ([1, 2, 3, 0], [0x12, 0xb5]));
        assert_eq!((value.to.remote, value.to.source_port), ([192, 0, 2, 2], [0x80, 1]));
        assert_eq!((value.leaves[0][5], value.leaves[1][5], value.outer[0][5]), (3, 4, 5));
    }
}
