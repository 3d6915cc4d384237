//! TCP segments and datagrams as they come and as they are to leave.

#![allow(unreachable_pub, reason = "one test program uses it, by its own path")]

use crate::packets::{Packet, payload};
use etherparse::{IpDscp, IpEcn, IpHeaders, Ipv4Header, Ipv6Header, PacketBuilder};
use millrace_fastpath::port::{Ends, Shortcut, TunnelEnds, Wrapping};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::net::IpAddr;

/// Bytes of headers before the inner frame.
pub const OUTER: u16 = 50;

/// A timestamp.
const OPTIONS: [u8; 12] = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2];

/// Differentiated services: not to be seen outside. And that congestion could be shown (ECT(0)), which is.
const DSCP: u8 = 46;
const ECN: u8 = 2;

/// What a shortcut is for.
pub fn packet(shortcut: &Shortcut) -> Packet {
    match (shortcut.protocol, shortcut.arriving.source.is_ipv4()) {
        (6, true) => Packet::Tcp4,
        (6, false) => Packet::Tcp6,
        (_, true) => Packet::Udp4,
        (_, false) => Packet::Udp6,
    }
}

/// A frame of an established connection or of a flow, with destination and source MAC address. Its checksum is left open.
pub fn segment(packet: Packet, ends: &Ends, macs: [MacAddr; 2], hops: u8, length: usize) -> Vec<u8> {
    let [destination, source] = macs.map(MacAddr::octets);
    let ip = match (ends.source.ip(), ends.destination.ip()) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let header = Ipv4Header {
                dscp: IpDscp::try_new(DSCP).unwrap(),
                ecn: IpEcn::try_new(ECN).unwrap(),
                identification: 0x1234,
                dont_fragment: true,
                time_to_live: hops,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv4Header::default()
            };
            IpHeaders::Ipv4(header, Default::default())
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let header = Ipv6Header {
                traffic_class: DSCP << 2 | ECN,
                flow_label: 0x5_4321.try_into().unwrap(),
                hop_limit: hops,
                source: source.octets(),
                destination: destination.octets(),
                ..Ipv6Header::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => panic!("{ends:?}"),
    };
    let (from, to) = (ends.source.port(), ends.destination.port());
    let (mut frame, builder) = (Vec::new(), PacketBuilder::ethernet2(source, destination).ip(ip));
    if packet.is_tcp() {
        let tcp = builder.tcp(from, to, 0xffff_ff00, 512).psh().ack(1).options_raw(&OPTIONS).unwrap();
        tcp.write(&mut frame, &payload(length)).unwrap();
    } else {
        builder.udp(from, to).write(&mut frame, &payload(length)).unwrap();
    }
    packet.leave_open(&mut frame);
    frame
}

/// The frame in a tunnel.
pub fn wrap(into: &Wrapping, inner: &[u8]) -> Vec<u8> {
    let TunnelEnds { local, remote, vni, port } = into.ends;
    let [destination, source] = into.macs.map(MacAddr::octets);
    let ip = Ipv4Header {
        ecn: IpEcn::try_new(ECN).unwrap(),
        dont_fragment: true,
        time_to_live: 64,
        source: local.octets(),
        destination: remote.octets(),
        ..Ipv4Header::default()
    };
    let (mut frame, headers) = (Vec::new(), [[8, 0, 0, 0], (vni << 8).to_be_bytes()].concat());
    PacketBuilder::ethernet2(source, destination)
        .ip(IpHeaders::Ipv4(ip, Default::default()))
        .udp(into.source_port, port)
        .write(&mut frame, &[&headers, inner].concat())
        .unwrap();
    frame[40..42].fill(0);
    frame
}

/// A frame in a tunnel without what is random in it. The checksum over that is right.
pub fn masked(mut frame: Vec<u8>) -> Vec<u8> {
    let words = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
    assert_eq!(words.sum::<u32>() % 0xffff, 0, "the outer header's checksum");
    for random in [18..20, 24..26] {
        frame[random].fill(0);
    }
    frame
}
