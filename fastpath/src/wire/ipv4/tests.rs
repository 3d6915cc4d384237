use etherparse::Ipv4Header;
use proptest::prelude::*;

use super::*;

/// Any header.
pub(crate) fn any_fields() -> impl Strategy<Value = Fields> {
    any::<(u32, u32, u8, u8, u8, u16, bool)>().prop_flat_map(
        |(source, destination, protocol, ttl, tos, id, df)| {
            (0..=u16::MAX - LEN as u16).prop_map(move |payload_len| Fields {
                source: Ipv4Addr::from_bits(source),
                destination: Ipv4Addr::from_bits(destination),
                protocol: IpProtocol(protocol),
                ttl,
                traffic_class: tos,
                identification: id,
                do_not_fragment: df,
                payload_len,
            })
        },
    )
}

#[test]
fn wrong_versions_and_lengths_are_refused() {
    let check = |first: u8, len: usize| {
        let mut bytes = [0; 60];
        bytes[0] = first;
        Header::new_checked(&bytes[..len]).map(|header| header.header_len())
    };
    assert_eq!(check(0x45, 20), Ok(20));
    assert_eq!(check(0x4f, 60), Ok(60));
    assert_eq!(check(0x65, 60), Err(HeaderError::Kind(6)));
    assert_eq!(check(0x44, 60), Err(HeaderError::Length(16)));
    assert_eq!(check(0x46, 23), Err(HeaderError::Truncated { needed: 24, had: 23 }));
    assert_eq!(check(0x45, 19), Err(HeaderError::Truncated { needed: 20, had: 19 }));
}

proptest! {
    #[test]
    fn headers_agree_with_etherparse(fields in any_fields()) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let (theirs, _) = Ipv4Header::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.header_checksum, theirs.calc_header_checksum());
        prop_assert_eq!(&theirs.to_bytes()[..], &bytes[..]);
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!(theirs.source, ours.source().octets());
        prop_assert_eq!(theirs.destination, ours.destination().octets());
        prop_assert_eq!(theirs.total_len, ours.total_len());
        prop_assert_eq!(theirs.identification, ours.identification());
        prop_assert_eq!(theirs.dont_fragment, ours.do_not_fragment());
        let read = Fields {
            source: ours.source(),
            destination: ours.destination(),
            protocol: ours.protocol(),
            ttl: ours.ttl(),
            traffic_class: ours.traffic_class(),
            identification: ours.identification(),
            do_not_fragment: ours.do_not_fragment(),
            payload_len: ours.total_len() - 20,
        };
        prop_assert_eq!(read, fields);
    }

    #[test]
    fn rewriting_keeps_the_checksum_right(fields in any_fields(), to: (u32, u32)) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let (source, destination) = (Ipv4Addr::from_bits(to.0), Ipv4Addr::from_bits(to.1));
        let mut header = HeaderMut::new_checked(&mut bytes).unwrap();
        header.set_source(source);
        header.set_destination(destination);
        header.update_checksum(
            Delta::of_v4(fields.source, source).join(Delta::of_v4(fields.destination, destination)),
        );
        header.decrement_ttl();
        let mut expected = [0; LEN];
        Fields { source, destination, ttl: fields.ttl.saturating_sub(1), ..fields }.emit(&mut expected);
        prop_assert_eq!(bytes, expected);
    }

    #[test]
    fn setters_set_what_accessors_read(fields in any_fields(), len: u16, id: u16, fragment: u16, ttl: u8) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let mut header = HeaderMut::new_checked(&mut bytes).unwrap();
        header.set_total_len(len);
        header.set_identification(id);
        header.set_fragment(fragment);
        header.set_ttl(ttl);
        header.fill_checksum();
        let header = header.as_header();
        prop_assert_eq!(
            (header.total_len(), header.identification(), header.fragment(), header.ttl()),
            (len, id, fragment, ttl)
        );
        prop_assert!(Sum::of(&bytes).is_valid());
    }
}
