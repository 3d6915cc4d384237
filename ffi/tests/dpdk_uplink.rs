//! DPDK devices in the place of a NIC: `net_af_packet` and `net_tap`. Needs root.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod pods;

use millrace_fastpath::port::{Burst, Frame, PortCounters};
use millrace_ffi::device::{Link, Opened};
use millrace_ffi::dpdk::{self, DpdkConfig};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use pods::{Namespace, Wire, alone, assert_all_back, eal, tcp, unique, veth};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn pool() -> Mempool {
    Mempool::try_new(eal(), &MempoolConfig::new(unique("nic"), 8_191)).unwrap()
}

fn open(node: &Namespace, config: &DpdkConfig, pool: &Mempool) -> Opened {
    let counters = Arc::new(PortCounters::default());
    node.within(|| dpdk::open(config, eal(), pool, &counters).unwrap())
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(3);
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn shown(node: &Namespace, interface: &str) -> String {
    let arguments = ["-n", &node.0, "-d", "link", "show", interface];
    String::from_utf8(Command::new("ip").args(arguments).output().unwrap().stdout).unwrap()
}

#[test]
fn a_nic_has_its_mac_address_and_mtu_and_is_not_promiscuous() {
    let _alone = alone();
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    veth(&node, "nic", &peer, "10.78.0.1/24");
    node.run(&["ip", "link", "set", "nic", "address", "02:00:00:00:00:42"]);
    let pool = pool();
    let config = DpdkConfig { mtu: 1400, ..DpdkConfig::new("net_af_packet5,iface=nic") };
    let opened = open(&node, &config, &pool);
    assert_eq!(opened.device.mac().unwrap().to_string(), "02:00:00:00:00:42");
    assert_eq!(opened.device.mtu(), Some(1400));
    let link = shown(&node, "nic");
    assert!(link.contains("mtu 1400") && link.contains("promiscuity 0"), "{link}");
    eventually("the link is up", || opened.device.link() == Link::Up);
    drop((opened.queues, opened.device));
    assert_all_back(&pool);
}

#[test]
fn frames_to_multicast_addresses_arrive() {
    let _alone = alone();
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    veth(&node, "nic", &peer, "10.78.0.1/24");
    let pool = pool();
    let mut opened = open(&node, &DpdkConfig::new("net_af_packet6,iface=nic"), &pool);
    peer.run(&["ip", "-6", "addr", "add", "fd00:78::1/64", "dev", "eth0", "nodad"]);
    let mut ping = Command::new("ip")
        .args(["netns", "exec", &peer.0, "ping", "-6", "-c", "1", "-W", "1", "fd00:78::2"])
        .spawn()
        .unwrap();
    let mut solicited = false;
    eventually("the solicitation is heard", || {
        let mut burst: Burst<Mbuf> = Burst::new();
        opened.queues[0].rx_burst(&mut burst);
        solicited |= burst.iter().any(|frame| frame.head()[..6] == [0x33, 0x33, 0xff, 0, 0, 2]);
        solicited
    });
    ping.wait().unwrap();
    drop((opened.queues, opened.device));
    assert_all_back(&pool);
}

/// ```text
///  a: eth0 ══ nic-a ── port ── wire ── port ── nic-b ══ eth0 :b
/// ```
#[test]
fn tcp_crosses_two_nics_of_two_queues() {
    let _alone = alone();
    let (node, a, b) = (Namespace::new("node"), Namespace::new("a"), Namespace::new("b"));
    veth(&node, "nic-a", &a, "10.78.0.1/24");
    veth(&node, "nic-b", &b, "10.78.0.2/24");
    let pool = pool();
    let config = |number, name| DpdkConfig {
        queues: 2,
        ..DpdkConfig::new(format!("net_af_packet{number},iface={name},qpairs=2"))
    };
    let wire =
        Wire::between(open(&node, &config(7, "nic-a"), &pool), open(&node, &config(8, "nic-b"), &pool));
    a.run(&["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.78.0.2"]);
    println!("{:.2} Gbit/s", tcp(&b, &a, "10.78.0.2".parse().unwrap(), 4 << 20));
    wire.cut();
    assert_all_back(&pool);
}

#[test]
fn a_tap_has_the_mac_address_that_it_was_given() {
    let _alone = alone();
    let node = Namespace::new("node");
    let pool = pool();
    let devargs = "net_tap5,iface=mrnic,mac=02:00:00:00:00:43";
    let opened = open(&node, &DpdkConfig::new(devargs), &pool);
    assert_eq!(opened.device.mac().unwrap().to_string(), "02:00:00:00:00:43");
    assert_eq!(opened.device.mtu(), Some(1500));
    drop((opened.queues, opened.device));
    assert_all_back(&pool);
}

/// ```text
///  a: eth0 ══ nic-a ── port ── wire ── memif ══ memif ── wire ── port ── nic-b ══ eth0 :b
/// ```
#[test]
fn tcp_crosses_shared_memory_between_two_nics() {
    let _alone = alone();
    let (node, a, b) = (Namespace::new("node"), Namespace::new("a"), Namespace::new("b"));
    veth(&node, "nic-a", &a, "10.78.0.1/24");
    veth(&node, "nic-b", &b, "10.78.0.2/24");
    let pool = pool();
    let socket = std::env::temp_dir().join(format!("memif-{}", std::process::id()));
    let memif = |number, role: &str| {
        let devargs = format!(
            "net_memif{number},role={role},socket={},socket-abstract=no,mac=02:00:00:00:01:0{number}",
            socket.display()
        );
        open(&node, &DpdkConfig::new(devargs), &pool)
    };
    let nic = |number, name: &str| {
        open(&node, &DpdkConfig::new(format!("net_af_packet{number},iface={name}")), &pool)
    };
    let (server, client) = (memif(1, "server"), memif(2, "client"));
    assert_eq!(server.device.mac().unwrap().to_string(), "02:00:00:00:01:01");
    eventually("both ends are connected", || {
        server.device.link() == Link::Up && client.device.link() == Link::Up
    });
    let wires = [Wire::between(nic(1, "nic-a"), server), Wire::between(client, nic(2, "nic-b"))];
    a.run(&["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.78.0.2"]);
    println!("{:.2} Gbit/s", tcp(&b, &a, "10.78.0.2".parse().unwrap(), 4 << 20));
    wires.into_iter().for_each(|wire| {
        wire.cut();
    });
    assert_all_back(&pool);
}
