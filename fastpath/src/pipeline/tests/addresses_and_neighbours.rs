//! Who may send what, and who answers ARP and neighbour discovery.

use super::fixture::*;
use crate::pipeline::WorkerCounter::*;
use crate::port::{BufferFrame, DropReason, Frame};
use crate::wire::{MacAddr, arp, ipv6, ndisc};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

#[test]
fn a_pod_sends_only_from_its_own_addresses() {
    for net in families() {
        let mut node = Node::new();
        assert!(node.run(A, Packet::new(A, net.b, net.a, UDP, (1, 2)).frame()).is_none());
        assert!(node.run(A, Packet::new(B, net.a, net.b, UDP, (1, 2)).frame()).is_none());
        node.expect(Resolved, 1);
        node.check(&[DropReason::SpoofedAddress, DropReason::SpoofedMac]);
    }
}

#[test]
fn a_pod_cannot_send_into_anothers_connection() {
    let net = families()[0];
    let mut node = Node::new();
    let packet = Packet::new(A, net.a, net.b, UDP, (1, 2));
    node.run(A, packet.frame()).unwrap();
    let forged = Packet { from: B, ..packet };
    assert!(node.run(B, forged.frame()).is_none());
    assert_eq!(node.sink.dropped, [DropReason::SpoofedAddress]);
    assert_eq!(node.run(A, packet.frame()).unwrap().0, B, "the flow itself is unharmed");
}

#[test]
fn a_port_without_the_check_may_send_from_anywhere_that_is_routed() {
    let net = families()[0];
    let mut node = Node::new();
    let mut info = *node.tables.ports.get(A).unwrap();
    info.spoof_check = false;
    node.tables.ports.insert(A, info);
    assert!(node.run(A, Packet::new(B, net.b, net.a, UDP, (1, 2)).frame()).is_some());
}

#[test]
fn frames_for_other_macs_multicast_and_bad_addresses_are_dropped() {
    let net = families()[0];
    let mut node = Node::new();
    let packet = Packet::new(A, net.a, net.b, UDP, (1, 2));
    let mut foreign = packet.bytes();
    foreign[5] ^= 1;
    let mut to_many = packet.bytes();
    to_many[0] |= 1;
    assert!(node.run(A, BufferFrame::new(&foreign)).is_none());
    assert!(node.run(A, BufferFrame::new(&to_many)).is_none());
    for (source, destination) in [
        ("10.0.0.1", "224.0.0.1"),
        ("10.0.0.1", "127.0.0.1"),
        ("0.0.0.0", "10.0.0.2"),
        ("10.0.0.1", "255.255.255.255"),
    ] {
        let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
        assert!(node.run(A, Packet::new(A, source, destination, UDP, (1, 2)).frame()).is_none());
    }
    use DropReason::*;
    assert_eq!(node.sink.dropped, [ForeignMac, Multicast, Multicast, BadAddress, BadAddress, Multicast]);
}

fn arp_request(target: Ipv4Addr, sender: MacAddr) -> BufferFrame {
    let mut bytes = vec![0xff; 6];
    bytes.extend(sender.0);
    bytes.extend([0x08, 0x06]);
    let mut message = [0; arp::LEN];
    arp::Fields {
        operation: arp::REQUEST,
        sender_mac: sender,
        sender_ip: Ipv4Addr::new(10, 0, 0, 1),
        target_mac: MacAddr([0; 6]),
        target_ip: target,
    }
    .emit(&mut message);
    bytes.extend(message);
    BufferFrame::new(&bytes)
}

#[test]
fn arp_is_answered_for_the_gateway_and_other_pods_but_not_for_the_asker_itself() {
    let mut node = Node::new();
    for target in [[169, 254, 1, 1], [10, 0, 0, 2], [10, 96, 0, 1]] {
        let (port, frame) = node.run(A, arp_request(target.into(), mac_of(A))).unwrap();
        let reply = arp::Header::new_checked(&frame.head()[14..]).unwrap();
        assert_eq!((port, reply.operation()), (A, arp::REPLY));
        assert_eq!((reply.sender_mac(), reply.sender_ip()), (GATEWAY_MAC, target.into()));
        assert_eq!(reply.target_mac(), mac_of(A));
        assert_eq!(frame.head()[..6], mac_of(A).0);
    }
    assert!(node.run(A, arp_request([10, 0, 0, 1].into(), mac_of(A))).is_none(), "a probe for duplicates");
    assert!(node.run(A, arp_request([10, 9, 9, 9].into(), mac_of(A))).is_none());
    node.expect(NeighbourAnswers, 3);
    node.check(&[DropReason::NeighbourForeign, DropReason::NeighbourForeign]);
}

fn solicitation(target: Ipv6Addr, source: Ipv6Addr) -> BufferFrame {
    let destination = ndisc::solicited_node(target);
    let mut bytes = vec![0x33, 0x33, 0xff, 0, 0, 1];
    bytes.extend(mac_of(A).0);
    bytes.extend([0x86, 0xdd]);
    let mut header = [0; ipv6::LEN];
    ipv6::Fields {
        source,
        destination,
        next_header: crate::wire::IpProtocol::ICMPV6,
        hop_limit: 255,
        traffic_class: 0,
        payload_len: ndisc::LEN as u16,
    }
    .emit(&mut header);
    bytes.extend(header);
    let mut message = [0; ndisc::LEN];
    ndisc::Fields::NeighbourSolicitation { target, source_mac: mac_of(A) }.emit(
        &mut message,
        source,
        destination,
    );
    bytes.extend(message);
    BufferFrame::new(&bytes)
}

#[test]
fn neighbour_solicitations_are_answered_for_the_gateway_and_other_pods() {
    let mut node = Node::new();
    let own: Ipv6Addr = "fd00::1".parse().unwrap();
    for target in ["fe80::1", "fd00::2", "fd96::1"] {
        let target: Ipv6Addr = target.parse().unwrap();
        let (port, frame) = node.run(A, solicitation(target, own)).unwrap();
        let head = frame.head();
        let envelope = ndisc::Envelope { source: target, destination: own, hop_limit: head[21] };
        let Ok(ndisc::Header::NeighbourAdvertisement { target: told, target_mac, flags }) =
            ndisc::Header::new_checked(&head[54..], &envelope)
        else {
            panic!("no advertisement")
        };
        assert_eq!((port, told, target_mac), (A, target, Some(GATEWAY_MAC)));
        assert!(flags & ndisc::FLAG_SOLICITED != 0);
    }
    assert!(node.run(A, solicitation(own, own)).is_none());
    node.expect(NeighbourAnswers, 3);
    node.check(&[DropReason::NeighbourForeign]);
}

#[test]
fn a_default_route_is_no_way_to_link_local_addresses() {
    let mut node = Node::new();
    node.add_uplink();
    for target in [[169, 254, 1, 1], [198, 51, 100, 7]] {
        assert!(node.run(A, arp_request(target.into(), mac_of(A))).is_some());
    }
    assert!(node.run(A, arp_request([169, 254, 7, 7].into(), mac_of(A))).is_none());
    let own: Ipv6Addr = "fe80::99".parse().unwrap();
    for target in ["fe80::1", "2001:db8::7"] {
        assert!(node.run(A, solicitation(target.parse().unwrap(), own)).is_some());
    }
    // As in a probe for duplicates (RFC 4862, section 5.4).
    assert!(node.run(A, solicitation(own, own)).is_none());
    node.expect(NeighbourAnswers, 4);
    node.check(&[DropReason::NeighbourForeign, DropReason::NeighbourForeign]);
}
