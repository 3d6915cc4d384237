//! A NIC that is shared with the kernel, and what becomes of the kernel's traffic. Needs root.
//!
//! ```text
//!  peer: eth0 ══ nic :node ── kernel (10.78.0.2)
//!                     └────── socket (what is claimed)
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod pods;

use ipnet::IpNet;
use millrace_fastpath::port::{Burst, Claim, ClaimChanges, PortCounters};
use millrace_ffi::device::Opened;
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig, XdpError, XdpMode};
use pods::{Namespace, alone, assert_all_back, eal, turn, unique, veth};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOLDER: &str = "MILLRACE_TEST_UPLINK";

fn arena(chunks: u32) -> Arena {
    Arena::try_new(eal(), &ArenaConfig { name: unique("arena"), chunks, huge_pages: false }).unwrap()
}

/// A node with a NIC to a peer.
fn pair() -> (Namespace, Namespace) {
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    veth(&node, "nic", &peer, "10.78.0.1/24");
    node.run(&["ip", "addr", "add", "10.78.0.2/24", "dev", "nic"]);
    peer.run(&["ip", "route", "add", "10.99.0.0/16", "via", "10.78.0.2"]);
    (node, peer)
}

fn range() -> IpNet {
    "10.99.0.0/16".parse().unwrap()
}

fn pods_range() -> Claim {
    Claim::Destination(range())
}

fn claim(opened: &Opened, claim: Claim) {
    let changes = ClaimChanges { released: Vec::new(), claimed: vec![claim] };
    opened.device.steer(&changes).unwrap();
}

/// Not a test of its own: the process that `what_the_kernel_has_is_not_touched…` kills. It holds the uplink that the
/// environment names and throws away what it takes.
#[test]
#[ignore = "started by another test"]
fn holder() {
    let Ok(interface) = std::env::var(HOLDER) else { return };
    let (arena, counters) = (arena(4_096), Arc::new(PortCounters::default()));
    let mut opened = xdp::open(&XdpConfig::uplink(interface, 1), &arena, &counters).unwrap();
    claim(&opened, pods_range());
    println!("open");
    let is_asked_to_end = Arc::new(AtomicBool::new(false));
    let asked = is_asked_to_end.clone();
    thread::spawn(move || {
        let _closed = std::io::stdin().read_to_end(&mut Vec::new());
        asked.store(true, Ordering::Relaxed);
    });
    while !is_asked_to_end.load(Ordering::Relaxed) {
        let mut burst = Burst::new();
        opened.queues[0].rx_burst(&mut burst);
        opened.queues[0].flush();
        thread::sleep(Duration::from_micros(200));
    }
}

fn start_holder(node: &Namespace, interface: &str) -> Child {
    let program = std::env::current_exe().unwrap();
    let arguments = ["netns", "exec", &node.0, program.to_str().unwrap()];
    let mut child = Command::new("ip")
        .args(arguments)
        .args(["holder", "--exact", "--ignored", "--nocapture"])
        .env(HOLDER, interface)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line.contains("open")), "the holder did not start");
    child
}

/// Sends and echoes a counter over TCP until told to stop; gives how often, and the longest time for one.
fn session(node: &Namespace, peer: &Namespace, until: Instant) -> (u64, Duration) {
    let listener = node.within(|| TcpListener::bind("10.78.0.2:22").unwrap());
    thread::scope(|scope| {
        scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut buffer = [0; 8];
            while stream.read_exact(&mut buffer).is_ok() {
                stream.write_all(&buffer).unwrap();
            }
        });
        peer.within(|| {
            let mut stream = TcpStream::connect("10.78.0.2:22").unwrap();
            stream.set_nodelay(true).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
            let (mut count, mut longest) = (0_u64, Duration::ZERO);
            while Instant::now() < until {
                let began = Instant::now();
                stream.write_all(&count.to_be_bytes()).unwrap();
                let mut back = [0; 8];
                stream.read_exact(&mut back).unwrap();
                assert_eq!(u64::from_be_bytes(back), count);
                longest = longest.max(began.elapsed());
                count += 1;
            }
            (count, longest)
        })
    })
}

#[test]
fn what_the_kernel_has_is_not_touched_when_the_holder_comes_and_is_killed() {
    let _alone = alone();
    let (node, peer) = pair();
    // Without it, veth throws away what waits in its ring when XDP is taken off; a NIC has its own ring.
    node.run(&["ethtool", "-K", "nic", "gro", "on"]);
    let until = Instant::now() + Duration::from_secs(6);
    let (output, (exchanges, longest)) = thread::scope(|scope| {
        let ping = scope.spawn(|| {
            let flood = ["netns", "exec", &peer.0, "ping", "-f", "-q", "-w", "6", "10.78.0.2"];
            Command::new("ip").args(flood).output().unwrap()
        });
        let killer = scope.spawn(|| {
            let mut kills = 0;
            while Instant::now() + Duration::from_secs(1) < until {
                let mut holder = start_holder(&node, "nic");
                thread::sleep(Duration::from_millis(300));
                holder.kill().unwrap();
                holder.wait().unwrap();
                kills += 1;
                thread::sleep(Duration::from_millis(100));
            }
            kills
        });
        let session = session(&node, &peer, until);
        println!("killed {} times", killer.join().unwrap());
        (ping.join().unwrap(), session)
    });
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    println!("{report}{exchanges} exchanges, the longest {longest:?}");
    assert!(report.contains(" 0% packet loss"), "{report}");
    // A retransmission takes 200 ms.
    assert!(longest < Duration::from_millis(200), "{longest:?}");
}

#[test]
fn the_device_tells_what_it_is_and_takes_what_it_is_told() {
    let _alone = alone();
    let (node, peer) = pair();
    let (arena, counters) = (arena(2_048), Arc::new(PortCounters::default()));
    node.run(&["ip", "link", "set", "nic", "address", "02:00:00:00:00:42"]);
    let mut opened = node.within(|| xdp::open(&XdpConfig::uplink("nic", 1), &arena, &counters).unwrap());
    assert_eq!(opened.device.mac().unwrap().to_string(), "02:00:00:00:00:42");
    assert_eq!(opened.device.mtu(), Some(1500));
    node.run(&["ip", "link", "set", "nic", "mtu", "1400"]);
    assert_eq!(opened.device.mtu(), Some(1400));
    let sender = peer.within(|| UdpSocket::bind("10.78.0.1:0").unwrap());
    let mut taken = || {
        sender.send_to(b"millrace", "10.99.0.1:9").unwrap();
        thread::sleep(Duration::from_millis(50));
        let mut burst = Burst::new();
        opened.queues[0].rx_burst(&mut burst)
    };
    assert_eq!(taken(), 0);
    let changes = ClaimChanges { released: Vec::new(), claimed: vec![pods_range()] };
    opened.device.steer(&changes).unwrap();
    opened.device.steer(&changes).unwrap();
    assert_eq!(taken(), 1);
    let returned = ClaimChanges { released: vec![pods_range()], claimed: vec![Claim::Returned(range())] };
    opened.device.steer(&returned).unwrap();
    assert_eq!(taken(), 0);
    let back = ClaimChanges { released: returned.claimed, claimed: returned.released };
    opened.device.steer(&back).unwrap();
    assert_eq!(taken(), 1);
    let back = ClaimChanges { released: changes.claimed, claimed: Vec::new() };
    opened.device.steer(&back).unwrap();
    opened.device.steer(&back).unwrap();
    assert_eq!(taken(), 0);
    drop((opened.queues, opened.device));
    assert_all_back(arena.pool());
}

#[test]
fn every_queue_of_the_nic_has_a_socket_or_the_uplink_is_refused() {
    let _alone = alone();
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    let name = &peer.0;
    let two = ["numrxqueues", "2", "numtxqueues", "2"];
    let link = ["ip", "link", "add", "nic"];
    let rest = ["type", "veth", "peer", "name", "eth0"];
    node.run(&[&link[..], &two, &rest, &two, &["netns", name]].concat());
    node.run(&["ethtool", "-L", "nic", "rx", "2", "tx", "2"]);
    let (arena, counters) = (arena(4_096), Arc::new(PortCounters::default()));
    let open = |queues| node.within(|| xdp::open(&XdpConfig::uplink("nic", queues), &arena, &counters));
    let error = open(1).err().unwrap();
    assert!(matches!(error, XdpError::UplinkQueues { has: 2, queues: 1, .. }), "{error}");
    println!("{error}");
    assert!(matches!(open(3).err().unwrap(), XdpError::UplinkQueues { has: 2, queues: 3, .. }));
    let opened = open(2).unwrap();
    assert_eq!(opened.queues.len(), 2);
    drop((opened.queues, opened.device));
    assert_all_back(arena.pool());
}

/// Opens `interface` of the node, which is not to be in native mode, and has packets of the peer turned back by it, while
/// the kernel answers others.
fn turns_packets_in_generic_mode(node: &Namespace, peer: &Namespace, interface: &str) {
    let (arena, counters) = (arena(4_096), Arc::new(PortCounters::default()));
    let native = XdpConfig { mode: XdpMode::Native, ..XdpConfig::uplink(interface, 1) };
    node.within(|| println!("{}", xdp::open(&native, &arena, &counters).err().unwrap()));
    let mut opened = node.within(|| xdp::open(&XdpConfig::uplink(interface, 1), &arena, &counters).unwrap());
    assert!(opened.device.details().contains(&("xdp", "generic".to_owned())));
    claim(&opened, pods_range());
    peer.run(&["ping", "-c", "3", "-i", "0.1", "-W", "2", "10.78.0.2"]);
    let client = peer.within(|| UdpSocket::bind("10.78.0.1:7000").unwrap());
    client.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    for number in 0..100_u8 {
        client.send_to(&[number; 1_000], "10.99.0.1:9").unwrap();
        let until = Instant::now() + Duration::from_secs(1);
        let mut burst: Burst<Mbuf> = Burst::new();
        while opened.queues[0].rx_burst(&mut burst) == 0 && Instant::now() < until {
            thread::yield_now();
        }
        assert_eq!(burst.len(), 1, "packet {number}");
        turn(&mut burst[0]);
        opened.queues[0].tx_burst(&mut burst);
        opened.queues[0].flush();
        let mut buffer = [0; 1_500];
        assert_eq!(client.recv(&mut buffer).unwrap(), 1_000);
        assert!(buffer[..1_000].iter().all(|&byte| byte == number));
    }
    peer.run(&["ping", "-c", "3", "-i", "0.1", "-W", "2", "10.78.0.2"]);
    drop((opened.queues, opened.device));
    assert_all_back(arena.pool());
}

/// Whether the kernel can make interfaces of a kind; says so if not.
fn has_kind(kind: &str) -> bool {
    let namespace = Namespace::new("kind");
    let arguments = ["netns", "exec", &namespace.0, "ip", "link", "add", "name", "probe0", "type", kind];
    let output = Command::new("ip").args(arguments).output().unwrap();
    let is_there = output.status.success();
    if !is_there {
        println!("not tested: this kernel makes no {kind}");
    }
    is_there
}

#[test]
fn an_interface_on_top_of_another_gives_and_takes_in_generic_mode() {
    let _alone = alone();
    let (node, peer) = pair();
    node.run(&["ip", "addr", "del", "10.78.0.2/24", "dev", "nic"]);
    node.run(&["ip", "link", "add", "link", "nic", "name", "upper", "type", "macvlan", "mode", "bridge"]);
    node.run(&["ip", "addr", "add", "10.78.0.2/24", "dev", "upper"]);
    node.run(&["ip", "link", "set", "upper", "up"]);
    turns_packets_in_generic_mode(&node, &peer, "upper");
}

#[test]
fn what_is_below_an_uplink_merges_no_packets_while_it_is_open() {
    let _alone = alone();
    let (node, _peer) = pair();
    node.run(&["ethtool", "-K", "nic", "gro", "on"]);
    node.run(&["ip", "link", "add", "link", "nic", "name", "upper", "type", "macvlan", "mode", "bridge"]);
    node.run(&["ip", "link", "set", "upper", "up"]);
    let merges = || {
        let arguments = ["netns", "exec", &node.0, "ethtool", "-k", "nic"];
        let output = Command::new("ip").args(arguments).output().unwrap();
        String::from_utf8(output.stdout).unwrap().contains("generic-receive-offload: on")
    };
    assert!(merges());
    let mut holder = start_holder(&node, "upper");
    assert!(!merges());
    drop(holder.stdin.take());
    // Whether it can still write its result does not matter.
    holder.wait().unwrap();
    assert!(merges());
}

/// ```text
///  node: bond0 ─┬─ nic0 ══ port0 ─┬─ bridge :peer
///               └─ nic1 ══ port1 ─┘
/// ```
#[test]
fn a_bond_gives_and_takes_in_generic_mode() {
    let _alone = alone();
    if !has_kind("bond") {
        return;
    }
    let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
    node.run(&["ip", "link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "20"]);
    peer.run(&["ip", "link", "add", "bridge", "type", "bridge"]);
    for (nic, port) in [("nic0", "port0"), ("nic1", "port1")] {
        node.run(&["ip", "link", "add", nic, "type", "veth", "peer", "name", port, "netns", &peer.0]);
        node.run(&["ip", "link", "set", nic, "master", "bond0"]);
        peer.run(&["ip", "link", "set", port, "master", "bridge"]);
        peer.run(&["ip", "link", "set", port, "up"]);
    }
    peer.run(&["ethtool", "-K", "bridge", "tx", "off"]);
    pods::configure(&peer, "bridge", "10.78.0.1/24");
    pods::configure(&node, "bond0", "10.78.0.2/24");
    peer.run(&["ip", "route", "add", "10.99.0.0/16", "via", "10.78.0.2"]);
    thread::sleep(Duration::from_millis(200));
    turns_packets_in_generic_mode(&node, &peer, "bond0");
    // The other member takes over.
    node.run(&["ip", "link", "set", "nic0", "down"]);
    thread::sleep(Duration::from_millis(200));
    turns_packets_in_generic_mode(&node, &peer, "bond0");
}

#[test]
fn a_vlan_gives_and_takes_in_generic_mode() {
    let _alone = alone();
    let (node, peer) = pair();
    let vlan = |namespace: &Namespace, parent: &str| {
        let add = ["netns", "exec", &namespace.0, "ip", "link", "add", "link", parent];
        let add = Command::new("ip").args(add).args(["name", "vlan", "type", "vlan", "id", "100"]).output();
        add.unwrap().status.success()
    };
    if !vlan(&node, "nic") || !vlan(&peer, "eth0") {
        println!("not tested: this kernel makes no VLAN");
        return;
    }
    node.run(&["ip", "addr", "flush", "dev", "nic"]);
    peer.run(&["ip", "addr", "flush", "dev", "eth0"]);
    peer.run(&["ethtool", "-K", "vlan", "tx", "off"]);
    pods::configure(&node, "vlan", "10.78.0.2/24");
    pods::configure(&peer, "vlan", "10.78.0.1/24");
    peer.run(&["ip", "route", "add", "10.99.0.0/16", "via", "10.78.0.2"]);
    turns_packets_in_generic_mode(&node, &peer, "vlan");
}
