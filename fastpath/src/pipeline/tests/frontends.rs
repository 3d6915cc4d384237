//! Frontends beside the ClusterIP, and who may use them.
//!
//! ```text
//!   client 198.51.100.7 ══ uplink ══ node 192.0.2.1 ─► pod B, port 8080
//!   pod A ─────────────────────────────┘
//! ```

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::{DropReason, Frame};
use crate::tables::{AddressSet, FrontendKind, Pool, PortRole, WhenEmpty};
use std::net::IpAddr;
use std::sync::Arc;

fn node() -> Node {
    let mut node = Node::new();
    node.add_uplink();
    node
}

fn from_outside(net: &Net, destination: IpAddr, protocol: u8, port: u16) -> Packet {
    Packet::new(UPLINK, net.client, destination, protocol, (4000, port))
}

#[test]
fn a_node_port_masquerades_clients_from_outside_and_replies_find_their_way_back() {
    for net in families() {
        for protocol in [TCP, UDP, SCTP] {
            let mut node = node();
            node.add_frontend(net.node, 30080, FrontendKind::NodePort, |_| ());
            let there = from_outside(&net, net.node, protocol, 30080);
            let (port, frame) = node.run(UPLINK, there.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.source, seen.destination), (B, net.node, net.b));
            assert_eq!(seen.ports.1, 8080);
            assert!((50_000..51_000).contains(&seen.ports.0), "{:?}", seen.ports);
            let back =
                Packet { flags: "SA", ..Packet::new(B, net.b, net.node, protocol, (8080, seen.ports.0)) };
            let (port, frame) = node.run(B, back.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.source, seen.destination), (UPLINK, net.node, net.client));
            assert_eq!(seen.ports, (30080, 4000));
            node.expect(Resolved, 1);
            node.expect(Established, 1);
            node.check(&[]);
            assert_eq!(node.flows(), 2);
        }
    }
}

#[test]
fn a_local_policy_keeps_the_address_of_clients_from_outside() {
    for net in families() {
        for kind in [FrontendKind::NodePort, FrontendKind::ExternalIp, FrontendKind::LoadBalancer] {
            let mut node = node();
            node.add_frontend(net.node, 30080, kind, |frontend| frontend.keeps_client = true);
            let (port, frame) = node.run(UPLINK, from_outside(&net, net.node, TCP, 30080).frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.source, seen.ports), (B, net.client, (4000, 8080)));
        }
    }
}

#[test]
fn a_pod_reaches_external_frontends_with_its_own_address_and_by_the_inside_pool() {
    for net in families() {
        let mut node = node();
        let external: IpAddr =
            if net.a.is_ipv4() { [203, 0, 113, 5].into() } else { "2001:db8:5::5".parse().unwrap() };
        node.add_frontend(external, 443, FrontendKind::LoadBalancer, |frontend| {
            frontend.keeps_client = true;
            frontend.outside = Pool { backends: Default::default(), when_empty: WhenEmpty::Drop };
        });
        let (port, frame) = node.run(A, Packet::new(A, net.a, external, TCP, (1000, 443)).frame()).unwrap();
        let seen = see(&frame);
        assert_eq!((port, seen.source, seen.ports), (B, net.a, (1000, 8080)));
        // From outside nobody is there, on this node.
        assert!(node.run(UPLINK, from_outside(&net, external, TCP, 443).frame()).is_none());
        node.expect(Resolved, 2);
        node.check(&[DropReason::NoBackend]);
    }
}

#[test]
fn a_pod_of_another_node_is_outside_at_external_frontends_and_inside_at_a_cluster_ip() {
    for net in families() {
        let remote: IpAddr =
            if net.a.is_ipv4() { [10, 9, 9, 9].into() } else { "fd00::9:9".parse().unwrap() };
        for (keeps_client, source) in [(true, remote), (false, net.node)] {
            let mut node = node();
            node.add_frontend(net.node, 30080, FrontendKind::NodePort, |frontend| {
                frontend.keeps_client = keeps_client;
                frontend.inside = Pool { backends: Default::default(), when_empty: WhenEmpty::Drop };
            });
            for (destination, port, source) in [(net.node, 30080, source), (net.vip, 80, remote)] {
                let packet = Packet::new(UPLINK, remote, destination, TCP, (4000, port));
                let (to, frame) = node.run(UPLINK, packet.frame()).unwrap();
                assert_eq!((to, see(&frame).source), (B, source));
            }
        }
        let mut node = node();
        let outside = from_outside(&net, net.vip, TCP, 80);
        let (_, frame) = node.run(UPLINK, outside.frame()).unwrap();
        assert_eq!(see(&frame).source, net.node, "from outside of the pod ranges to a ClusterIP");
    }
}

#[test]
fn loopback_addresses_are_the_hosts_own_ports_alone() {
    for net in families() {
        let localhost: IpAddr = if net.a.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() };
        let mut node = node();
        node.add_frontend(localhost, 8080, FrontendKind::HostPort, |_| ());
        let host = node.tables.routes.lookup(net.a.into()).unwrap();
        node.tables.routes.insert(localhost.into(), host);
        for (from, source) in [(A, net.a), (A, localhost), (UPLINK, localhost), (UPLINK, net.client)] {
            assert!(
                node.run(from, Packet::new(from, source, localhost, TCP, (1000, 8080)).frame()).is_none()
            );
        }
        assert!(node.run(A, Packet::new(A, localhost, net.vip, TCP, (1000, 80)).frame()).is_none());
        assert_eq!(node.sink.dropped, [DropReason::BadAddress; 5]);

        let mut info = *node.tables.ports.get(A).unwrap();
        (info.role, info.spoof_check) = (PortRole::Host, false);
        node.tables.ports.insert(A, info);
        for source in [net.a, localhost] {
            let asked = Packet::new(A, source, localhost, UDP, (2000, 8080));
            let (to, frame) = node.run(A, asked.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((to, seen.source), (B, net.node));
            let answer = Packet::new(B, net.b, net.node, UDP, (8080, seen.ports.0));
            let (to, frame) = node.run(B, answer.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((to, seen.source, seen.destination, seen.ports), (A, localhost, source, (8080, 2000)));
        }
    }
}

#[test]
fn the_node_itself_is_masqueraded_and_uses_the_inside_pool() {
    for net in families() {
        let mut node = node();
        node.add_frontend(net.node, 30080, FrontendKind::NodePort, |frontend| {
            frontend.keeps_client = true;
            frontend.outside = Pool { backends: Default::default(), when_empty: WhenEmpty::Drop };
        });
        let mut info = *node.tables.ports.get(A).unwrap();
        info.role = PortRole::Host;
        node.tables.ports.insert(A, info);
        for (destination, port) in [(net.node, 30080), (net.vip, 80)] {
            let (to, frame) =
                node.run(A, Packet::new(A, net.a, destination, TCP, (1000, port)).frame()).unwrap();
            assert_eq!((to, see(&frame).source), (B, net.node));
        }
    }
}

/// A kernel drops what comes off a wire from its own address.
#[test]
fn what_is_masqueraded_toward_the_nodes_own_stack_has_not_its_own_address() {
    let spare = (Some([10, 0, 0, 77].into()), Some("fd00::77".parse().unwrap()));
    let [spare_v4, spare_v6] = [IpAddr::from([10, 0, 0, 77]), "fd00::77".parse().unwrap()];
    for net in families() {
        let v4 = net.a.is_ipv4();
        let spare_address = if v4 { spare_v4 } else { spare_v6 };
        for (toward_host, source) in [((None, None), net.gateway), (spare, spare_address)] {
            let mut node = node();
            node.tables.masquerade.toward_host = toward_host;
            let mut info = *node.tables.ports.get(B).unwrap();
            info.role = PortRole::Host;
            node.tables.ports.insert(B, info);
            // From outside, and from itself: both come back here.
            let outside = from_outside(&net, net.vip, UDP, 80);
            let itself = Packet::new(B, net.b, net.vip, UDP, (4001, 80));
            for (port, packet) in [(UPLINK, outside), (B, itself)] {
                let (to, frame) = node.run(port, packet.frame()).unwrap();
                let seen = see(&frame);
                assert_eq!((to, seen.source, seen.destination), (B, source, net.b));
                let answer = Packet::new(B, net.b, source, UDP, (8080, seen.ports.0));
                let (back, frame) = node.run(B, answer.frame()).unwrap();
                assert_eq!((back, see(&frame).source), (port, net.vip));
            }
            // An address that somebody has is not taken.
            let taken = node.tables.routes.lookup(net.a.into()).unwrap();
            node.tables.routes.insert(spare_address.into(), taken);
            let again = Packet::new(B, net.b, net.vip, UDP, (4002, 80));
            let (_, frame) = node.run(B, again.frame()).unwrap();
            assert_eq!(see(&frame).source, net.gateway);
        }
    }
}

#[test]
fn source_ranges_admit_only_their_own() {
    for net in families() {
        for (ranges, admitted) in [
            (vec![format!("{}/32", families()[0].client), format!("{}/128", families()[1].client)], true),
            (vec!["192.0.2.0/24".into(), "2001:db8:77::/48".into()], false),
            (vec!["0.0.0.0/0".into(), "::/0".into()], true),
        ] {
            let mut node = node();
            let ranges =
                Arc::new(AddressSet::new(ranges.iter().map(|range: &String| range.parse().unwrap())));
            node.add_frontend(net.node, 443, FrontendKind::LoadBalancer, |frontend| {
                frontend.sources = Some(ranges.clone());
            });
            let sent = node.run(UPLINK, from_outside(&net, net.node, TCP, 443).frame());
            assert_eq!(sent.is_some(), admitted);
            node.expect(Resolved, 1);
            node.check(if admitted { &[] } else { &[DropReason::SourceRange] });
        }
    }
}

#[test]
fn other_ports_of_an_external_address_are_routed_as_if_there_were_no_service() {
    let net = families()[0];
    let mut node = node();
    node.add_frontend([203, 0, 113, 5].into(), 443, FrontendKind::ExternalIp, |_| ());
    let packet = Packet::new(A, net.a, [203, 0, 113, 5].into(), UDP, (1000, 444));
    let (port, frame) = node.run(A, packet.frame()).unwrap();
    assert_eq!((port, see(&frame).destination), (UPLINK, IpAddr::from([203, 0, 113, 5])));
}

#[test]
fn a_udp_flow_turns_to_the_service_that_its_address_becomes() {
    let net = families()[0];
    let mut node = node();
    let packet = Packet::new(A, net.a, [203, 0, 113, 5].into(), UDP, (1000, 443));
    assert_eq!(node.run(A, packet.frame()).unwrap().0, UPLINK);
    node.add_frontend([203, 0, 113, 5].into(), 443, FrontendKind::ExternalIp, |_| ());
    node.tables.epoch += 1;
    assert_eq!(node.run(A, packet.frame()).unwrap().0, B);
}

#[test]
fn nobody_outside_sends_from_the_nodes_or_its_pods_addresses() {
    for net in families() {
        let mut node = node();
        for source in [net.node, net.a, net.b] {
            assert!(node.run(UPLINK, Packet::new(UPLINK, source, net.b, UDP, (1, 2)).frame()).is_none());
        }
        node.expect(Resolved, 3);
        node.check(&[DropReason::SpoofedAddress; 3]);
    }
}

#[test]
fn an_error_about_a_reply_to_a_masqueraded_client_reaches_the_backend_with_its_own_ports() {
    let net = families()[0];
    let mut node = node();
    node.add_frontend(net.node, 30080, FrontendKind::NodePort, |_| ());
    let (_, frame) = node.run(UPLINK, from_outside(&net, net.node, UDP, 30080).frame()).unwrap();
    let masqueraded = see(&frame).ports.0;
    let quoted = Packet::new(B, net.b, net.node, UDP, (8080, masqueraded)).bytes();
    // A router beyond the uplink quotes the reply as it saw it: from the NodePort to the client.
    let reply = node.run(B, Packet::new(B, net.b, net.node, UDP, (8080, masqueraded)).frame()).unwrap().1;
    let mut error = Vec::new();
    let (IpAddr::V4(router), IpAddr::V4(target)) = (IpAddr::from([198, 51, 100, 1]), net.node) else {
        panic!()
    };
    etherparse::PacketBuilder::ethernet2(mac_of(UPLINK).0, GATEWAY_MAC.0)
        .ipv4(router.octets(), target.octets(), 64)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
        ))
        .write(&mut error, &reply.head()[14..42])
        .unwrap();
    let (port, frame) = node.run(UPLINK, crate::port::BufferFrame::new(&error)).unwrap();
    assert_eq!((port, see(&frame).destination), (B, net.b));
    // What B's kernel looks for: its own socket's ports in the quote.
    assert_eq!(
        frame.head()[14 + 28 + 12..14 + 28 + 24],
        quoted[14 + 12..14 + 24],
        "addresses and ports of the quote"
    );
}

#[test]
fn a_connection_to_a_vanished_endpoint_is_reset_if_so_configured() {
    for net in families() {
        for (resets, reason) in [(false, None), (true, Some(DropReason::EndpointGone))] {
            let mut node = node();
            node.tables.reset_vanished = resets;
            let packet = Packet::new(A, net.a, net.vip, TCP, (1000, 80));
            node.run(A, packet.frame()).unwrap();
            node.set_backends(&[(net.a, 9090)]);
            let (port, frame) = node.run(A, Packet { flags: "A", ..packet }.frame()).unwrap();
            match reason {
                None => assert_eq!((port, see(&frame).destination), (B, net.b), "left to die"),
                Some(reason) => {
                    assert_eq!((port, see(&frame).source, see(&frame).destination), (A, net.vip, net.a));
                    assert_eq!(node.answered_drops(reason), 1);
                    assert_eq!(node.flows(), 0);
                }
            }
        }
    }
}

#[test]
fn a_new_connection_attempt_does_not_stay_with_a_vanished_endpoint() {
    for net in families() {
        for protocol in [TCP, SCTP] {
            let mut node = Node::new();
            let opening = Packet { chunk: (1, 0), ..Packet::new(A, net.a, net.vip, protocol, (1000, 80)) };
            node.run(A, opening.frame()).unwrap();
            node.set_backends(&[(net.a, 9090)]);
            // Something else of the old connection goes where it went.
            let late = Packet { flags: "A", chunk: (0, 0), ..opening };
            assert_eq!(node.run(A, late.frame()).unwrap().0, B);
            let (port, frame) = node.run(A, opening.frame()).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.destination, seen.ports.1), (A, net.a, 9090), "{protocol}");
        }
    }
}

#[test]
fn nothing_is_forwarded_to_a_link_local_ipv6_address() {
    let net = families()[1];
    let mut node = node();
    let packet = Packet::new(A, net.a, "fe80::1234".parse().unwrap(), UDP, (1000, 2000));
    assert!(node.run(A, packet.frame()).is_none());
    node.expect(Resolved, 1);
    node.check(&[DropReason::BadAddress]);
}
