//! An uplink that is received from behind the kernel's receive offload. Needs root.
//!
//! ```text
//!  peer: eth0 ══ nic :node ── GRO ─┬─ kernel (10.78.0.2, fd78::2)
//!  (10.78.0.1, fd78::1)            └─ port ── what is claimed (10.99.0.0/16, fd99::/16, 10.4.0.0/16, fefe::/16)
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod packets;
mod pods;

use etherparse::{IpNumber, PacketBuilder};
use millrace_fastpath::port::{
    Burst, Checksum, Claim, ClaimChanges, DropReason, Frame, Offload, PortCounters,
};
use millrace_fastpath::wire::crc32c::Crc32c;
use millrace_ffi::device::{Link, Opened};
use millrace_ffi::gso::{Caps, settle};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::tap::{self, TapConfig, TapPools};
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig, XdpMode};
use nix::sys::socket::{setsockopt, sockopt::UdpGsoSegment};
use packets::{ALL, Packet, SIZE, V6, assert_same, by_sequence, chained, on_the_wire, outer, payload, state};
use pods::{Namespace, Wire, alone, assert_all_back, configure, eal, open_files, tcp, unique};
use pods::{packet_socket, receive, send, vxlan};
use std::collections::VecDeque;
use std::fs::File;
use std::io::Read;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// What has no address here: the far ends of tunnels, and what a pod has.
const BEHIND: [&str; 2] = ["10.99.0.1", "fd99::1"];

/// All that the tests send to.
fn ranges() -> Vec<Claim> {
    let ranges = ["10.99.0.0/16", "fd99::/16", "10.4.0.0/16", "fefe::/16"];
    ranges.map(|range| Claim::Destination(range.parse().unwrap())).to_vec()
}

fn tunnels() -> Vec<Claim> {
    BEHIND.map(|address| Claim::Tunnel { address: address.parse().unwrap(), port: 4789 }).to_vec()
}

/// A node with an uplink to a peer.
struct Site {
    node: Namespace,
    peer: Namespace,
    arena: Arena,
    small: Mempool,
    pools: TapPools,
    counters: Arc<PortCounters>,
    queues: u32,
    uplink: Option<Opened>,
}

impl Site {
    fn new(claims: Vec<Claim>) -> Site {
        Site::with(1, "1550", claims)
    }

    fn with(queues: u32, mtu: &str, claims: Vec<Claim>) -> Site {
        let (node, peer) = (Namespace::new("node"), Namespace::new("peer"));
        let count = queues.to_string();
        let end = ["mtu", mtu, "numrxqueues", &count, "numtxqueues", &count];
        let add = [&["ip", "link", "add", "nic"], &end[..], &["type", "veth", "peer", "name", "eth0"], &end];
        node.run(&[&add.concat()[..], &["netns", &peer.0]].concat());
        for (namespace, name, last) in [(&node, "nic", '2'), (&peer, "eth0", '1')] {
            configure(namespace, name, &format!("10.78.0.{last}/24"));
            namespace.run(&["ip", "addr", "add", &format!("fd78::{last}/64"), "dev", name, "nodad"]);
        }
        for (address, length) in BEHIND.into_iter().zip(["32", "128"]) {
            peer.run(&["ip", "route", "add", &format!("{address}/{length}"), "dev", "eth0"]);
            peer.run(&["ip", "neigh", "add", address, "lladdr", "02:00:00:00:00:99", "dev", "eth0"]);
        }
        let arena_config = ArenaConfig { name: unique("arena"), chunks: 8192, huge_pages: false };
        let arena = Arena::try_new(eal(), &arena_config).unwrap();
        let small = Mempool::try_new(eal(), &MempoolConfig::new(unique("small"), 4095)).unwrap();
        let pools = TapPools::try_new(eal(), &unique("large"), small.clone(), 127).unwrap();
        let counters = Arc::new(PortCounters::default());
        let mut site = Site { node, peer, arena, small, pools, counters, queues, uplink: None };
        site.open(claims);
        site
    }

    fn open(&mut self, claimed: Vec<Claim>) {
        let large = Some(self.pools.clone());
        let config = XdpConfig { large, mode: XdpMode::Tc, ..XdpConfig::uplink("nic", self.queues) };
        let opened = self.node.within(|| xdp::open(&config, &self.arena, &self.counters).unwrap());
        opened.device.steer(&ClaimChanges { released: Vec::new(), claimed }).unwrap();
        self.uplink = Some(opened);
    }

    fn drop_port(&mut self) {
        let Opened { device, queues } = self.uplink.take().unwrap();
        drop((queues, device));
    }

    /// Whether the peer's kernel cuts what it sends. The node's puts it together.
    fn cuts(&self, is_cut: bool) {
        let is_whole = if is_cut { "off" } else { "on" };
        self.peer.run(&["ethtool", "-K", "eth0", "tx", is_whole, "tso", is_whole, "gso", is_whole]);
        self.node.run(&["ethtool", "-K", "nic", "gro", "on"]);
    }

    fn receive(&mut self, count: usize) -> Vec<Mbuf> {
        receive(self.uplink.as_mut().unwrap(), count)
    }

    fn close(mut self) {
        self.drop_port();
        let lost =
            |reason: &&DropReason| self.counters.drops(**reason) > 0 && **reason != DropReason::NoBuffer;
        assert_eq!(DropReason::ALL.iter().find(lost), None);
        for pool in [&self.small, self.pools.large(), self.arena.pool()] {
            assert_all_back(pool);
        }
    }
}

/// Packets that a socket has heard.
fn heard(mut socket: &File) -> usize {
    let mut buffer = vec![0; 70_000];
    std::iter::from_fn(|| socket.read(&mut buffer).ok()).count()
}

/// A frame with so many bytes of payload as a port is given it. A tunnel: whether over IPv6, and with a checksum.
fn frame(pool: &Mempool, packet: Packet, tunnel: Option<(bool, bool)>, length: usize) -> Mbuf {
    let plain = packet.bytes(&payload(length));
    let headers = tunnel.map_or_else(Vec::new, |(v6, checksum)| outer(v6, checksum, plain.len()));
    let state = state(packet, headers.len() as u16, length > SIZE.into());
    let mut frame = chained(pool, &[headers, plain].concat(), 300, 1999);
    frame.set_offload(state);
    frame
}

/// The name of the TAP by which a node's NIC is received.
fn tap_of(node: &Namespace) -> String {
    let index = node.run(&["cat", "/sys/class/net/nic/ifindex"]);
    format!("mr-in{}", index.trim())
}

/// A frame without the headers of its tunnel.
fn inner(mut frame: Mbuf, outer: u16) -> Mbuf {
    let mut offload = frame.offload();
    if let Checksum::Partial { start, .. } = &mut offload.checksum {
        *start -= outer;
    }
    assert!(frame.trim_front(outer.into()));
    frame.set_offload(Offload { outer: 0, ..offload });
    frame
}

#[test]
fn tcp_comes_whole() {
    let _alone = alone();
    let mut site = Site::new(ranges());
    let socket = packet_socket(&site.peer, "eth0", 0);
    for packet in [Packet::Tcp4, Packet::Tcp6] {
        for length in [1, 1390, 1391, 2780, 20_001, 64_000] {
            let (bytes, state) = (packet.bytes(&payload(length)), state(packet, 0, length > 1390));
            (0..3).for_each(|_| send(&socket, state, &bytes));
            let frames = site.receive(3);
            assert!(frames.iter().all(|frame| frame.offload() == state), "{packet:?} {length}");
            let arrived: Vec<Vec<u8>> = frames.iter().map(Mbuf::to_vec).collect();
            assert_same(&arrived, &vec![bytes; 3], &format!("{packet:?} {length}"));
        }
    }
    site.close();
}

/// ```text
///  peer ══ nic ── port ── wire ── TAP :pod
/// ```
#[test]
fn two_kernels_exchange_tcp_plain_and_in_tunnels() {
    let _alone = alone();
    for (is_cut, claims) in [(false, ranges()), (true, ranges()), (false, tunnels()), (true, tunnels())] {
        let mut addresses = [(BEHIND[0], "10.78.0.1"), (BEHIND[1], "fd78::1")];
        let is_tunnelled = claims == tunnels();
        let mut site = Site::new(claims);
        site.cuts(is_cut);
        let pod = Namespace::new("pod");
        let config = TapConfig::here("pod", 1);
        let tap = site.node.within(|| tap::open(&config, &site.pools, &site.counters).unwrap());
        site.node.run(&["ip", "link", "set", "pod", "address", "02:00:00:00:00:99", "netns", &pod.0]);
        configure(&pod, "pod", "10.99.0.1/8");
        pod.run(&["ip", "addr", "add", "fd99::1/8", "dev", "pod", "nodad"]);
        let mac = site.peer.run(&["cat", "/sys/class/net/eth0/address"]);
        for (id, (in_pod, at_peer)) in ["4", "6"].into_iter().zip(&mut addresses) {
            pod.run(&["ip", "neigh", "add", at_peer, "lladdr", mac.trim(), "dev", "pod"]);
            if is_tunnelled {
                vxlan(&pod, "pod", id, in_pod, at_peer, &format!("10.20{id}.0.1/24"));
                vxlan(&site.peer, "eth0", id, at_peer, in_pod, &format!("10.20{id}.0.2/24"));
                (*in_pod, *at_peer) =
                    if id == "4" { ("10.204.0.1", "10.204.0.2") } else { ("10.206.0.1", "10.206.0.2") };
            }
        }
        let wire = Wire::between(site.uplink.take().unwrap(), tap);
        for (in_pod, at_peer) in addresses {
            let to = tcp(&pod, &site.peer, in_pod.parse().unwrap(), 16 << 20);
            let back = tcp(&site.peer, &pod, at_peer.parse().unwrap(), 4 << 20);
            println!("cut {is_cut} {in_pod}: {to:.2} Gbit/s, back {back:.2} Gbit/s");
        }
        let largest = wire.cut();
        assert!(largest.0 > 20_000, "{is_cut} {is_tunnelled} {largest:?}");
        assert_all_back(&site.small);
        assert_all_back(site.arena.pool());
    }
}

/// The kernel looks into them all the same.
#[test]
fn packets_of_others_tunnels_at_the_port_are_datagrams_like_others() {
    let _alone = alone();
    for is_cut in [false, true] {
        let mut site = Site::new(ranges());
        site.cuts(is_cut);
        for (id, own, far, before) in [("4", "10.78.0.1", BEHIND[0], 50), ("6", "fd78::1", BEHIND[1], 70)] {
            vxlan(&site.peer, "eth0", id, own, far, "10.200.0.2/24");
            let socket = packet_socket(&site.peer, &format!("vx{id}"), 0);
            let wanted = on_the_wire(&site.small, [frame(&site.small, Packet::Tcp4, None, 60_000)]);
            send(&socket, state(Packet::Tcp4, 0, true), &Packet::Tcp4.bytes(&payload(60_000)));
            let frames = site.receive(wanted.len());
            assert!(frames.iter().all(|frame| frame.offload().outer == 0 && frame.offload().gso.is_none()));
            let inner = frames.into_iter().map(|frame| inner(frame, before));
            let arrived = by_sequence(on_the_wire(&site.small, inner), Packet::Tcp4, &wanted[0]);
            assert_same(&arrived, &wanted, &format!("{id} cut {is_cut}"));
        }
        site.close();
    }
}

#[test]
fn tcp_in_a_tunnel_comes_whole_and_what_was_cut_is_put_together() {
    let _alone = alone();
    for is_cut in [false, true] {
        let mut site = Site::new(tunnels());
        site.cuts(is_cut);
        for (id, own, far, before) in [("4", "10.78.0.1", BEHIND[0], 50), ("6", "fd78::1", BEHIND[1], 70)] {
            vxlan(&site.peer, "eth0", id, own, far, "10.200.0.2/24");
            let socket = packet_socket(&site.peer, &format!("vx{id}"), 0);
            let kinds = [Packet::Tcp4, Packet::Tcp6].map(|packet| [(packet, 20_001), (packet, 60_000)]);
            for (packet, length) in kinds.concat() {
                let what = format!("{id} {packet:?} {length} cut {is_cut}");
                send(&socket, state(packet, 0, true), &packet.bytes(&payload(length)));
                let wanted = on_the_wire(&site.small, [frame(&site.small, packet, None, length)]);
                let frames = site.receive(1);
                // GRO leaves a first packet with CWR alone, and the last, shorter one.
                assert!(frames.len() <= if is_cut { 3 } else { 1 }, "{what}: {} frames", frames.len());
                let largest = frames.iter().map(Mbuf::offload).find(|offload| offload.outer != 0).unwrap();
                assert_eq!((largest.outer, largest.gso), (before, Some(packet.gso(SIZE))), "{what}");
                let inner = frames.into_iter().map(|frame| inner(frame, before));
                let arrived = by_sequence(on_the_wire(&site.small, inner), packet, &wanted[0]);
                assert_same(&arrived, &wanted, &what);
            }
        }
        site.close();
    }
}

/// An IP packet of a protocol that the kernel has no offload for.
fn plain(v6: bool, protocol: IpNumber, content: &[u8]) -> Vec<u8> {
    let (link, mut frame) = (PacketBuilder::ethernet2([2; 6], [4; 6]), Vec::new());
    let packet = if v6 { link.ipv6(V6.0, V6.1, 9) } else { link.ipv4([10, 1, 2, 3], [10, 4, 5, 6], 9) };
    packet.write(&mut frame, protocol, content).unwrap();
    frame
}

#[test]
fn all_but_tcp_comes_packet_by_packet() {
    let _alone = alone();
    for mtu in [1500, 9000] {
        let mut site = Site::with(1, &mtu.to_string(), ranges());
        let socket = packet_socket(&site.peer, "eth0", 0);
        let mut check = |bytes: &[u8], state, wanted: Vec<u8>| {
            for (bytes, state) in [(bytes, state), (&wanted, Offload::NONE)] {
                send(&socket, state, bytes);
                let frames = site.receive(1);
                let what = format!("protocol {} of {}, {state:?}", bytes[23], bytes.len());
                assert_same(&on_the_wire(&site.small, frames), std::slice::from_ref(&wanted), &what);
            }
        };
        let pool = Mempool::try_new(eal(), &MempoolConfig::new(unique("wanted"), 63)).unwrap();
        for length in [0, 1, 100, 1300, mtu - 60] {
            for packet in [Packet::Udp4, Packet::Udp6] {
                let (bytes, state) = (packet.bytes(&payload(length)), state(packet, 0, false));
                let mut frame = chained(&pool, &bytes, 300, 1999);
                frame.set_offload(state);
                check(&bytes, state, on_the_wire(&pool, [frame]).remove(0));
            }
            for (v6, start) in [(false, 34), (true, 54)] {
                let icmp = [&[if v6 { 128 } else { 8 }, 0, 1, 2, 3, 4, 5, 6], &payload(length)[..]].concat();
                let protocol = if v6 { IpNumber::IPV6_ICMP } else { IpNumber::ICMP };
                let bytes = plain(v6, protocol, &icmp);
                check(&bytes, Offload::NONE, bytes.clone());
                let mut sctp = [&[0, 7, 0, 80, 1, 2, 3, 4, 0, 0, 0, 0], &payload(length)[..]].concat();
                let open = plain(v6, IpNumber::SCTP, &sctp);
                let crc = Crc32c::new().add_bytes(&sctp).finish();
                sctp[8..12].copy_from_slice(&crc.to_le_bytes());
                let checksum = Checksum::Partial { start, offset: 8 };
                check(&open, Offload { checksum, ..Offload::NONE }, plain(v6, IpNumber::SCTP, &sctp));
            }
        }
        site.close();
    }
}

/// Sends datagrams by the peer's kernel, of so many bytes and to be cut at so many; compares what comes.
fn datagrams(site: &mut Site, [from, to]: [&str; 2], lengths: &[(usize, i32)]) {
    let (addresses, start) = if from.contains(':') { (22, 54) } else { (26, 34) };
    let socket = site.peer.within(|| UdpSocket::bind((from, 0)).unwrap());
    let mut sent = Vec::new();
    for &(length, size) in lengths {
        setsockopt(&socket, UdpGsoSegment, &size).unwrap();
        socket.send_to(&payload(length), (to, 9)).unwrap();
        let size = if size == 0 { length } else { size as usize };
        sent.extend(payload(length).chunks(size).map(<[u8]>::to_vec));
    }
    let frames = site.receive(sent.len());
    let mut arrived = on_the_wire(&site.small, frames);
    for frame in &mut arrived {
        let words = frame[addresses..]
            .chunks(2)
            .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&byte| byte.into()));
        assert_eq!(
            (words.sum::<u32>() + 17 + (frame.len() - start) as u32) % 0xffff,
            0,
            "{from}: a wrong checksum"
        );
        frame.drain(..start + 8);
    }
    assert_same(&arrived, &sent, from);
}

#[test]
fn large_datagrams_of_a_kernel_come_as_single_ones() {
    let _alone = alone();
    let mut site = Site::new(ranges());
    for ends in [["10.78.0.1", BEHIND[0]], ["fd78::1", BEHIND[1]]] {
        datagrams(&mut site, ends, &[(20_001, 1000), (60_000, 1400), (1201, 1200)]);
    }
    site.close();
}

#[test]
fn large_and_small_datagrams_of_one_flow_keep_their_order() {
    let _alone = alone();
    let mut site = Site::new(ranges());
    datagrams(&mut site, ["10.78.0.1", BEHIND[0]], &[(20_001, 1000), (500, 0), (60_000, 1400), (7, 0)]);
    site.close();
}

#[test]
fn what_is_not_claimed_or_tagged_is_the_kernels() {
    let _alone = alone();
    let mut site = Site::new(ranges());
    for address in ["10.78.0.2", "fd78::2"] {
        site.peer.run(&["ping", "-c", "3", "-i", "0.1", "-W", "2", address]);
        tcp(&site.node, &site.peer, address.parse().unwrap(), 4 << 20);
    }
    let (socket, kernel) = (packet_socket(&site.peer, "eth0", 0), packet_socket(&site.node, "nic", 0x0800));
    for (packet, length) in [(Packet::Udp4, 100), (Packet::Tcp4, 100)] {
        let plain = on_the_wire(&site.small, [frame(&site.small, packet, None, length)]).remove(0);
        let tagged = [&plain[..12], &[0x81, 0, 0, 5], &plain[12..]].concat();
        send(&socket, Offload::NONE, &tagged);
        assert_eq!((site.receive(0).len(), heard(&kernel)), (0, 1), "{packet:?}");
        send(&socket, Offload::NONE, &plain);
        assert_eq!((site.receive(1).len(), heard(&kernel)), (1, 0), "{packet:?}");
    }
    site.close();
}

#[test]
fn what_is_sent_arrives_as_if_cut_and_finished_here() {
    let _alone = alone();
    for checksums in ["on", "off"] {
        let mut site = Site::new(Vec::new());
        for (namespace, name) in [(&site.node, "nic"), (&site.peer, "eth0")] {
            // The kernel is to say nothing by itself.
            namespace.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
        }
        site.node.run(&["ethtool", "-K", "nic", "tx", checksums]);
        let config = XdpConfig { mode: XdpMode::Native, fill: 512, ..XdpConfig::pod("eth0") };
        let mut far = site.peer.within(|| xdp::open(&config, &site.arena, &Arc::default()).unwrap());
        thread::sleep(Duration::from_millis(100));
        let tunnels =
            [None, Some((false, false)), Some((false, true)), Some((true, false)), Some((true, true))];
        for (packet, tunnel) in ALL.into_iter().flat_map(|packet| tunnels.map(|tunnel| (packet, tunnel))) {
            for length in [0, 1, 1390, 1391, 2780, 20_001, 64_000] {
                let what = format!("{packet:?} {tunnel:?} {length} checksums {checksums}");
                let made = |tunnel| frame(&site.small, packet, tunnel, length);
                // Large datagrams in tunnels have a checksum whether asked for or not (large_frames).
                let has_checksum = !packet.is_tcp() && length > 1390;
                let wanted = tunnel.map(|(v6, checksum)| (v6, checksum || has_checksum));
                let wanted = on_the_wire(&site.small, [made(wanted)]);
                let (mut burst, uplink) = (Burst::from_iter([made(tunnel)]), site.uplink.as_mut().unwrap());
                assert_eq!(uplink.queues[0].tx_burst(&mut burst), 1);
                uplink.queues[0].flush();
                let arrived = on_the_wire(&site.small, receive(&mut far, wanted.len()));
                assert_same(&arrived, &wanted, &what);
            }
        }
        drop((far.queues, far.device));
        site.close();
    }
}

#[test]
fn what_goes_out_in_different_ways_keeps_its_order() {
    let _alone = alone();
    let mut site = Site::new(Vec::new());
    for (namespace, name) in [(&site.node, "nic"), (&site.peer, "eth0")] {
        namespace.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
    }
    let config = XdpConfig { mode: XdpMode::Native, fill: 512, ..XdpConfig::pod("eth0") };
    let mut far = site.peer.within(|| xdp::open(&config, &site.arena, &Arc::default()).unwrap());
    thread::sleep(Duration::from_millis(100));
    for tunnel in [Some((false, false)), Some((true, true))] {
        for packet in [Packet::Tcp4, Packet::Tcp6] {
            let made = |length| frame(&site.small, packet, tunnel, length);
            // One that a sender has finished, as of a connection that is passed on.
            let finished = || {
                let mut out = VecDeque::new();
                settle(made(700), &Caps::none(9100), &site.small, &mut out).unwrap();
                out.pop_front().unwrap()
            };
            let other = || frame(&site.small, Packet::Udp4, None, 10);
            let row = || [other(), finished(), made(20_001), made(5), other(), made(9_000), finished()];
            let wanted = on_the_wire(&site.small, row());
            let (mut burst, uplink) = (Burst::from_iter(row()), site.uplink.as_mut().unwrap());
            while !burst.is_empty() {
                uplink.queues[0].tx_burst(&mut burst);
                uplink.queues[0].flush();
            }
            let arrived = on_the_wire(&site.small, receive(&mut far, wanted.len()));
            assert_same(&arrived, &wanted, &format!("{packet:?} {tunnel:?}"));
        }
    }
    drop((far.queues, far.device));
    site.close();
}

#[test]
fn a_nic_that_was_down_keeps_nobody_awake() {
    let _alone = alone();
    let site = Site::new(ranges());
    let uplink = site.uplink.as_ref().unwrap();
    for state in ["down", "up"] {
        site.node.run(&["ip", "link", "set", "nic", state]);
    }
    let end = Instant::now() + Duration::from_secs(5);
    while let Link::Down { reason } = uplink.device.link() {
        assert!(Instant::now() < end, "{reason}");
        thread::sleep(Duration::from_millis(10));
    }
    let fds = uplink.queues[0].wake_fds();
    let mut asked: Vec<_> =
        fds.iter().map(|&fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 }).collect();
    // SAFETY: reads and writes the structures, and waits for nothing.
    let ready = unsafe { libc::poll(asked.as_mut_ptr(), asked.len() as libc::nfds_t, 0) };
    assert_eq!(ready, 0, "{:?}", asked.iter().map(|one| one.revents).collect::<Vec<_>>());
    site.node.run(&["ip", "link", "set", &tap_of(&site.node), "down"]);
    assert!(matches!(uplink.device.link(), Link::Down { reason } if reason.contains("mr-in")));
    site.close();
}

#[test]
fn a_closed_port_leaves_nothing_and_opens_again_at_once() {
    let _alone = alone();
    let mut site = Site::new(ranges());
    configure(&site.node, "lo", "10.99.0.1/32");
    site.peer.run(&["ip", "neigh", "del", BEHIND[0], "dev", "eth0"]);
    site.peer.run(&["ip", "route", "replace", BEHIND[0], "via", "10.78.0.2"]);
    let name = tap_of(&site.node);
    let socket = site.peer.within(|| UdpSocket::bind("10.78.0.1:0").unwrap());
    let files = open_files();
    for _ in 0..5 {
        assert!(site.node.run(&["ip", "-br", "link"]).contains(&name));
        socket.send_to(b"millrace", "10.99.0.1:9").unwrap();
        assert_eq!(site.receive(1).len(), 1);
        site.drop_port();
        assert!(!site.node.run(&["ip", "-br", "link"]).contains(&name));
        site.peer.run(&["ping", "-c", "1", "-W", "2", "10.99.0.1"]);
        tcp(&site.node, &site.peer, "10.99.0.1".parse().unwrap(), 1 << 20);
        site.open(ranges());
    }
    assert_eq!(open_files(), files);
    site.close();
}

#[test]
fn what_finds_no_room_is_counted() {
    let _alone = alone();
    let mut site = Site::new(ranges());
    let socket = packet_socket(&site.peer, "eth0", 0);
    let mut lost = 0;
    for packet in [Packet::Udp4, Packet::Tcp4, Packet::Udp6, Packet::Tcp6] {
        let bytes = packet.bytes(&payload(200));
        (0..6000).for_each(|_| send(&socket, state(packet, 0, false), &bytes));
        let device = &mut site.uplink.as_mut().unwrap().device;
        site.node.within(move || device.details());
        let now = site.counters.drops(DropReason::NoBuffer) - lost;
        let mut arrived = 0;
        let until = Instant::now() + Duration::from_secs(2);
        while arrived + now < 6000 && Instant::now() < until {
            let mut burst = Burst::new();
            arrived += site.uplink.as_mut().unwrap().queues[0].rx_burst(&mut burst) as u64;
        }
        assert!(now > 0, "{packet:?}");
        assert_eq!((arrived + now, site.receive(0).len()), (6000, 0), "{packet:?}");
        lost += now;
    }
    site.close();
}

#[test]
fn packets_of_all_flows_come_once_and_in_order_by_two_queues() {
    let _alone = alone();
    let mut site = Site::with(2, "1550", ranges());
    site.node.run(&["ethtool", "-K", "nic", "gro", "on"]);
    let socket = packet_socket(&site.peer, "eth0", 0);
    for packet in ALL {
        let (mut seen, port) = (vec![Vec::new(); 100], usize::from(packet.start()) + 1);
        for round in 0..20 {
            for flow in 0..100 {
                let mut bytes = packet.bytes(&[round; 100]);
                bytes[port] = flow;
                send(&socket, state(packet, 0, false), &bytes);
            }
            for frame in site.receive(100) {
                let bytes = frame.to_vec();
                seen[usize::from(bytes[port])].push(bytes[bytes.len() - 1]);
            }
        }
        assert!(seen.iter().all(|rounds| rounds.iter().copied().eq(0..20)), "{packet:?}");
    }
    site.close();
}
