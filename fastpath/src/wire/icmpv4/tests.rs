use etherparse::{IcmpEchoHeader, Icmpv4Header, Icmpv4Type, icmpv4};
use proptest::prelude::*;

use super::*;

#[test]
fn errors_are_told_from_questions_and_answers() {
    let errors: Vec<u8> = (0..=u8::MAX).filter(|message| is_error(*message)).collect();
    assert_eq!(errors, [3, 4, 5, 11, 12]);
}

proptest! {
    #[test]
    fn echo_and_its_reply_agree_with_etherparse(
        id: u16, seq: u16, new_id: u16, data in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let mut bytes = [0; LEN];
        let [a, b] = id.to_be_bytes();
        let [c, d] = seq.to_be_bytes();
        Fields { message: ECHO_REQUEST, code: 0, rest: [a, b, c, d] }.emit(&mut bytes, &data);
        let echo = |id, seq| IcmpEchoHeader { id, seq };
        let request = Icmpv4Header::with_checksum(Icmpv4Type::EchoRequest(echo(id, seq)), &data);
        prop_assert_eq!(&request.to_bytes()[..], &bytes[..]);

        let mut header = HeaderMut::new_checked(&mut bytes).unwrap();
        prop_assert!(header.make_echo_reply());
        prop_assert!(!header.make_echo_reply());
        header.set_identifier(new_id);
        header.update_checksum(Delta::of_u16(id, new_id));
        prop_assert_eq!((header.as_header().identifier(), header.as_header().sequence()), (new_id, seq));
        let reply = Icmpv4Header::with_checksum(Icmpv4Type::EchoReply(echo(new_id, seq)), &data);
        prop_assert_eq!(&reply.to_bytes()[..], &bytes[..]);
    }

    #[test]
    fn mtu_of_fragmentation_needed_agrees_with_etherparse(mtu: u16) {
        let unreachable = icmpv4::DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: mtu };
        let theirs = Icmpv4Header::with_checksum(Icmpv4Type::DestinationUnreachable(unreachable), &[]).to_bytes();
        let ours = Header::new_checked(&theirs).unwrap();
        prop_assert_eq!(
            (ours.message(), ours.code(), ours.mtu()),
            (DESTINATION_UNREACHABLE, super::unreachable::FRAGMENTATION_NEEDED, mtu)
        );
        let mut bytes = [0; LEN];
        HeaderMut::new_checked(&mut bytes).unwrap().set_mtu(mtu);
        prop_assert_eq!(Header::new_checked(&bytes).unwrap().mtu(), mtu);
    }
}
