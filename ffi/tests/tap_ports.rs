//! TAP ports between pods with kernel stacks. Needs root.
//!
//! ```text
//!  pod a: TAP ── port ── wire ── port ── TAP :pod b
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod pods;

use millrace_fastpath::port::PortCounters;
use millrace_ffi::device::Link;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::tap::{self, TapConfig, TapError, TapPools};
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig};
use pods::{Namespace, Wire, alone, assert_all_back, configure, eal, open_files, tcp, unique, veth};
use std::net::UdpSocket;
use std::sync::Arc;
use std::time::Duration;

fn pools(large: u32) -> (Mempool, TapPools) {
    let small = Mempool::try_new(eal(), &MempoolConfig::new(unique("small"), 2047)).unwrap();
    let pools = TapPools::try_new(eal(), &unique("large"), small.clone(), large).unwrap();
    (small, pools)
}

fn config(name: &str, queues: u32) -> TapConfig {
    TapConfig::here(name, queues)
}

#[test]
fn large_frames_cross_two_taps_whole() {
    let _alone = alone();
    let (node, a, b) = (Namespace::new("node"), Namespace::new("a"), Namespace::new("b"));
    let (small, pools) = pools(127);
    let counters = Arc::new(PortCounters::default());
    let open = |name: &str, pod: &Namespace, address: &str| {
        let opened = node.within(|| tap::open(&config(name, 1), &pools, &counters).unwrap());
        node.run(&["ip", "link", "set", name, "netns", &pod.0]);
        assert!(matches!(opened.device.link(), Link::Down { .. }));
        configure(pod, name, address);
        assert_eq!(opened.device.link(), Link::Up);
        opened
    };
    let wire = Wire::between(open("ta", &a, "10.79.0.1/24"), open("tb", &b, "10.79.0.2/24"));
    a.run(&["ping", "-c", "2", "-i", "0.2", "-W", "2", "10.79.0.2"]);
    let speed = tcp(&b, &a, "10.79.0.2".parse().unwrap(), 64 << 20);
    println!("TAP to TAP: {speed:.2} Gbit/s");
    let receiver = b.within(|| UdpSocket::bind("10.79.0.2:9").unwrap());
    receiver.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let sender = a.within(|| UdpSocket::bind("10.79.0.1:0").unwrap());
    sender.send_to(&[7; 9000], "10.79.0.2:9").unwrap();
    assert_eq!(receiver.recv(&mut [0; 10_000]).unwrap(), 9000);
    let largest = wire.cut();
    assert!(largest.0 > 60_000, "{largest:?}");
    assert_all_back(&small);
    assert_all_back(pools.large());
}

#[test]
fn a_tap_and_a_veth_exchange_tcp_both_ways() {
    let _alone = alone();
    let (node, a, b) = (Namespace::new("node"), Namespace::new("a"), Namespace::new("b"));
    let (small, pools) = pools(127);
    let name = unique("arena");
    let arena = Arena::try_new(eal(), &ArenaConfig { name, chunks: 4096, huge_pages: false }).unwrap();
    let counters = Arc::new(PortCounters::default());
    let opened = node.within(|| tap::open(&config("ta", 1), &pools, &counters).unwrap());
    node.run(&["ip", "link", "set", "ta", "netns", &a.0]);
    configure(&a, "ta", "10.79.1.1/24");
    veth(&node, "vb", &b, "10.79.1.2/24");
    let pod = XdpConfig { fill: 256, ..XdpConfig::pod("vb") };
    let veth = node.within(|| xdp::open(&pod, &arena, &counters).unwrap());
    let wire = Wire::between(opened, veth);
    let cut = tcp(&b, &a, "10.79.1.2".parse().unwrap(), 16 << 20);
    let back = tcp(&a, &b, "10.79.1.1".parse().unwrap(), 8 << 20);
    println!("TAP to veth: {cut:.2} Gbit/s, back {back:.2} Gbit/s");
    assert!(wire.cut().0 > 20_000);
    assert_all_back(&small);
    assert_all_back(pools.large());
    assert_all_back(arena.pool());
}

#[test]
fn a_hundred_open_and_close_cycles_leave_no_interface() {
    let _alone = alone();
    let node = Namespace::new("node");
    let (small, pools) = pools(31);
    let counters = Arc::new(PortCounters::default());
    let before = open_files();
    node.within(|| {
        for _ in 0..100 {
            let (opened, port) = tap::open_port(&config("t0", 2), &pools, &counters).unwrap();
            assert!(port.ifindex > 0);
            assert_eq!(opened.queues.len(), 2);
            let taken = tap::open(&config("t0", 1), &pools, &counters).err().unwrap();
            assert!(taken.to_string().starts_with("tap t0 queue 0: creating the interface"), "{taken}");
            drop(opened);
            assert!(nix::net::if_::if_nametoindex("t0").is_err());
        }
    });
    assert_eq!(open_files(), before);
    assert_all_back(&small);
    assert!(matches!(tap::open(&config("", 1), &pools, &counters), Err(TapError::Name { .. })));
}

#[test]
fn a_tap_that_lasts_is_adopted_by_the_next_port_with_its_addresses() {
    let _alone = alone();
    let pod = Namespace::new("a");
    let (_, pools) = pools(7);
    let counters = Arc::new(PortCounters::default());
    let namespace = Some(std::path::PathBuf::from(format!("/run/netns/{}", pod.0)));
    let fresh = TapConfig { namespace: namespace.clone(), ..config("eth0", 2) };
    let missing = tap::open(&TapConfig { adopted: true, ..fresh.clone() }, &pools, &counters);
    assert!(missing.is_err_and(|error| error.to_string().contains("index")), "there is nothing to adopt");

    let opened = tap::open(&fresh, &pools, &counters).unwrap();
    opened.device.set_lasting(true).unwrap();
    configure(&pod, "eth0", "10.79.0.1/24");
    assert_eq!(opened.device.link(), Link::Up);
    drop(opened.queues);
    drop(opened.device);
    assert!(tap::open(&fresh, &pools, &counters).is_err(), "the name is taken");

    let adopted = tap::open(&TapConfig { adopted: true, ..fresh }, &pools, &counters).unwrap();
    assert_eq!((adopted.device.link(), adopted.queues.len()), (Link::Up, 2));
    pod.run(&["ip", "addr", "show", "to", "10.79.0.1"]);
    adopted.device.set_lasting(false).unwrap();
    drop(adopted.queues);
    drop(adopted.device);
    assert!(!pod_has(&pod, "eth0"));
}

fn pod_has(pod: &Namespace, name: &str) -> bool {
    let output = std::process::Command::new("ip").args(["-n", &pod.0, "-br", "link"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains(name)
}
