use core::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{PacketBuilder, SlicedPacket, TcpHeader, TransportSlice};
use proptest::prelude::*;

use super::*;
use crate::wire::Class;
use crate::wire::parse::parse;

const CLIENT: [u8; 4] = [10, 1, 0, 2];
const SERVICE: [u8; 4] = [10, 96, 0, 1];

fn frame_v4(tcp: TcpHeader, data: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(CLIENT, SERVICE, 64);
    let mut frame = Vec::new();
    builder.tcp_header(tcp).write(&mut frame, data).unwrap();
    frame
}

fn answer(frame: &[u8]) -> Option<Reset> {
    let Ok(Class::Ip(parsed)) = parse(frame, frame.len()) else { panic!("not parsed") };
    Reset::answering(frame, &parsed)
}

fn segment() -> TcpHeader {
    TcpHeader::new(40_000, 80, 1_000, 64)
}

#[test]
fn syn_is_answered_by_a_reset_that_acknowledges_it() {
    let reset = answer(&frame_v4(TcpHeader { syn: true, ..segment() }, &[])).unwrap();
    let expected = tcp::Fields {
        source_port: 80,
        destination_port: 40_000,
        sequence: 0,
        acknowledgment: 1_001,
        flags: Flags::RST | Flags::ACK,
        window: 0,
    };
    let addresses = Addresses::V4 { source: Ipv4Addr::from(SERVICE), destination: Ipv4Addr::from(CLIENT) };
    assert_eq!(reset, Reset { addresses, header: expected });
}

#[test]
fn data_and_fin_count_in_what_is_acknowledged_and_numbers_wrap() {
    let fin = TcpHeader { fin: true, sequence_number: u32::MAX, ..segment() };
    assert_eq!(answer(&frame_v4(fin, &[1; 10])).unwrap().header.acknowledgment, 10);
}

#[test]
fn options_and_padding_do_not_count_as_data() {
    let mut syn = TcpHeader { syn: true, ..segment() };
    syn.set_options_raw(&[2, 4, 5, 180]).unwrap();
    let mut frame = frame_v4(syn, &[]);
    frame.extend([0; 6]);
    assert_eq!(answer(&frame).unwrap().header.acknowledgment, 1_001);
}

#[test]
fn acknowledgment_is_answered_with_its_own_number() {
    let ack = TcpHeader { ack: true, acknowledgment_number: 5_555, ..segment() };
    let header = answer(&frame_v4(ack, &[1; 10])).unwrap().header;
    assert_eq!((header.sequence, header.acknowledgment, header.flags), (5_555, 0, Flags::RST));
}

#[test]
fn resets_are_never_answered_and_neither_is_anything_but_tcp() {
    for ack in [false, true] {
        assert_eq!(answer(&frame_v4(TcpHeader { rst: true, ack, ..segment() }, &[])), None);
    }
    let mut frame = Vec::new();
    let builder = PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4(CLIENT, SERVICE, 64);
    builder.udp(1, 2).write(&mut frame, &[0; 30]).unwrap();
    assert_eq!(answer(&frame), None);
}

#[test]
fn buffers_that_are_too_short_are_refused() {
    let reset = answer(&frame_v4(TcpHeader { syn: true, ..segment() }, &[])).unwrap();
    for had in [0, 19, 20, 39] {
        assert_eq!(reset.emit(&mut vec![0; had]), Err(HeaderError::Truncated { needed: LEN_V4, had }));
    }
}

proptest! {
    #[test]
    fn packets_are_what_etherparse_reads(v6: Option<[[u8; 16]; 2]>, v4: [[u8; 4]; 2], header in tcp::tests::any_fields()) {
        let addresses = match v6 {
            Some([source, destination]) => {
                Addresses::V6 { source: Ipv6Addr::from(source), destination: Ipv6Addr::from(destination) }
            }
            None => Addresses::V4 { source: Ipv4Addr::from(v4[0]), destination: Ipv4Addr::from(v4[1]) },
        };
        let reset = Reset { addresses, header };
        let mut packet = vec![0xaa; reset.packet_len()];
        reset.emit(&mut packet).unwrap();
        let theirs = SlicedPacket::from_ip(&packet).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = theirs.transport else { panic!("not TCP") };
        prop_assert_eq!((tcp.source_port(), tcp.destination_port()), (header.source_port, header.destination_port));
        let expected = match (&theirs.net, v6) {
            (Some(etherparse::NetSlice::Ipv4(ip)), None) => {
                let ip = ip.header().to_header();
                prop_assert_eq!(ip.header_checksum, ip.calc_header_checksum());
                tcp.to_header().calc_checksum_ipv4(&ip, &[]).unwrap()
            }
            (Some(etherparse::NetSlice::Ipv6(ip)), Some(_)) => {
                tcp.to_header().calc_checksum_ipv6(&ip.header().to_header(), &[]).unwrap()
            }
            other => panic!("not the family: {other:?}"),
        };
        prop_assert_eq!(tcp.checksum(), expected);
    }
}
