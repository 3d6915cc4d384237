//! The parser against etherparse, against damage, and case by case.

mod common;
mod damage;
mod oracle;

use etherparse::PacketBuilder;

use super::*;
use crate::wire::ipv6_extension::ExtensionError;

const V4: [[u8; 4]; 2] = [[10, 1, 0, 2], [10, 1, 0, 3]];
const V6: [[u8; 16]; 2] = [[0xfd; 16], [0xfe; 16]];

fn udp_v4(data: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(V4[0], V4[1], 64).udp(1000, 2000);
    builder.write(&mut frame, data).unwrap();
    frame
}

/// An IPv6 frame whose payload, extension headers included, is `payload`.
fn ipv6(next: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; super::IPV6_LEN];
    let fields = crate::wire::ipv6::Fields {
        source: V6[0].into(),
        destination: V6[1].into(),
        next_header: next,
        hop_limit: 255,
        traffic_class: 0,
        payload_len: payload.len() as u16,
    };
    fields.emit(&mut header);
    [&[4; 6][..], &[2; 6], &[0x86, 0xdd], &header, payload].concat()
}

/// Changes the IPv4 header by `change` and sets its checksum anew.
fn with_ipv4(mut frame: Vec<u8>, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    change(&mut frame[14..]);
    let len = usize::from(frame[14] & 0xf) * 4;
    [frame[24], frame[25]] = [0, 0];
    let header_end = (14 + len).min(frame.len());
    [frame[24], frame[25]] = Sum::of(&frame[14..header_end]).checksum();
    frame
}

fn whole(frame: &[u8]) -> Result<Class, ParseError> {
    parse(frame, frame.len())
}

fn ip(frame: &[u8]) -> Parsed {
    match whole(frame) {
        Ok(Class::Ip(parsed)) => parsed,
        other => panic!("not forwarded: {other:?}"),
    }
}

#[test]
fn udp_over_ipv4_is_read_in_full() {
    let expected = Parsed {
        addresses: Addresses::V4 { source: V4[0].into(), destination: V4[1].into() },
        l3: 14,
        l4: 34,
        ip_total: 38,
        protocol: IpProtocol::UDP,
        ttl: 64,
        vlan: None,
        first_fragment: false,
        fragment_id: 0,
        kind: L4Kind::Udp,
        source_port: 1000,
        destination_port: 2000,
        tcp_flags: 0,
    };
    let mut frame = udp_v4(&[0; 10]);
    assert_eq!(ip(&frame), expected);
    assert_eq!((expected.family(), expected.l4_len(), expected.is_fragment()), (Family::V4, 18, false));
    // Padding to Ethernet's least length is not part of the packet.
    frame.extend([0; 8]);
    assert_eq!(ip(&frame), expected);
}

#[test]
fn data_may_lie_in_other_segments_but_headers_may_not() {
    let frame = udp_v4(&[0; 1000]);
    let parsed = parse(&frame[..42], frame.len());
    assert_eq!(parsed, whole(&frame));
    assert_eq!(parse(&frame[..41], frame.len()), Err(ParseError::Truncated(Layer::Transport)));
    assert_eq!(parse(&frame[..33], frame.len()), Err(ParseError::Truncated(Layer::Ip)));
    assert_eq!(parse(&frame[..13], frame.len()), Err(ParseError::Truncated(Layer::Ethernet)));
    assert_eq!(parse(&frame, frame.len() - 1), Err(ParseError::TotalLength(1028)));
}

#[test]
fn tag_is_reported_and_shifts_all_offsets() {
    let mut frame = udp_v4(&[]);
    let plain = ip(&frame);
    frame.splice(12..12, [0x81, 0x00, 0x60, 0x2a]);
    assert_eq!(ip(&frame), Parsed { l3: 18, l4: 38, vlan: VlanId::try_new(42), ..plain });
    assert_eq!(parse(&frame[..17], 17), Err(ParseError::Truncated(Layer::Vlan)));
    frame.splice(12..12, [0x81, 0x00, 0, 1]);
    assert_eq!(whole(&frame), Err(ParseError::StackedVlan));
    frame[12..14].copy_from_slice(&[0x88, 0xa8]);
    assert_eq!(whole(&frame), Err(ParseError::StackedVlan));
}

#[test]
fn arp_and_neighbour_discovery_are_classes_of_their_own() {
    let mut arp = vec![0xff; 42];
    arp[12..14].copy_from_slice(&[0x08, 0x06]);
    assert_eq!(whole(&arp), Ok(Class::Arp { offset: 14, vlan: None }));
    for message in 130..=140 {
        let frame = ipv6(IpProtocol::ICMPV6, &[message, 0, 0, 0, 1, 2, 3, 4]);
        let is_ndisc = matches!(whole(&frame), Ok(Class::Ndisc(parsed)) if parsed.l4 == 54);
        assert_eq!(is_ndisc, (133..=137).contains(&message), "{message}");
    }
    let mut other = udp_v4(&[]);
    other[12..14].copy_from_slice(&[0x88, 0xcc]);
    assert_eq!(whole(&other), Err(ParseError::UnknownEtherType(EtherType(0x88cc))));
}

#[test]
fn ipv4_headers_that_contradict_themselves_are_refused() {
    let change = |at: usize, value: u8| whole(&with_ipv4(udp_v4(&[0; 40]), |ip| ip[at] = value));
    assert_eq!(change(0, 0x65), Err(ParseError::Version(6)));
    assert_eq!(change(0, 0x44), Err(ParseError::HeaderLength(4)));
    assert_eq!(change(3, 19), Err(ParseError::TotalLength(19)));
    assert_eq!(change(3, 27), Err(ParseError::Truncated(Layer::Transport)));
    assert_eq!(change(2, 1), Err(ParseError::TotalLength(0x144)));
    let mut damaged = udp_v4(&[]);
    damaged[22] ^= 1;
    assert!(matches!(whole(&damaged), Err(ParseError::Ipv4Checksum(_))));
}

#[test]
fn ipv4_options_are_stepped_over_and_covered_by_the_checksum() {
    let mut frame = udp_v4(&[]);
    frame.splice(34..34, [1, 1, 1, 0]);
    let frame = with_ipv4(frame, |ip| {
        ip[0] = 0x46;
        ip[3] += 4;
    });
    assert_eq!((ip(&frame).l4, ip(&frame).source_port), (38, 1000));
    let mut damaged = frame.clone();
    damaged[35] ^= 1;
    assert!(matches!(whole(&damaged), Err(ParseError::Ipv4Checksum(_))));
    assert_eq!(parse(&frame[..37], frame.len()), Err(ParseError::Truncated(Layer::Ip)));
}

#[test]
fn udp_and_tcp_lengths_must_fit_their_packet() {
    let with = |at: usize, value: u8| {
        let mut frame = udp_v4(&[0; 8]);
        frame[at] = value;
        whole(&frame)
    };
    assert_eq!(with(39, 7), Err(ParseError::UdpLength(7)));
    assert_eq!(with(39, 17), Err(ParseError::UdpLength(17)));
    assert!(with(39, 15).is_ok());
    let segment = |words: u8| {
        let mut tcp = [0; 24];
        tcp[12..14].copy_from_slice(&[words << 4, 0x12]);
        whole(&ipv6(IpProtocol::TCP, &tcp))
    };
    assert_eq!(segment(4), Err(ParseError::TcpHeaderLength(4)));
    assert_eq!(segment(7), Err(ParseError::TcpHeaderLength(7)));
    assert!(matches!(segment(6), Ok(Class::Ip(Parsed { kind: L4Kind::Tcp, tcp_flags: 0x12, .. }))));
}

#[test]
fn first_fragment_has_ports_and_later_ones_have_not() {
    let fragment = |high: u8, low: u8| {
        whole(&with_ipv4(udp_v4(&[0; 16]), |ip| ip[4..8].copy_from_slice(&[1, 2, high, low])))
    };
    let Ok(Class::Ip(first)) = fragment(0x20, 0) else { panic!("first fragment refused") };
    assert_eq!((first.kind, first.first_fragment, first.fragment_id), (L4Kind::Udp, true, 0x102));
    assert!(first.is_fragment() && first.source_port == 1000);
    let Ok(Class::Ip(later)) = fragment(0x00, 2) else { panic!("later fragment refused") };
    assert_eq!((later.kind, later.first_fragment, later.source_port), (L4Kind::Fragment, false, 0));
    assert!(later.is_fragment() && later.protocol == IpProtocol::UDP);
    // "Do not fragment" and the reserved bit say nothing about this.
    assert!(matches!(fragment(0xc0, 0), Ok(Class::Ip(parsed)) if !parsed.is_fragment()));
}

#[test]
fn fragments_that_attack_the_receiver_are_refused() {
    let fragment = |protocol: IpProtocol, data: usize, field: u16| {
        whole(&with_ipv4(udp_v4(&vec![0; data]), |ip| {
            ip[6..8].copy_from_slice(&field.to_be_bytes());
            ip[9] = protocol.0;
        }))
    };
    let refused = |offset| Err(ParseError::Fragment { offset });
    assert_eq!(fragment(IpProtocol::UDP, 16, 0x1fff), refused(0x1fff));
    assert_eq!(fragment(IpProtocol::UDP, 17, 0x2000), refused(0));
    assert_eq!(fragment(IpProtocol::TCP, 16, 0x0001), refused(1));
    assert!(fragment(IpProtocol::UDP, 16, 0x0001).is_ok());
    assert_eq!(fragment(IpProtocol::TCP, 0, 0x2000), Err(ParseError::Truncated(Layer::Transport)));
}

#[test]
fn ipv6_extension_headers_are_followed() {
    let udp = [3, 232, 7, 208, 0, 8, 0, 0];
    let payload = [&[17, 0, 1, 4, 0, 0, 0, 0][..], &udp].concat();
    let parsed = ip(&ipv6(IpProtocol::HOP_BY_HOP, &payload));
    assert_eq!((parsed.l4, parsed.protocol, parsed.source_port), (62, IpProtocol::UDP, 1000));
    let atomic = ip(&ipv6(IpProtocol::FRAGMENT, &[&[17, 0, 0, 0, 0, 0, 0, 9][..], &udp].concat()));
    assert_eq!((atomic.kind, atomic.is_fragment()), (L4Kind::Udp, false));
    let first = ip(&ipv6(IpProtocol::FRAGMENT, &[&[17, 0, 0, 1, 0, 0, 0, 9][..], &udp].concat()));
    assert_eq!((first.kind, first.first_fragment, first.fragment_id), (L4Kind::Udp, true, 9));
    let later = ip(&ipv6(IpProtocol::FRAGMENT, &[&[17, 0, 0, 8, 0, 0, 0, 9][..], &udp].concat()));
    assert_eq!((later.kind, later.first_fragment, later.fragment_id), (L4Kind::Fragment, false, 9));
    let truncated = ExtensionError::Truncated(IpProtocol::HOP_BY_HOP);
    assert_eq!(
        whole(&ipv6(IpProtocol::HOP_BY_HOP, &[17, 1, 0, 0, 0, 0, 0, 0])),
        Err(ParseError::Extension(truncated))
    );
}

#[test]
fn header_chain_must_lie_within_the_stated_payload() {
    // The fixed header states 8 bytes; the options claim 16, of which the rest would be the frame's padding.
    let mut frame = ipv6(IpProtocol::HOP_BY_HOP, &[17, 1, 1, 4, 0, 0, 0, 0]);
    frame.extend([0; 32]);
    let truncated = ExtensionError::Truncated(IpProtocol::HOP_BY_HOP);
    assert_eq!(whole(&frame), Err(ParseError::Extension(truncated)));
}

#[test]
fn other_protocols_have_neither_ports_nor_minimum_length() {
    for protocol in [IpProtocol::ESP, IpProtocol::NO_NEXT_HEADER, IpProtocol::ICMPV4, IpProtocol(47)] {
        let parsed = ip(&ipv6(protocol, &[]));
        assert_eq!((parsed.kind, parsed.source_port, parsed.protocol), (L4Kind::Other, 0, protocol));
    }
}

#[test]
fn sctp_needs_a_chunk_behind_its_header() {
    let packet = [3, 232, 7, 208, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 4];
    let parsed = ip(&ipv6(IpProtocol::SCTP, &packet));
    assert_eq!((parsed.kind, parsed.destination_port), (L4Kind::Sctp, 2000));
    assert_eq!(whole(&ipv6(IpProtocol::SCTP, &packet[..12])), Err(ParseError::Truncated(Layer::Transport)));
}

#[test]
fn echo_has_its_identifier_for_both_ports() {
    let echo = |message: u8| ip(&ipv6(IpProtocol::ICMPV6, &[message, 0, 0, 0, 0x12, 0x34, 0, 1]));
    for (message, half) in [(128, IcmpEcho::Request), (129, IcmpEcho::Reply)] {
        let parsed = echo(message);
        assert_eq!(parsed.kind, L4Kind::IcmpEcho(half));
        assert_eq!((parsed.source_port, parsed.destination_port), (0x1234, 0x1234));
    }
    assert_eq!((echo(1).kind, echo(1).source_port), (L4Kind::IcmpError, 0));
    assert_eq!(echo(143).kind, L4Kind::IcmpOther);
}

#[test]
fn quote_of_eight_bytes_has_ports_and_needs_no_right_lengths() {
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(V4[0], V4[1], 1);
    builder.tcp(1000, 2000, 7, 9).syn().write(&mut frame, &[0; 100]).unwrap();
    frame[24] ^= 1;
    let quote = |len: usize| parse_ip(&frame[14..14 + len], len, Extent::Quoted);
    let parsed = quote(28).unwrap();
    assert_eq!((parsed.kind, parsed.source_port, parsed.tcp_flags), (L4Kind::Tcp, 1000, 0));
    assert_eq!((parsed.l3, parsed.l4, parsed.ip_total), (0, 20, 140));
    assert_eq!(quote(34).unwrap().tcp_flags, 2);
    assert_eq!(quote(27), Err(ParseError::Truncated(Layer::Transport)));
    assert_eq!(quote(0), Err(ParseError::Truncated(Layer::Ip)));
    assert!(parse_ip(&frame[14..], 140, Extent::Whole).is_err());
    assert_eq!(parse_ip(&[0x50; 40], 40, Extent::Quoted), Err(ParseError::Version(5)));
}

#[test]
fn errors_are_sentences_with_the_offending_value() {
    assert_eq!(ParseError::UdpLength(7).to_string(), "UDP datagram of 7 bytes");
    assert_eq!(ParseError::UnknownEtherType(EtherType(0x88cc)).to_string(), "EtherType 0x88cc is not known");
}
