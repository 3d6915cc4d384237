use core::net::Ipv4Addr;

use etherparse::{Ipv4Header, UdpHeader};
use proptest::prelude::*;

use super::*;
use crate::wire::IpProtocol;

proptest! {
    #[test]
    fn headers_and_checksums_agree_with_etherparse(
        ports: [u16; 2], addresses: [[u8; 4]; 2], data in prop::collection::vec(any::<u8>(), 0..100)
    ) {
        let len = (LEN + data.len()) as u16;
        let mut bytes = [0; LEN];
        Fields { source_port: ports[0], destination_port: ports[1], len }.emit(&mut bytes);
        let pseudo = Sum::pseudo_v4(addresses[0].into(), addresses[1].into(), IpProtocol::UDP, len);
        HeaderMut::new_checked(&mut bytes).unwrap().fill_checksum(pseudo, &data);
        let (theirs, _) = UdpHeader::from_slice(&bytes).unwrap();
        let ip = Ipv4Header::new(len, 64, etherparse::IpNumber::UDP, addresses[0], addresses[1]).unwrap();
        prop_assert_eq!(theirs.checksum, theirs.calc_checksum_ipv4(&ip, &data).unwrap());
        let ours = Header::new_checked(&bytes).unwrap();
        prop_assert_eq!([ours.source_port(), ours.destination_port(), ours.datagram_len()], [ports[0], ports[1], len]);
        prop_assert_eq!([theirs.source_port, theirs.destination_port, theirs.length], [ports[0], ports[1], len]);
    }

    /// A translated datagram, its checksum full, partial, or none.
    #[test]
    fn translation_keeps_every_kind_of_checksum_right(
        from: (u32, u16), to: (u32, u16), other: (u32, u16), data in prop::collection::vec(any::<u8>(), 0..50)
    ) {
        let len = (LEN + data.len()) as u16;
        let address = Ipv4Addr::from_bits;
        let build = |destination: (u32, u16)| {
            let mut bytes = [0; LEN];
            Fields { source_port: other.1, destination_port: destination.1, len }.emit(&mut bytes);
            (bytes, Sum::pseudo_v4(address(other.0), address(destination.0), IpProtocol::UDP, len))
        };
        let addresses = Delta::of_v4(address(from.0), address(to.0));
        let both = addresses.join(Delta::of_u16(from.1, to.1));
        let ((mut full, pseudo), (mut expected, expected_pseudo)) = (build(from), build(to));
        let (mut partial, mut none) = (full, full);

        HeaderMut::new_checked(&mut full).unwrap().fill_checksum(pseudo, &data);
        HeaderMut::new_checked(&mut expected).unwrap().fill_checksum(expected_pseudo, &data);
        let mut header = HeaderMut::new_checked(&mut full).unwrap();
        header.set_destination_port(to.1);
        header.update_checksum(both);
        prop_assert_eq!(full, expected);

        [partial[6], partial[7]] = pseudo.partial();
        HeaderMut::new_checked(&mut partial).unwrap().update_partial(addresses);
        prop_assert_eq!([partial[6], partial[7]], expected_pseudo.partial());

        HeaderMut::new_checked(&mut none).unwrap().update_checksum(both);
        prop_assert_eq!(Header::new_checked(&none).unwrap().checksum(), [0, 0]);
    }
}
