use etherparse::{ArpPacket, ArpPacketSlice};
use proptest::prelude::*;

use super::*;

/// Any message.
pub(crate) fn any_fields() -> impl Strategy<Value = Fields> {
    any::<(u16, [u8; 6], u32, [u8; 6], u32)>().prop_map(
        |(operation, sender_mac, sender_ip, target_mac, target_ip)| Fields {
            operation,
            sender_mac: MacAddr(sender_mac),
            sender_ip: Ipv4Addr::from_bits(sender_ip),
            target_mac: MacAddr(target_mac),
            target_ip: Ipv4Addr::from_bits(target_ip),
        },
    )
}

fn fields_of(header: Header<'_>) -> Fields {
    Fields {
        operation: header.operation(),
        sender_mac: header.sender_mac(),
        sender_ip: header.sender_ip(),
        target_mac: header.target_mac(),
        target_ip: header.target_ip(),
    }
}

#[test]
fn other_hardware_protocols_and_lengths_are_refused() {
    let mut good = [0; LEN];
    let fields = Fields {
        operation: REQUEST,
        sender_mac: MacAddr([2; 6]),
        sender_ip: Ipv4Addr::LOCALHOST,
        target_mac: MacAddr::default(),
        target_ip: Ipv4Addr::LOCALHOST,
    };
    fields.emit(&mut good);
    let with = |at: usize, value: u8| {
        let mut bytes = good;
        bytes[at] = value;
        Header::new_checked(&bytes).map(|_| ())
    };
    assert_eq!(with(1, 6), Err(HeaderError::Kind(6)));
    assert_eq!(with(2, 0x86), Err(HeaderError::Kind(0x8600)));
    assert_eq!(with(4, 8), Err(HeaderError::Length(8)));
    assert_eq!(with(5, 16), Err(HeaderError::Length(16)));
    assert_eq!(
        Header::new_checked(&good[..27]).map(|_| ()),
        Err(HeaderError::Truncated { needed: 28, had: 27 })
    );
}

proptest! {
    #[test]
    fn messages_agree_with_etherparse(fields in any_fields()) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let theirs = ArpPacketSlice::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.operation().0, fields.operation);
        prop_assert_eq!(theirs.sender_hw_addr(), &fields.sender_mac.0);
        prop_assert_eq!(theirs.sender_protocol_addr(), &fields.sender_ip.octets());
        prop_assert_eq!(theirs.target_hw_addr(), &fields.target_mac.0);
        prop_assert_eq!(theirs.target_protocol_addr(), &fields.target_ip.octets());
        prop_assert_eq!(&ArpPacket::from_slice(&bytes).unwrap().to_bytes()[..], &bytes[..]);
        prop_assert_eq!(fields_of(Header::new_checked(&bytes).unwrap()), fields);
    }

    #[test]
    fn reply_goes_from_the_target_to_the_sender(fields in any_fields(), mac: [u8; 6]) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        HeaderMut::new_checked(&mut bytes).unwrap().make_reply(MacAddr(mac));
        prop_assert_eq!(fields_of(Header::new_checked(&bytes).unwrap()), Fields {
            operation: REPLY,
            sender_mac: MacAddr(mac),
            sender_ip: fields.target_ip,
            target_mac: fields.sender_mac,
            target_ip: fields.sender_ip,
        });
    }
}
