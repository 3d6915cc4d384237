//! Source ports of masqueraded connections.

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::DropReason;
use crate::tables::{FrontendKind, SourcePorts};
use std::collections::HashSet;

fn node(first_port: u16, last_port: u16) -> Node {
    let mut node = Node::new();
    node.add_uplink();
    node.tables.masquerade.ports = SourcePorts { first: first_port, last: last_port };
    for net in families() {
        node.add_frontend(net.node, 30080, FrontendKind::NodePort, |_| ());
    }
    node
}

#[test]
fn every_port_of_the_range_is_used_once_before_there_is_none_left() {
    for net in families() {
        let mut node = node(50_000, 50_063);
        let mut used = HashSet::new();
        for client in 0..64 {
            let packet = Packet::new(UPLINK, net.client, net.node, UDP, (1000 + client, 30080));
            let (_, frame) = node.run(UPLINK, packet.frame()).unwrap();
            let port = see(&frame).ports.0;
            assert!((50_000..=50_063).contains(&port));
            assert!(used.insert(port), "port {port} is another connection's");
        }
        let packet = Packet::new(UPLINK, net.client, net.node, UDP, (9999, 30080));
        assert!(node.run(UPLINK, packet.frame()).is_none());
        node.expect(Resolved, 65);
        node.check(&[DropReason::NoSourcePort]);
    }
}

#[test]
fn a_port_is_free_again_when_its_connection_is_forgotten() {
    let net = families()[0];
    let mut node = node(50_000, 50_000);
    let first = Packet::new(UPLINK, net.client, net.node, UDP, (1000, 30080));
    let second = Packet { ports: (1001, 30080), ..first };
    node.run(UPLINK, first.frame()).unwrap();
    assert!(node.run(UPLINK, second.frame()).is_none());
    // Unreplied UDP lives 30 seconds; the sweep gets round within a few.
    for _ in 0..60 {
        node.now.0 += 1_000_000_000;
        node.pipeline.maintain(node.now);
    }
    assert!(node.run(UPLINK, second.frame()).is_some());
}

#[test]
fn the_same_port_serves_different_protocols_and_backends() {
    let net = families()[0];
    let mut node = node(50_000, 50_000);
    for protocol in [TCP, UDP, SCTP] {
        let packet = Packet::new(UPLINK, net.client, net.node, protocol, (1000, 30080));
        assert_eq!(see(&node.run(UPLINK, packet.frame()).unwrap().1).ports.0, 50_000);
    }
}

#[test]
fn workers_begin_at_different_places_of_the_range() {
    let net = families()[0];
    let ports: HashSet<u16> = (0..8_u64)
        .map(|seed| {
            let mut node = node(50_000, 65_000);
            node.pipeline.next_port = (seed * 977) as u32;
            let packet = Packet::new(UPLINK, net.client, net.node, TCP, (1000, 30080));
            see(&node.run(UPLINK, packet.frame()).unwrap().1).ports.0
        })
        .collect();
    assert!(ports.len() > 6, "{ports:?}");
}
