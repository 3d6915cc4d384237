//! AF_XDP ports between pods with kernel stacks. Needs root.
//!
//! ```text
//!  pod a: eth0 ══ veth a ── port ── wire ── port ── veth b ══ eth0 :pod b
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod pods;

use millrace_fastpath::port::{Burst, Claim, PortCounters};
use millrace_ffi::xdp::{self, Arena, ArenaConfig, Take, XdpConfig, XdpError, XdpMode};
use pods::{Namespace, Wire, alone, assert_all_back, eal, open_files, tcp, unique, veth};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

fn arena(chunks: u32) -> Arena {
    Arena::try_new(eal(), &ArenaConfig { name: unique("arena"), chunks, huge_pages: false }).unwrap()
}

fn tcp_crosses(mode: XdpMode) {
    let _alone = alone();
    let (node, a, b) = (Namespace::new("node"), Namespace::new("a"), Namespace::new("b"));
    veth(&node, "va", &a, "10.77.0.1/24");
    veth(&node, "vb", &b, "10.77.0.2/24");
    let arena = arena(4096);
    let counters = Arc::new(PortCounters::default());
    let open = |name: &str| {
        let config = XdpConfig { mode, fill: 256, ..XdpConfig::pod(name) };
        node.within(|| xdp::open(&config, &arena, &counters).unwrap())
    };
    let wire = Wire::between(open("va"), open("vb"));
    a.run(&["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.77.0.2"]);
    let speed = tcp(&b, &a, "10.77.0.2".parse().unwrap(), 8 << 20);
    println!("{mode:?}: {speed:.2} Gbit/s");
    assert!(arena.pool().in_use() > 0);
    wire.cut();
    assert_all_back(arena.pool());
    assert!(counters.totals().rx_frames > 5000);
}

#[test]
fn tcp_crosses_two_ports_in_native_mode() {
    tcp_crosses(XdpMode::Native);
}

#[test]
fn tcp_crosses_two_ports_in_generic_mode() {
    tcp_crosses(XdpMode::Generic);
}

#[test]
fn a_hundred_open_and_close_cycles_leave_nothing_behind() {
    let _alone = alone();
    let (node, a) = (Namespace::new("node"), Namespace::new("a"));
    veth(&node, "va", &a, "10.77.0.1/24");
    let arena = arena(1024);
    let counters = Arc::new(PortCounters::default());
    // The program that all pods share stays.
    drop(node.within(|| xdp::open(&XdpConfig::pod("va"), &arena, &counters).unwrap()).queues);
    let before = open_files();
    node.within(|| {
        for _ in 0..100 {
            let opened = xdp::open(&XdpConfig::pod("va"), &arena, &counters).unwrap();
            assert_eq!(arena.pool().in_use(), 64);
            drop(opened.queues);
            drop(opened.device);
            assert_eq!(arena.pool().in_use(), 0);
        }
    });
    assert_eq!(open_files(), before);
    let link =
        node.within(|| std::process::Command::new("ip").args(["link", "show", "va"]).output().unwrap());
    assert!(!String::from_utf8_lossy(&link.stdout).contains("xdp"));
}

#[test]
fn fifty_ports_share_an_arena_and_outlive_the_first() {
    let _alone = alone();
    let (node, pod) = (Namespace::new("node"), Namespace::new("pod"));
    let arena = arena(4096);
    let counters = Arc::new(PortCounters::default());
    for index in 0..50 {
        let (host, peer) = (format!("v{index}"), format!("p{index}"));
        node.run(&["ip", "link", "add", &host, "type", "veth", "peer", "name", &peer, "netns", &pod.0]);
    }
    node.within(|| {
        let open = |name: &str| xdp::open(&XdpConfig::pod(name), &arena, &counters).unwrap();
        let mut ports: Vec<_> = (0..49).map(|index| open(&format!("v{index}"))).collect();
        assert_eq!(arena.pool().in_use(), 49 * 64);
        drop(ports.remove(0));
        node.run(&["ip", "link", "del", "v1"]);
        ports.push(open("v49"));
        assert_eq!(arena.pool().in_use(), 49 * 64);
    });
    assert_all_back(arena.pool());
}

#[test]
fn an_uplink_takes_only_what_its_maps_name() {
    let _alone = alone();
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    veth(&node, "nic", &peer, "10.78.0.1/24");
    node.run(&["ip", "addr", "add", "10.78.0.2/24", "dev", "nic"]);
    peer.run(&["ip", "route", "add", "10.99.0.0/16", "via", "10.78.0.2"]);
    let arena = arena(2048);
    let counters = Arc::new(PortCounters::default());
    let config = XdpConfig { take: Take::ByMaps, ..XdpConfig::pod("nic") };
    let (mut opened, steering) = node.within(|| xdp::open_steered(&config, &arena, &counters).unwrap());
    let kernel = node.within(|| UdpSocket::bind("10.78.0.2:4789").unwrap());
    kernel.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let sender = peer.within(|| UdpSocket::bind("10.78.0.1:0").unwrap());
    let mut taken = |to: &str| {
        sender.send_to(b"millrace", to).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let mut burst = Burst::new();
        opened.queues[0].rx_burst(&mut burst)
    };
    let mut buffer = [0; 64];
    assert_eq!(taken("10.78.0.2:4789"), 0);
    assert_eq!(kernel.recv(&mut buffer).unwrap(), 8);
    let vxlan = Claim::Tunnel { address: "10.78.0.2".parse().unwrap(), port: 4789 };
    steering.claim(&vxlan).unwrap();
    assert_eq!(taken("10.78.0.2:4789"), 1);
    assert!(kernel.recv(&mut buffer).is_err());
    steering.release(&vxlan).unwrap();
    let pods = Claim::Destination("10.99.0.0/16".parse().unwrap());
    steering.claim(&pods).unwrap();
    steering.claim(&Claim::Returned("10.99.7.0/24".parse().unwrap())).unwrap();
    assert_eq!(taken("10.99.1.1:9"), 1);
    assert_eq!(taken("10.99.7.1:9"), 0);
    steering.release(&pods).unwrap();
    assert_eq!(taken("10.99.1.1:9"), 0);
}

#[test]
fn what_cannot_be_opened_is_named() {
    let _alone = alone();
    let node = Namespace::new("node");
    let arena = arena(256);
    let counters = Arc::new(PortCounters::default());
    node.run(&["ip", "link", "add", "v0", "mtu", "40000", "type", "veth", "peer", "name", "p0"]);
    node.within(|| {
        let open = |config: &XdpConfig| xdp::open(config, &arena, &counters).err().unwrap();
        assert!(matches!(open(&XdpConfig::pod("none")), XdpError::NoInterface { .. }));
        assert!(matches!(open(&XdpConfig::pod("v0")), XdpError::Mtu { mtu: 40_000, .. }));
        node.run(&["ip", "link", "set", "v0", "mtu", "1500"]);
        let two = open(&XdpConfig { queues: 2, ..XdpConfig::pod("v0") });
        assert!(two.to_string().starts_with("af-xdp v0 queue 1: binding the socket"), "{two}");
    });
    assert_all_back(arena.pool());
}
