use crate::{Histogram, Protocol, Sizes, Stream, StreamError, search};
use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
use millrace_fastpath::wire::MacAddr;
use proptest::prelude::*;

const MACS: (MacAddr, MacAddr) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));

fn stream(v6: bool, protocol: Protocol, size: &str) -> Stream {
    let (source, destination) = if v6 { ("fd01::/64", "fd02::1") } else { ("10.1.0.0/16", "10.2.0.1") };
    let destination = (destination.parse().unwrap(), 80);
    Stream::try_new(MACS, source.parse().unwrap(), destination, protocol, &size.parse().unwrap()).unwrap()
}

proptest! {
    #[test]
    fn every_frame_is_whole_its_checksums_are_right_and_its_time_comes_back(
        v6: bool, tcp: bool, flow in 0..10_000_000_u64, number: u64, nanos: u64, imix: bool,
    ) {
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let stream = stream(v6, protocol, if imix { "imix" } else { "60" });
        let mut bytes = [0; 1514];
        let len = stream.write(flow, number, nanos, &mut bytes);
        let headers = PacketHeaders::from_ethernet_slice(&bytes[..len]).unwrap();
        let payload = headers.payload.slice().to_vec();
        let right = match (headers.net.unwrap(), headers.transport.unwrap()) {
            (NetHeaders::Ipv4(ip, _), TransportHeader::Udp(udp)) => {
                prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                udp.checksum == udp.calc_checksum_ipv4(&ip, &payload).unwrap()
            }
            (NetHeaders::Ipv4(ip, _), TransportHeader::Tcp(tcp)) => {
                prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                tcp.checksum == tcp.calc_checksum_ipv4(&ip, &payload).unwrap()
            }
            (NetHeaders::Ipv6(ip, _), TransportHeader::Udp(udp)) => {
                udp.checksum == udp.calc_checksum_ipv6(&ip, &payload).unwrap()
            }
            (NetHeaders::Ipv6(ip, _), TransportHeader::Tcp(tcp)) => {
                tcp.checksum == tcp.calc_checksum_ipv6(&ip, &payload).unwrap()
            }
            other => panic!("{other:?}"),
        };
        prop_assert!(right);
        prop_assert_eq!(Stream::sent_at(&bytes[..len]), Some(nanos));
    }

    #[test]
    fn a_quantile_is_within_a_sixteenth(mut values in proptest::collection::vec(0..1_u64 << 40, 1..200)) {
        let mut histogram = Histogram::default();
        values.iter().for_each(|&value| histogram.record(value));
        values.sort_unstable();
        for part in [0.01, 0.5, 0.99] {
            let exact = values[((values.len() as f64 * part).ceil() as usize).max(1) - 1];
            let told = histogram.quantile(part);
            prop_assert!(told >= exact && told <= exact + exact / 16 + 1, "{} for {}", told, exact);
        }
    }

    #[test]
    fn the_search_finds_the_edge(edge in 1..1_000_000_u64, most in 1..1_000_000_u64) {
        let found = search(most, 0.0, |rate| if rate <= edge { 0.0 } else { 1.0 });
        prop_assert!(found <= edge.min(most));
        prop_assert!(edge.min(most) - found <= most / 1024 + 1);
    }
}

#[test]
fn different_flows_have_different_sources_and_others_frames_no_time() {
    let stream = stream(false, Protocol::Udp, "60");
    let mut seen = std::collections::HashSet::new();
    let mut bytes = [0; 1514];
    for flow in 0..100_000 {
        stream.write(flow, 0, 0, &mut bytes);
        seen.insert(bytes[26..36].to_vec());
    }
    assert_eq!(seen.len(), 100_000);
    assert_eq!(Stream::sent_at(&[0; 60]), None);
}

#[test]
fn what_cannot_be_is_refused_with_its_value() {
    let mixed = Stream::try_new(
        MACS,
        "10.0.0.0/8".parse().unwrap(),
        ("fd00::1".parse().unwrap(), 80),
        Protocol::Udp,
        &"60".parse().unwrap(),
    );
    assert!(matches!(mixed, Err(StreamError::Families { .. })));
    assert_eq!("59".parse::<Sizes>(), Err(StreamError::Size("59".into())));
    assert_eq!("sctp".parse::<Protocol>(), Err(StreamError::Protocol("sctp".into())));
}
