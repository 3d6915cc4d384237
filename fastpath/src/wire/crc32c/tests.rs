use proptest::prelude::*;

use super::*;

/// The definition, bit by bit.
fn reference(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn known_vectors_come_out_right() {
    // The check value of CRC-32/ISCSI, and RFC 3720, appendix B.4.
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    let ascending: Vec<u8> = (0..32).collect();
    assert_eq!(crc32c(&ascending), 0x46dd_794e);
    assert_eq!(crc32c(&[]), 0);
}

proptest! {
    #[test]
    fn tables_agree_with_the_definition(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(crc32c(&bytes), reference(&bytes));
    }

    #[test]
    fn pieces_agree_with_the_whole(bytes in prop::collection::vec(any::<u8>(), 0..300), cut in any::<prop::sample::Index>()) {
        let (first, second) = bytes.split_at(cut.index(bytes.len() + 1));
        prop_assert_eq!(Crc32c::new().add_bytes(first).add_bytes(second).finish(), crc32c(&bytes));
    }

    #[test]
    fn a_change_moves_the_crc_by_its_own_contribution(
        mut bytes in prop::collection::vec(any::<u8>(), 4..2000), change: [u8; 4], at in any::<prop::sample::Index>()
    ) {
        let before = crc32c(&bytes);
        let at = at.index(bytes.len() - 3);
        for (byte, change) in bytes[at..].iter_mut().zip(change) {
            *byte ^= change;
        }
        let behind = (bytes.len() - at - 4) as u32;
        prop_assert_eq!(before ^ shift(of_change(change), behind), crc32c(&bytes));
    }
}
