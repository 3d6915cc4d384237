use etherparse::{TcpHeader, TcpOptionElement};
use proptest::prelude::*;

use super::*;

/// Any header without options.
pub(crate) fn any_fields() -> impl Strategy<Value = Fields> {
    any::<(u16, u16, u32, u32, u8, u16)>().prop_map(
        |(source_port, destination_port, sequence, acknowledgment, flags, window)| Fields {
            source_port,
            destination_port,
            sequence,
            acknowledgment,
            flags: Flags(flags),
            window,
        },
    )
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    let check = |words: u8, len: usize| {
        let mut bytes = [0; 60];
        bytes[12] = words << 4;
        Header::new_checked(&bytes[..len]).map(|header| header.header_len())
    };
    assert_eq!(check(5, 20), Ok(20));
    assert_eq!(check(15, 60), Ok(60));
    assert_eq!(check(4, 60), Err(HeaderError::Length(16)));
    assert_eq!(check(6, 23), Err(HeaderError::Truncated { needed: 24, had: 23 }));
}

#[test]
fn malformed_options_end_the_list() {
    let options = |rest: &[u8]| Options { rest }.count();
    assert_eq!(options(&[1, 1, 1, 2, 4, 5, 180]), 1);
    assert_eq!(options(&[2, 4, 5, 180, 0, 3, 3, 7]), 1);
    assert_eq!(options(&[2, 0, 3, 3, 7]), 0);
    assert_eq!(options(&[2, 1, 3, 3, 7]), 0);
    assert_eq!(options(&[3, 3, 7, 2, 4, 5]), 1);
    assert_eq!(options(&[2]), 0);
}

#[test]
fn flags_are_shown_by_their_letters() {
    assert_eq!(format!("{:?}", Flags::SYN | Flags::ACK), "Flags(SA)");
    assert!(
        (Flags::SYN | Flags::ACK).contains(Flags::SYN) && !Flags::ACK.intersects(Flags::SYN | Flags::RST)
    );
}

proptest! {
    #[test]
    fn headers_agree_with_etherparse(fields in any_fields()) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let (theirs, _) = TcpHeader::from_slice(&bytes).unwrap();
        prop_assert_eq!(&theirs.to_bytes()[..], &bytes[..]);
        let bits = [theirs.fin, theirs.syn, theirs.rst, theirs.psh, theirs.ack, theirs.urg, theirs.ece, theirs.cwr];
        prop_assert_eq!(bits.iter().rev().fold(0, |flags, bit| flags << 1 | u8::from(*bit)), fields.flags.0);
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!(fields, Fields {
            source_port: ours.source_port(),
            destination_port: ours.destination_port(),
            sequence: ours.sequence(),
            acknowledgment: ours.acknowledgment(),
            flags: ours.flags(),
            window: ours.window(),
        });
        prop_assert_eq!((theirs.sequence_number, theirs.window_size), (fields.sequence, fields.window));
    }

    #[test]
    fn options_that_etherparse_wrote_are_read(mss: u16, scale: u8, stamps: (u32, u32), padding in 0..3_usize) {
        let mut header = TcpHeader::new(1, 2, 3, 4);
        let mut options = vec![TcpOptionElement::Noop; padding];
        options.extend([
            TcpOptionElement::Timestamp(stamps.0, stamps.1),
            TcpOptionElement::MaximumSegmentSize(mss),
            TcpOptionElement::WindowScale(scale),
        ]);
        header.set_options(&options).unwrap();
        let bytes = header.to_bytes();
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!(ours.maximum_segment_size(), Some(mss));
        prop_assert_eq!(ours.window_scale(), Some(scale.min(14)));
        prop_assert_eq!(ours.header_len(), header.header_len());
    }

    #[test]
    fn no_options_make_the_reader_panic_or_loop(rest in prop::collection::vec(any::<u8>(), 0..40)) {
        let count = Options { rest: &rest }.count();
        prop_assert!(count <= 20);
    }

    #[test]
    fn setters_change_what_they_name_and_nothing_else(fields in any_fields(), ports: (u16, u16), field: [u8; 2]) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let mut header = HeaderMut::new_checked(&mut bytes).unwrap();
        header.set_source_port(ports.0);
        header.set_destination_port(ports.1);
        header.set_checksum(field);
        let mut expected = [0; LEN];
        Fields { source_port: ports.0, destination_port: ports.1, ..fields }.emit(&mut expected);
        expected[16..18].copy_from_slice(&field);
        prop_assert_eq!(bytes, expected);
    }
}
