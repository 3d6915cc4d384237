//! Outer headers of encapsulated packets: what is wrong with them, and what is unusual and right.

use super::fixture::*;
use super::tunnels::{from_peer, node, remote, seal};
use crate::pipeline::WorkerCounter::*;
use crate::port::{BufferFrame, DropReason, Frame};

/// What is wrong, what it counts as, and how a packet gets to be so.
type Case = (&'static str, DropReason, fn(&mut [u8]));

#[test]
fn what_is_wrong_with_an_encapsulated_packet_is_named() {
    let net = families()[0];
    let packet = Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80));
    let cases: [Case; 9] = [
        ("a stranger", DropReason::TunnelPeer, |b| (b[29], b[25]) = (99, b[25].wrapping_sub(97))),
        ("another network", DropReason::TunnelVni, |b| b[48] = 78),
        ("no network", DropReason::TunnelHeader, |b| b[42] = 0),
        ("a datagram longer than its packet", DropReason::TunnelHeader, |b| b[38] = 9),
        ("a datagram too short for a frame", DropReason::TunnelHeader, |b| {
            b[38..40].copy_from_slice(&[0, 20])
        }),
        ("a checksum that is wrong", DropReason::TunnelChecksum, |b| b[40] = 1),
        ("another tunnel end's frame", DropReason::ForeignMac, |b| b[55] ^= 1),
        ("a frame to all", DropReason::Multicast, |b| b[50..56].fill(0xff)),
        ("an ARP message", DropReason::UnknownEtherType, |b| b[63] = 6),
    ];
    for (what, reason, spoil) in cases {
        let mut node = node(false, false);
        let mut frame = from_peer(false, false, &packet, 1);
        spoil(frame.head_mut());
        seal(frame.head_mut());
        assert!(node.run(UPLINK, frame).is_none(), "{what}");
        node.check(&[reason]);
    }
}

/// An IPv6 extension header of eight bytes, and the kind of what follows.
fn extension(next: u8, rest: [u8; 6]) -> Vec<u8> {
    [&[next, 0][..], &rest].concat()
}

/// The frame with `added` between the outer IP header and UDP; `header` says so there.
fn with_outer(frame: &BufferFrame, added: &[u8], header: impl FnOnce(&mut [u8])) -> BufferFrame {
    let mut bytes = frame.head().to_vec();
    let v6 = bytes[12] == 0x86;
    let (at, length) = if v6 { (54, 18) } else { (34, 16) };
    bytes.splice(at..at, added.iter().copied());
    let stated = u16::from_be_bytes([bytes[length], bytes[length + 1]]) + added.len() as u16;
    bytes[length..length + 2].copy_from_slice(&stated.to_be_bytes());
    header(&mut bytes);
    if !v6 {
        // The fixed part's own function knows no options.
        let end = 14 + usize::from(bytes[14] & 15) * 4;
        bytes[24..26].fill(0);
        let sum = crate::wire::Sum::ZERO.add_bytes(&bytes[14..end]).checksum();
        bytes[24..26].copy_from_slice(&sum);
    }
    BufferFrame::new(&bytes)
}

#[test]
fn outer_options_and_extension_headers_change_nothing() {
    const PADDING: [u8; 6] = [1, 4, 0, 0, 0, 0];
    // A timestamp that somebody on the way was to fill in, and the end of the list.
    let timestamp = [68, 8, 5, 0, 0, 0, 0, 0, 1, 1, 1, 0];
    let routing = [4, 0, 0, 0, 0, 0];
    // A fragment header of a packet that is whole (RFC 6946).
    let atomic = [0, 0, 0, 0, 0, 7];
    let chains: [(u8, Vec<u8>); 5] = [
        (0, extension(17, PADDING)),
        (60, extension(17, PADDING)),
        (43, extension(17, routing)),
        (44, extension(17, atomic)),
        (0, [extension(43, PADDING), extension(60, routing), extension(17, PADDING)].concat()),
    ];
    for (net, checksum) in families().into_iter().flat_map(|net| [(net, false), (net, true)]) {
        let packet = Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80));
        let mut node4 = node(false, checksum);
        let (port, plain) = node4.run(UPLINK, from_peer(false, checksum, &packet, 1)).unwrap();
        assert_eq!(port, A);
        for words in [1, 3] {
            let outer = from_peer(false, checksum, &packet, 1);
            let frame = with_outer(&outer, &timestamp[..words * 4], |bytes| bytes[14] = 0x45 + words as u8);
            let (port, frame) = node4.run(UPLINK, frame).unwrap();
            assert_eq!((port, frame.head()), (A, plain.head()), "{words} words of options");
        }
        node4.expect(Resolved, 1);
        node4.expect(Established, 2);
        node4.expect(Decapsulated, 3);
        node4.check(&[]);
        let mut node6 = node(true, checksum);
        for (first, chain) in &chains {
            let outer = from_peer(true, checksum, &packet, 1);
            let frame = with_outer(&outer, chain, |bytes| bytes[20] = *first);
            let (port, frame) = node6.run(UPLINK, frame).unwrap();
            assert_eq!((port, frame.head()), (A, plain.head()), "chain from {first}");
        }
        node6.expect(Resolved, 1);
        node6.expect(Established, chains.len() as u64 - 1);
        node6.expect(Decapsulated, chains.len() as u64);
        node6.check(&[]);
    }
}

#[test]
fn what_is_wrong_behind_options_and_extension_headers_is_named_all_the_same() {
    let net = families()[0];
    let packet = Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80));
    let mut node4 = node(false, false);
    let frame = with_outer(&from_peer(false, false, &packet, 1), &[1; 4], |bytes| {
        bytes[14] = 0x46;
        // The network.
        bytes[52] = 78;
    });
    assert!(node4.run(UPLINK, frame).is_none());
    node4.check(&[DropReason::TunnelVni]);
    let mut node4 = node(false, false);
    let mut frame = with_outer(&from_peer(false, false, &packet, 1), &[1; 4], |bytes| bytes[14] = 0x46);
    frame.head_mut()[25] ^= 1;
    assert!(node4.run(UPLINK, frame).is_none());
    node4.check(&[DropReason::TunnelHeader]);
    let mut node6 = node(true, true);
    let chain = extension(17, [1, 4, 0, 0, 0, 0]);
    let frame = with_outer(&from_peer(true, true, &packet, 1), &chain, |bytes| {
        bytes[20] = 60;
        // The inner addresses: the UDP checksum covers them.
        bytes[100] ^= 1;
    });
    assert!(node6.run(UPLINK, frame).is_none());
    node6.check(&[DropReason::TunnelChecksum]);
}

#[test]
fn a_first_fragment_of_an_outer_packet_is_counted_as_such() {
    let net = families()[0];
    let packet = Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80));
    let mut node4 = node(false, false);
    let mut frame = from_peer(false, false, &packet, 1);
    frame.head_mut()[20] = 0x20;
    seal(frame.head_mut());
    assert!(node4.run(UPLINK, frame).is_none());
    node4.check(&[DropReason::TunnelFragment]);
    let mut node6 = node(true, true);
    let chain = extension(17, [0, 1, 0, 0, 0, 7]);
    let frame = with_outer(&from_peer(true, true, &packet, 1), &chain, |bytes| bytes[20] = 44);
    assert!(node6.run(UPLINK, frame).is_none());
    node6.check(&[DropReason::TunnelFragment]);
}
