use proptest::prelude::*;

use super::*;
use crate::wire::crc32c::crc32c;

#[test]
fn first_chunk_is_read_where_there_is_one() {
    let mut packet = [0; 16];
    Fields { source_port: 1, destination_port: 2, verification_tag: 0xdead_beef }
        .emit(packet.first_chunk_mut().unwrap());
    packet[12] = chunk::INIT;
    let header = Header::new_checked(&packet).unwrap();
    assert_eq!((header.source_port(), header.destination_port()), (1, 2));
    assert_eq!((header.verification_tag(), header.first_chunk()), (0xdead_beef, Some(chunk::INIT)));
    assert_eq!(Header::new_checked(&packet[..12]).unwrap().first_chunk(), None);
    assert!(Header::new_checked(&packet[..11]).is_err());
}

proptest! {
    #[test]
    fn checksum_is_the_crc_with_its_field_zeroed(
        mut packet in prop::collection::vec(any::<u8>(), LEN..200), cut in any::<prop::sample::Index>()
    ) {
        let mut zeroed = packet.clone();
        zeroed[8..12].fill(0);
        let expected = crc32c(&zeroed).to_le_bytes();
        let (first, rest) = packet.split_at(LEN + cut.index(packet.len() - LEN + 1));
        prop_assert_eq!(checksum_field(begin_checksum(first).unwrap().add_bytes(rest)), expected);
        fill_checksum(&mut packet).unwrap();
        prop_assert_eq!(Header::new_checked(&packet).unwrap().checksum(), expected);
    }

    #[test]
    fn ports_are_rewritten_in_place(ports: (u16, u16)) {
        let mut bytes = [0; LEN];
        let mut header = HeaderMut::new_checked(&mut bytes).unwrap();
        header.set_source_port(ports.0);
        header.set_destination_port(ports.1);
        let header = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!((header.source_port(), header.destination_port()), ports);
    }
}
