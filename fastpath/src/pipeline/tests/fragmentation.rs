//! Packets larger than the MTU of their way out.
//!
//! ```text
//!   pod A ── MTU 1500 ── node ── MTU 1280 ── pod B
//! ```

use super::fixture::*;
use crate::port::{BufferFrame, Checksum, DropReason, Frame, Gso, GsoKind, Offload, PortId};
use crate::tables::{Adjacency, Route};
use crate::wire::Sum;
use proptest::prelude::*;
use std::net::IpAddr;

/// A node whose pod B takes packets of `mtu` bytes.
fn node(mtu: u16) -> Node {
    let mut node = Node::new();
    let id = node.tables.routes.add_adjacency(Adjacency {
        port: B,
        mtu,
        destination_mac: mac_of(B),
        source_mac: GATEWAY_MAC,
        tunnel: None,
    });
    for net in families() {
        node.tables.routes.insert(net.b.into(), Route::Via(id));
    }
    node
}

/// Runs a frame; gives all that left, in order.
fn run(node: &mut Node, from: PortId, frame: BufferFrame) -> Vec<(PortId, BufferFrame)> {
    let last = node.run(from, frame);
    let mut sent = std::mem::take(&mut node.sink.sent);
    sent.extend(last);
    sent
}

/// The same packet with another fragment word, and its checksum.
fn with_word(mut bytes: Vec<u8>, word: u16) -> Vec<u8> {
    let header = 14 + usize::from(bytes[14] & 0xf) * 4;
    bytes[20..22].copy_from_slice(&word.to_be_bytes());
    bytes[24..26].fill(0);
    let checksum = Sum::of(&bytes[14..header]).checksum();
    bytes[24..26].copy_from_slice(&checksum);
    bytes
}

fn number(bytes: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]))
}

fn datagram(to: IpAddr, payload: usize, port: u16) -> Packet {
    let net = families()[0];
    Packet { payload, ..Packet::new(A, net.a, to, UDP, (1000, port)) }
}

/// Puts fragments together as a receiver does, whatever their order, and checks each on the way.
fn reassemble(fragments: &[(PortId, BufferFrame)], mtu: u16) -> BufferFrame {
    let first = fragments.iter().find(|(_, frame)| number(frame.head(), 20) & 0x1fff == 0).unwrap();
    let header = 14 + usize::from(first.1.head()[14] & 0xf) * 4;
    let mut data = vec![None; 70_000];
    let mut end = None;
    for (_, frame) in fragments {
        let bytes = frame.head();
        let (total, word) = (number(bytes, 16), number(bytes, 20));
        assert!(total <= usize::from(mtu), "a fragment of {total} bytes");
        assert_eq!(bytes.len(), 14 + total);
        assert!(Sum::of(&bytes[14..header]).is_valid(), "IPv4 header checksum");
        assert_eq!(bytes[18..20], first.1.head()[18..20], "identification");
        assert_eq!(frame.offload(), Offload::NONE);
        let at = (word & 0x1fff) * 8;
        for (offset, byte) in bytes[header..].iter().enumerate() {
            assert_eq!(data[at + offset].replace(*byte), None, "fragments overlap at {}", at + offset);
        }
        if word & 0x2000 == 0 {
            assert_eq!(end.replace(at + total - (header - 14)), None, "two last fragments");
        } else {
            assert_eq!((total - (header - 14)) % 8, 0);
        }
    }
    let end = end.expect("a last fragment");
    let mut whole = first.1.head()[..header].to_vec();
    whole.extend(data[..end].iter().map(|byte| byte.expect("no hole")));
    let total = (whole.len() - 14) as u16;
    whole[16..18].copy_from_slice(&total.to_be_bytes());
    BufferFrame::new(&with_word(whole, 0))
}

#[test]
fn a_datagram_that_may_be_cut_arrives_in_fragments_also_through_a_service() {
    let net = families()[0];
    for (to, port) in [(net.b, 8080), (net.vip, 80)] {
        let mut node = node(1280);
        for round in 0..2 {
            let sent = datagram(to, 1400, port);
            let parts = run(&mut node, A, BufferFrame::new(&with_word(sent.bytes(), 0)));
            assert_eq!(parts.iter().map(|(port, _)| *port).collect::<Vec<_>>(), [B, B], "round {round}");
            let seen = see(&reassemble(&parts, 1280));
            assert_eq!(seen.macs, (mac_of(B).0, GATEWAY_MAC.0));
            assert_eq!((seen.source, seen.destination, seen.ports), (net.a, net.b, (1000, 8080)));
            assert_eq!((seen.ttl, seen.payload.len()), (63, 1400));
        }
        assert_eq!(node.sink.dropped, []);
    }
}

#[test]
fn what_fits_and_what_may_not_be_cut_is_not() {
    for net in families() {
        let mut node = node(1280);
        let headers = if net.a.is_ipv4() { 28 } else { 48 };
        let packet = |payload| Packet { payload, ..Packet::new(A, net.a, net.b, UDP, (1000, 80)) };
        let sent = run(&mut node, A, packet(1280 - headers).frame());
        assert_eq!((sent.len(), sent[0].0), (1, B));
        // IPv4 packets of this builder must not be fragmented; IPv6's never are.
        let told = run(&mut node, A, packet(1281 - headers).frame());
        assert_eq!((told.len(), told[0].0), (1, A));
        assert_eq!(see(&told[0].1).destination, net.a);
        let bytes = told[0].1.head();
        let (kind, mtu) = if net.a.is_ipv4() { (34, 40) } else { (54, 60) };
        assert_eq!(bytes[kind], if net.a.is_ipv4() { 3 } else { 2 });
        assert_eq!(number(bytes, mtu), 1280);
        assert_eq!(node.answered_drops(DropReason::TooBig), 1);
    }
}

#[test]
fn a_checksum_that_was_left_open_is_completed_before_the_packet_is_cut() {
    let net = families()[0];
    let mut node = node(1280);
    let mut bytes = with_word(datagram(net.vip, 1400, 80).bytes(), 0);
    // What a kernel with checksum offload leaves: the sum of the pseudo-header.
    let mut pseudo = Sum::of(&bytes[26..34]);
    pseudo = pseudo.add_u16(17).add_u16(1408);
    bytes[40..42].copy_from_slice(&pseudo.partial());
    let offload = Offload { checksum: Checksum::Partial { start: 34, offset: 6 }, gso: None, outer: 0 };
    let parts = run(&mut node, A, BufferFrame::with_offload(&bytes, offload));
    assert_eq!(see(&reassemble(&parts, 1280)).payload.len(), 1400);
}

#[test]
fn fragments_are_cut_again_where_they_must_and_keep_their_place() {
    let net = families()[0];
    let mut node = node(1280);
    let whole = with_word(datagram(net.vip, 2900, 80).bytes(), 0);
    let mut parts = Vec::new();
    for (at, end) in [(0, 1480), (1480, 2908)] {
        let mut part = whole[..34].to_vec();
        part.extend(&whole[34 + at..34 + end]);
        part[16..18].copy_from_slice(&((20 + end - at) as u16).to_be_bytes());
        let more = if end < 2908 { 0x2000 } else { 0 };
        parts.extend(run(&mut node, A, BufferFrame::new(&with_word(part, more | (at / 8) as u16))));
    }
    assert_eq!(parts.len(), 4);
    assert_eq!(see(&reassemble(&parts, 1280)).payload.len(), 2900);
}

#[test]
fn only_options_that_are_to_be_copied_are_in_every_fragment() {
    let net = families()[0];
    let mut node = node(1280);
    let plain = with_word(datagram(net.b, 1400, 80).bytes(), 0);
    // Record route (not copied), no operation, security (copied), end.
    let options = [7, 3, 4, 1, 0x82, 3, 9, 0];
    let mut bytes = plain[..34].to_vec();
    bytes.extend(options);
    bytes.extend(&plain[34..]);
    bytes[14] = 0x47;
    let total = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    let parts = run(&mut node, A, BufferFrame::new(&with_word(bytes, 0)));
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].1.head()[34..42], options);
    assert_eq!(parts[1].1.head()[34..42], [1, 1, 1, 1, 0x82, 3, 9, 0]);
    reassemble(&parts, 1280);
}

#[test]
fn a_large_tcp_frame_is_to_be_cut_into_smaller_segments() {
    let net = families()[0];
    let mut node = node(1280);
    let packet = Packet { payload: 20_000, ..Packet::new(A, net.a, net.b, TCP, (1000, 80)) };
    let checksum = Checksum::Partial { start: 34, offset: 16 };
    let offload = Offload { checksum, gso: Some(Gso { kind: GsoKind::TcpV4, size: 1460 }), outer: 0 };
    let frame = BufferFrame::with_offload(&with_word(packet.bytes(), 0), offload);
    let sent = run(&mut node, A, frame);
    assert_eq!(sent.len(), 1);
    let gso = Some(Gso { kind: GsoKind::TcpV4, size: 1240 });
    assert_eq!(sent[0].1.offload(), Offload { checksum, gso, outer: 0 });
}

#[test]
fn the_datagrams_of_a_large_udp_frame_are_cut_one_by_one() {
    let net = families()[0];
    let mut node = node(1280);
    let bytes = with_word(datagram(net.b, 1400 * 2 + 100, 80).bytes(), 0);
    let checksum = Checksum::Partial { start: 34, offset: 6 };
    let offload = Offload { checksum, gso: Some(Gso { kind: GsoKind::Udp, size: 1400 }), outer: 0 };
    let sent = run(&mut node, A, BufferFrame::with_offload(&bytes, offload));
    assert_eq!(sent.len(), 5);
    for pair in [&sent[..2], &sent[2..4]] {
        let seen = see(&reassemble(pair, 1280));
        assert_eq!((seen.payload.len(), seen.ports), (1400, (1000, 80)));
    }
    let mut last = sent[4].1.clone();
    assert_eq!(last.offload().checksum, checksum);
    assert!(last.complete_checksum());
    assert_eq!(see(&last).payload.len(), 100);
    assert_ne!(sent[0].1.head()[18..20], sent[2].1.head()[18..20], "one identification for two datagrams");
}

proptest! {
    #[test]
    fn whatever_its_length_a_datagram_is_put_together_again(payload in 0_usize..9_000, mtu in 576_u16..2_000) {
        let net = families()[0];
        let mut node = node(mtu);
        let sent = datagram(net.vip, payload, 80);
        let parts = run(&mut node, A, BufferFrame::new(&with_word(sent.bytes(), 0)));
        let room = (usize::from(mtu) - 20) & !7;
        let expected = if payload + 28 <= usize::from(mtu) { 1 } else { (payload + 8).div_ceil(room) };
        prop_assert_eq!(parts.len(), expected);
        prop_assert_eq!(see(&reassemble(&parts, mtu)).payload, see(&sent.frame()).payload);
        prop_assert!(node.sink.dropped.is_empty());
    }
}
