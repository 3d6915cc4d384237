//! The inputs from which the fuzzer starts: one frame of each kind.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::OnceLock;

use millrace_fastpath::wire::icmp_error::{IcmpError, Problem};
use millrace_fastpath::wire::parse::Addresses;
use millrace_fastpath::wire::{IpProtocol, MacAddr, Sum, arp, icmpv4, icmpv6, ipv4, ipv6, ndisc, tcp, udp};

const V4: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 2), Ipv4Addr::new(10, 1, 0, 3)];
const V6: [Ipv6Addr; 2] =
    [Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2), Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3)];

/// Writes each of them to a file in `directory`.
pub fn write(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, frame) in seed_frames() {
        // No cut, checksums made right: see the first two bytes of `check`.
        std::fs::write(directory.join(name), [&[0, 1][..], frame].concat())?;
    }
    Ok(())
}

/// Name and bytes of each.
pub fn seed_frames() -> &'static [(&'static str, Vec<u8>)] {
    static FRAMES: OnceLock<Vec<(&str, Vec<u8>)>> = OnceLock::new();
    FRAMES.get_or_init(|| {
        let frame = |(name, ether_type, packet): (_, u16, Vec<u8>)| {
            (name, [&[2; 12][..], &ether_type.to_be_bytes(), &packet].concat())
        };
        frames().into_iter().map(frame).collect()
    })
}

/// Name, EtherType and packet.
fn frames() -> Vec<(&'static str, u16, Vec<u8>)> {
    let udp = v4(IpProtocol::UDP, &udp());
    let error = IcmpError {
        problem: Problem::TooBig { mtu: 1400 },
        addresses: Addresses::V4 { source: V4[1], destination: V4[0] },
    };
    let mut too_big = vec![0; error.overhead()];
    too_big.extend(&udp);
    error.emit(&mut too_big, 1).expect("a short packet fits");
    let tagged = [&[0x00, 0x2a, 0x08, 0x00][..], &udp].concat();
    let mut fragment = udp.clone();
    fragment[6] = 0x20;
    let mut init = vec![0x03, 0xe8, 0x07, 0xd0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 20];
    init.extend([0; 16]);
    let hop_by_hop =
        [&[IpProtocol::FRAGMENT.0, 0, 1, 4, 0, 0, 0, 0][..], &[17, 0, 0, 1, 0, 0, 0, 9], &self::udp()]
            .concat();
    vec![
        ("arp", 0x0806, arp()),
        ("udp4", 0x0800, udp),
        ("fragment4", 0x0800, fragment),
        ("tagged", 0x8100, tagged),
        ("tcp4", 0x0800, v4(IpProtocol::TCP, &tcp())),
        ("sctp4", 0x0800, v4(IpProtocol::SCTP, &init)),
        ("echo4", 0x0800, v4(IpProtocol::ICMPV4, &[icmpv4::ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 2])),
        ("too_big4", 0x0800, too_big),
        ("udp6", 0x86dd, v6(IpProtocol::UDP, &self::udp())),
        ("tcp6", 0x86dd, v6(IpProtocol::TCP, &tcp())),
        ("echo6", 0x86dd, v6(IpProtocol::ICMPV6, &[icmpv6::ECHO_REQUEST, 0, 0, 0, 0, 1, 0, 2])),
        ("extensions6", 0x86dd, v6(IpProtocol::HOP_BY_HOP, &hop_by_hop)),
        ("solicitation6", 0x86dd, v6(IpProtocol::ICMPV6, &solicitation())),
    ]
}

fn v4(protocol: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ipv4::LEN];
    let fields = ipv4::Fields {
        source: V4[0],
        destination: V4[1],
        protocol,
        ttl: ipv4::DEFAULT_TTL,
        traffic_class: 0,
        identification: 7,
        do_not_fragment: false,
        payload_len: payload.len() as u16,
    };
    fields.emit(&mut header);
    [&header, payload].concat()
}

fn v6(next_header: IpProtocol, payload: &[u8]) -> Vec<u8> {
    let mut header = [0; ipv6::LEN];
    let fields = ipv6::Fields {
        source: V6[0],
        destination: V6[1],
        next_header,
        hop_limit: ndisc::HOP_LIMIT,
        traffic_class: 0,
        payload_len: payload.len() as u16,
    };
    fields.emit(&mut header);
    [&header, payload].concat()
}

fn udp() -> Vec<u8> {
    let mut header = [0; udp::LEN];
    udp::Fields { source_port: 1000, destination_port: 53, len: 16 }.emit(&mut header);
    let pseudo = Sum::pseudo_v4(V4[0], V4[1], IpProtocol::UDP, 16);
    if let Ok(mut view) = udp::HeaderMut::new_checked(&mut header) {
        view.fill_checksum(pseudo, &[0; 8]);
    }
    [&header[..], &[0; 8]].concat()
}

fn tcp() -> Vec<u8> {
    let mut header = [0; tcp::LEN];
    let fields = tcp::Fields {
        source_port: 1000,
        destination_port: 80,
        sequence: 1,
        acknowledgment: 0,
        flags: tcp::Flags::SYN,
        window: 0xffff,
    };
    fields.emit(&mut header);
    // Maximum segment size 1460, padding, window scale 7.
    header[12] = 7 << 4;
    [&header[..], &[2, 4, 0x05, 0xb4, 1, 3, 3, 7]].concat()
}

fn arp() -> Vec<u8> {
    let mut message = [0; arp::LEN];
    let fields = arp::Fields {
        operation: arp::REQUEST,
        sender_mac: MacAddr([2; 6]),
        sender_ip: V4[0],
        target_mac: MacAddr([0; 6]),
        target_ip: V4[1],
    };
    fields.emit(&mut message);
    message.to_vec()
}

fn solicitation() -> Vec<u8> {
    let mut message = [0; ndisc::LEN];
    let fields = ndisc::Fields::NeighbourSolicitation { target: V6[1], source_mac: MacAddr([2; 6]) };
    fields.emit(&mut message, V6[0], V6[1]);
    message.to_vec()
}
