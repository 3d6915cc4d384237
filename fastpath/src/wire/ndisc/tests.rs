use etherparse::{Icmpv6Slice, PacketBuilder};
use proptest::prelude::*;

use super::*;

const POD: Ipv6Addr = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0x12, 0x3456);
const GATEWAY: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0x4d, 0x52ff, 0xfe00, 1);
const MAC: MacAddr = MacAddr([2, 0x4d, 0x52, 0, 0, 1]);

const ANY_SOURCE: Envelope = Envelope { source: POD, destination: GATEWAY, hop_limit: HOP_LIMIT };

fn emitted(fields: Fields) -> [u8; LEN] {
    let mut bytes = [0; LEN];
    fields.emit(&mut bytes, ANY_SOURCE.source, ANY_SOURCE.destination);
    bytes
}

/// Sets the checksum of a message that a test has damaged, so that only the damage shows.
fn sealed(mut message: Vec<u8>, envelope: &Envelope) -> Vec<u8> {
    [message[2], message[3]] = [0, 0];
    let len = message.len() as u32;
    let pseudo = Sum::pseudo_v6(envelope.source, envelope.destination, IpProtocol::ICMPV6, len);
    [message[2], message[3]] = pseudo.add_bytes(&message).checksum();
    message
}

fn solicitation() -> Vec<u8> {
    emitted(Fields::NeighbourSolicitation { target: GATEWAY, source_mac: MAC }).to_vec()
}

#[test]
fn solicited_node_address_has_the_last_three_bytes() {
    assert_eq!(solicited_node(POD), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
}

#[test]
fn what_is_written_is_read() {
    let read = |fields| Header::new_checked(&emitted(fields), &ANY_SOURCE).unwrap();
    assert_eq!(
        read(Fields::NeighbourSolicitation { target: GATEWAY, source_mac: MAC }),
        Header::NeighbourSolicitation { target: GATEWAY, source_mac: Some(MAC) }
    );
    let flags = FLAG_ROUTER | FLAG_SOLICITED | FLAG_OVERRIDE;
    assert_eq!(
        read(Fields::NeighbourAdvertisement { target: GATEWAY, target_mac: MAC, flags }),
        Header::NeighbourAdvertisement { target: GATEWAY, target_mac: Some(MAC), flags }
    );
    assert_eq!(
        read(Fields::RouterAdvertisement { source_mac: MAC, lifetime: 1800, mtu: 1450 }),
        Header::RouterAdvertisement { source_mac: Some(MAC), lifetime: 1800 }
    );
}

#[test]
fn messages_are_what_etherparse_reads() {
    let bytes = emitted(Fields::RouterAdvertisement { source_mac: MAC, lifetime: 1800, mtu: 1450 });
    let theirs = Icmpv6Slice::from_slice(&bytes).unwrap();
    assert!(theirs.is_checksum_valid(POD.octets(), GATEWAY.octets()));
    assert_eq!(theirs.type_u8(), ROUTER_ADVERTISEMENT);
    let builder = PacketBuilder::ipv6(POD.octets(), GATEWAY.octets(), 255).icmpv6_raw(135, 0, [0; 4]);
    let mut packet = Vec::new();
    builder.write(&mut packet, &[&GATEWAY.octets()[..], &[1, 1], &MAC.0].concat()).unwrap();
    assert_eq!(packet[40..], solicitation());
}

#[test]
fn messages_that_a_router_forwarded_are_refused() {
    let envelope = Envelope { hop_limit: 254, ..ANY_SOURCE };
    assert_eq!(Header::new_checked(&solicitation(), &envelope), Err(NdiscError::HopLimit(254)));
}

#[test]
fn damaged_messages_are_refused() {
    let mut flipped = solicitation();
    flipped[20] ^= 1;
    assert!(matches!(Header::new_checked(&flipped, &ANY_SOURCE), Err(NdiscError::Checksum(_))));
    let check = |at: usize, value: u8| {
        let mut bytes = solicitation();
        bytes[at] = value;
        Header::new_checked(&sealed(bytes, &ANY_SOURCE), &ANY_SOURCE)
    };
    assert_eq!(check(1, 1), Err(NdiscError::Code(1)));
    assert!(matches!(check(8, 0xff), Err(NdiscError::Target(_))));
    assert_eq!(check(25, 0), Err(NdiscError::Option(1)));
    assert_eq!(check(25, 2), Err(NdiscError::Option(1)));
    assert_eq!(check(0, 137), Err(NdiscError::Header(HeaderError::Kind(137))));
    let short = sealed(solicitation()[..20].to_vec(), &ANY_SOURCE);
    let truncated = HeaderError::Truncated { needed: 24, had: 20 };
    assert_eq!(Header::new_checked(&short, &ANY_SOURCE), Err(NdiscError::Header(truncated)));
}

#[test]
fn starting_host_may_probe_its_address_and_ask_for_routers() {
    let probe =
        Envelope { source: Ipv6Addr::UNSPECIFIED, destination: solicited_node(GATEWAY), ..ANY_SOURCE };
    let bare = sealed(solicitation()[..24].to_vec(), &probe);
    let read = Header::NeighbourSolicitation { target: GATEWAY, source_mac: None };
    assert_eq!(Header::new_checked(&bare, &probe), Ok(read));
    assert_eq!(Header::new_checked(&sealed(solicitation(), &probe), &probe), Err(NdiscError::Unspecified));
    let unicast = Envelope { destination: GATEWAY, ..probe };
    assert_eq!(Header::new_checked(&sealed(bare, &unicast), &unicast), Err(NdiscError::Unspecified));
    let question = sealed(vec![133, 0, 0, 0, 0, 0, 0, 0], &probe);
    assert_eq!(Header::new_checked(&question, &probe), Ok(Header::RouterSolicitation { source_mac: None }));
}

proptest! {
    #[test]
    fn no_message_makes_the_reader_panic(kind in 130..140_u8, mut message in prop::collection::vec(any::<u8>(), 8..100)) {
        message[..2].copy_from_slice(&[kind, 0]);
        let _ = Header::new_checked(&sealed(message, &ANY_SOURCE), &ANY_SOURCE);
    }
}
