//! Fragments after the first, and ICMP errors about translated flows.

use super::fixture::*;
use crate::port::{BufferFrame, DropReason, Frame};
use crate::wire::Sum;

/// Cuts an IPv4 packet's payload in two at a multiple of 8 bytes.
fn fragments(bytes: &[u8], at: usize) -> [BufferFrame; 2] {
    let part = |offset: usize, payload: &[u8], more: bool| {
        let mut packet = bytes[..34].to_vec();
        packet.extend(payload);
        packet[16..18].copy_from_slice(&((20 + payload.len()) as u16).to_be_bytes());
        packet[18..20].copy_from_slice(&[0xab, 0xcd]);
        packet[20..22].copy_from_slice(&(u16::from(more) << 13 | (offset / 8) as u16).to_be_bytes());
        packet[24..26].fill(0);
        let checksum = Sum::of(&packet[14..34]).checksum();
        packet[24..26].copy_from_slice(&checksum);
        BufferFrame::new(&packet)
    };
    let payload = &bytes[34..];
    [part(0, &payload[..at], true), part(at, &payload[at..], false)]
}

#[test]
fn all_fragments_of_a_datagram_to_a_service_go_to_one_backend() {
    let net = families()[0];
    let mut node = Node::new();
    let packet = Packet { payload: 100, ..Packet::new(A, net.a, net.vip, UDP, (1000, 80)) };
    let [first, second] = fragments(&packet.bytes(), 64);
    let (_, first) = node.run(A, first).unwrap();
    let (port, second) = node.run(A, second).unwrap();
    assert_eq!(port, B);
    // Put together again, it is the datagram to the backend with a right checksum.
    let mut whole = first.head().to_vec();
    whole.extend(&second.head()[34..]);
    let total = whole.len() as u16 - 14;
    whole[16..18].copy_from_slice(&total.to_be_bytes());
    whole[20..22].fill(0);
    whole[24..26].fill(0);
    let checksum = Sum::of(&whole[14..34]).checksum();
    whole[24..26].copy_from_slice(&checksum);
    let seen = see(&BufferFrame::new(&whole));
    assert_eq!((seen.source, seen.destination, seen.ports), (net.a, net.b, (1000, 8080)));
}

#[test]
fn a_fragment_whose_first_was_not_seen_is_dropped() {
    let net = families()[0];
    let mut node = Node::new();
    let packet = Packet { payload: 100, ..Packet::new(A, net.a, net.b, UDP, (1000, 80)) };
    let [_, second] = fragments(&packet.bytes(), 64);
    assert!(node.run(A, second).is_none());
    node.check(&[DropReason::FragmentWithoutFirst]);
}

/// The ICMP "port unreachable" that B sends about a packet it received.
fn port_unreachable(received: &BufferFrame) -> BufferFrame {
    let bytes = received.head();
    let mut error = GATEWAY_MAC.0.to_vec();
    error.extend(mac_of(B).0);
    error.extend(&bytes[12..14]);
    if bytes[12] == 0x08 {
        let quote = &bytes[14..42];
        let mut ip = vec![0x45, 0, 0, (28 + quote.len()) as u8, 0, 0, 0, 0, 64, 1, 0, 0];
        ip.extend(&bytes[30..34]);
        ip.extend(&bytes[26..30]);
        let checksum = Sum::of(&ip).checksum();
        ip[10..12].copy_from_slice(&checksum);
        let mut icmp = vec![3, 3, 0, 0, 0, 0, 0, 0];
        icmp.extend(quote);
        let checksum = Sum::of(&icmp).checksum();
        icmp[2..4].copy_from_slice(&checksum);
        error.extend(ip);
        error.extend(icmp);
    } else {
        let quote = &bytes[14..62];
        let mut ip = vec![0x60, 0, 0, 0, 0, (8 + quote.len()) as u8, 58, 64];
        ip.extend(&bytes[38..54]);
        ip.extend(&bytes[22..38]);
        let mut icmp = vec![1, 4, 0, 0, 0, 0, 0, 0];
        icmp.extend(quote);
        let pseudo = Sum::ZERO.add_bytes(&ip[8..40]).add_u32(icmp.len() as u32).add_u16(58);
        let checksum = pseudo.add_bytes(&icmp).checksum();
        icmp[2..4].copy_from_slice(&checksum);
        error.extend(ip);
        error.extend(icmp);
    }
    BufferFrame::new(&error)
}

#[test]
fn an_icmp_error_from_the_backend_reaches_the_client_as_the_services() {
    for net in families() {
        let mut node = Node::new();
        let sent = Packet::new(A, net.a, net.vip, UDP, (1000, 80));
        let (_, received) = node.run(A, sent.frame()).unwrap();
        let (port, error) = node.run(B, port_unreachable(&received)).unwrap();
        let seen = see(&error);
        assert_eq!((port, seen.source, seen.destination), (A, net.vip, net.a));
        // The quote is the packet as the client sent it: addresses and ports.
        let l4 = if net.a.is_ipv4() { 34 } else { 54 };
        let quote = &error.head()[l4 + 8..];
        let original = &sent.bytes()[14..];
        let (addresses, ports) = if net.a.is_ipv4() { (12..20, 20..24) } else { (8..40, 40..44) };
        assert_eq!(quote[addresses.clone()], original[addresses]);
        assert_eq!(quote[ports.clone()], original[ports]);
    }
}

#[test]
fn an_icmp_error_about_an_unknown_flow_is_dropped() {
    let net = families()[0];
    let mut node = Node::new();
    let stranger = Packet::new(A, net.a, net.b, UDP, (1, 2)).frame();
    assert!(node.run(B, port_unreachable(&stranger)).is_none());
    node.check(&[DropReason::IcmpUnrelated]);
}
