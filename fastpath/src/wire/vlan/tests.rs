use etherparse::SingleVlanHeader;
use proptest::prelude::*;

use super::*;

#[test]
fn only_configurable_ids_are_taken() {
    assert_eq!(
        [0, 1, 4094, 4095, 4096].map(|id| VlanId::try_new(id).is_some()),
        [false, true, true, false, false]
    );
}

proptest! {
    #[test]
    fn tags_agree_with_etherparse(priority in 0..8_u8, id in 1..4095_u16, ether_type: u16, other in 1..4095_u16) {
        let mut bytes = [0; LEN];
        let id = VlanId::try_new(id).unwrap();
        Fields { priority, id, ether_type: EtherType(ether_type) }.emit(&mut bytes);
        let (theirs, _) = SingleVlanHeader::from_slice(&bytes).unwrap();
        prop_assert_eq!(theirs.vlan_id.value(), id.get());
        prop_assert_eq!(theirs.pcp.value(), priority);
        prop_assert_eq!(theirs.ether_type.0, ether_type);
        let other = VlanId::try_new(other).unwrap();
        HeaderMut::new_checked(&mut bytes).unwrap().set_id(other);
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!((ours.priority(), ours.id(), ours.ether_type().0), (priority, other, ether_type));
    }
}
