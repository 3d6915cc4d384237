//! What fits through tunnels and routers, and how senders get to know.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Capture, Echo, Fabric, Family, Kind, Plan, Role, ServiceSpec, assert_mtu, datagram, exchange, expose,
    ping,
};
use serde_json::{Value, json};
use std::net::SocketAddr;

const PORT: u16 = 7007;

/// A router on the way to the world and back that takes smaller packets.
fn narrow(fabric: &Fabric, mtu: &str) {
    let [v4, v6] = fabric.world().addresses().map(|address| address.to_string());
    fabric.netns().must(&["ip", "route", "add", &v4, "dev", "w", "mtu", "lock", mtu]);
    fabric.netns().must(&["ip", "-6", "route", "add", &v6, "dev", "w", "mtu", "lock", mtu]);
}

/// Two nodes with a pod on each, of a configuration that is changed.
fn two(change: impl Fn(&mut Value)) -> Fabric {
    let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |_, config| change(config));
    for node in 0..2 {
        fabric.add_pod(node, Kind::Veth);
    }
    fabric
}

/// Servers in all pods and in the world.
fn servers(fabric: &Fabric) -> Vec<Echo> {
    fabric.pods().iter().chain([fabric.world()]).map(|place| Echo::start(place, PORT)).collect()
}

/// A service whose endpoint is the second node's pod.
fn serve_far(fabric: &Fabric, change: impl FnOnce(&mut Value)) -> ServiceSpec {
    let spec = ServiceSpec::numbered("far", 10, 80, PORT);
    fabric.serve_with(&spec, &[1], change);
    spec
}

#[test]
fn the_mtu_of_pods_follows_from_the_uplink_and_the_mode() {
    for (mtu, mode, expected) in
        [(1500, "native", 1500), (1500, "auto", 1450), (1600, "vxlan", 1550), (1500, "vxlan", 1450)]
    {
        let plan = Plan::bridge(&[Role::Millrace]).mtu(mtu);
        let fabric = &mut Fabric::start_with(&plan, |_, config| config["routing"] = json!({"mode": mode}));
        let tap = fabric.add_pod(0, Kind::Tap);
        let own = fabric.add_pod_with(0, Kind::Tap, |port| port["mtu"] = json!(1300));
        let uplink = fabric.node(0).daemon().port(millrace_tests::NIC).mtu;
        let expected = expected.min(if mode == "native" { uplink } else { uplink - 50 });
        assert_eq!(fabric.pod(tap).mtu(), expected, "{mtu} {mode}");
        assert_eq!(fabric.pod(own).mtu(), 1300);
    }
}

#[test]
fn the_way_through_a_tunnel_is_found_by_pods_that_think_it_wider() {
    let fabric = two(|config| {
        config["routing"] = json!({"mode": "vxlan"});
        config["mtu"] = json!(1500);
    });
    let (a, b) = (fabric.pod(0), fabric.pod(1));
    assert_eq!(a.mtu(), 1500);
    let _servers = servers(&fabric);
    let spec = serve_far(&fabric, |_| ());
    for family in Family::BOTH {
        assert_mtu(a, b.address(family), 1450);
        assert_eq!(a.known_mtu(b.address(family)), Some(1450));
        exchange(a, b.at(family, PORT), 4 << 20).unwrap();
        exchange(b, a.at(family, PORT), 4 << 20).unwrap();
        // The sender of a service's packets knows the service's address only.
        let service = SocketAddr::new(spec.cluster_ips[usize::from(family == Family::V6)], 80);
        exchange(a, service, 4 << 20).unwrap();
        let found = (0..4).find_map(|_| datagram(a, service, 1440).ok());
        assert!(found.is_some(), "{family:?}");
        assert_eq!(a.known_mtu(service.ip()), Some(1450));
    }
    // What may be cut is cut, and put together again by the receiver.
    a.netns().must(&["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"]);
    a.netns().must(&["ip", "route", "flush", "cache"]);
    for length in [1421, 1423, 1450, 1472, 1473, 9000, 60_000] {
        datagram(a, b.at(Family::V4, PORT), length).unwrap_or_else(|error| panic!("{length}: {error}"));
    }
    fabric.stop();
}

#[test]
fn a_narrow_router_is_found_by_pods_and_by_the_world() {
    let fabric = two(|_| ());
    let world = fabric.world();
    let _servers = servers(&fabric);
    // The endpoint is on the other node than the one that the world speaks to.
    serve_far(&fabric, |service| expose(service, "NodePort", 30_080));
    narrow(&fabric, "1300");
    for family in Family::BOTH {
        let to = world.address(family);
        for pod in fabric.pods() {
            exchange(pod, world.at(family, PORT), 4 << 20)
                .unwrap_or_else(|error| panic!("{} {family:?}: {error}", pod.name));
            let found = (0..4).find_map(|_| datagram(pod, world.at(family, PORT), 1400).ok());
            assert!(found.is_some(), "{} {family:?}", pod.name);
            assert_eq!(pod.known_mtu(to), Some(1300), "{} {family:?}", pod.name);
            assert_mtu(pod, to, 1300);
        }
        // Packets of the endpoint toward the world pass two nodes and then find the router too narrow.
        let node_port = SocketAddr::new(fabric.node(0).at(family), 30_080);
        exchange(world, node_port, 4 << 20).unwrap_or_else(|error| panic!("NodePort {family:?}: {error}"));
        let found = (0..4).find_map(|_| datagram(world, node_port, 1400).ok());
        assert!(found.is_some(), "NodePort {family:?}");
    }
    fabric.stop();
}

#[test]
fn fragments_of_the_world_find_their_pod_in_any_order() {
    let fabric = two(|_| ());
    let world = fabric.world();
    let _servers = servers(&fabric);
    serve_far(&fabric, |service| expose(service, "NodePort", 30_080));
    world.netns().must(&["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"]);
    for family in Family::BOTH {
        for node in 0..2 {
            let node_port = SocketAddr::new(fabric.node(node).at(family), 30_080);
            for length in [1473, 3000, 20_000] {
                // The first one may be lost to find out that the endpoint's link is narrower.
                let found = (0..3).find_map(|_| datagram(world, node_port, length).ok());
                assert!(found.is_some(), "{length} bytes to {node_port}");
            }
        }
        // The kernel's own, beside.
        let host = &fabric.node(0).host;
        let _server = Echo::start(host, PORT + 1);
        datagram(world, host.at(family, PORT + 1), 20_000).unwrap();
        assert!(ping(world, &host.address(family).to_string(), 8000));
        assert!(ping(fabric.pod(0), &world.address(family).to_string(), 8000));
    }
    fabric.stop();
}

#[test]
fn mss_is_clamped_where_configured_and_not_otherwise() {
    for clamp in [true, false] {
        let fabric = two(|config| {
            config["routing"] = json!({"mode": "vxlan", "clampMss": clamp});
            config["mtu"] = json!(1500);
        });
        let (a, b) = (fabric.pod(0), fabric.pod(1));
        let _server = Echo::start(b, PORT);
        for (family, clamped, whole) in [(Family::V4, 1410, 1460), (Family::V6, 1390, 1440)] {
            // tcpdump knows no TCP flags of IPv6 packets; `mss` is in SYNs only.
            let wire = Capture::start(b.netns(), "eth0", &format!("tcp port {PORT}"));
            exchange(a, b.at(family, PORT), 1 << 20).unwrap();
            let lines = wire.lines();
            let mss = format!("mss {}", if clamp { clamped } else { whole });
            let syns: Vec<_> = lines.iter().filter(|line| line.contains("mss ")).collect();
            let incoming = syns.iter().find(|line| line.contains("[S]")).expect("a SYN");
            assert!(incoming.contains(&mss), "{clamp} {family:?}: {incoming}");
        }
        fabric.stop();
    }
}
