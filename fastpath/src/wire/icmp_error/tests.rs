use etherparse::{Icmpv4Type, Icmpv6Type};
use etherparse::{IpSlice, Ipv4Slice, Ipv6Slice, PacketBuilder, icmpv4 as their_v4, icmpv6 as their_v6};
use proptest::prelude::*;

use super::*;
use crate::wire::parse::{Class, Extent, parse, parse_ip};

const ROUTER_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const POD_V4: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const POD_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
const PROBLEMS: [Problem; 6] = [
    Problem::NoRoute,
    Problem::HostUnreachable,
    Problem::PortUnreachable,
    Problem::Prohibited,
    Problem::TooBig { mtu: 1400 },
    Problem::HopLimitExceeded,
];

fn udp_v4(source: Ipv4Addr, destination: Ipv4Addr, data: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv4(source.octets(), destination.octets(), 3).udp(1000, 2000);
    builder.write(&mut packet, &vec![7; data]).unwrap();
    packet
}

fn udp_v6(source: Ipv6Addr, destination: Ipv6Addr, data: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let builder = PacketBuilder::ipv6(source.octets(), destination.octets(), 3).udp(1000, 2000);
    builder.write(&mut packet, &vec![7; data]).unwrap();
    packet
}

fn parsed(packet: &[u8]) -> Parsed {
    parse_ip(packet, packet.len(), Extent::Whole).unwrap()
}

/// Builds the error around `offending` as the pipeline does.
fn error_about(offending: &[u8], problem: Problem, addresses: Addresses) -> Vec<u8> {
    let error = IcmpError { problem, addresses };
    let mut packet = vec![0xaa; error.overhead()];
    packet.extend(&offending[..quote_len(parsed(offending).family(), offending.len())]);
    error.emit(&mut packet, 77).unwrap();
    packet
}

#[test]
fn ipv4_errors_are_what_etherparse_reads() {
    use their_v4::{DestUnreachableHeader, TimeExceededCode};
    let unreachable = Icmpv4Type::DestinationUnreachable;
    let expected = [
        unreachable(DestUnreachableHeader::Network),
        unreachable(DestUnreachableHeader::Host),
        unreachable(DestUnreachableHeader::Port),
        unreachable(DestUnreachableHeader::FilterProhibited),
        unreachable(DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1400 }),
        Icmpv4Type::TimeExceeded(TimeExceededCode::TtlExceededInTransit),
    ];
    let router = Ipv4Addr::new(169, 254, 1, 1);
    let offending = udp_v4(POD_V4, Ipv4Addr::new(10, 9, 9, 9), 20);
    for (problem, expected) in PROBLEMS.into_iter().zip(expected) {
        let packet = error_about(&offending, problem, Addresses::V4 { source: router, destination: POD_V4 });
        let theirs = Ipv4Slice::from_slice(&packet).unwrap();
        let header = theirs.header().to_header();
        assert_eq!(header.header_checksum, header.calc_header_checksum());
        assert_eq!((header.source, header.destination), (router.octets(), POD_V4.octets()));
        assert_eq!((header.identification, header.total_len), (77, packet.len() as u16));
        let icmp = etherparse::Icmpv4Slice::from_slice(theirs.payload().payload).unwrap();
        assert_eq!(icmp.icmp_type(), expected);
        assert_eq!(icmp.payload(), offending);
        assert!(Sum::of(theirs.payload().payload).is_valid());
    }
}

#[test]
fn ipv6_errors_are_what_etherparse_reads() {
    use their_v6::{DestUnreachableCode, TimeExceededCode};
    let unreachable = Icmpv6Type::DestinationUnreachable;
    let expected = [
        unreachable(DestUnreachableCode::NoRoute),
        unreachable(DestUnreachableCode::Address),
        unreachable(DestUnreachableCode::Port),
        unreachable(DestUnreachableCode::Prohibited),
        Icmpv6Type::PacketTooBig { mtu: 1400 },
        Icmpv6Type::TimeExceeded(TimeExceededCode::HopLimitExceeded),
    ];
    let router = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
    let offending = udp_v6(POD_V6, Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 9, 9), 21);
    for (problem, expected) in PROBLEMS.into_iter().zip(expected) {
        let packet = error_about(&offending, problem, Addresses::V6 { source: router, destination: POD_V6 });
        let theirs = Ipv6Slice::from_slice(&packet).unwrap();
        assert_eq!(usize::from(theirs.header().payload_length()), packet.len() - 40);
        let icmp = etherparse::Icmpv6Slice::from_slice(theirs.payload().payload).unwrap();
        assert!(icmp.is_checksum_valid(router.octets(), POD_V6.octets()));
        assert_eq!(icmp.icmp_type(), expected);
        assert_eq!(icmp.payload(), offending);
    }
}

#[test]
fn large_packets_are_quoted_as_far_as_the_rfcs_allow() {
    let v4 = udp_v4(POD_V4, POD_V4, 1400);
    let addresses = Addresses::V4 { source: POD_V4, destination: POD_V4 };
    let packet = error_about(&v4, Problem::NoRoute, addresses);
    assert_eq!(packet.len(), MAX_LEN_V4);
    assert_eq!(packet[OVERHEAD_V4..], v4[..MAX_LEN_V4 - OVERHEAD_V4]);
    let v6 = udp_v6(POD_V6, POD_V6, 1400);
    let addresses = Addresses::V6 { source: POD_V6, destination: POD_V6 };
    assert_eq!(error_about(&v6, Problem::NoRoute, addresses).len(), MAX_LEN_V6);
}

#[test]
fn quoted_packet_is_parsed_by_the_same_parser() {
    let offending = udp_v4(POD_V4, Ipv4Addr::new(10, 9, 9, 9), 1400);
    let addresses = Addresses::V4 { source: Ipv4Addr::new(169, 254, 1, 1), destination: POD_V4 };
    let packet = error_about(&offending, Problem::TooBig { mtu: 1400 }, addresses);
    let outer = parsed(&packet);
    assert_eq!(outer.kind, L4Kind::IcmpError);
    let quote = &packet[usize::from(outer.l4) + icmpv4::LEN..];
    assert_eq!(parse_ip(quote, quote.len(), Extent::Quoted).unwrap(), parsed(&offending));
}

#[test]
fn buffers_without_room_for_the_headers_are_refused() {
    let addresses = Addresses::V4 { source: POD_V4, destination: POD_V4 };
    let error = IcmpError { problem: Problem::NoRoute, addresses };
    let truncated = |had| Err(HeaderError::Truncated { needed: OVERHEAD_V4, had });
    assert_eq!(error.emit(&mut [0; 27], 0), truncated(27));
    assert_eq!(error.emit(&mut [0; 19], 0), truncated(19));
    assert_eq!(error.emit(&mut vec![0; 70_000], 0), Err(HeaderError::Length(70_000)));
}

#[test]
fn no_error_is_sent_about_errors_and_later_fragments() {
    let offending = udp_v4(POD_V4, Ipv4Addr::new(10, 9, 9, 9), 20);
    let addresses = Addresses::V4 { source: POD_V4, destination: Ipv4Addr::new(10, 9, 9, 9) };
    let error = error_about(&offending, Problem::NoRoute, addresses);
    assert!(may_be_sent(Problem::NoRoute, &parsed(&offending), ROUTER_MAC));
    assert!(!may_be_sent(Problem::NoRoute, &parsed(&error), ROUTER_MAC));
    let later = Parsed { kind: L4Kind::Fragment, ..parsed(&offending) };
    assert!(!may_be_sent(Problem::NoRoute, &later, ROUTER_MAC));
    let first = Parsed { first_fragment: true, ..parsed(&offending) };
    assert!(may_be_sent(Problem::NoRoute, &first, ROUTER_MAC));
}

#[test]
fn no_error_is_sent_to_many_or_about_what_was_sent_to_many() {
    let v4 = |source: [u8; 4], destination: [u8; 4]| {
        may_be_sent(Problem::NoRoute, &parsed(&udp_v4(source.into(), destination.into(), 4)), ROUTER_MAC)
    };
    let good = [10, 0, 0, 1];
    assert!(v4(good, good));
    for bad in [[0, 0, 0, 0], [127, 0, 0, 1], [224, 0, 0, 1], [240, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!v4(bad, good), "{bad:?}");
    }
    for bad in [[224, 0, 0, 1], [255, 255, 255, 255]] {
        assert!(!v4(good, bad), "{bad:?}");
    }
    let packet = parsed(&udp_v4(good.into(), good.into(), 4));
    assert!(!may_be_sent(Problem::NoRoute, &packet, MacAddr::BROADCAST));
}

#[test]
fn only_too_big_is_reported_about_ipv6_multicast() {
    let group = Ipv6Addr::new(0xff0e, 0, 0, 0, 0, 0, 0, 9);
    let to_group = parsed(&udp_v6(POD_V6, group, 4));
    let group_mac = MacAddr([0x33, 0x33, 0, 0, 0, 9]);
    assert!(may_be_sent(Problem::TooBig { mtu: 1400 }, &to_group, group_mac));
    assert!(!may_be_sent(Problem::NoRoute, &to_group, group_mac));
    for bad in [Ipv6Addr::UNSPECIFIED, Ipv6Addr::LOCALHOST, group] {
        assert!(!may_be_sent(Problem::TooBig { mtu: 1400 }, &parsed(&udp_v6(bad, POD_V6, 4)), ROUTER_MAC));
    }
}

proptest! {
    /// In a frame: what is emitted passes our own parser as an error, and nothing is ever said about it again.
    #[test]
    fn errors_about_any_packet_are_well_formed(data in 0..2000_usize, v6: bool, problem in prop::sample::select(PROBLEMS.to_vec())) {
        let (offending, addresses) = if v6 {
            (udp_v6(POD_V6, POD_V6, data), Addresses::V6 { source: POD_V6, destination: POD_V6 })
        } else {
            (udp_v4(POD_V4, POD_V4, data), Addresses::V4 { source: POD_V4, destination: POD_V4 })
        };
        let mut frame = [&[2; 12][..], if v6 { &[0x86, 0xdd] } else { &[8, 0] }].concat();
        frame.extend(error_about(&offending, problem, addresses));
        let Ok(Class::Ip(parsed)) = parse(&frame, frame.len()) else { panic!("not parsed") };
        prop_assert_eq!(parsed.kind, L4Kind::IcmpError);
        prop_assert!(!may_be_sent(problem, &parsed, ROUTER_MAC));
        let theirs = IpSlice::from_slice(&frame[14..]).unwrap();
        prop_assert_eq!(theirs.payload().payload.len(), parsed.l4_len() as usize);
    }
}
