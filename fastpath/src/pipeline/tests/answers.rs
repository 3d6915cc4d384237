//! What the node itself answers.

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::DropReason;

#[test]
fn a_ping_to_the_gateway_is_answered() {
    for (net, protocol) in families().into_iter().zip([1, 58]) {
        let mut node = Node::new();
        let (port, frame) =
            node.run(A, Packet::new(A, net.a, net.gateway, protocol, (5, 5)).frame()).unwrap();
        let seen = see(&frame);
        assert_eq!((port, seen.source, seen.destination, seen.ttl), (A, net.gateway, net.a, 64));
        assert_eq!(seen.macs, (mac_of(A).0, GATEWAY_MAC.0));
        node.expect(Resolved, 1);
        node.expect(Answers, 1);
        node.check(&[]);
        assert_eq!(node.flows(), 0);
    }
}

#[test]
fn the_end_of_the_ttl_is_reported_by_the_gateway() {
    for net in families() {
        let mut node = Node::new();
        for ttl in [0, 1] {
            let packet = Packet { ttl, ..Packet::new(A, net.a, net.b, UDP, (5, 5)) };
            let (port, frame) = node.run(A, packet.frame()).unwrap();
            assert_eq!((port, see(&frame).source), (A, net.gateway));
        }
        assert_eq!(node.answered_drops(DropReason::TtlExceeded), 2);
    }
}

#[test]
fn a_packet_over_the_mtu_is_answered_with_the_mtu() {
    for net in families() {
        let mut node = Node::new();
        let (port, frame) = node
            .run(A, Packet { payload: 1600, ..Packet::new(A, net.a, net.b, UDP, (5, 5)) }.frame())
            .unwrap();
        assert_eq!(port, A);
        let bytes = crate::port::Frame::head(&frame);
        let (l4, limit) = if net.a.is_ipv4() { (34, 576) } else { (54, 1280) };
        assert_eq!(u32::from_be_bytes(bytes[l4 + 4..l4 + 8].try_into().unwrap()), 1500);
        assert_eq!(bytes.len() - 14, limit, "as much of the packet as an error may quote");
        see(&frame);
    }
}

#[test]
fn no_route_is_reported_and_errors_are_limited_in_rate() {
    let net = families()[0];
    let mut node = Node::new();
    let lost = "10.0.0.99".parse().unwrap();
    let answers = (0..300)
        .filter(|port| node.run(A, Packet::new(A, net.a, lost, UDP, (*port, 5)).frame()).is_some())
        .count();
    assert!((90..=110).contains(&answers), "{answers} at once");
    assert!(node.answered_drops(DropReason::IcmpRateLimited) > 100);
    node.now.0 += 1_000_000_000;
    assert!(node.run(A, Packet::new(A, net.a, lost, UDP, (1, 5)).frame()).is_some());
}
