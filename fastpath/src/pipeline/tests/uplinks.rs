//! Links that a node shares with others: neighbours that are yet to be found, several next hops, connections that leave
//! the cluster, and the node's own network stack.
//!
//! ```text
//!   pod A 10.0.0.1 ─┐                          ┌─ 192.0.2.2, 192.0.2.3: routers
//!   host leg (B) ───┴─ node 192.0.2.1 ═ uplink ┼─ 192.0.2.9: on the same link
//!                                              └─ the world: client 198.51.100.7
//! ```

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::pipeline::{Report, Wait};
use crate::port::{BufferFrame, Checksum, DropReason, Frame, Offload, PortId};
use crate::tables::{AddressSet, Adjacency, FrontendKind, Outgoing, PortRole, Route};
use crate::wire::MacAddr;
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;

const NIC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Somebody on the uplink's own link.
fn on_link(net: &Net) -> IpAddr {
    ip(if net.a.is_ipv4() { "192.0.2.9" } else { "2001:db8::9" })
}

fn node() -> Node {
    let mut node = Node::new();
    node.add_uplink();
    let mut port = *node.tables.ports.get(UPLINK).unwrap();
    (port.own_mac, port.mac) = (NIC, MacAddr::default());
    node.tables.ports.insert(UPLINK, port);
    for link in ["192.0.2.0/24", "2001:db8::/64"] {
        node.tables.routes.insert(link.parse().unwrap(), Route::OnLink(UPLINK));
    }
    node
}

/// Gives port B to the node's own network stack, which has the node's addresses.
fn with_host(companion: bool) -> Node {
    let mut node = node();
    let mut host = *node.tables.ports.get(B).unwrap();
    (host.role, host.spoof_check) = (PortRole::Host, false);
    host.companion = companion.then_some(UPLINK);
    node.tables.ports.insert(B, host);
    if companion {
        let mut uplink = *node.tables.ports.get(UPLINK).unwrap();
        uplink.companion = Some(B);
        node.tables.ports.insert(UPLINK, uplink);
    }
    for net in families() {
        let way = node.tables.routes.lookup(net.b.into()).unwrap();
        node.tables.routes.insert(net.node.into(), way);
    }
    node
}

fn way(destination: u8, mtu: u16) -> Adjacency {
    let destination_mac = MacAddr([2, 0, 0, 0, 1, destination]);
    Adjacency { port: UPLINK, mtu, destination_mac, source_mac: NIC, tunnel: None }
}

/// A packet as it arrives by the uplink's NIC.
fn from_uplink(packet: &Packet) -> BufferFrame {
    let mut bytes = packet.bytes();
    bytes[..6].copy_from_slice(&NIC.0);
    BufferFrame::new(&bytes)
}

fn outgoing(node: &mut Node) {
    let set = |ranges: [&str; 2]| AddressSet::new(ranges.map(|range| range.parse().unwrap()));
    let rules =
        Outgoing { sources: set(["10.0.0.0/8", "fd00::/16"]), exceptions: set(["10.0.0.0/8", "fd00::/16"]) };
    node.tables.masquerade.outgoing = Some(Arc::new(rules));
}

#[test]
fn a_packet_waits_for_its_neighbour_and_goes_when_that_is_known() {
    for net in families() {
        let mut node = node();
        let packet = Packet::new(A, net.a, on_link(&net), TCP, (4000, 80));
        assert!(node.run(A, packet.frame()).is_none());
        let address = on_link(&net).into();
        assert_eq!(node.sink.parked[0].0, Wait { arrival: A, port: UPLINK, address, since: node.now });
        assert_eq!(node.flows(), 0, "no flow is made of what has not left");
        let id = node.tables.routes.add_adjacency(way(9, 1500));
        node.tables.routes.insert(on_link(&net).into(), Route::Via(id));
        let (port, frame) = node.run_parked().unwrap();
        assert_eq!((port, see(&frame).macs), (UPLINK, ([2, 0, 0, 0, 1, 9], NIC.0)));
        let back = Packet { flags: "SA", ..Packet::new(UPLINK, on_link(&net), net.a, TCP, (80, 4000)) };
        assert_eq!(node.run(UPLINK, from_uplink(&back)).unwrap().0, A);
        node.expect(Resolved, 2);
        node.expect(Established, 1);
        node.check(&[]);
    }
}

#[test]
fn a_packet_waits_for_the_way_back_to_its_sender_too() {
    for net in families() {
        let mut node = node();
        let packet = Packet::new(UPLINK, on_link(&net), net.a, TCP, (4000, 80));
        assert!(node.run(UPLINK, from_uplink(&packet)).is_none());
        assert_eq!(
            (node.sink.parked[0].0.arrival, node.sink.parked[0].0.address),
            (UPLINK, on_link(&net).into())
        );
        let id = node.tables.routes.add_adjacency(way(9, 1500));
        node.tables.routes.insert(on_link(&net).into(), Route::Via(id));
        assert_eq!(node.run_parked().unwrap().0, A);
        node.expect(Resolved, 2);
        node.check(&[]);
    }
}

#[test]
fn an_answer_to_a_neighbour_that_is_not_known_has_it_looked_for() {
    for net in families() {
        let mut node = node();
        let packet = Packet { ttl: 1, ..Packet::new(UPLINK, on_link(&net), net.gateway, UDP, (4000, 80)) };
        assert!(node.run(UPLINK, from_uplink(&packet)).is_none());
        let address = on_link(&net).into();
        assert_eq!(node.sink.reports, [Report::Unresolved { port: UPLINK, address }]);
        node.expect(Resolved, 1);
        node.expect(Answers, 1);
        node.check(&[DropReason::NeighbourUnresolved]);
    }
}

#[test]
fn flows_are_spread_over_next_hops_and_each_keeps_its_own() {
    for net in families() {
        let mut node = node();
        let members = [2, 3].map(|router| node.tables.routes.add_adjacency(way(router, 1500)));
        let group = node.tables.routes.add_group(members.into());
        for all in ["0.0.0.0/0", "::/0"] {
            node.tables.routes.insert(all.parse().unwrap(), Route::Spread(group));
        }
        let mut taken = HashSet::new();
        for port in 4000..4040 {
            let packet = Packet::new(A, net.a, net.client, UDP, (port, 80));
            let first = see(&node.run(A, packet.frame()).unwrap().1).macs.0;
            node.tables.epoch += 1;
            assert_eq!(see(&node.run(A, packet.frame()).unwrap().1).macs.0, first);
            taken.insert(first);
        }
        assert_eq!(taken.len(), 2);
        node.expect(Resolved, 80);
        node.check(&[]);
    }
}

#[test]
fn a_pods_connection_leaves_the_cluster_under_the_nodes_address_and_its_replies_find_back() {
    for net in families() {
        for protocol in [TCP, UDP, SCTP] {
            let mut node = node();
            outgoing(&mut node);
            let packet = Packet::new(A, net.a, net.client, protocol, (4000, 80));
            let (port, frame) = node.run(A, packet.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.source, seen.destination), (UPLINK, net.node, net.client));
            assert!((50_000..51_000).contains(&seen.ports.0));
            let back = Packet {
                flags: "SA",
                ..Packet::new(UPLINK, net.client, net.node, protocol, (80, seen.ports.0))
            };
            let (port, frame) = node.run(UPLINK, from_uplink(&back)).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.destination, seen.ports), (A, net.a, (80, 4000)));
            node.expect(Resolved, 1);
            node.expect(Established, 1);
            node.check(&[]);
        }
    }
}

#[test]
fn a_pods_ping_leaves_under_an_identifier_of_the_range_and_its_reply_finds_back() {
    for (net, protocol) in families().into_iter().zip([1, 58]) {
        let mut node = node();
        outgoing(&mut node);
        let (_, frame) = node.run(A, Packet::new(A, net.a, net.client, protocol, (77, 0)).frame()).unwrap();
        let seen = see(&frame);
        assert_eq!(seen.source, net.node);
        let l4 = if net.a.is_ipv4() { 34 } else { 54 };
        let identifier = u16::from_be_bytes([frame.head()[l4 + 4], frame.head()[l4 + 5]]);
        assert!((50_000..51_000).contains(&identifier));
        // The reply: addresses exchanged, the type of an answer.
        let mut reply = Packet::new(UPLINK, net.client, net.node, protocol, (identifier, 0)).bytes();
        let (request, answer) = if net.a.is_ipv4() { (8, 0) } else { (128, 129) };
        assert_eq!(reply[l4], request);
        reply[l4] = answer;
        let change = crate::wire::Delta::of_u16(u16::from(request) << 8, u16::from(answer) << 8);
        let field = change.apply([reply[l4 + 2], reply[l4 + 3]]);
        reply[l4 + 2..l4 + 4].copy_from_slice(&field);
        reply[..6].copy_from_slice(&NIC.0);
        let (port, frame) = node.run(UPLINK, BufferFrame::new(&reply)).unwrap();
        assert_eq!((port, see(&frame).destination), (A, net.a));
        assert_eq!(frame.head()[l4 + 4..l4 + 6], 77u16.to_be_bytes());
        node.expect(Resolved, 1);
        node.expect(Established, 1);
        node.check(&[]);
    }
}

#[test]
fn what_stays_in_the_cluster_and_what_no_pod_sends_keeps_its_source() {
    for net in families() {
        let mut node = with_host(false);
        outgoing(&mut node);
        let inside = ip(if net.a.is_ipv4() { "10.8.0.1" } else { "fd00:8::1" });
        let (_, frame) = node.run(A, Packet::new(A, net.a, inside, UDP, (4000, 80)).frame()).unwrap();
        assert_eq!(see(&frame).source, net.a);
        let (_, frame) = node.run(B, Packet::new(B, net.b, net.client, UDP, (4000, 80)).frame()).unwrap();
        assert_eq!(see(&frame).source, net.b);
        node.expect(Resolved, 2);
        node.check(&[]);
    }
}

#[test]
fn a_node_port_leads_back_out_by_the_uplink_and_nothing_else_does() {
    for net in families() {
        let mut node = node();
        node.tables.routes.insert(net.node.into(), Route::Local);
        let far = ip(if net.a.is_ipv4() { "203.0.113.9" } else { "2001:db8:7::9" });
        let service = node.add_frontend(net.node, 30080, FrontendKind::NodePort, |frontend| {
            let backend = crate::tables::Backend { address: far.into(), port: 8080 };
            (frontend.inside, frontend.outside) = (pool(vec![backend]), pool(vec![backend]));
        });
        node.tables.services.set_serving(
            service,
            crate::tables::Backend { address: far.into(), port: 8080 },
            true,
        );
        let there = Packet::new(UPLINK, net.client, net.node, TCP, (4000, 30080));
        let (port, frame) = node.run(UPLINK, from_uplink(&there)).unwrap();
        let seen = see(&frame);
        assert_eq!((port, seen.source, seen.destination), (UPLINK, net.node, far));
        let back = Packet { flags: "SA", ..Packet::new(UPLINK, far, net.node, TCP, (8080, seen.ports.0)) };
        let (port, frame) = node.run(UPLINK, from_uplink(&back)).unwrap();
        assert_eq!((port, see(&frame).destination), (UPLINK, net.client));
        let transit = Packet::new(UPLINK, net.client, far, TCP, (4000, 80));
        assert!(node.run(UPLINK, from_uplink(&transit)).is_none());
        node.expect(Resolved, 2);
        node.expect(Established, 1);
        node.check(&[DropReason::Transit]);
    }
}

#[test]
fn what_no_flow_explains_is_the_network_stacks_to_answer() {
    for net in families() {
        let mut node = with_host(false);
        let stray = Packet { flags: "RA", ..Packet::new(UPLINK, net.client, net.node, TCP, (80, 50_100)) };
        let (port, frame) = node.run(UPLINK, from_uplink(&stray)).unwrap();
        let seen = see(&frame);
        assert_eq!((port, seen.macs, seen.ttl), (B, (mac_of(B).0, GATEWAY_MAC.0), 64));
        // An answer of the stack to a connection that it got past the data path.
        let answer = Packet { flags: "RA", ..Packet::new(B, net.node, net.client, TCP, (22, 4000)) };
        let (port, frame) = node.run(B, answer.frame()).unwrap();
        assert_eq!((port, see(&frame).ttl), (UPLINK, 63));
        // A pod's packets are held to their flows as ever.
        let invalid = Packet { flags: "RA", ..Packet::new(UPLINK, net.client, net.a, TCP, (80, 4000)) };
        assert!(node.run(UPLINK, from_uplink(&invalid)).is_none());
        assert_eq!(node.flows(), 0);
        node.expect(Resolved, 3);
        node.check(&[DropReason::FlowInvalid]);
    }
}

fn raw(destination: MacAddr, source: MacAddr, kind: u16) -> BufferFrame {
    let mut bytes = Vec::from(destination.0);
    bytes.extend(source.0);
    bytes.extend(kind.to_be_bytes());
    bytes.extend([7; 46]);
    BufferFrame::new(&bytes)
}

#[test]
fn the_kernel_behind_the_hosts_leg_has_all_that_is_not_claimed() {
    let everybody = MacAddr([0xff; 6]);
    let router = MacAddr([2, 0, 0, 0, 1, 2]);
    for net in families() {
        let mut node = with_host(true);
        let mut passed = 0;
        let mut pass = |node: &mut Node, from: PortId, to: PortId, frame: BufferFrame| {
            let before = frame.head().to_vec();
            let (port, after) = node.run(from, frame).unwrap();
            assert_eq!((port, after.head()), (to, &before[..]), "as it is");
            passed += 1;
        };
        // ARP, a tagged frame, spanning tree, somebody else's unicast.
        for (destination, kind) in
            [(everybody, 0x806), (NIC, 0x8100), (MacAddr([1, 0x80, 0xc2, 0, 0, 0]), 0x27), (router, 0x800)]
        {
            pass(&mut node, UPLINK, B, raw(destination, mac_of(UPLINK), kind));
        }
        // SSH, and a port beside the masquerade range.
        for port in [22, 49_999, 51_000] {
            pass(
                &mut node,
                UPLINK,
                B,
                from_uplink(&Packet::new(UPLINK, net.client, net.node, TCP, (4000, port))),
            );
        }
        // What the kernel sends goes to the wire, with its offload state.
        let mut bytes = Packet::new(B, net.node, net.client, TCP, (22, 4000)).bytes();
        bytes[..6].copy_from_slice(&router.0);
        let checksum = Checksum::Partial { start: if net.a.is_ipv4() { 34 } else { 54 }, offset: 16 };
        let offload = Offload { checksum, gso: None, outer: 0 };
        let (port, frame) = node.run(B, BufferFrame::with_offload(&bytes, offload)).unwrap();
        assert_eq!((port, frame.head(), frame.offload()), (UPLINK, &bytes[..], offload));
        pass(&mut node, B, UPLINK, raw(everybody, NIC, 0x806));
        node.expect(PassedOn, passed + 1);
        // Own frames that come back are nobody's.
        assert!(node.run(UPLINK, raw(everybody, NIC, 0x806)).is_none());
        node.check(&[DropReason::OwnFrame]);
    }
}

#[test]
fn nobody_reaches_the_hosts_loopback_addresses_by_a_nic_that_is_taken() {
    for net in families() {
        let mut node = with_host(true);
        let loopback = ip(if net.a.is_ipv4() { "127.0.0.1" } else { "::1" });
        for (source, destination) in [(net.client, loopback), (loopback, net.node)] {
            let plain = from_uplink(&Packet::new(UPLINK, source, destination, TCP, (4000, 22)));
            let (addresses, rest) = plain.head().split_at(12);
            let tagged = BufferFrame::new(&[addresses, &[0x81, 0x00, 0, 7], rest].concat());
            for frame in [plain, tagged] {
                assert!(node.run(UPLINK, frame).is_none());
            }
        }
        node.check(&[DropReason::BadAddress; 4]);
    }
}

#[test]
fn what_is_claimed_is_routed_although_the_uplink_has_a_companion() {
    for net in families() {
        let mut node = with_host(true);
        let remote = ip(if net.a.is_ipv4() { "10.9.0.1" } else { "fd00:9::1" });
        node.add_frontend(net.node, 30080, FrontendKind::NodePort, |frontend| {
            frontend.inside = pool(vec![crate::tables::Backend { address: net.a.into(), port: 8080 }]);
            frontend.outside = frontend.inside.clone();
        });
        for (source, destination, ports, to, ttl) in [
            (net.client, net.a, (4000, 80), A, 63),
            (net.client, net.node, (4000, 30080), A, 63),
            (remote, net.node, (4000, 22), B, 63),
            // A stray packet to the masquerade range: on to the stack, as it came.
            (net.client, net.node, (80, 50_500), B, 64),
        ] {
            let flags = if ports.1 == 50_500 { "RA" } else { "S" };
            let packet = Packet { flags, ..Packet::new(UPLINK, source, destination, TCP, ports) };
            let (port, frame) = node.run(UPLINK, from_uplink(&packet)).unwrap();
            assert_eq!((port, see(&frame).ttl), (to, ttl), "{packet:?}");
        }
        node.expect(Resolved, 4);
        node.check(&[]);
        // The stack's answer to the pod that spoke to it is part of that flow.
        let answer = Packet { flags: "SA", ..Packet::new(B, net.node, remote, TCP, (22, 4000)) };
        assert_eq!(node.run(B, answer.frame()).unwrap().0, UPLINK);
        node.expect(Established, 1);
        node.check(&[]);
    }
}

#[test]
fn a_syn_announces_no_more_than_both_ways_take_and_is_never_raised() {
    for net in families() {
        for (option, partial) in [(1460u16, false), (1460, true), (900, false)] {
            let mut node = node();
            node.tables.clamp_mss = true;
            let id = node.tables.routes.add_adjacency(way(2, 1400));
            for all in ["0.0.0.0/0", "::/0"] {
                node.tables.routes.insert(all.parse().unwrap(), Route::Via(id));
            }
            let most = if net.a.is_ipv4() { 1360 } else { 1340 };
            let there = Packet { mss: Some(option), ..Packet::new(A, net.a, net.client, TCP, (4000, 80)) };
            let back = Packet {
                flags: "SA",
                mss: Some(option),
                ..Packet::new(UPLINK, net.client, net.a, TCP, (80, 4000))
            };
            let start = if net.a.is_ipv4() { 34u16 } else { 54 };
            for (from, mut frame) in [(A, there.frame()), (UPLINK, from_uplink(&back))] {
                let full = frame.head()[usize::from(start) + 16..usize::from(start) + 18].to_vec();
                if partial {
                    let checksum = Checksum::Partial { start, offset: 16 };
                    frame.set_offload(Offload { checksum, gso: None, outer: 0 });
                }
                let (_, frame) = node.run(from, frame).unwrap();
                let at = usize::from(start);
                assert_eq!(
                    frame.head()[at + 20..at + 24],
                    [2, 4, (option.min(most) >> 8) as u8, option.min(most) as u8]
                );
                match partial {
                    true => assert_eq!(frame.head()[at + 16..at + 18], full[..]),
                    false => assert_eq!(see(&frame).payload.len(), 10),
                }
            }
            node.expect(Resolved, 1);
            node.expect(Established, 1);
            node.check(&[]);
        }
    }
}
