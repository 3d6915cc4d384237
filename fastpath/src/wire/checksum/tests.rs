use etherparse::{Ipv4Header, Ipv6Header, TcpHeader, UdpHeader};
use proptest::prelude::*;

use super::*;

/// RFC 1071 as it is written: big-endian words, carries folded at the end.
fn reference(bytes: &[u8]) -> u16 {
    let mut sum = 0_u64;
    for word in bytes.chunks(2) {
        sum += u64::from(word[0]) << 8 | u64::from(word.get(1).copied().unwrap_or(0));
    }
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

fn number(field: [u8; 2]) -> u16 {
    u16::from_be_bytes(field)
}

#[test]
fn rfc_1071_example_comes_out_right() {
    let sum = Sum::of(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
    assert_eq!(number(sum.partial()), 0xddf2);
    assert_eq!(number(sum.checksum()), 0x220d);
}

#[test]
fn udp_never_sends_zero_for_a_checksum_and_keeps_none() {
    assert_eq!(Sum::of(&[0xff, 0xff]).checksum_udp(), [0xff, 0xff]);
    assert_eq!(Sum::of(&[0xff, 0xff]).checksum(), [0, 0]);
    let delta = Delta::of_u16(80, 8080);
    assert_eq!(delta.apply_udp([0, 0]), [0, 0]);
    // 0x0001 is the checksum of a sum of 0xfffe; one more makes 0xffff, whose complement is zero.
    assert_eq!(Delta::of_u16(1, 2).apply_udp([0, 1]), [0xff, 0xff]);
    assert_eq!(Delta::of_u16(1, 2).apply([0, 1]), [0, 0]);
}

#[test]
fn no_change_leaves_every_checksum_as_it_is() {
    for field in 0..=u16::MAX {
        let field = field.to_be_bytes();
        assert_eq!(Delta::NONE.apply(field), field);
        assert_eq!(Delta::NONE.apply_partial(field), field);
        assert_eq!(Delta::NONE.inverse().apply(field), field);
    }
}

#[test]
fn decrement_of_any_ttl_agrees_with_recomputing() {
    for ttl in 1..=u8::MAX {
        for protocol in 0..=u8::MAX {
            let (old, new) = (u16::from_be_bytes([ttl, protocol]), u16::from_be_bytes([ttl - 1, protocol]));
            // The first word of an IPv4 header is never zero.
            let before = Sum::ZERO.add_u16(0x4500).add_u16(old).checksum();
            let after = Sum::ZERO.add_u16(0x4500).add_u16(new).checksum();
            assert_eq!(Delta::TTL_DECREMENT.apply(before), after, "{old:04x}");
        }
    }
}

proptest! {
    #[test]
    fn sum_agrees_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(number(Sum::of(&bytes).partial()), reference(&bytes));
        if let Some(header) = bytes.first_chunk() {
            prop_assert_eq!(Sum::ZERO.add_ipv4_header(header).partial(), Sum::of(header).partial());
        }
    }

    #[test]
    fn segments_agree_with_the_whole(
        bytes in prop::collection::vec(any::<u8>(), 0..200), cuts in prop::collection::vec(0..200_usize, 0..6)
    ) {
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
        cuts.extend([0, bytes.len()]);
        cuts.sort_unstable();
        let sum = cuts.windows(2).fold(Sum::ZERO, |sum, cut| sum.add_segment(&bytes[cut[0]..cut[1]], cut[0]));
        prop_assert_eq!(number(sum.partial()), reference(&bytes));
    }

    #[test]
    fn layer_4_checksums_agree_with_etherparse(
        v4: [[u8; 4]; 2], v6: [[u8; 16]; 2], ports: [u16; 2], data in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let ip4 = Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, v4[0], v4[1]).unwrap();
        let ip6 = Ipv6Header { source: v6[0], destination: v6[1], ..Default::default() };
        let len = data.len() as u16 + 8;
        let udp = UdpHeader { source_port: ports[0], destination_port: ports[1], length: len, checksum: 0 };
        let pseudo = Sum::pseudo_v4(v4[0].into(), v4[1].into(), IpProtocol::UDP, len);
        let ours = pseudo.add_bytes(&udp.to_bytes()).add_bytes(&data).checksum_udp();
        prop_assert_eq!(number(ours), udp.calc_checksum_ipv4(&ip4, &data).unwrap());

        let tcp = TcpHeader::new(ports[0], ports[1], 7, 9);
        let pseudo = Sum::pseudo_v6(v6[0].into(), v6[1].into(), IpProtocol::TCP, data.len() as u32 + 20);
        let ours = pseudo.add_bytes(&tcp.to_bytes()).add_bytes(&data).checksum();
        prop_assert_eq!(number(ours), tcp.calc_checksum_ipv6(&ip6, &data).unwrap());
    }

    /// The word 0x0006 stands for the rest of what is covered: a sum over packets is never over zeroes alone.
    #[test]
    fn updates_agree_with_recomputing(
        rest in prop::collection::vec(any::<u8>(), 0..40), old: (u128, u32, u16), new: (u128, u32, u16)
    ) {
        let sum = |fields: (u128, u32, u16)| {
            let address = Ipv6Addr::from_bits(fields.0).octets();
            Sum::ZERO.add_u16(6).add_bytes(&address).add_u32(fields.1).add_u16(fields.2).add_bytes(&rest)
        };
        let delta = Delta::of_v6(Ipv6Addr::from_bits(old.0), Ipv6Addr::from_bits(new.0))
            .join(Delta::of_v4(Ipv4Addr::from_bits(old.1), Ipv4Addr::from_bits(new.1)))
            .join(Delta::of_u16(old.2, new.2));
        prop_assert_eq!(delta.apply(sum(old).checksum()), sum(new).checksum());
        prop_assert_eq!(delta.apply_udp(sum(old).checksum_udp()), sum(new).checksum_udp());
        prop_assert_eq!(delta.apply_partial(sum(old).partial()), sum(new).partial());
        prop_assert_eq!(delta.inverse().apply(sum(new).checksum()), sum(old).checksum());
        prop_assert_eq!(Delta::from_bits(delta.bits()), delta);
    }

    #[test]
    fn a_packet_with_its_checksum_is_valid_and_any_flipped_bit_shows(
        mut bytes in prop::collection::vec(any::<u8>(), 4..100), bit in any::<prop::sample::Index>()
    ) {
        [bytes[0], bytes[1]] = [0, 0];
        [bytes[0], bytes[1]] = Sum::of(&bytes).checksum();
        prop_assume!(bytes[2..].iter().any(|byte| *byte != 0));
        prop_assert!(Sum::of(&bytes).is_valid());
        let bit = bit.index(bytes.len() * 8);
        bytes[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!Sum::of(&bytes).is_valid());
    }
}
