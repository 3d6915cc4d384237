//! Frames that are handed to the kernel by the batch. Needs root.
//!
//! ```text
//!  frames ── port ── nic ══ far ── what came of them
//! ```
//!
//! What goes by AF_XDP's ring passes the egress of the interface by, and a batch does not: a filter there tells which way frames went.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod packets;
mod pods;

use millrace_fastpath::port::{Burst, Claim, ClaimChanges, DropReason, Frame, Offload, PortCounters};
use millrace_ffi::batch::Batches;
use millrace_ffi::device::Opened;
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::Mempool;
use millrace_ffi::shortcut::Shortcuts;
use millrace_ffi::tap::{self, LeadConfig, TapConfig, TapPools};
use millrace_ffi::veth::{self, VethConfig};
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig};
use packets::{Packet, assert_same, payload};
use pods::{Namespace, alone, assert_all_back, configure, eal, packet_socket, unique};
use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// As many as a burst has.
const MANY: usize = 64;
/// Not worth a batch.
const FEW: usize = 7;

/// `ETH_P_ALL`.
const EVERYTHING: u16 = 3;

fn batches() -> Arc<Batches> {
    Arc::new(Batches::new(1))
}

/// A port, and what is at the other end of its wire.
struct Link {
    node: Namespace,
    far: Namespace,
    heard: File,
    arena: Arena,
    pools: TapPools,
    counters: Arc<PortCounters>,
    port: Opened,
}

impl Link {
    /// An AF_XDP port of this kind, whose interface is `nic`.
    fn of(config: XdpConfig) -> Link {
        Link::with(|arena, _, counters| {
            let config = XdpConfig { batches: Some(batches()), ..config };
            xdp::open(&config, arena, counters).unwrap()
        })
    }

    fn veth() -> Link {
        Link::with(|_, pools, counters| {
            let config = VethConfig { interface: "nic".to_owned(), queues: 1 };
            let shortcuts = Arc::new(Shortcuts::new(Duration::from_secs(60)));
            veth::open(&config, pools, counters, &shortcuts, &batches()).unwrap()
        })
    }

    fn with(open: impl FnOnce(&Arena, &TapPools, &Arc<PortCounters>) -> Opened + Send) -> Link {
        let (node, far) = (Namespace::new("node"), Namespace::new("far"));
        let (queues, peer) = (["numtxqueues", "2", "numrxqueues", "2"], ["peer", "name", "far"]);
        let far_end = [&peer, &queues[..], &["netns", &far.0]].concat();
        node.run(&[&["ip", "link", "add", "nic"], &queues[..], &["type", "veth"], &far_end].concat());
        for (namespace, name) in [(&node, "nic"), (&far, "far")] {
            namespace.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
            namespace.run(&["ip", "link", "set", name, "mtu", "2100", "up"]);
        }
        let config = ArenaConfig { name: unique("arena"), chunks: 8192, huge_pages: false };
        let arena = Arena::try_new(eal(), &config).unwrap();
        let pools = TapPools::try_new(eal(), &unique("pool"), arena.pool().clone(), 64).unwrap();
        let counters = Arc::new(PortCounters::default());
        let port = node.within(|| open(&arena, &pools, &counters));
        let heard = packet_socket(&far, "far", EVERYTHING);
        Link { node, far, heard, arena, pools, counters, port }
    }

    /// Sends from a thread of the node's namespace.
    fn send(&mut self, frames: Vec<Mbuf>) {
        let Link { node, port, .. } = self;
        node.within(|| {
            let registered = eal().register_thread().unwrap();
            send(port, frames);
            drop(registered);
        });
    }

    /// Frames that have arrived.
    fn arrived(&mut self, count: usize) -> Vec<Vec<u8>> {
        let (mut frames, mut buffer) = (Vec::new(), vec![0; 4096]);
        let until = Instant::now() + Duration::from_secs(2);
        let mut quiet = Instant::now() + Duration::from_millis(100);
        while Instant::now() < until && (frames.len() < count || Instant::now() < quiet) {
            let Ok(len) = self.heard.read(&mut buffer) else { continue };
            // Behind the virtio-net header.
            frames.push(buffer[10..len].to_vec());
            quiet = Instant::now() + Duration::from_millis(20);
        }
        frames
    }

    /// Has the egress of the interface drop what it sees.
    fn close_egress(&self) {
        let chain = "{ type filter hook egress device nic priority 0; policy drop; }";
        self.node.run(&["nft", "add", "table", "netdev", "closed"]);
        self.node.run(&["nft", "add", "chain", "netdev", "closed", "way-out", chain]);
    }

    fn open_egress(&self) {
        self.node.run(&["nft", "delete", "table", "netdev", "closed"]);
    }

    /// Whether frames go past the egress of the interface, as by the ring.
    fn goes_by_ring(&mut self, frames: Vec<Mbuf>) -> bool {
        self.close_egress();
        let wanted = frames.len();
        self.send(frames);
        let arrived = self.arrived(wanted).len();
        self.open_egress();
        assert!(arrived == 0 || arrived == wanted, "{arrived} of {wanted}");
        arrived > 0
    }

    /// Gives the interface a queueing discipline that lets some packets go at once, and the rest in the course of 50 ms.
    fn slow_down(&self) {
        let slow = ["tbf", "rate", "8mbit", "burst", "4k", "latency", "1s"];
        self.node.run(&[&["tc", "qdisc", "add", "dev", "nic", "root"], &slow[..]].concat());
    }

    /// Sends many frames and then a few, which do not overtake them.
    fn many_and_few_arrive_in_order(&mut self) {
        let mut frames = self.datagrams(MANY + FEW);
        let wanted: Vec<Vec<u8>> = frames.iter().map(Mbuf::to_vec).collect();
        let few = frames.split_off(MANY);
        self.send(frames);
        self.send(few);
        assert_same(&self.arrived(wanted.len()), &wanted, self.port.device.kind());
    }

    fn sent(&self) -> (u64, u64) {
        let totals = self.counters.totals();
        (totals.tx_frames, totals.tx_bytes)
    }

    fn datagrams(&self, count: usize) -> Vec<Mbuf> {
        (100..100 + count).map(|number| finished(self.arena.pool(), Packet::Udp4, number)).collect()
    }

    fn close(self) {
        let Link { arena, port, .. } = self;
        drop((port.queues, port.device));
        assert_all_back(arena.pool());
    }
}

fn send(port: &mut Opened, frames: Vec<Mbuf>) {
    let mut burst: Burst<Mbuf> = frames.into_iter().collect();
    let offered = burst.len();
    assert_eq!(port.queues[0].tx_burst(&mut burst), offered);
    port.queues[0].flush();
}

/// A frame whose payload begins with its number. Two have as many bytes as one of a batch at most, and one more.
fn marked(packet: Packet, number: usize) -> Vec<u8> {
    let headers = packet.bytes(&[]).len();
    let mut bytes = payload(match number {
        7 => 2_048 - headers,
        30 => 2_049 - headers,
        _ => 20 + number * 13 % 700,
    });
    bytes[..4].copy_from_slice(&(number as u32).to_be_bytes());
    packet.bytes(&bytes)
}

/// The number of a UDP datagram over IPv4.
fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[42..46].try_into().unwrap())
}

fn finished(pool: &Mempool, packet: Packet, number: usize) -> Mbuf {
    let mut frame = pool.alloc_with(&marked(packet, number)).unwrap();
    frame.set_offload(Offload { checksum: packet.partial(), gso: None, outer: 0 });
    assert!(frame.complete_checksum());
    frame
}

/// Of both families and none, by rows that are worth a batch and rows that are not.
fn mixed(pool: &Mempool) -> Vec<Mbuf> {
    let arp = [&[0xff; 6][..], &[2, 0, 0, 0, 0, 1], &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1], &[0; 20]].concat();
    let frame = |number: usize| match number {
        0..20 => finished(pool, Packet::Udp4, number),
        20..23 => pool.alloc_with(&arp).unwrap(),
        23..45 => finished(pool, Packet::Udp6, number),
        45..52 => finished(pool, Packet::Udp4, number),
        _ => finished(pool, Packet::Udp6, number),
    };
    (0..MANY).map(frame).collect()
}

fn kinds() -> [Link; 3] {
    [Link::of(XdpConfig::pod("nic")), Link::of(XdpConfig::uplink("nic", 2)), Link::veth()]
}

#[test]
fn frames_arrive_whole_and_in_order_and_are_counted() {
    let _alone = alone();
    for mut link in kinds() {
        let frames = mixed(link.arena.pool());
        let wanted: Vec<Vec<u8>> = frames.iter().map(Mbuf::to_vec).collect();
        link.send(frames);
        let arrived = link.arrived(wanted.len());
        assert_same(&arrived, &wanted, link.port.device.kind());
        let bytes: usize = wanted.iter().map(Vec::len).sum();
        assert_eq!(link.sent(), (MANY as u64, bytes as u64));
        link.close();
    }
}

#[test]
fn many_go_by_one_call_and_few_by_the_ring() {
    let _alone = alone();
    for config in [XdpConfig::pod("nic"), XdpConfig::uplink("nic", 2)] {
        let mut link = Link::of(config);
        let [few, many] = [FEW, MANY].map(|count| link.datagrams(count));
        assert!(link.goes_by_ring(few));
        assert!(!link.goes_by_ring(many));
        link.close();
    }
}

#[test]
fn what_is_not_sent_is_counted() {
    let _alone = alone();
    for mut link in kinds() {
        let many = link.datagrams(MANY);
        link.close_egress();
        link.send(many);
        assert_eq!(link.counters.drops(DropReason::TxQueueFull), MANY as u64);
        link.open_egress();
        let many = link.datagrams(MANY);
        link.node.run(&["ip", "link", "set", "nic", "down"]);
        link.send(many);
        // One that may have a queueing discipline says the same for both.
        let dropped =
            [DropReason::TxQueueFull, DropReason::LinkDown].map(|reason| link.counters.drops(reason));
        let may_queue = link.port.device.kind() == "veth";
        assert_eq!(dropped, if may_queue { [2 * MANY as u64, 0] } else { [MANY as u64; 2] });
        assert_eq!(link.sent(), (0, 0));
        assert!(link.arrived(0).is_empty());
        link.close();
    }
}

#[test]
fn what_a_queueing_discipline_holds_back_is_not_overtaken() {
    let _alone = alone();
    let mut link = Link::of(XdpConfig::uplink("nic", 2));
    link.slow_down();
    link.port.device.link();
    link.many_and_few_arrive_in_order();
    let many = link.datagrams(MANY);
    assert!(link.goes_by_ring(many));
    link.node.run(&["tc", "qdisc", "del", "dev", "nic", "root"]);
    link.port.device.link();
    let many = link.datagrams(MANY);
    assert!(!link.goes_by_ring(many));
    link.close();
}

#[test]
fn a_thread_elsewhere_does_not_send_by_an_interface_of_that_number_there() {
    let _alone = alone();
    let mut link = Link::of(XdpConfig::pod("nic"));
    link.close_egress();
    let many = link.datagrams(MANY);
    let port = &mut link.port;
    // This thread is not in the node's namespace; the ring knows where it leads.
    send(port, many);
    assert_eq!(link.arrived(MANY).len(), MANY);
    link.close();
}

#[test]
fn unfinished_frames_of_a_connection_keep_their_place_on_the_way_to_a_pod() {
    let _alone = alone();
    let mut link = Link::veth();
    let frames: Vec<Mbuf> = (0..MANY)
        .map(|number| {
            let mut frame = finished(link.arena.pool(), Packet::Udp4, number);
            if (20..25).contains(&number) {
                frame.set_offload(Offload { checksum: Packet::Udp4.partial(), gso: None, outer: 0 });
            }
            frame
        })
        .collect();
    link.send(frames);
    let numbers: Vec<u32> = link.arrived(MANY).iter().map(|frame| number_of(frame)).collect();
    assert_eq!(numbers, (0..MANY as u32).collect::<Vec<_>>());
    link.close();
}

#[test]
fn what_leads_the_host_to_its_frontends_leaves_batches_alone() {
    let _alone = alone();
    let mut link = Link::of(XdpConfig::uplink("nic", 2));
    configure(&link.node, "nic", "192.0.2.1/24");
    let lead = LeadConfig { router: "02:00:00:00:00:99".parse().unwrap(), ways_out: vec!["nic".to_owned()] };
    let config = TapConfig { lead: Some(lead), ..TapConfig::here("leg", 1) };
    let counters = Arc::new(PortCounters::default());
    let frames = link.datagrams(MANY);
    // Where the packets go to is a frontend of the host's, too.
    let head = frames[0].head().to_vec();
    let (to, port) = ([head[30], head[31], head[32], head[33]], u16::from_be_bytes([head[36], head[37]]));
    let frontend = Claim::Frontend { address: to.into(), protocol: libc::IPPROTO_UDP as u8, port };
    let changes = ClaimChanges { claimed: vec![frontend], released: Vec::new() };
    let mut leg = link.node.within(|| {
        let leg = tap::open(&config, &link.pools, &counters).unwrap();
        leg.device.steer(&changes).unwrap();
        leg
    });
    link.node.run(&["ip", "link", "set", "leg", "up"]);
    link.send(frames);
    assert_eq!(link.arrived(MANY).len(), MANY);
    let host = format!("{}.{}.{}.{}", to[0], to[1], to[2], to[3]);
    link.node.run(&["ip", "route", "add", &host, "dev", "nic"]);
    link.node.run(&["ip", "neigh", "add", &host, "lladdr", "02:00:00:00:00:02", "dev", "nic"]);
    link.node.within(|| {
        UdpSocket::bind("192.0.2.1:0").unwrap().send_to(b"host", (host.as_str(), port)).unwrap();
    });
    assert!(link.arrived(0).is_empty(), "the host's own is led away");
    let mut led = Burst::new();
    let until = Instant::now() + Duration::from_secs(2);
    while led.is_empty() && Instant::now() < until {
        leg.queues[0].rx_burst(&mut led);
        thread::yield_now();
    }
    assert!(led.iter().any(|frame| frame.to_vec().ends_with(b"host")));
    drop(led);
    drop((leg.queues, leg.device));
    link.close();
}

#[test]
fn a_checksum_that_is_left_open_is_made() {
    let _alone = alone();
    let mut link = Link::of(XdpConfig::pod("nic"));
    let numbers = 100..100 + MANY;
    let wanted: Vec<Vec<u8>> = link.datagrams(MANY).iter().map(Mbuf::to_vec).collect();
    let unfinished = |number| {
        let mut frame = link.arena.pool().alloc_with(&marked(Packet::Udp4, number)).unwrap();
        frame.set_offload(Offload { checksum: Packet::Udp4.partial(), gso: None, outer: 0 });
        frame
    };
    let frames = numbers.map(unfinished).collect();
    link.send(frames);
    assert_same(&link.arrived(MANY), &wanted, "with checksums");
    link.close();
}

#[test]
fn a_connection_keeps_its_queue_however_many_frames_go_together() {
    let _alone = alone();
    let mut link = Link::of(XdpConfig::uplink("nic", 2));
    // Each queue of the far end has a NAPI of its own then, for what nobody has put together.
    link.node.run(&["ethtool", "-K", "nic", "tso", "off", "gso", "off"]);
    link.far.run(&["ethtool", "-K", "far", "gro", "on"]);
    let mut next = 100;
    for count in [FEW, MANY, 1, 20].repeat(10) {
        let numbers = next..next + count;
        next += count;
        let frames =
            numbers.clone().map(|number| finished(link.arena.pool(), Packet::Udp4, number)).collect();
        link.send(frames);
        let arrived: Vec<u32> = link.arrived(count).iter().map(|frame| number_of(frame)).collect();
        assert_eq!(arrived, numbers.map(|number| number as u32).collect::<Vec<_>>());
    }
    let received = |link: &Link, queue: u32| {
        let shown = link.far.run(&["ethtool", "-S", "far"]);
        let name = format!("rx_queue_{queue}_xdp_packets: ");
        let count = shown.lines().find_map(|line| line.trim().strip_prefix(&name)).unwrap();
        count.parse::<usize>().unwrap()
    };
    // All went by the first queue of the port, and so by the first of the interface's; the other one's go by the other.
    assert_eq!(received(&link, 1), 0);
    let before = received(&link, 0);
    let many = link.datagrams(MANY);
    link.port.queues.swap(0, 1);
    link.send(many);
    assert_eq!((received(&link, 0), received(&link, 1)), (before, MANY));
    link.close();
}

#[test]
fn large_frames_are_cut_one_after_the_other() {
    let _alone = alone();
    let mut link = Link::of(XdpConfig { fill: 64, ..XdpConfig::pod("nic") });
    let pool = link.arena.pool().clone();
    let large = (0..32).map(|_| {
        let mut frame = packets::chained(&pool, &Packet::Tcp4.bytes(&payload(40_000)), 300, 1_999);
        frame.set_offload(packets::state(Packet::Tcp4, 0, true));
        frame
    });
    let mut burst: Burst<Mbuf> = large.collect();
    let before = pool.in_use();
    let (node, port) = (&link.node, &mut link.port);
    let most = node.within(|| {
        let registered = eal().register_thread().unwrap();
        port.queues[0].tx_burst(&mut burst);
        drop(registered);
        pool.in_use()
    });
    // Never more than the pieces of one, beside what the ring holds.
    assert!(most < before + 256, "{most} chunks, {before} before");
    drop(burst);
    link.close();
}

#[test]
fn what_follows_an_interface_that_is_gone_is_counted() {
    let _alone = alone();
    for mut link in kinds() {
        link.node.run(&["ip", "link", "del", "nic"]);
        let many = link.datagrams(MANY);
        link.send(many);
        assert_eq!(link.counters.drops(DropReason::LinkDown), MANY as u64);
        link.close();
    }
}

#[test]
fn a_discipline_of_a_pods_veth_has_all_in_its_order() {
    let _alone = alone();
    let mut link = Link::veth();
    link.slow_down();
    link.many_and_few_arrive_in_order();
    link.close();
}

#[test]
fn workers_send_at_the_same_time() {
    let _alone = alone();
    let batches = Arc::new(Batches::new(2));
    let links = [(), ()].map(|()| {
        Link::with(|arena, _, counters| {
            let config = XdpConfig { batches: Some(batches.clone()), ..XdpConfig::pod("nic") };
            xdp::open(&config, arena, counters).unwrap()
        })
    });
    let send_and_compare = |mut link: Link, packet| {
        for _ in 0..50 {
            let pool = link.arena.pool();
            let frames: Vec<Mbuf> = (0..40).map(|number| finished(pool, packet, number)).collect();
            let wanted: Vec<Vec<u8>> = frames.iter().map(Mbuf::to_vec).collect();
            link.send(frames);
            assert_same(&link.arrived(wanted.len()), &wanted, "one of two");
        }
        link.close();
    };
    let [one, other] = links;
    thread::scope(|scope| {
        scope.spawn(|| send_and_compare(one, Packet::Udp4));
        scope.spawn(|| send_and_compare(other, Packet::Udp6));
    });
}
