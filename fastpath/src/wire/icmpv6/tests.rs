use etherparse::{IcmpEchoHeader, Icmpv6Header, Icmpv6Type};
use proptest::prelude::*;

use super::*;
use crate::wire::IpProtocol;

#[test]
fn all_types_below_128_are_errors() {
    assert!((0..=u8::MAX).all(|message| is_error(message) == (message < 128)));
}

proptest! {
    #[test]
    fn echo_and_its_reply_agree_with_etherparse(
        id: u16, seq: u16, ends: [[u8; 16]; 2], data in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let [a, b] = id.to_be_bytes();
        let [c, d] = seq.to_be_bytes();
        let mut bytes = [0; LEN];
        let len = (LEN + data.len()) as u32;
        let pseudo = Sum::pseudo_v6(ends[0].into(), ends[1].into(), IpProtocol::ICMPV6, len);
        Fields { message: ECHO_REQUEST, code: 0, rest: [a, b, c, d] }.emit(&mut bytes, pseudo, &data);
        let echo = IcmpEchoHeader { id, seq };
        let request = Icmpv6Header::with_checksum(Icmpv6Type::EchoRequest(echo), ends[0], ends[1], &data).unwrap();
        prop_assert_eq!(&request.to_bytes()[..], &bytes[..]);

        prop_assert!(HeaderMut::new_checked(&mut bytes).unwrap().make_echo_reply());
        // The two ends change places, which the sum does not see.
        let reply = Icmpv6Header::with_checksum(Icmpv6Type::EchoReply(echo), ends[1], ends[0], &data).unwrap();
        prop_assert_eq!(&reply.to_bytes()[..], &bytes[..]);
    }

    #[test]
    fn mtu_of_packet_too_big_agrees_with_etherparse(mtu: u32) {
        let theirs = Icmpv6Header::new(Icmpv6Type::PacketTooBig { mtu }).to_bytes();
        let ours = Header::new_checked(&theirs).unwrap();
        prop_assert_eq!((ours.message(), ours.code(), ours.mtu()), (PACKET_TOO_BIG, 0, mtu));
        let mut bytes = [0; LEN];
        HeaderMut::new_checked(&mut bytes).unwrap().set_mtu(mtu);
        prop_assert_eq!(Header::new_checked(&bytes).unwrap().mtu(), mtu);
    }
}
