//! Pod to pod, without a service: A ─► B and back.

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::{BufferFrame, Checksum, DropReason, Frame, Gso, GsoKind, Offload};

#[test]
fn the_first_packet_makes_a_flow_and_all_others_of_both_directions_use_it() {
    for net in families() {
        for protocol in [TCP, UDP, SCTP] {
            let mut node = Node::new();
            let there = Packet::new(A, net.a, net.b, protocol, (1000, 2000));
            let more = Packet { flags: "A", ..there };
            let back = Packet { flags: "SA", ..Packet::new(B, net.b, net.a, protocol, (2000, 1000)) };
            for (round, (packet, to)) in [(there, B), (back, A), (more, B), (back, A)].into_iter().enumerate()
            {
                let (port, frame) = node.run(packet.from, packet.frame()).unwrap();
                let seen = see(&frame);
                assert_eq!(port, to);
                assert_eq!(seen.macs, (mac_of(to).0, GATEWAY_MAC.0));
                assert_eq!((seen.source, seen.destination), (packet.source, packet.destination));
                assert_eq!((seen.ports, seen.ttl), (packet.ports, 63));
                node.expect(if round == 0 { Resolved } else { Established }, 1);
            }
            node.expect(FlowsMade, 0);
            assert_eq!(node.flows(), 2, "an entry a direction");
            node.check(&[]);
        }
    }
}

#[test]
fn frames_of_one_burst_keep_their_order_also_when_the_first_makes_the_flow() {
    let net = families()[0];
    let mut node = Node::new();
    let mut burst = crate::port::Burst::new();
    for payload in 0..64 {
        burst.push(Packet { payload, ..Packet::new(A, net.a, net.b, UDP, (1, 2)) }.frame());
    }
    node.pipeline.run(&node.tables, A, &mut burst, node.now, &mut node.sink);
    let sizes: Vec<usize> = node.sink.sent.iter().map(|(_, frame)| see(frame).payload.len()).collect();
    assert_eq!(sizes, (0..64).collect::<Vec<_>>());
}

#[test]
fn a_ping_and_its_answer_are_one_flow() {
    for (net, protocol) in families().into_iter().zip([1, 58]) {
        let mut node = Node::new();
        let ping = Packet::new(A, net.a, net.b, protocol, (77, 77));
        let (port, frame) = node.run(A, ping.frame()).unwrap();
        assert_eq!((port, see(&frame).destination), (B, net.b));
        // The answer: the request with addresses and type turned round, which leaves the checksum's sum as it is but
        // for the type.
        let mut bytes = Packet::new(B, net.b, net.a, protocol, (77, 77)).bytes();
        let l4 = if net.a.is_ipv4() { 34 } else { 54 };
        let (old, new) = if net.a.is_ipv4() { (0x0800_u16, 0_u16) } else { (0x8000, 0x8100) };
        bytes[l4] = (new >> 8) as u8;
        let delta = crate::wire::Delta::of_u16(old, new);
        let field = delta.apply([bytes[l4 + 2], bytes[l4 + 3]]);
        bytes[l4 + 2..l4 + 4].copy_from_slice(&field);
        let (port, frame) = node.run(B, BufferFrame::new(&bytes)).unwrap();
        assert_eq!((port, see(&frame).source), (A, net.b));
        node.expect(Resolved, 1);
        node.expect(Established, 1);
        node.check(&[]);
    }
}

#[test]
fn an_answer_without_a_question_is_dropped() {
    let net = families()[0];
    let mut node = Node::new();
    let mut bytes = Packet::new(A, net.a, net.b, 1, (7, 7)).bytes();
    bytes[34] = 0;
    let field = crate::wire::Delta::of_u16(0x0800, 0).apply([bytes[36], bytes[37]]);
    bytes[36..38].copy_from_slice(&field);
    assert!(node.run(A, BufferFrame::new(&bytes)).is_none());
    node.expect(Resolved, 1);
    node.check(&[DropReason::FlowInvalid]);
}

#[test]
fn a_gso_frame_stays_whole_though_larger_than_the_mtu() {
    for net in families() {
        let mut node = Node::new();
        let packet = Packet { payload: 20_000, flags: "A", ..Packet::new(A, net.a, net.b, TCP, (1, 2)) };
        let kind = if net.a.is_ipv4() { GsoKind::TcpV4 } else { GsoKind::TcpV6 };
        let start = if net.a.is_ipv4() { 34 } else { 54 };
        let size = if net.a.is_ipv4() { 1460 } else { 1440 };
        let checksum = Checksum::Partial { start, offset: 16 };
        let offload = Offload { checksum, gso: Some(Gso { kind, size }), outer: 0 };
        for _ in 0..2 {
            let (port, frame) = node.run(A, BufferFrame::with_offload(&packet.bytes(), offload)).unwrap();
            assert_eq!(port, B);
            assert_eq!(frame.offload(), offload);
            assert_eq!(frame.total_len(), packet.bytes().len());
        }
        let large = Offload { checksum, gso: Some(Gso { kind, size: size + 1 }), outer: 0 };
        let answered = node.run(A, BufferFrame::with_offload(&packet.bytes(), large));
        assert_eq!(answered.unwrap().0, A, "segments over the MTU are answered with `too big`");
        node.expect(Resolved, 2);
        node.expect(Established, 1);
        node.expect(Answers, 1);
        node.check(&[]);
        assert_eq!(node.answered_drops(DropReason::TooBig), 1);
    }
}

#[test]
fn a_syn_after_the_end_of_a_connection_begins_another() {
    let net = families()[0];
    let mut node = Node::new();
    let there = |flags| Packet { flags, ..Packet::new(A, net.a, net.b, TCP, (1, 2)) }.frame();
    let back = |flags| Packet { flags, ..Packet::new(B, net.b, net.a, TCP, (2, 1)) }.frame();
    for (port, frame) in
        [(A, there("S")), (B, back("SA")), (A, there("A")), (A, there("FA")), (B, back("FA"))]
    {
        assert!(node.run(port, frame).is_some());
    }
    let flow = node.pipeline.tracker().table().flows(node.now.ticks()).next().unwrap();
    assert_eq!(flow.state.name(), "time-wait");
    assert!(node.run(A, there("S")).is_some());
    let flow = node.pipeline.tracker().table().flows(node.now.ticks()).next().unwrap();
    assert_eq!(flow.state.name(), "syn-sent");
}
