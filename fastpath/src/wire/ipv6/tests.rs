use etherparse::Ipv6Header;
use proptest::prelude::*;

use super::*;

/// Any header.
pub(crate) fn any_fields() -> impl Strategy<Value = Fields> {
    any::<(u128, u128, u8, u8, u8, u16)>().prop_map(
        |(source, destination, next_header, hop_limit, traffic_class, payload_len)| Fields {
            source: Ipv6Addr::from_bits(source),
            destination: Ipv6Addr::from_bits(destination),
            next_header: IpProtocol(next_header),
            hop_limit,
            traffic_class,
            payload_len,
        },
    )
}

#[test]
fn other_versions_are_refused() {
    let mut bytes = [0; LEN];
    bytes[0] = 0x45;
    assert_eq!(Header::new_checked(&bytes).map(|_| ()), Err(HeaderError::Kind(4)));
    assert!(HeaderMut::new_checked(&mut bytes).is_err());
}

proptest! {
    #[test]
    fn headers_agree_with_etherparse(fields in any_fields(), label in 0..1_u32 << 20) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        bytes[1] |= (label >> 16) as u8;
        bytes[2..4].copy_from_slice(&(label as u16).to_be_bytes());
        let (theirs, _) = Ipv6Header::from_slice(&bytes).unwrap();
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!(theirs.flow_label.value(), ours.flow_label());
        prop_assert_eq!(theirs.source, ours.source().octets());
        prop_assert_eq!(theirs.destination, ours.destination().octets());
        prop_assert_eq!(theirs.traffic_class, fields.traffic_class);
        prop_assert_eq!(fields, Fields {
            source: ours.source(),
            destination: ours.destination(),
            next_header: ours.next_header(),
            hop_limit: ours.hop_limit(),
            traffic_class: ours.traffic_class(),
            payload_len: ours.payload_len(),
        });
    }

    #[test]
    fn rewriting_changes_what_it_names_and_nothing_else(fields in any_fields(), to: (u128, u128, u16)) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let (source, destination) = (Ipv6Addr::from_bits(to.0), Ipv6Addr::from_bits(to.1));
        let mut header = HeaderMut::new_checked(&mut bytes).unwrap();
        header.set_source(source);
        header.set_destination(destination);
        header.set_payload_len(to.2);
        header.decrement_hop_limit();
        let mut expected = [0; LEN];
        let hop_limit = fields.hop_limit.saturating_sub(1);
        Fields { source, destination, payload_len: to.2, hop_limit, ..fields }.emit(&mut expected);
        prop_assert_eq!(bytes, expected);
    }
}
