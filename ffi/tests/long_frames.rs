//! AF_XDP ports whose frames take several chunks. Needs root, and Linux 6.6.
//!
//! ```text
//!  pod a: eth0 ══ veth a ── port ── wire ── port ── veth b ══ eth0 :pod b
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod pods;

use millrace_fastpath::port::{Burst, Claim, DropReason, Frame, PortCounters};
use millrace_ffi::device::Opened;
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::xdp::{self, Arena, ArenaConfig, Steering, XdpConfig, XdpError, XdpMode};
use pods::{Namespace, Wire, alone, assert_all_back, eal, tcp, turn, unique, veth};
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that the kernel puts into a chunk, and that are sent in one.
const RECEIVED: usize = 1792;
const SENT: usize = 1920;

fn arena(chunks: u32) -> Arena {
    Arena::try_new(eal(), &ArenaConfig { name: unique("arena"), chunks, huge_pages: false }).unwrap()
}

/// Gives both ends of a veth an MTU.
fn widen(node: &Namespace, host: &str, pod: &Namespace, mtu: &str) {
    node.run(&["ip", "link", "set", host, "mtu", mtu]);
    pod.run(&["ip", "link", "set", "eth0", "mtu", mtu]);
}

/// A node with a veth to a pod of this MTU.
fn pair(address: &str, mtu: &str) -> (Namespace, Namespace) {
    let (node, pod) = (Namespace::new("node"), Namespace::new("pod"));
    veth(&node, "va", &pod, address);
    widen(&node, "va", &pod, mtu);
    (node, pod)
}

fn long_frames_cross(mode: XdpMode) {
    let _alone = alone();
    let (node, a, b) = (Namespace::new("node"), Namespace::new("a"), Namespace::new("b"));
    for (host, pod, number) in [("va", &a, 1), ("vb", &b, 2)] {
        veth(&node, host, pod, &format!("10.77.0.{number}/24"));
        pod.run(&["ip", "addr", "add", &format!("fd77::{number}/64"), "dev", "eth0", "nodad"]);
        widen(&node, host, pod, "9000");
    }
    let arena = arena(8192);
    let counters = Arc::new(PortCounters::default());
    let open = |name: &str| {
        let config = XdpConfig { mode, fill: 512, tx: 512, ..XdpConfig::pod(name) };
        node.within(|| xdp::open(&config, &arena, &counters).unwrap())
    };
    let wire = Wire::between(open("va"), open("vb"));
    for (to, largest) in [("10.77.0.2", 8972), ("fd77::2", 8952)] {
        for size in [56, 1732, 1750, 1751, 3542, 3543, 8900, largest] {
            a.run(&["ping", "-c1", "-W2", "-Mdo", "-s", &size.to_string(), to]);
        }
    }
    for [first, second] in [["10.77.0.1", "10.77.0.2"], ["fd77::1", "fd77::2"]] {
        let there = tcp(&b, &a, second.parse().unwrap(), 32 << 20);
        let back = tcp(&a, &b, first.parse().unwrap(), 32 << 20);
        println!("{mode:?} {first}: {there:.2} Gbit/s, back {back:.2}");
    }
    assert_eq!(wire.cut().0, 9014);
    assert_all_back(arena.pool());
}

#[test]
fn long_frames_cross_two_ports_in_native_mode() {
    long_frames_cross(XdpMode::Native);
}

#[test]
fn long_frames_cross_two_ports_in_generic_mode() {
    long_frames_cross(XdpMode::Generic);
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at * 31 + at / 251) as u8).collect()
}

/// Waits for one frame.
fn receive(opened: &mut Opened) -> Mbuf {
    let until = Instant::now() + Duration::from_secs(2);
    loop {
        let mut burst = Burst::new();
        opened.queues[0].rx_burst(&mut burst);
        match burst.pop() {
            Some(frame) => return frame,
            None => assert!(Instant::now() < until, "nothing arrives"),
        }
    }
}

/// Has the pod send a datagram of so many bytes and gives the frame that the port receives.
fn sent_by(pod: &UdpSocket, opened: &mut Opened, length: usize) -> Mbuf {
    pod.send_to(&content(length), "10.78.0.9:9").unwrap();
    // By IPv6 a kernel says of itself who it is.
    let is_ours = |frame: &Mbuf| frame.head()[12..14] == [0x08, 0x00];
    let frame = std::iter::repeat_with(|| receive(opened)).find(is_ours).unwrap();
    assert_eq!(frame.to_vec()[42..], content(length), "{length}");
    frame
}

#[test]
fn a_received_frame_has_a_segment_for_each_chunk_and_goes_out_without_a_copy() {
    let _alone = alone();
    let (node, pod) = pair("10.78.0.1/24", "9000");
    pod.run(&["ip", "neigh", "add", "10.78.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0"]);
    let (arena, counters) = (arena(1024), Arc::new(PortCounters::default()));
    let mut opened = node.within(|| xdp::open(&XdpConfig::pod("va"), &arena, &counters).unwrap());
    let socket = pod.within(|| UdpSocket::bind("10.78.0.1:7000").unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    for chunks in 1..=5 {
        for more in [-1, 0, 1] {
            let length = (chunks * RECEIVED - 42).wrapping_add_signed(more);
            let frame = sent_by(&socket, &mut opened, length);
            assert_eq!(frame.segment_count(), chunks + usize::from(more > 0), "{length}");
            // Back to its sender, with its own chunks: no others are taken from the arena.
            let ready = arena.pool().in_use() - frame.segment_count();
            let mut frame = frame;
            turn(&mut frame);
            let mut burst = Burst::from_iter([frame]);
            assert_eq!(opened.queues[0].tx_burst(&mut burst), 1);
            assert!(arena.pool().in_use() <= ready + chunks + 1);
            opened.queues[0].flush();
            let mut buffer = vec![0; 10_000];
            assert_eq!(socket.recv(&mut buffer).unwrap(), length);
            assert_eq!(buffer[..length], content(length));
        }
    }
    assert_eq!(counters.totals().tx_frames, 15);
    drop((opened.queues, opened.device));
    assert_all_back(arena.pool());
}

/// A frame of an unassigned type to everybody, in segments of `cut` bytes from `pool`.
fn broadcast(pool: &Mempool, length: usize, cut: usize) -> Mbuf {
    let header = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 9], &[0x88, 0xb5]].concat();
    let bytes: Vec<u8> = header.into_iter().chain(content(length - 14)).collect();
    let mut pieces = bytes.chunks(cut).map(|piece| pool.alloc_with(piece).unwrap());
    let mut frame = pieces.next().unwrap();
    pieces.for_each(|piece| frame.chain(piece).unwrap());
    frame
}

/// Two ports on the two ends of a veth.
fn back_to_back(node: &Namespace, mtu: &str, arena: &Arena, tx: u32) -> ([Opened; 2], Arc<PortCounters>) {
    let link = ["ip", "link", "add", "va", "mtu", mtu, "type", "veth", "peer", "name", "vb", "mtu", mtu];
    node.run(&link);
    for name in ["va", "vb"] {
        node.run(&["ip", "link", "set", name, "up"]);
        node.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
    }
    let counters = Arc::new(PortCounters::default());
    let open = |name: &str| {
        let config = XdpConfig { fill: 256, tx, ..XdpConfig::pod(name) };
        node.within(|| xdp::open(&config, arena, &counters).unwrap())
    };
    let mut ports = [open("va"), open("vb")];
    thread::sleep(Duration::from_millis(100));
    // What the kernel had to say when the link came up.
    ports.iter_mut().for_each(|port| {
        port.queues[0].rx_burst(&mut Burst::new());
    });
    (ports, counters)
}

#[test]
fn frames_of_any_pool_length_and_cut_arrive_as_they_are() {
    let _alone = alone();
    let node = Namespace::new("node");
    let arena = arena(2048);
    let foreign = Mempool::try_new(eal(), &MempoolConfig::new(unique("foreign"), 1023)).unwrap();
    let ([mut from, mut to], counters) = back_to_back(&node, "30446", &arena, 128);
    for length in [60, SENT - 1, SENT, SENT + 1, 2 * SENT, 2 * SENT + 1, 9014, 9018, 17 * RECEIVED] {
        for pool in [arena.pool(), &foreign] {
            for cut in [100, 1000, RECEIVED, SENT] {
                let frame = broadcast(pool, length, cut);
                let bytes = frame.to_vec();
                let mut burst = Burst::from_iter([frame]);
                assert_eq!(from.queues[0].tx_burst(&mut burst), 1, "{length} cut at {cut}");
                from.queues[0].flush();
                let arrived = receive(&mut to);
                assert_eq!(arrived.to_vec(), bytes, "{length} cut at {cut}");
                assert_eq!(arrived.segment_count(), length.div_ceil(RECEIVED));
            }
        }
    }
    let totals = counters.totals();
    assert_eq!((totals.tx_frames, totals.rx_frames), (72, 72));
    // One byte more than the most descriptors hold.
    let mut burst = Burst::from_iter([broadcast(&foreign, 17 * SENT + 1, SENT)]);
    assert_eq!(from.queues[0].tx_burst(&mut burst), 1);
    assert_eq!(counters.drops(DropReason::TooBig), 1);
    assert_eq!(counters.totals().tx_frames, 72);
    for port in [from, to] {
        drop((port.queues, port.device));
    }
    assert_eq!(foreign.in_use(), 0);
    assert_all_back(arena.pool());
}

#[test]
fn long_and_short_frames_keep_their_order_through_a_ring_that_is_full() {
    let _alone = alone();
    let node = Namespace::new("node");
    let arena = arena(2048);
    // Room for two frames of the longest kind at most.
    let ([mut from, mut to], counters) = back_to_back(&node, "9000", &arena, 16);
    let lengths: Vec<usize> =
        (0..400).map(|at| [60, 9014, 1500, 2000, 9014, 4000, 60][at % 7] + at % 5).collect();
    let mut waiting = lengths.iter().map(|&length| broadcast(arena.pool(), length.min(9014), SENT));
    let mut arrived = Vec::new();
    let mut burst = Burst::new();
    let until = Instant::now() + Duration::from_secs(10);
    while arrived.len() < lengths.len() && Instant::now() < until {
        while burst.len() < 10 {
            let Some(frame) = waiting.next() else { break };
            burst.push(frame);
        }
        from.queues[0].tx_burst(&mut burst);
        from.queues[0].flush();
        let mut taken = Burst::new();
        to.queues[0].rx_burst(&mut taken);
        to.queues[0].flush();
        arrived.extend(taken.iter().map(Frame::total_len));
    }
    assert_eq!(arrived, lengths.iter().map(|&length| length.min(9014)).collect::<Vec<_>>());
    assert_eq!(DropReason::ALL.iter().map(|reason| counters.drops(*reason)).sum::<u64>(), 0);
    for port in [from, to] {
        drop((port.queues, port.device));
    }
    assert_all_back(arena.pool());
}

#[test]
fn a_port_that_runs_out_of_chunks_loses_whole_frames_only() {
    let _alone = alone();
    let node = Namespace::new("node");
    let (arena, foreign) =
        (arena(700), Mempool::try_new(eal(), &MempoolConfig::new(unique("foreign"), 1023)).unwrap());
    let ([mut from, mut to], counters) = back_to_back(&node, "9000", &arena, 128);
    let mut held = Vec::new();
    for _ in 0..100 {
        let mut burst = Burst::from_iter([broadcast(&foreign, 9014, SENT)]);
        from.queues[0].tx_burst(&mut burst);
        from.queues[0].flush();
        let mut taken = Burst::new();
        to.queues[0].rx_burst(&mut taken);
        held.extend(taken);
    }
    to.device.link();
    assert!(counters.drops(DropReason::NoBuffer) > 0);
    assert_eq!(counters.drops(DropReason::RxMalformed), 0);
    assert!(held.len() > 10);
    assert!(held.iter().all(|frame| frame.total_len() == 9014 && frame.to_vec()[14..] == content(9000)));
    drop(held);
    let mut burst = Burst::from_iter([broadcast(&foreign, 9014, SENT)]);
    for _ in 0..3 {
        to.queues[0].rx_burst(&mut Burst::new());
    }
    from.queues[0].tx_burst(&mut burst);
    from.queues[0].flush();
    assert_eq!(receive(&mut to).total_len(), 9014);
    for port in [from, to] {
        drop((port.queues, port.device));
    }
    assert_all_back(arena.pool());
}

/// An uplink with all of 10.78.0.0/16 claimed.
fn uplink(node: &Namespace, arena: &Arena) -> (Opened, Arc<Steering>) {
    let counters = Arc::new(PortCounters::default());
    let opened = node.within(|| xdp::open_steered(&XdpConfig::uplink("va", 1), arena, &counters).unwrap());
    opened.1.claim(&Claim::Destination("10.78.0.0/16".parse().unwrap())).unwrap();
    opened
}

#[test]
fn an_uplink_takes_what_its_mtu_allows_and_follows_it() {
    let _alone = alone();
    let (node, pod) = pair("10.78.0.1/24", "9000");
    pod.run(&["ip", "neigh", "add", "10.78.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0"]);
    let arena = arena(2048);
    let (mut opened, _) = uplink(&node, &arena);
    assert!(opened.device.follow_mtu(4000).unwrap());
    let socket = pod.within(|| UdpSocket::bind("10.78.0.1:7000").unwrap());
    let taken = |opened: &mut Opened, length: usize| {
        socket.send_to(&content(length), "10.78.0.9:9").unwrap();
        thread::sleep(Duration::from_millis(30));
        let mut burst = Burst::new();
        opened.queues[0].rx_burst(&mut burst);
        burst.iter().filter(|frame| frame.total_len() == length + 42).count()
    };
    // An MTU of 4000 and a VLAN tag: 4018 bytes.
    assert_eq!([100, 3976, 3977, 8900].map(|length| taken(&mut opened, length)), [1, 1, 0, 0]);
    assert!(opened.device.follow_mtu(9000).unwrap());
    assert_eq!([100, 3976, 3977, 8900].map(|length| taken(&mut opened, length)), [1, 1, 1, 1]);
    assert!(opened.device.follow_mtu(1500).unwrap());
    assert_eq!([1750, 1751, 8900].map(|length| taken(&mut opened, length)), [1, 0, 0]);
    assert!(opened.device.details().contains(&("largest-mtu", "30446".to_owned())));
    drop((opened.queues, opened.device));
    assert_all_back(arena.pool());
}

#[test]
fn an_interface_without_fragments_is_opened_anew_for_a_larger_mtu() {
    let _alone = alone();
    let (node, _pod) = pair("10.78.0.1/24", "1500");
    node.run(&["ip", "link", "add", "link", "va", "name", "upper", "type", "macvlan", "mode", "bridge"]);
    let (arena, counters) = (arena(4096), Arc::new(PortCounters::default()));
    let open = || node.within(|| xdp::open(&XdpConfig::uplink("upper", 1), &arena, &counters).unwrap());
    let opened = open();
    assert!(opened.device.follow_mtu(1774).unwrap());
    assert!(!opened.device.follow_mtu(1775).unwrap());
    drop((opened.queues, opened.device));
    node.run(&["ip", "link", "set", "va", "mtu", "9000"]);
    node.run(&["ip", "link", "set", "upper", "mtu", "9000"]);
    let opened = open();
    assert!(opened.device.follow_mtu(9000).unwrap());
    drop((opened.queues, opened.device));
    assert_all_back(arena.pool());
}

#[test]
fn an_mtu_that_is_too_large_is_named() {
    let _alone = alone();
    let (node, _pod) = pair("10.78.0.1/24", "30447");
    let (arena, counters) = (arena(1024), Arc::new(PortCounters::default()));
    let open = |config: &XdpConfig| node.within(|| xdp::open(config, &arena, &counters).err().unwrap());
    let error = open(&XdpConfig::pod("va"));
    assert!(matches!(error, XdpError::Mtu { mtu: 30_447, room: 30_446, long: true, .. }), "{error}");
    assert_eq!(error.to_string(), "af-xdp va: its MTU of 30447 bytes is too large: 30446 at most");
    // A ring of 8 slots holds 8 chunks.
    let error = open(&XdpConfig { fill: 8, ..XdpConfig::pod("va") });
    assert!(matches!(error, XdpError::Mtu { room: 14_318, .. }), "{error}");
    assert_all_back(arena.pool());
}
