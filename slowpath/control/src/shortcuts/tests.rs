use super::*;
use millrace_fastpath::tables::{Adjacency, AdjacencyId, Gateway, PortInfo, PortRole, Route, Vni, Vtep};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::net::Ipv4Addr;

const POD: PortId = PortId(1);
const OTHER_POD: PortId = PortId(2);
const UPLINK: PortId = PortId(3);
/// The kernel has no interface for it.
const ELSEWHERE: PortId = PortId(4);

const GATEWAY: MacAddr = mac(0xfe);
const NIC: MacAddr = mac(0x11);
const ROUTER: MacAddr = mac(0x22);
const OWN_VTEP: MacAddr = mac(0x33);
const PEER_VTEP: MacAddr = mac(0x44);
/// How the outer packets of one flow are marked.
const MARK: u16 = 0x8765;

const fn mac(last: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, last])
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn shortcuts() -> Shortcuts {
    let mut shortcuts = Shortcuts::default();
    for port in [POD, OTHER_POD, UPLINK] {
        shortcuts.set(port, Some(100 + u32::from(port.0)));
    }
    shortcuts
}

/// Two pods, an uplink to the world, and behind it nodes by a tunnel over IPv4 (10.9.0.0/16) and over IPv6 (10.8.0.0/16).
fn tables() -> TableSet {
    let gateway = Gateway { mac: GATEWAY, ipv4: Ipv4Addr::LOCALHOST, ipv6: "fe80::1".parse().unwrap() };
    let mut tables = TableSet { epoch: 7, ..TableSet::empty(gateway) };
    let info = PortInfo { mac: mac(0), own_mac: GATEWAY, mtu: 1500, ..pod_info(UPLINK) };
    let uplink = PortInfo { own_mac: NIC, spoof_check: false, role: PortRole::Uplink, ..info };
    tables.ports.insert(UPLINK, uplink);
    let mut add = |to: &str, port, mtu, macs: [MacAddr; 2], tunnel| {
        let [destination_mac, source_mac] = macs;
        let way = Adjacency { port, mtu, destination_mac, source_mac, tunnel };
        let id = tables.routes.add_adjacency(way);
        tables.routes.insert(to.parse().unwrap(), Route::Via(id));
    };
    for (port, to) in [(POD, "10.0.0.1/32"), (OTHER_POD, "10.0.0.2/32"), (ELSEWHERE, "10.0.0.4/32")] {
        tables.ports.insert(port, pod_info(port));
        add(to, port, 1400, [mac(port.0 as u8), GATEWAY], None);
    }
    add("0.0.0.0/0", UPLINK, 1500, [ROUTER, NIC], None);
    let vni = Vni::try_new(77).unwrap();
    let (addresses, udp_port) = ([ip("192.0.2.1").into(), ip("2001:db8::1").into()].into(), 4789);
    tables.tunnels.set_vtep(Some(Vtep { addresses, mac: OWN_VTEP, vni, udp_port }));
    for (to, local, remote) in
        [("10.9.0.0/16", "192.0.2.1", "192.0.2.2"), ("10.8.0.0/16", "2001:db8::1", "2001:db8::2")]
    {
        let tunnel = Tunnel {
            port: UPLINK,
            destination_mac: ROUTER,
            source_mac: NIC,
            local: ip(local).into(),
            remote: ip(remote).into(),
            vni,
            udp_port,
            checksum: false,
        };
        let id = tables.tunnels.insert(tunnel);
        add(to, UPLINK, 1450, [PEER_VTEP, OWN_VTEP], id);
    }
    tables
}

fn pod_info(port: PortId) -> PortInfo {
    PortInfo {
        mac: mac(port.0 as u8),
        own_mac: GATEWAY,
        mtu: 1400,
        spoof_check: true,
        role: PortRole::Pod,
        companion: None,
    }
}

fn key(source: &str, destination: &str) -> FlowKey {
    let (source, destination): (SocketAddr, SocketAddr) =
        (source.parse().unwrap(), destination.parse().unwrap());
    FlowKey {
        source: source.ip().into(),
        destination: destination.ip().into(),
        source_port: source.port(),
        destination_port: destination.port(),
        protocol: 6,
        fragment: false,
    }
}

/// What a worker tells of a connection that keeps its addresses, or has another destination.
fn told(tables: &TableSet, arrival: PortId, key: FlowKey, rewritten: FlowKey) -> Established {
    let Some(Route::Via(adjacency)) = tables.routes.lookup(rewritten.destination) else { panic!("no way") };
    Established { arrival, key, rewritten, adjacency, mark: MARK, epoch: tables.epoch }
}

fn make(arrival: PortId, source: &str, destination: &str) -> Option<Shortcut> {
    let (tables, key) = (tables(), key(source, destination));
    shortcuts().make(&tables, &told(&tables, arrival, key, key))
}

/// The ends of both nodes.
fn tunnel_of_peer() -> TunnelEnds {
    let [local, remote] = [[192, 0, 2, 1], [192, 0, 2, 2]].map(Ipv4Addr::from);
    TunnelEnds { local, remote, vni: 77, port: 4789 }
}

#[test]
fn a_shortcut_from_pod_to_pod_says_how_packets_come_and_leave() {
    let (tables, shortcuts) = (tables(), shortcuts());
    let [vip, backend] = ["10.96.0.1:80", "10.0.0.2:8080"].map(|to| key("10.0.0.1:4000", to));
    let plain = Shortcut {
        arrival: 101,
        out: 102,
        protocol: 6,
        arriving: ends(&vip),
        leaving: ends(&backend),
        mtu: 1400,
        own_mac: GATEWAY,
        sender_mac: Some(mac(1)),
        macs: [mac(2), GATEWAY],
        from: None,
        into: None,
    };
    assert_eq!(plain.leaving.destination, "10.0.0.2:8080".parse().unwrap());
    assert_eq!(shortcuts.make(&tables, &told(&tables, POD, vip, backend)), Some(plain.clone()));
    let back = told(&tables, OTHER_POD, backend.reversed(), vip.reversed());
    let wanted = Shortcut {
        arrival: 102,
        out: 101,
        arriving: ends(&backend.reversed()),
        leaving: ends(&vip.reversed()),
        sender_mac: Some(mac(2)),
        macs: [mac(1), GATEWAY],
        ..plain.clone()
    };
    assert_eq!(shortcuts.make(&tables, &back), Some(wanted));
    let datagrams = |key| FlowKey { protocol: 17, ..key };
    let udp = told(&tables, POD, datagrams(vip), datagrams(backend));
    assert_eq!(shortcuts.make(&tables, &udp), Some(Shortcut { protocol: 17, ..plain }));
}

#[test]
fn only_a_pod_that_is_held_to_its_addresses_has_one_mac_address() {
    let mut tables = tables();
    tables.ports.insert(POD, PortInfo { spoof_check: false, ..pod_info(POD) });
    let key = key("10.0.0.1:4000", "10.0.0.2:80");
    let made = shortcuts().make(&tables, &told(&tables, POD, key, key)).unwrap();
    assert_eq!((made.sender_mac, made.own_mac), (None, GATEWAY));
}

#[test]
fn a_way_to_the_world_and_back_is_plain() {
    let out = make(POD, "10.0.0.1:4000", "198.51.100.7:443").unwrap();
    assert_eq!((out.arrival, out.out, out.mtu, out.macs), (101, 103, 1500, [ROUTER, NIC]));
    assert_eq!((out.own_mac, out.from, out.into), (GATEWAY, None, None));
    let back = make(UPLINK, "198.51.100.7:443", "10.0.0.1:4000").unwrap();
    assert_eq!((back.arrival, back.out, back.mtu, back.macs), (103, 101, 1400, [mac(1), GATEWAY]));
    assert_eq!((back.own_mac, back.sender_mac, back.from, back.into), (NIC, None, None, None));
}

#[test]
fn a_way_to_another_node_says_what_goes_around_a_packet() {
    let made = make(POD, "10.0.0.1:4000", "10.9.0.1:80").unwrap();
    let wrapping = Wrapping { ends: tunnel_of_peer(), macs: [ROUTER, NIC], source_port: MARK };
    assert_eq!(made.into, Some(wrapping));
    assert_eq!((made.out, made.mtu, made.macs), (103, 1450, [PEER_VTEP, OWN_VTEP]));
    assert_eq!((made.own_mac, made.sender_mac, made.from), (GATEWAY, Some(mac(1)), None));
}

#[test]
fn a_way_from_another_node_says_what_is_around_a_packet() {
    let made = make(UPLINK, "10.9.0.1:80", "10.0.0.1:4000").unwrap();
    assert_eq!(made.from, Some(tunnel_of_peer()));
    assert_eq!((made.arrival, made.out, made.mtu, made.macs), (103, 101, 1400, [mac(1), GATEWAY]));
    assert_eq!((made.own_mac, made.sender_mac, made.into), (OWN_VTEP, None, None));
}

#[test]
fn there_is_none_by_a_tunnel_over_ipv6() {
    assert_eq!(make(POD, "10.0.0.1:4000", "10.8.0.1:80"), None);
    assert_eq!(make(UPLINK, "10.8.0.1:80", "10.0.0.1:4000"), None);
}

#[test]
fn there_is_none_between_uplinks() {
    for (source, destination) in [
        ("198.51.100.1:7", "10.9.0.1:80"),
        ("10.9.0.1:80", "198.51.100.1:7"),
        ("10.9.0.1:80", "10.9.0.2:80"),
        ("198.51.100.1:7", "198.51.100.2:7"),
    ] {
        assert_eq!(make(UPLINK, source, destination), None, "{source} {destination}");
    }
}

#[test]
fn there_is_none_from_or_to_a_port_without_an_interface() {
    assert_eq!(make(ELSEWHERE, "10.0.0.4:4000", "10.0.0.1:80"), None);
    assert_eq!(make(POD, "10.0.0.1:4000", "10.0.0.4:80"), None);
    assert!(!shortcuts().ports().contains(ELSEWHERE) && shortcuts().ports().contains(UPLINK));
    assert!(shortcuts().are_possible() && !Shortcuts::default().are_possible());
}

#[test]
fn there_is_none_of_tables_that_have_changed_or_of_what_is_not_there() {
    let (tables, shortcuts) = (tables(), shortcuts());
    let key = key("10.0.0.1:4000", "10.0.0.2:80");
    let good = told(&tables, POD, key, key);
    assert!(shortcuts.make(&tables, &good).is_some());
    for bad in [
        Established { epoch: tables.epoch - 1, ..good },
        Established { epoch: tables.epoch + 1, ..good },
        Established { adjacency: AdjacencyId(99), ..good },
        Established { arrival: PortId(99), ..good },
    ] {
        assert_eq!(shortcuts.make(&tables, &bad), None, "{bad:?}");
    }
}
