use etherparse::Ethernet2Header;
use proptest::prelude::*;

use super::*;

/// Any header.
pub(crate) fn any_fields() -> impl Strategy<Value = Fields> {
    any::<([u8; 6], [u8; 6], u16)>().prop_map(|(destination, source, ether_type)| Fields {
        destination: MacAddr(destination),
        source: MacAddr(source),
        ether_type: EtherType(ether_type),
    })
}

#[test]
fn text_of_mac_addresses_is_read_and_written() {
    let mac = MacAddr([0x02, 0x4d, 0x52, 0, 0, 0x0a]);
    assert_eq!(mac.to_string(), "02:4d:52:00:00:0a");
    assert_eq!("02:4D:52:00:00:0a".parse(), Ok(mac));
    assert_eq!("02-4d-52-00-00-0A".parse(), Ok(mac));
}

#[test]
fn wrong_texts_of_mac_addresses_name_the_wrong_part() {
    let part = |text: &str| text.parse::<MacAddr>().unwrap_err().part;
    assert_eq!(part(""), 0);
    assert_eq!(part("02:4d:52:00:00"), 5);
    assert_eq!(part("02:4d:52:00:00:01:02"), 6);
    assert_eq!(part("02:4d:5:00:00:01"), 2);
    assert_eq!(part("02:+d:52:00:00:01"), 1);
    assert_eq!(part("02:4d:52:00:00:0é"), 5);
}

#[test]
fn groups_are_told_from_stations() {
    assert!(MacAddr::BROADCAST.is_multicast());
    assert!(MacAddr([0x33, 0x33, 0, 0, 0, 1]).is_multicast());
    assert!(MacAddr([2, 0, 0, 0, 0, 1]).is_unicast());
    assert!(!MacAddr::default().is_unicast() && !MacAddr::default().is_multicast());
}

proptest! {
    #[test]
    fn headers_agree_with_etherparse(fields in any_fields()) {
        let mut bytes = [0; LEN];
        fields.emit(&mut bytes);
        let (theirs, _) = Ethernet2Header::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.destination, fields.destination.0);
        prop_assert_eq!(theirs.source, fields.source.0);
        prop_assert_eq!(theirs.ether_type.0, fields.ether_type.0);
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!(fields, Fields {
            destination: ours.destination(), source: ours.source(), ether_type: ours.ether_type(),
        });
    }

    #[test]
    fn text_of_any_mac_address_leads_back_to_it(octets: [u8; 6]) {
        prop_assert_eq!(MacAddr(octets).to_string().parse(), Ok(MacAddr(octets)));
    }
}
