//! Routes that lead nowhere, and ways between uplinks, which a node is no router for.
//!
//! ```text
//!   pod A 10.0.0.1 ─ node ═ uplink ─ 0.0.0.0/0, but for 203.0.113.0/24
//!                         ═ uplink 2 ─ 198.18.0.0/15
//! ```

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::{BufferFrame, DropReason, Frame, PortId};
use crate::tables::{Adjacency, PortRole, RefusedRoute, Route};
use crate::wire::MacAddr;
use std::net::IpAddr;

const SECOND: PortId = PortId(77);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn far(net: &Net) -> IpAddr {
    ip(if net.a.is_ipv4() { "203.0.113.9" } else { "2001:db8:7::9" })
}

fn refuse(node: &mut Node, how: RefusedRoute) {
    for range in ["203.0.113.0/24", "2001:db8:7::/48"] {
        node.tables.routes.insert(range.parse().unwrap(), Route::Refused(how));
    }
}

/// Type and code of the ICMP error in a frame.
fn icmp(frame: &BufferFrame) -> (u8, u8) {
    let at = if frame.head()[12] == 0x08 { 34 } else { 54 };
    (frame.head()[at], frame.head()[at + 1])
}

#[test]
fn a_longer_route_that_refuses_goes_before_the_default_route_and_answers_as_linux_does() {
    for net in families() {
        let cases = [
            (RefusedRoute::Blackhole, DropReason::RouteBlackhole, None),
            (
                RefusedRoute::Unreachable,
                DropReason::RouteUnreachable,
                Some(if net.a.is_ipv4() { (3, 1) } else { (1, 0) }),
            ),
            (
                RefusedRoute::Prohibit,
                DropReason::RouteProhibit,
                Some(if net.a.is_ipv4() { (3, 13) } else { (1, 1) }),
            ),
        ];
        for (how, reason, told) in cases {
            let mut node = Node::new();
            node.add_uplink();
            refuse(&mut node, how);
            let packet = Packet::new(A, net.a, far(&net), UDP, (4000, 80));
            match (node.run(A, packet.frame()), told) {
                (None, None) => {
                    node.expect(Resolved, 1);
                    node.check(&[reason]);
                }
                (Some((port, frame)), Some(told)) => {
                    assert_eq!((port, icmp(&frame)), (A, told));
                    assert_eq!((see(&frame).source, see(&frame).destination), (net.gateway, net.a));
                    node.expect(Resolved, 1);
                    node.expect(Answers, 1);
                    node.check(&[]);
                    assert_eq!(node.answered_drops(reason), 1);
                }
                (met, told) => panic!("{how:?}: {met:?}, not {told:?}"),
            }
            assert_eq!(node.flows(), 0);
            // Others are not touched.
            let packet = Packet::new(A, net.a, net.client, UDP, (4000, 80));
            assert_eq!(node.run(A, packet.frame()).unwrap().0, UPLINK);
        }
    }
}

#[test]
fn a_flow_ends_when_a_route_begins_to_refuse_and_goes_on_when_it_no_longer_does() {
    for net in families() {
        let mut node = Node::new();
        node.add_uplink();
        let packet = Packet::new(A, net.a, far(&net), UDP, (4000, 80));
        assert_eq!(node.run(A, packet.frame()).unwrap().0, UPLINK);
        refuse(&mut node, RefusedRoute::Blackhole);
        node.tables.epoch += 1;
        assert!(node.run(A, packet.frame()).is_none());
        for range in ["203.0.113.0/24", "2001:db8:7::/48"] {
            node.tables.routes.remove(range.parse().unwrap());
        }
        node.tables.epoch += 1;
        assert_eq!(node.run(A, packet.frame()).unwrap().0, UPLINK);
        node.expect(Resolved, 3);
        node.check(&[DropReason::RouteBlackhole]);
    }
}

/// A second uplink, with ways of its own.
fn with_second() -> Node {
    let mut node = Node::new();
    node.add_uplink();
    let first = *node.tables.ports.get(UPLINK).unwrap();
    node.tables.ports.insert(SECOND, first);
    let id = node.tables.routes.add_adjacency(Adjacency {
        port: SECOND,
        mtu: 1500,
        destination_mac: MacAddr([2, 0, 0, 0, 7, 7]),
        source_mac: first.own_mac,
        tunnel: None,
    });
    for range in ["203.0.113.0/24", "2001:db8:7::/48"] {
        node.tables.routes.insert(range.parse().unwrap(), Route::Via(id));
    }
    assert_eq!(first.role, PortRole::Uplink);
    node
}

#[test]
fn between_two_uplinks_a_node_is_a_router_only_if_asked() {
    for net in families() {
        let mut node = with_second();
        let there = Packet::new(UPLINK, net.client, far(&net), UDP, (4000, 80));
        assert!(node.run(UPLINK, there.frame()).is_none());
        // Pods reach both.
        let packet = Packet::new(A, net.a, far(&net), UDP, (4000, 80));
        assert_eq!(node.run(A, packet.frame()).unwrap().0, SECOND);
        node.expect(Resolved, 2);
        node.check(&[DropReason::Transit]);

        let mut node = with_second();
        node.tables.transit = true;
        assert_eq!(node.run(UPLINK, there.frame()).unwrap().0, SECOND);
        let back = Packet::new(SECOND, far(&net), net.client, UDP, (80, 4000));
        assert_eq!(node.run(SECOND, back.frame()).unwrap().0, UPLINK);
        // Back by the same it never goes.
        let loops = Packet::new(SECOND, net.client, far(&net), UDP, (4001, 80));
        assert!(node.run(SECOND, loops.frame()).is_none());
        node.expect(Resolved, 2);
        node.expect(Established, 1);
        node.check(&[DropReason::Transit]);
    }
}

#[test]
fn a_flow_to_a_pod_does_not_leave_again_once_the_pod_is_gone() {
    for net in families() {
        let mut node = with_second();
        let there = Packet::new(UPLINK, net.client, net.a, UDP, (4000, 80));
        assert_eq!(node.run(UPLINK, there.frame()).unwrap().0, A);
        node.tables.routes.remove(net.a.into());
        node.tables.epoch += 1;
        assert!(node.run(UPLINK, there.frame()).is_none());
        node.expect(Resolved, 2);
        node.check(&[DropReason::Transit]);
    }
}
