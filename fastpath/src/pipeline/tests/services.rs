//! A ─► service ─► B, and B's answers as the service's.

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::{BufferFrame, Checksum, DropReason, Frame, Offload};
use std::net::IpAddr;

#[test]
fn a_connection_goes_to_the_backend_and_its_reply_is_translated_back_to_the_vip() {
    for net in families() {
        for protocol in [TCP, UDP, SCTP] {
            let mut node = Node::new();
            let there = Packet::new(A, net.a, net.vip, protocol, (1000, 80));
            let back = Packet { flags: "SA", ..Packet::new(B, net.b, net.a, protocol, (8080, 1000)) };
            for round in 0..2 {
                let flags = if round == 0 { "S" } else { "A" };
                let (port, frame) = node.run(A, Packet { flags, ..there }.frame()).unwrap();
                let seen = see(&frame);
                assert_eq!((port, seen.source, seen.destination), (B, net.a, net.b), "{protocol}");
                assert_eq!(seen.ports, (1000, 8080));
                let (port, frame) = node.run(B, back.frame()).unwrap();
                let seen = see(&frame);
                assert_eq!((port, seen.source, seen.destination), (A, net.vip, net.a));
                assert_eq!(seen.ports, (80, 1000));
                node.expect(Established, 1 + round);
                node.expect(Resolved, 1 - round);
            }
            node.check(&[]);
        }
    }
}

#[test]
fn a_partial_checksum_is_kept_partial_and_right() {
    for net in families() {
        for (protocol, offset) in [(TCP, 16_usize), (UDP, 6)] {
            let mut node = Node::new();
            let l4 = if net.a.is_ipv4() { 34 } else { 54 };
            let mut bytes = Packet::new(A, net.a, net.vip, protocol, (1000, 80)).bytes();
            set_pseudo_sum(&mut bytes, l4, offset, net.a, net.vip, protocol);
            let checksum = Checksum::Partial { start: l4 as u16, offset: offset as u16 };
            let offload = Offload { checksum, gso: None, outer: 0 };
            for _ in 0..2 {
                let (_, mut frame) = node.run(A, BufferFrame::with_offload(&bytes, offload)).unwrap();
                assert_eq!(frame.offload(), offload);
                // Complete it as a NIC would: sum from `start` on, stored complemented.
                let head = frame.head_mut();
                let sum = crate::wire::Sum::of(&head[l4..]).checksum();
                head[l4 + offset..l4 + offset + 2].copy_from_slice(&sum);
                assert_eq!(see(&frame).destination, net.b);
            }
        }
    }
}

fn set_pseudo_sum(bytes: &mut [u8], l4: usize, offset: usize, source: IpAddr, to: IpAddr, protocol: u8) {
    use crate::wire::{IpProtocol, Sum};
    let len = bytes.len() - l4;
    let sum = match (source, to) {
        (IpAddr::V4(s), IpAddr::V4(d)) => Sum::pseudo_v4(s, d, IpProtocol(protocol), len as u16),
        (IpAddr::V6(s), IpAddr::V6(d)) => Sum::pseudo_v6(s, d, IpProtocol(protocol), len as u32),
        other => panic!("{other:?}"),
    };
    bytes[l4 + offset..l4 + offset + 2].copy_from_slice(&sum.partial());
}

#[test]
fn a_udp_datagram_without_checksum_keeps_none() {
    let net = families()[0];
    let mut node = Node::new();
    let mut bytes = Packet::new(A, net.a, net.vip, UDP, (1000, 80)).bytes();
    bytes[40..42].fill(0);
    let (_, frame) = node.run(A, BufferFrame::new(&bytes)).unwrap();
    assert_eq!(frame.head()[40..42], [0, 0]);
}

#[test]
fn without_endpoints_tcp_is_reset_and_others_hear_port_unreachable() {
    for net in families() {
        for (protocol, reason, port) in [
            (TCP, DropReason::NoBackend, 80),
            (UDP, DropReason::NoBackend, 80),
            (SCTP, DropReason::NoBackend, 80),
            (TCP, DropReason::NoService, 81),
            (UDP, DropReason::NoService, 81),
        ] {
            let mut node = Node::new();
            node.set_backends(&[]);
            let packet = Packet::new(A, net.a, net.vip, protocol, (1000, port));
            let (out, frame) = node.run(A, packet.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((out, seen.source, seen.destination), (A, net.vip, net.a));
            assert_eq!(seen.macs, (mac_of(A).0, GATEWAY_MAC.0));
            if protocol == TCP {
                assert_eq!(seen.ports, (port, 1000));
            } else {
                assert!(seen.payload.len() > 20, "quotes the packet");
            }
            assert_eq!(node.answered_drops(reason), 1);
            node.expect(Resolved, 1);
            node.expect(Answers, 1);
            node.check(&[]);
            assert_eq!(node.flows(), 0);
        }
    }
}

#[test]
fn while_ports_of_the_start_are_missing_nobody_is_told_of_a_refusal() {
    for net in families() {
        for (protocol, backends, reason) in
            [(TCP, vec![], DropReason::NoBackend), (UDP, vec![(net.b, 8080)], DropReason::NoRoute)]
        {
            let mut node = Node::new();
            node.set_backends(&backends);
            node.tables.routes.remove(net.b.into());
            node.tables.settled = false;
            assert!(node.run(A, Packet::new(A, net.a, net.vip, protocol, (1000, 80)).frame()).is_none());
            node.expect(Resolved, 1);
            node.check(&[reason]);
        }
    }
}

#[test]
fn an_established_connection_stays_when_backends_come() {
    let net = families()[0];
    let mut node = Node::new();
    let packet = Packet::new(A, net.a, net.vip, TCP, (1000, 80));
    node.run(A, packet.frame()).unwrap();
    for extra in 3..40 {
        let other = IpAddr::from([10, 0, 0, extra]);
        node.set_backends(&[(net.b, 8080), (other, 8080)]);
        let (port, frame) = node.run(A, Packet { flags: "A", ..packet }.frame()).unwrap();
        assert_eq!((port, see(&frame).destination), (B, net.b));
    }
}

#[test]
fn a_udp_flow_to_a_vanished_backend_is_resolved_again_and_a_tcp_flow_is_left() {
    let net = families()[0];
    for (protocol, stays) in [(UDP, false), (TCP, true)] {
        let mut node = Node::new();
        let packet = Packet { flags: "SA", ..Packet::new(A, net.a, net.vip, protocol, (1000, 80)) };
        node.run(A, packet.frame()).unwrap();
        node.set_backends(&[(net.a, 9090)]);
        let (port, frame) = node.run(A, packet.frame()).unwrap();
        let seen = see(&frame);
        let wanted = if stays { (B, net.b, 8080) } else { (A, net.a, 9090) };
        assert_eq!((port, seen.destination, seen.ports.1), wanted);
    }
}

#[test]
fn a_pod_that_reaches_itself_through_a_service_sees_its_router_as_the_client() {
    for net in families() {
        let mut node = Node::new();
        node.set_backends(&[(net.a, 8080)]);
        let (port, frame) = node.run(A, Packet::new(A, net.a, net.vip, TCP, (1000, 80)).frame()).unwrap();
        let seen = see(&frame);
        assert_eq!((port, seen.source, seen.destination), (A, net.gateway, net.a));
        let back = Packet { flags: "SA", ..Packet::new(A, net.a, net.gateway, TCP, (8080, seen.ports.0)) };
        let (port, frame) = node.run(A, back.frame()).unwrap();
        let seen = see(&frame);
        assert_eq!((port, seen.source, seen.destination), (A, net.vip, net.a));
        assert_eq!(seen.ports, (80, 1000));
    }
}

#[test]
fn two_services_with_the_same_backend_keep_their_clients_connections_apart() {
    let net = families()[0];
    let mut node = Node::new();
    node.run(A, Packet::new(A, net.a, net.vip, UDP, (1000, 80)).frame()).unwrap();
    // The same client port straight to the backend: the replies would be the same.
    let (_, frame) = node.run(A, Packet::new(A, net.a, net.b, UDP, (1000, 8080)).frame()).unwrap();
    let seen = see(&frame);
    assert_ne!(seen.ports.0, 1000, "another source port tells them apart");
    let reply = Packet::new(B, net.b, net.a, UDP, (8080, seen.ports.0));
    let (_, frame) = node.run(B, reply.frame()).unwrap();
    assert_eq!((see(&frame).source, see(&frame).ports), (net.b, (8080, 1000)));
}
