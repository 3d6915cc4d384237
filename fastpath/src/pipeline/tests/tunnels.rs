//! Pods of two nodes speak through a tunnel.
//!
//! ```text
//!   pod A 10.0.0.1 ─ node 192.0.2.1 ═══ VXLAN 77 over IPv4 or IPv6 ═══ node 192.0.2.2 ─ pod R 10.9.0.1
//!         fd00::1         2001:db8::1                                        2001:db8::2       fd09::1
//! ```

use super::fixture::*;
use crate::pipeline::Report;
use crate::pipeline::WorkerCounter::*;
use crate::pipeline::decapsulate::{Taken, decapsulate};
use crate::pipeline::encapsulate::encapsulate;
use crate::port::{BufferFrame, Checksum, DropReason, Frame, Gso, GsoKind, Offload, PortId};
use crate::tables::{Adjacency, Route, Tunnel, TunnelTable, Vni, Vtep};
use crate::wire::MacAddr;
use proptest::prelude::*;
use std::net::IpAddr;

const OWN_VTEP: MacAddr = MacAddr([2, 0x56, 192, 0, 2, 1]);
const PEER_VTEP: MacAddr = MacAddr([2, 0x56, 192, 0, 2, 2]);
const PEER_LINK: MacAddr = MacAddr([2, 0, 0, 0, 9, 9]);
pub(super) const NIC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x11]);

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A pod of the other node.
pub(super) fn remote(net: &Net) -> IpAddr {
    ip(if net.a.is_ipv4() { "10.9.0.1" } else { "fd00:9::1" })
}

fn tunnel(outer_v6: bool, checksum: bool) -> Tunnel {
    let (local, peer) = if outer_v6 { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
    Tunnel {
        port: UPLINK,
        destination_mac: PEER_LINK,
        source_mac: NIC,
        local: ip(local).into(),
        remote: ip(peer).into(),
        vni: Vni::try_new(77).unwrap(),
        udp_port: 4789,
        checksum,
    }
}

/// The same tunnel as the other node has it.
fn seen_from_peer(outer_v6: bool, checksum: bool) -> Tunnel {
    let ours = tunnel(outer_v6, checksum);
    Tunnel { local: ours.remote, remote: ours.local, destination_mac: NIC, source_mac: PEER_LINK, ..ours }
}

pub(super) fn tunnels() -> TunnelTable {
    let mut table = TunnelTable::default();
    let addresses = [ip("192.0.2.1"), ip("2001:db8::1")].map(Into::into);
    let vni = Vni::try_new(77).unwrap();
    table.set_vtep(Some(Vtep { addresses: addresses.into(), mac: OWN_VTEP, vni, udp_port: 4789 }));
    for peer in ["192.0.2.2", "2001:db8::2"] {
        table.set_peer(ip(peer).into(), true);
    }
    table
}

pub(super) fn node(outer_v6: bool, checksum: bool) -> Node {
    let mut node = Node::new();
    node.add_uplink();
    let mut port = *node.tables.ports.get(UPLINK).unwrap();
    (port.own_mac, port.mac) = (NIC, MacAddr::default());
    node.tables.ports.insert(UPLINK, port);
    node.tables.tunnels = tunnels();
    let id = node.tables.tunnels.insert(tunnel(outer_v6, checksum)).unwrap();
    let way = node.tables.routes.add_adjacency(Adjacency {
        port: UPLINK,
        mtu: if outer_v6 { 1430 } else { 1450 },
        destination_mac: PEER_VTEP,
        source_mac: OWN_VTEP,
        tunnel: Some(id),
    });
    for range in ["10.9.0.0/16", "fd00:9::/32"] {
        node.tables.routes.insert(range.parse().unwrap(), Route::Via(way));
    }
    node
}

/// An inner frame as the other node's data path sends it, encapsulated.
pub(super) fn from_peer(outer_v6: bool, checksum: bool, packet: &Packet, hash: u64) -> BufferFrame {
    let mut frame = inner(packet);
    encapsulate(&mut frame, &seen_from_peer(outer_v6, checksum), hash, 5).unwrap();
    assert!(frame.complete_checksum());
    frame
}

fn inner(packet: &Packet) -> BufferFrame {
    let mut bytes = packet.bytes();
    bytes[..6].copy_from_slice(&OWN_VTEP.0);
    bytes[6..12].copy_from_slice(&PEER_VTEP.0);
    BufferFrame::new(&bytes)
}

/// Checks the outer headers by an independent parser; gives the source port and the inner frame.
#[track_caller]
pub(super) fn open(frame: &BufferFrame, outer_v6: bool, checksum: bool) -> (u16, BufferFrame) {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    let headers = PacketHeaders::from_ethernet_slice(frame.head()).unwrap();
    let Some(etherparse::LinkHeader::Ethernet2(link)) = headers.link else { panic!("no Ethernet header") };
    assert_eq!((link.destination, link.source), (PEER_LINK.0, NIC.0));
    let payload = headers.payload.slice();
    let Some(TransportHeader::Udp(udp)) = headers.transport else { panic!("not UDP") };
    let wanted = match headers.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert!(!outer_v6 && ip.dont_fragment && ip.time_to_live == 64);
            assert_eq!(ip.header_checksum, ip.calc_header_checksum());
            assert_eq!((ip.source, ip.destination), ([192, 0, 2, 1], [192, 0, 2, 2]));
            assert_eq!(usize::from(ip.total_len) + 14, frame.total_len());
            udp.calc_checksum_ipv4(&ip, payload).unwrap()
        }
        NetHeaders::Ipv6(ip, _) => {
            assert!(outer_v6 && ip.hop_limit == 64);
            assert_eq!(usize::from(ip.payload_length) + 54, frame.total_len());
            udp.calc_checksum_ipv6(&ip, payload).unwrap()
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(udp.checksum, if checksum { wanted } else { 0 });
    assert_eq!((udp.destination_port, usize::from(udp.length)), (4789, payload.len() + 8));
    assert_eq!(payload[..8], [8, 0, 0, 0, 0, 0, 77, 0]);
    (udp.source_port, BufferFrame::new(&payload[8..]))
}

#[test]
fn pods_of_two_nodes_speak_through_a_tunnel_in_all_four_combinations_of_families() {
    for (net, outer_v6, checksum) in families().into_iter().flat_map(|net| {
        [(false, false), (false, true), (true, true), (true, false)].map(|(a, b)| (net, a, b))
    }) {
        for protocol in [TCP, UDP, SCTP] {
            let mut node = node(outer_v6, checksum);
            let there = Packet::new(A, net.a, remote(&net), protocol, (4000, 80));
            let (port, mut frame) = node.run(A, there.frame()).unwrap();
            assert_eq!(port, UPLINK);
            assert!(frame.complete_checksum());
            let (source_port, first) = open(&frame, outer_v6, checksum);
            let seen = see(&first);
            assert_eq!(seen.macs, (PEER_VTEP.0, OWN_VTEP.0));
            assert_eq!(
                (seen.source, seen.destination, seen.ports, seen.ttl),
                (net.a, remote(&net), (4000, 80), 63)
            );
            assert!(source_port >= 0x8000);
            let back =
                Packet { flags: "SA", ..Packet::new(UPLINK, remote(&net), net.a, protocol, (80, 4000)) };
            let (port, frame) = node.run(UPLINK, from_peer(outer_v6, checksum, &back, 1)).unwrap();
            let seen = see(&frame);
            assert_eq!((port, seen.macs), (A, (mac_of(A).0, GATEWAY_MAC.0)));
            assert_eq!((seen.source, seen.ttl), (remote(&net), 63));
            let again = Packet { flags: "A", ..there };
            let (_, mut frame) = node.run(A, again.frame()).unwrap();
            assert!(frame.complete_checksum());
            assert_eq!(open(&frame, outer_v6, checksum).0, source_port, "a flow keeps its outer port");
            node.expect(Resolved, 1);
            node.expect(Established, 2);
            node.expect(Encapsulated, 2);
            node.expect(Decapsulated, 1);
            node.check(&[]);
        }
    }
}

#[test]
fn a_remote_pod_begins_a_connection_and_is_answered_through_the_tunnel() {
    for net in families() {
        let mut node = node(false, false);
        let there = Packet::new(UPLINK, remote(&net), net.a, TCP, (4000, 80));
        let (port, _) = node.run(UPLINK, from_peer(false, false, &there, 1)).unwrap();
        assert_eq!(port, A);
        let back = Packet { flags: "SA", ..Packet::new(A, net.a, remote(&net), TCP, (80, 4000)) };
        let (port, frame) = node.run(A, back.frame()).unwrap();
        assert_eq!(port, UPLINK);
        assert_eq!(see(&open(&frame, false, false).1).ports, (80, 4000));
        node.expect(Resolved, 1);
        node.expect(Established, 1);
        node.expect(Encapsulated, 1);
        node.expect(Decapsulated, 1);
        node.check(&[]);
    }
}

/// Makes the outer IPv4 header's checksum right.
pub(super) fn seal(frame: &mut [u8]) {
    crate::wire::ipv4::HeaderMut::new_checked(&mut frame[14..]).unwrap().fill_checksum();
}

#[test]
fn congestion_is_carried_over_as_rfc_6040_has_it() {
    let net = families();
    // Rows: inner, columns: outer; both in the order not ECT, ECT(1), ECT(0), congested.
    let table = [
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3); 4],
    ];
    for net in net {
        for (inner_ecn, row) in table.iter().enumerate() {
            for (outer_ecn, wanted) in row.iter().enumerate() {
                let mut frame = inner(&Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80)));
                let shift = if net.a.is_ipv4() { 0 } else { 4 };
                frame.head_mut()[15] |= (inner_ecn as u8) << shift;
                if net.a.is_ipv4() {
                    seal(frame.head_mut());
                }
                encapsulate(&mut frame, &seen_from_peer(false, false), 1, 1).unwrap();
                assert_eq!(usize::from(frame.head()[15]), inner_ecn, "it is copied into the outer header");
                frame.head_mut()[15] = outer_ecn as u8;
                seal(frame.head_mut());
                let taken = decapsulate(&mut frame, &tunnels(), NIC);
                match wanted {
                    None => assert_eq!(taken, Err(DropReason::TunnelEcn)),
                    Some(wanted) => {
                        assert_eq!(taken, Ok(Taken::Inner));
                        assert_eq!(
                            frame.head()[15] >> shift & 3,
                            *wanted,
                            "inner {inner_ecn}, outer {outer_ecn}"
                        );
                        see(&frame);
                    }
                }
            }
        }
    }
}

#[test]
fn a_large_frame_stays_whole_and_tells_what_stands_before_it() {
    for (net, kind) in families().into_iter().zip([GsoKind::TcpV4, GsoKind::TcpV6]) {
        let mut node = node(false, false);
        let packet = Packet { payload: 20_000, ..Packet::new(A, net.a, remote(&net), TCP, (4000, 80)) };
        let start = if net.a.is_ipv4() { 34 } else { 54 };
        let checksum = Checksum::Partial { start, offset: 16 };
        let gso = Some(Gso { kind, size: 1300 });
        let large = BufferFrame::with_offload(&packet.bytes(), Offload { checksum, gso, outer: 0 });
        let (port, frame) = node.run(A, large).unwrap();
        let checksum = Checksum::Partial { start: start + 50, offset: 16 };
        assert_eq!((port, frame.offload()), (UPLINK, Offload { checksum, gso, outer: 50 }));
        let too_large = Offload {
            gso: Some(Gso { kind, size: 1440 }),
            ..Offload { checksum: Checksum::Partial { start, offset: 16 }, gso, outer: 0 }
        };
        let (port, answer) = node
            .run(A, BufferFrame::with_offload(&packet.bytes(), too_large))
            .map_or((PortId::NONE, None), |(port, frame)| (port, Some(frame)));
        if net.a.is_ipv6() {
            assert_eq!(port, A, "its sender is told");
            assert!(answer.is_some());
        }
    }
}

#[test]
fn a_large_frame_comes_out_whole_and_a_row_of_the_tunnels_packets_does_not() {
    for (net, kind) in families().into_iter().zip([GsoKind::TcpV4, GsoKind::TcpV6]) {
        for is_v6 in [false, true] {
            let packet =
                Packet { payload: 20_000, ..Packet::new(UPLINK, remote(&net), net.a, TCP, (4000, 80)) };
            let start = if net.a.is_ipv4() { 34 } else { 54 };
            let checksum = Checksum::Partial { start, offset: 16 };
            let large = Offload { checksum, gso: Some(Gso { kind, size: 1300 }), outer: 0 };
            let arriving = |offload| {
                let mut frame = inner(&packet);
                frame.set_offload(large);
                encapsulate(&mut frame, &seen_from_peer(is_v6, false), 1, 1).unwrap();
                let told = frame.offload();
                frame.set_offload(if let Some(offload) = offload { offload } else { told });
                (told.outer, frame)
            };
            let (overhead, mut frame) = arriving(None);
            assert_eq!(decapsulate(&mut frame, &tunnels(), NIC), Ok(Taken::Inner));
            assert_eq!(frame.offload(), large);
            assert_eq!(frame.total_len(), inner(&packet).total_len());
            // What the kernel has made of many packets of the tunnel, or says of another tunnel's headers.
            let checksum = Checksum::Partial { start: overhead - 16, offset: 6 };
            let row = Offload { checksum, gso: Some(Gso { kind: GsoKind::Udp, size: 1300 }), outer: 0 };
            let checksum = Checksum::Partial { start: start + overhead, offset: 16 };
            let other = Offload { checksum, outer: overhead + 4, ..large };
            let unsure = Offload { checksum: Checksum::Verified, outer: overhead, ..large };
            for offload in [row, other, unsure] {
                let (_, mut frame) = arriving(Some(offload));
                assert_eq!(decapsulate(&mut frame, &tunnels(), NIC), Err(DropReason::TunnelHeader));
            }
        }
    }
}

#[test]
fn what_is_too_large_for_the_tunnel_is_cut_or_its_sender_told_the_inner_mtu() {
    let [v4, v6] = families();
    let mut node = node(false, false);
    let packet = Packet { payload: 1440, ..Packet::new(A, v4.a, remote(&v4), UDP, (4000, 80)) };
    let mut bytes = packet.bytes();
    bytes[20] &= !0x40;
    seal(&mut bytes);
    let (_, last) = node.run(A, BufferFrame::new(&bytes)).unwrap();
    let (_, first) = node.sink.sent.pop().unwrap();
    for part in [&first, &last] {
        assert!(part.total_len() <= 1500 + 14);
        open(part, false, false);
    }
    node.expect(Fragmented, 1);
    node.expect(Encapsulated, 2);
    let packet = Packet { payload: 1440, ..Packet::new(A, v6.a, remote(&v6), UDP, (4000, 80)) };
    let (port, answer) = node.run(A, packet.frame()).unwrap();
    assert_eq!((port, see(&answer).destination), (A, v6.a));
    assert_eq!(answer.head()[58..62], 1450u32.to_be_bytes(), "the inner MTU");
    node.expect(Resolved, 2);
    node.expect(Answers, 1);
    node.check(&[]);
    assert_eq!(node.answered_drops(DropReason::TooBig), 1);
}

#[test]
fn a_remote_sender_is_told_through_its_tunnel_by_the_node_itself() {
    for net in families() {
        let mut node = node(false, false);
        let packet = Packet { ttl: 1, ..Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80)) };
        let (port, frame) = node.run(UPLINK, from_peer(false, false, &packet, 1)).unwrap();
        assert_eq!(port, UPLINK);
        let seen = see(&open(&frame, false, false).1);
        assert_eq!((seen.source, seen.destination), (net.node, remote(&net)));
        node.expect(Resolved, 1);
        node.expect(Answers, 1);
        node.expect(Decapsulated, 1);
        node.expect(Encapsulated, 1);
        node.check(&[]);
    }
}

#[test]
fn what_came_out_of_a_tunnel_does_not_go_back_into_one() {
    for net in families() {
        let mut node = node(false, false);
        let other: IpAddr = ip(if net.a.is_ipv4() { "10.9.7.7" } else { "fd00:9::7:7" });
        let packet = Packet::new(UPLINK, remote(&net), other, UDP, (4000, 80));
        assert!(node.run(UPLINK, from_peer(false, false, &packet, 1)).is_none());
        node.expect(Resolved, 1);
        node.expect(Decapsulated, 1);
        node.check(&[DropReason::Transit]);
    }
}

#[test]
fn a_router_that_takes_less_than_a_tunnel_sends_is_reported() {
    let net = families()[0];
    let mut node = node(false, false);
    let (_, sent) = node.run(A, Packet::new(A, net.a, remote(&net), UDP, (4000, 80)).frame()).unwrap();
    let builder = etherparse::PacketBuilder::ethernet2(PEER_LINK.0, NIC.0)
        .ipv4([198, 51, 100, 1], [192, 0, 2, 1], 60)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(
            etherparse::icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 },
        ));
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &sent.head()[14..14 + 28 + 8]).unwrap();
    assert!(node.run(UPLINK, BufferFrame::new(&bytes)).is_none());
    assert_eq!(node.sink.reports, [Report::TunnelMtu { remote: ip("192.0.2.2").into(), mtu: 1400 }]);
    node.expect(Resolved, 1);
    node.expect(Encapsulated, 1);
    node.check(&[DropReason::Consumed]);
}

proptest! {
    #[test]
    fn taking_out_gives_what_was_put_in(
        outer_v6: bool, checksum: bool, v6: bool, hash: u64, id: u16, payload in 0usize..1400, padding in 0usize..20,
    ) {
        let net = families()[usize::from(v6)];
        let packet = Packet { payload, ..Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80)) };
        let mut frame = inner(&packet);
        frame.append(padding);
        let before = frame.head().to_vec();
        encapsulate(&mut frame, &seen_from_peer(outer_v6, checksum), hash, id).unwrap();
        prop_assert!(frame.complete_checksum());
        // Ethernet pads short frames.
        frame.append(7);
        prop_assert_eq!(decapsulate(&mut frame, &tunnels(), OWN_VTEP), Ok(Taken::Inner));
        prop_assert_eq!(frame.head(), &before[..]);
        prop_assert_eq!(frame.offload(), Offload::NONE);
    }

    #[test]
    fn no_bytes_make_the_tunnel_end_panic_and_what_it_takes_is_a_frame_for_it(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..200), like_ours: bool,
    ) {
        if like_ours {
            let net = families()[0];
            let good = from_peer(false, false, &Packet::new(UPLINK, remote(&net), net.a, UDP, (4000, 80)), 1);
            for (index, byte) in good.head().iter().enumerate().take(bytes.len()) {
                if bytes[index] < 250 {
                    bytes[index] = *byte;
                }
            }
        }
        let mut frame = BufferFrame::new(&bytes);
        if let Ok(Taken::Inner) = decapsulate(&mut frame, &tunnels(), NIC) {
            prop_assert!(frame.total_len() >= 14 && frame.total_len() + 50 <= bytes.len());
            prop_assert_eq!(&frame.head()[..6], &NIC.0[..]);
        }
    }
}
