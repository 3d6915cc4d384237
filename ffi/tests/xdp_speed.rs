//! How many frames a second AF_XDP ports on the two ends of a veth carry. Needs root, and a quiet machine:
//! `cargo test -p millrace-ffi --test xdp_speed -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod pods;

use millrace_fastpath::port::{BURST, Burst, Frame, PortCounters};
use millrace_ffi::device::Opened;
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig};
use pods::{Namespace, alone, eal, unique};
use std::sync::Arc;
use std::time::{Duration, Instant};

const SPAN: Duration = Duration::from_millis(1500);

/// Moves full bursts of frames of so many bytes from one port to the other, whose frames go back to the pool; Mpps.
fn speed([from, to]: &mut [Opened; 2], arena: &Arena, bytes: usize) -> f64 {
    let content = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5], &vec![7; bytes - 14]].concat();
    let (began, mut received) = (Instant::now(), 0);
    let mut taken: Burst<Mbuf> = Burst::new();
    while began.elapsed() < SPAN {
        let mut burst: Burst<Mbuf> = (0..BURST).filter_map(|_| arena.pool().alloc_with(&content)).collect();
        while !burst.is_empty() {
            from.queues[0].tx_burst(&mut burst);
            from.queues[0].flush();
            to.queues[0].rx_burst(&mut taken);
            assert!(taken.iter().all(|frame| frame.total_len() == bytes));
            received += taken.len();
            Mbuf::free_bulk(&mut taken);
            to.queues[0].flush();
        }
    }
    received as f64 / began.elapsed().as_secs_f64() / 1e6
}

#[test]
#[ignore = "measures"]
fn frames_a_second() {
    let _alone = alone();
    let node = Namespace::new("node");
    node.run(&["ip", "link", "add", "va", "type", "veth", "peer", "name", "vb"]);
    for name in ["va", "vb"] {
        node.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
        node.run(&["ip", "link", "set", name, "up"]);
    }
    let config = ArenaConfig { name: unique("arena"), chunks: 8192, huge_pages: false };
    let arena = Arena::try_new(eal(), &config).unwrap();
    let counters = Arc::new(PortCounters::default());
    let open = |name: &str| {
        let config = XdpConfig { fill: 1024, tx: 128, ..XdpConfig::pod(name) };
        node.within(|| xdp::open(&config, &arena, &counters).unwrap())
    };
    let mut ports = [open("va"), open("vb")];
    std::thread::sleep(Duration::from_millis(100));
    ports.iter_mut().for_each(|port| {
        port.queues[0].rx_burst(&mut Burst::new());
    });
    for bytes in [60, 1514] {
        println!("{bytes} bytes: {:.4} Mpps", speed(&mut ports, &arena, bytes));
    }
    for port in ports {
        drop((port.queues, port.device));
    }
}
