//! An uplink's large frames, which the kernel cuts. Needs root.
//!
//! ```text
//!  packets ── port ── nic ══ far ── port (or the kernel) ── what came of them
//! ```

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod packets;
mod pods;

use millrace_fastpath::port::{Burst, Checksum, DropReason, Frame, Offload, PortCounters};
use millrace_ffi::device::Opened;
use millrace_ffi::gso::{Caps, settle};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig, XdpMode};
use packets::{ALL, Packet, chained, outer, payload};
use pods::{Namespace, alone, assert_all_back, eal, unique};
use std::collections::VecDeque;
use std::net::UdpSocket;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of payload of a piece: an inner packet of 1,450 bytes at most.
const SIZE: u16 = 1390;

/// A tunnel around a packet: the outer family, and whether the sender asked for a UDP checksum.
#[derive(Clone, Copy, Debug)]
struct Tunnel {
    v6: bool,
    checksum: bool,
}

const TUNNELS: [Tunnel; 4] = [
    Tunnel { v6: false, checksum: false },
    Tunnel { v6: false, checksum: true },
    Tunnel { v6: true, checksum: false },
    Tunnel { v6: true, checksum: true },
];

/// A frame that is to be cut into pieces of [`SIZE`] bytes of payload, in chained buffers.
fn large(pool: &Mempool, packet: Packet, tunnel: Option<Tunnel>, length: usize) -> Mbuf {
    let plain = packet.bytes(&payload(length));
    let headers = tunnel.map_or_else(Vec::new, |tunnel| outer(tunnel.v6, tunnel.checksum, plain.len()));
    let before = headers.len() as u16;
    let mut frame = chained(pool, &[headers, plain].concat(), 300, 1999);
    let checksum = Checksum::Partial { start: packet.start() + before, offset: packet.offset() };
    frame.set_offload(Offload { checksum, gso: Some(packet.gso(SIZE)), outer: before });
    frame
}

/// A finished frame.
fn small(pool: &Mempool, length: usize) -> Mbuf {
    let mut frame = pool.alloc_with(&Packet::Udp4.bytes(&payload(length))).unwrap();
    frame.set_offload(Offload { checksum: Packet::Udp4.partial(), gso: None, outer: 0 });
    assert!(frame.complete_checksum());
    frame
}

/// What it is cut into without the kernel.
fn pieces(pool: &Mempool, frame: Mbuf) -> Vec<Vec<u8>> {
    let mut out = VecDeque::new();
    settle(frame, &Caps::none(1600), pool, &mut out).unwrap();
    out.iter().map(Mbuf::to_vec).collect()
}

/// The pieces of a large frame as they arrive: outer checksums are there whether asked for or not.
fn wanted(pool: &Mempool, packet: Packet, tunnel: Option<Tunnel>, length: usize) -> Vec<Vec<u8>> {
    let tunnel = tunnel.map(|tunnel| Tunnel { checksum: true, ..tunnel });
    pieces(pool, large(pool, packet, tunnel, length))
}

/// An uplink and what is at the other end of its wire.
struct Link {
    node: Namespace,
    far: Namespace,
    arena: Arena,
    pool: Mempool,
    counters: Arc<PortCounters>,
    uplink: Opened,
}

impl Link {
    fn new() -> Link {
        Link::with(&[])
    }

    /// With these features of the uplink's interface switched.
    fn with(switches: &[&str]) -> Link {
        let (node, far) = (Namespace::new("node"), Namespace::new("far"));
        node.run(&["ip", "link", "add", "nic", "type", "veth", "peer", "name", "far", "netns", &far.0]);
        for (namespace, name) in [(&node, "nic"), (&far, "far")] {
            namespace.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
            namespace.run(&["ip", "link", "set", name, "mtu", "1550", "up"]);
        }
        if !switches.is_empty() {
            node.run(&[&["ethtool", "-K", "nic"], switches].concat());
        }
        let config = ArenaConfig { name: unique("arena"), chunks: 8192, huge_pages: false };
        let arena = Arena::try_new(eal(), &config).unwrap();
        let pool = Mempool::try_new(eal(), &MempoolConfig::new(unique("large"), 4095)).unwrap();
        let counters = Arc::new(PortCounters::default());
        let uplink = node.within(|| xdp::open(&XdpConfig::uplink("nic", 1), &arena, &counters).unwrap());
        Link { node, far, arena, pool, counters, uplink }
    }

    /// A port that takes everything at the other end.
    fn far_port(&self) -> Opened {
        self.far_port_in(XdpMode::Native)
    }

    fn far_port_in(&self, mode: XdpMode) -> Opened {
        let counters = Arc::new(PortCounters::default());
        let config = XdpConfig { mode, fill: 512, ..XdpConfig::pod("far") };
        let arena = &self.arena;
        let port = self.far.within(|| xdp::open(&config, arena, &counters).unwrap());
        thread::sleep(Duration::from_millis(100));
        port
    }

    fn send(&mut self, frames: impl IntoIterator<Item = Mbuf>) {
        send(&mut self.uplink, frames);
    }

    fn sent(&self) -> (u64, u64) {
        let totals = self.counters.totals();
        (totals.tx_frames, totals.tx_bytes)
    }

    fn dropped(&self) -> u64 {
        DropReason::ALL.iter().map(|reason| self.counters.drops(*reason)).sum()
    }

    fn close(self, far: Option<Opened>) {
        let Link { arena, pool, uplink, .. } = self;
        for port in far.into_iter().chain([uplink]) {
            drop((port.queues, port.device));
        }
        assert_eq!(pool.in_use(), 0);
        assert_all_back(arena.pool());
    }
}

fn send(port: &mut Opened, frames: impl IntoIterator<Item = Mbuf>) {
    let mut burst: Burst<Mbuf> = frames.into_iter().collect();
    let offered = burst.len();
    assert_eq!(port.queues[0].tx_burst(&mut burst), offered);
    port.queues[0].flush();
}

/// Takes frames until so many are there; checksums that the veth left out are made.
fn receive(port: &mut Opened, count: usize) -> Vec<Vec<u8>> {
    let until = Instant::now() + Duration::from_secs(2);
    let mut frames = Vec::new();
    while frames.len() < count && Instant::now() < until {
        let mut burst = Burst::new();
        port.queues[0].rx_burst(&mut burst);
        port.queues[0].flush();
        for mut frame in burst {
            assert!(frame.complete_checksum());
            frames.push(frame.to_vec());
        }
    }
    frames
}

/// Compares without printing all bytes.
fn assert_same(arrived: &[Vec<u8>], wanted: &[Vec<u8>], what: &str) {
    let lengths = |frames: &[Vec<u8>]| frames.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(lengths(arrived), lengths(wanted), "{what}");
    for (at, (arrived, wanted)) in arrived.iter().zip(wanted).enumerate() {
        if let Some(byte) = (0..wanted.len()).find(|&byte| arrived[byte] != wanted[byte]) {
            let (is, should) = (arrived[byte], wanted[byte]);
            panic!("{what}: byte {byte} of frame {at} of {} is {is:#x}, not {should:#x}", wanted.len());
        }
    }
}

/// Every kind of large frame, plain and in every tunnel.
fn kinds() -> impl Iterator<Item = (Packet, Option<Tunnel>)> {
    ALL.into_iter()
        .flat_map(|packet| TUNNELS.map(Some).into_iter().chain([None]).map(move |tunnel| (packet, tunnel)))
}

fn arrive_as_they_would_if_cut_here(checksums: &str) {
    let _alone = alone();
    let mut link = Link::with(&["tx", checksums]);
    let mut far = link.far_port();
    for (packet, tunnel) in kinds() {
        // Two pieces, an even number of them, and more than one datagram of a tunnel holds.
        for length in [1391, 2780, 20_001, 64_000] {
            let wanted = wanted(&link.pool, packet, tunnel, length);
            let frame = large(&link.pool, packet, tunnel, length);
            let (before, bytes) = (link.sent(), frame.total_len() as u64);
            link.send([frame]);
            let arrived = receive(&mut far, wanted.len());
            assert_same(&arrived, &wanted, &format!("{packet:?} {tunnel:?} {length}"));
            assert_eq!(link.sent(), (before.0 + 1, before.1 + bytes), "a large frame is one");
        }
    }
    assert_eq!(link.dropped(), 0);
    link.close(Some(far));
}

#[test]
fn large_frames_arrive_as_if_cut_here() {
    arrive_as_they_would_if_cut_here("off");
}

#[test]
fn large_frames_arrive_as_if_cut_here_where_checksums_are_left_out() {
    arrive_as_they_would_if_cut_here("on");
}

#[test]
fn large_and_small_frames_keep_their_order() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    for round in 0..50 {
        let (mut frames, mut all) = (Vec::new(), Vec::new());
        for at in 0..40 {
            if (at * 7 + round) % 5 == 0 {
                let (packet, tunnel) = kinds().nth((at + round) % 20).unwrap();
                let length = 1391 + at * 150;
                all.extend(wanted(&link.pool, packet, tunnel, length));
                frames.push(large(&link.pool, packet, tunnel, length));
            } else {
                let frame = small(&link.pool, at * round % 1000);
                all.push(frame.to_vec());
                frames.push(frame);
            }
        }
        link.send(frames);
        assert_same(&receive(&mut far, all.len()), &all, &format!("round {round}"));
    }
    assert_eq!(link.dropped(), 0);
    link.close(Some(far));
}

#[test]
fn what_follows_waits_behind_large_frames_in_a_slow_queue() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    link.node.run(&[
        "tc", "qdisc", "add", "dev", "nic", "root", "tbf", "rate", "200mbit", "burst", "70k", "latency", "1s",
    ]);
    for (packet, tunnel) in
        [(Packet::Tcp4, None), (Packet::Tcp6, Some(TUNNELS[1])), (Packet::Udp4, Some(TUNNELS[3]))]
    {
        let (mut frames, mut all) = (Vec::new(), Vec::new());
        for length in [60_000, 20_001, 40_000] {
            all.extend(wanted(&link.pool, packet, tunnel, length));
            frames.push(large(&link.pool, packet, tunnel, length));
            all.push(small(&link.pool, length % 1000).to_vec());
            frames.push(small(&link.pool, length % 1000));
        }
        link.send(frames);
        assert_same(&receive(&mut far, all.len()), &all, &format!("{packet:?} {tunnel:?}"));
        // And when it is empty, by the ring again.
        thread::sleep(Duration::from_millis(20));
        link.send([small(&link.pool, 7)]);
        assert_same(&receive(&mut far, 1), &[small(&link.pool, 7).to_vec()], "the ring");
    }
    assert_eq!(link.dropped(), 0);
    link.close(Some(far));
}

/// Does `work` while the kernel refuses, with `error`, what is written in fewer than `parts` pieces of memory.
fn while_refusing<T: Send>(error: libc::c_int, parts: u32, work: impl FnOnce() -> T + Send) -> T {
    let op = |code: u32, jt: u8, jf: u8, k: u32| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let (equal, above) =
        (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K);
    // Of `struct seccomp_data`: the call's number, and its third argument.
    let mut program = [
        op(load, 0, 0, 0),
        op(equal, 0, 3, libc::SYS_writev as u32),
        op(load, 0, 0, 32),
        op(above, 1, 0, parts),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ERRNO | error.cast_unsigned()),
        op(libc::BPF_RET, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
            // SAFETY: takes numbers only.
            let failed = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
            assert_eq!(failed, 0);
            let mode = libc::SECCOMP_MODE_FILTER;
            // SAFETY: the kernel copies the program, which lives over the call.
            let failed = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const filter) };
            assert_eq!(failed, 0, "{}", std::io::Error::last_os_error());
            work()
        });
        thread.join().unwrap()
    })
}

#[test]
fn a_kind_that_the_kernel_refuses_is_cut_here_and_nothing_is_lost() {
    let _alone = alone();
    for error in [libc::EINVAL, libc::EOPNOTSUPP, libc::EMSGSIZE] {
        let mut link = Link::new();
        let mut far = link.far_port();
        for (packet, tunnel) in kinds() {
            for _ in 0..2 {
                let frame = large(&link.pool, packet, tunnel, 20_001);
                // As asked for: the kernel has nothing to do with the outer checksum.
                let wanted = pieces(&link.pool, large(&link.pool, packet, tunnel, 20_001));
                while_refusing(error, u32::MAX, || link.send([frame]));
                assert_same(&receive(&mut far, wanted.len()), &wanted, &format!("{packet:?} {tunnel:?}"));
            }
        }
        assert_eq!((link.dropped(), link.sent().0), (0, 2 * 20 * 15));
        link.close(Some(far));
    }
}

#[test]
fn the_rest_of_a_frame_that_the_kernel_has_begun_is_cut_here() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    let tunnel = Some(TUNNELS[1]);
    let wanted = wanted(&link.pool, Packet::Tcp4, tunnel, 64_000);
    let frame = large(&link.pool, Packet::Tcp4, tunnel, 64_000);
    while_refusing(libc::EINVAL, 30, || link.send([frame]));
    assert_same(&receive(&mut far, wanted.len()), &wanted, "the last pieces");
    assert_eq!(link.dropped(), 0);
    link.close(Some(far));
}

#[test]
fn a_frame_that_the_kernel_cannot_take_yet_waits_and_others_wait_behind_it() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    let tunnel = Some(TUNNELS[1]);
    for parts in [30, u32::MAX] {
        let mut wanted = wanted(&link.pool, Packet::Tcp4, tunnel, 64_000);
        let mut burst: Burst<Mbuf> =
            [large(&link.pool, Packet::Tcp4, tunnel, 64_000), small(&link.pool, 100)].into_iter().collect();
        wanted.push(burst[1].to_vec());
        let uplink = &mut link.uplink;
        let (taken, armed) = while_refusing(libc::EAGAIN, parts, || {
            let taken = uplink.queues[0].tx_burst(&mut burst);
            uplink.queues[0].flush();
            (taken, uplink.queues[0].arm())
        });
        assert_eq!((taken, armed), (1, false));
        link.send(burst);
        assert_same(&receive(&mut far, wanted.len()), &wanted, "after waiting");
    }
    assert_eq!(link.dropped(), 0);
    link.close(Some(far));
}

#[test]
fn what_the_interface_cannot_send_is_counted() {
    let _alone = alone();
    let mut link = Link::new();
    let frame = large(&link.pool, Packet::Tcp6, None, 20_001);
    while_refusing(libc::ENOBUFS, u32::MAX, || link.send([frame]));
    assert_eq!(link.counters.drops(DropReason::TxQueueFull), 1);
    link.node.run(&["ip", "link", "set", "nic", "down"]);
    let frame = large(&link.pool, Packet::Tcp6, None, 20_001);
    link.send([frame]);
    assert_eq!(link.counters.drops(DropReason::LinkDown), 1);
    link.node.run(&["ip", "link", "set", "nic", "up"]);
    let mut far = link.far_port();
    let wanted = wanted(&link.pool, Packet::Tcp6, None, 20_001);
    let frame = large(&link.pool, Packet::Tcp6, None, 20_001);
    link.send([frame]);
    assert_same(&receive(&mut far, wanted.len()), &wanted, "up again");
    link.node.run(&["ip", "link", "del", "nic"]);
    let frame = large(&link.pool, Packet::Tcp6, None, 20_001);
    link.send([frame]);
    assert_eq!(link.counters.drops(DropReason::LinkDown), 2);
    link.close(Some(far));
}

#[test]
fn a_single_piece_and_one_that_is_too_long_are_not_for_the_kernel() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    for length in [1, 1390] {
        let wanted = pieces(&link.pool, large(&link.pool, Packet::Tcp4, None, length));
        let frame = large(&link.pool, Packet::Tcp4, None, length);
        link.send([frame]);
        assert_same(&receive(&mut far, 1), &wanted, "one piece");
    }
    let mut frame = large(&link.pool, Packet::Tcp4, None, 64_000);
    let checksum = Packet::Tcp4.partial();
    frame.set_offload(Offload { checksum, gso: Some(Packet::Tcp4.gso(40_000)), outer: 0 });
    link.send([frame]);
    assert_eq!(link.counters.drops(DropReason::TooBig), 1);
    link.close(Some(far));
}

#[test]
fn no_large_packet_passes_an_interface_that_was_told_so() {
    let _alone = alone();
    let mut link = Link::with(&["tso", "off", "gso", "off"]);
    // In generic mode a large packet would come as it is.
    let mut far = link.far_port_in(XdpMode::Generic);
    for (packet, tunnel) in kinds() {
        let frame = large(&link.pool, packet, tunnel, 20_001);
        let before = link.sent().0;
        link.send([frame]);
        let whole = tunnel.is_none() && packet.is_tcp();
        assert_eq!(link.sent().0 - before, if whole { 1 } else { 15 });
        let wanted = pieces(&link.pool, large(&link.pool, packet, tunnel, 20_001));
        assert_same(&receive(&mut far, 15), &wanted, &format!("{packet:?} {tunnel:?}"));
    }
    link.close(Some(far));
}

#[test]
fn a_pods_veth_is_given_packets_of_its_mtu() {
    let _alone = alone();
    let link = Link::new();
    let counters = Arc::new(PortCounters::default());
    let arena = &link.arena;
    let mut pod = link.far.within(|| xdp::open(&XdpConfig::pod("far"), arena, &counters).unwrap());
    send(&mut pod, [large(&link.pool, Packet::Tcp4, None, 20_001)]);
    assert_eq!(counters.totals().tx_frames, 15);
    link.close(Some(pod));
}

/// Takes datagrams from a socket as the kernel sorts them out of a tunnel.
fn through_the_kernels_tunnel(v6: bool) {
    let _alone = alone();
    let mut link = Link::new();
    let local = if v6 { "fefe:fefe:fefe:fefe:fefe:fefe:fefe:fefe" } else { "192.0.2.2" };
    link.far.run(&["sysctl", "-qw", "net.ipv6.conf.far.disable_ipv6=0"]);
    link.far.run(&[&["ip", "addr", "add", local, "dev", "far"], &["nodad"][..usize::from(v6)]].concat());
    link.far.run(&["ip", "link", "set", "far", "address", "04:04:04:04:04:04"]);
    let vxlan = ["ip", "link", "add", "vx", "address", "04:04:04:04:04:04", "type", "vxlan", "id", "77"];
    link.far.run(&[&vxlan[..], &["dstport", "4789", "local", local, "nolearning"]].concat());
    link.far.run(&["ip", "link", "set", "vx", "mtu", "1450", "up"]);
    link.far.run(&["ip", "addr", "add", "10.4.5.6/8", "dev", "vx"]);
    for checksum in [false, true] {
        let socket = link.far.within(|| UdpSocket::bind("10.4.5.6:80").unwrap());
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let tunnel = Some(Tunnel { v6, checksum });
        let frame = large(&link.pool, Packet::Udp4, tunnel, 60_001);
        link.send([frame]);
        let (mut arrived, mut buffer) = (Vec::new(), vec![0; 65_536]);
        while arrived.len() < 60_001 {
            let len = socket.recv(&mut buffer).unwrap();
            arrived.extend_from_slice(&buffer[..len]);
        }
        assert!(arrived == payload(60_001));
    }
    assert_eq!(link.sent().0, 2);
    link.close(None);
}

#[test]
fn the_kernels_tunnel_over_ipv4_takes_what_was_cut_by_the_kernel() {
    through_the_kernels_tunnel(false);
}

#[test]
fn the_kernels_tunnel_over_ipv6_takes_what_was_cut_by_the_kernel() {
    through_the_kernels_tunnel(true);
}

/// A finished frame around `length` bytes, from the client's port; the `index`th of its flow.
fn datagram(pool: &Mempool, packet: Packet, tunnel: Option<Tunnel>, length: usize, index: u16) -> Mbuf {
    let plain = packet.bytes(&payload(length));
    let headers = tunnel.map_or_else(Vec::new, |tunnel| outer(tunnel.v6, tunnel.checksum, plain.len()));
    let before = headers.len() as u16;
    let mut bytes = [headers, plain].concat();
    number(&mut bytes, index);
    let mut frame = chained(pool, &bytes, 300, 700);
    let checksum = Checksum::Partial { start: packet.start() + before, offset: packet.offset() };
    frame.set_offload(Offload { checksum, gso: None, outer: before });
    assert!(frame.complete_checksum());
    frame
}

/// Sets the identification of an IPv4 packet.
fn number(frame: &mut [u8], id: u16) {
    if frame[12] == 0x08 {
        frame[18..20].copy_from_slice(&id.to_be_bytes());
        frame[24..26].fill(0);
        let words = frame[14..34].chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1]));
        let sum: u32 = words.sum();
        let folded = (sum & 0xffff) + (sum >> 16);
        let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
        frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// Bytes that have passed the interface's queueing discipline, which AF_XDP goes around.
fn past_the_ring(link: &Link) -> usize {
    let shown = link.node.run(&["tc", "-s", "qdisc", "show", "dev", "nic"]);
    let words: Vec<&str> = shown.split_whitespace().collect();
    let at = words.iter().position(|word| *word == "bytes").unwrap();
    words[at - 1].parse().unwrap()
}

#[test]
fn datagrams_of_one_flow_that_follow_each_other_go_together_and_arrive_as_they_were() {
    let _alone = alone();
    for checksums in ["on", "off"] {
        let mut link = Link::with(&["tx", checksums]);
        let mut far = link.far_port();
        link.node.run(&["tc", "qdisc", "add", "dev", "nic", "root", "pfifo", "limit", "1000"]);
        let mut past = 0;
        let plain = [Packet::Udp4, Packet::Udp6].map(|packet| (packet, None));
        for (packet, tunnel) in kinds().filter(|(_, tunnel)| tunnel.is_some()).chain(plain) {
            for (count, length, last) in [(8, 1, 1), (20, 200, 200), (40, 1390, 7), (9, 100, 99)] {
                let lengths = (0..count).map(|at| if at + 1 == count { last } else { length });
                let made = |checksum: Option<bool>| -> Vec<Mbuf> {
                    let tunnel = tunnel.map(|tunnel: Tunnel| Tunnel {
                        checksum: checksum.unwrap_or(tunnel.checksum),
                        ..tunnel
                    });
                    let each = lengths.clone().enumerate();
                    each.map(|(at, length)| datagram(&link.pool, packet, tunnel, length, at as u16)).collect()
                };
                let wanted: Vec<Vec<u8>> = made(Some(true)).iter().map(Mbuf::to_vec).collect();
                let (frames, before) = (made(None), link.sent());
                let bytes: usize = frames.iter().map(Frame::total_len).sum();
                link.send(frames);
                let what = format!("{packet:?} {tunnel:?} {count} of {length}");
                assert_same(&receive(&mut far, count), &wanted, &what);
                assert_eq!(link.sent(), (before.0 + count as u64, before.1 + bytes as u64), "{what}");
                let now = past_the_ring(&link);
                assert!(now > past, "{what}");
                past = now;
            }
        }
        assert_eq!(link.dropped(), 0);
        link.close(Some(far));
    }
}

#[test]
fn what_does_not_belong_together_goes_by_the_ring_unchanged() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    link.node.run(&["tc", "qdisc", "add", "dev", "nic", "root", "pfifo", "limit", "1000"]);
    let row = |link: &Link, packet, tunnel, count: u16, change: &dyn Fn(u16, &mut Vec<u8>)| -> Vec<Mbuf> {
        let each = |at| {
            let mut bytes = datagram(&link.pool, packet, tunnel, 120, 7 * at).to_vec();
            change(at, &mut bytes);
            link.pool.alloc_with(&bytes).unwrap()
        };
        (0..count).map(each).collect()
    };
    let udp = Packet::Udp4;
    let cases: [(&str, Vec<Mbuf>); 9] = [
        ("few", row(&link, udp, None, 7, &|_, _| ())),
        ("ports", row(&link, udp, None, 20, &|at, bytes| bytes[35] = at as u8 / 4)),
        ("damaged", row(&link, udp, None, 20, &|_, bytes| bytes[60] ^= 1)),
        ("no checksum", row(&link, udp, None, 20, &|_, bytes| bytes[40..42].fill(0))),
        ("hops", row(&link, udp, None, 20, &|at, bytes| bytes[22] = 60 + at as u8 / 5)),
        ("may be cut", row(&link, udp, None, 20, &|_, bytes| bytes[20] = 0)),
        ("padded", row(&link, udp, None, 20, &|_, bytes| bytes.push(0))),
        ("growing", row(&link, udp, None, 20, &|at, bytes| bytes[39] = 128 - at as u8 % 2)),
        ("TCP", row(&link, Packet::Tcp4, None, 20, &|_, _| ())),
    ];
    for (what, frames) in cases {
        let wanted: Vec<Vec<u8>> = frames.iter().map(Mbuf::to_vec).collect();
        link.send(frames);
        assert_same(&receive(&mut far, wanted.len()), &wanted, what);
        assert_eq!(past_the_ring(&link), 0, "{what}");
    }
    link.close(Some(far));
}

#[test]
fn rows_of_flows_and_large_frames_among_each_other_keep_their_order() {
    let _alone = alone();
    let mut link = Link::new();
    let mut far = link.far_port();
    for round in 0..60_usize {
        let (mut frames, mut all): (Vec<Mbuf>, Vec<Vec<u8>>) = (Vec::new(), Vec::new());
        let mut number = 0;
        while frames.len() < 50 {
            number = (number * 5 + round + 3) % 10_007;
            let (packet, tunnel) = kinds().nth(number % 20).unwrap();
            let count = [1, 3, 8, 9, 20][number % 5].min(60 - frames.len());
            if number % 7 == 0 {
                all.extend(wanted(&link.pool, packet, tunnel, 9_000));
                frames.push(large(&link.pool, packet, tunnel, 9_000));
                continue;
            }
            let tunnel = tunnel.map(|tunnel| Tunnel { checksum: true, ..tunnel });
            for at in 0..count {
                let frame = datagram(&link.pool, packet, tunnel, 40 + number % 900, at as u16);
                all.push(frame.to_vec());
                frames.push(frame);
            }
        }
        link.send(frames);
        let mut arrived = receive(&mut far, all.len());
        // Nobody needs these numbers.
        arrived.iter_mut().chain(&mut all).for_each(|frame| self::number(frame, 0));
        assert_same(&arrived, &all, &format!("round {round}"));
    }
    assert_eq!(link.dropped(), 0);
    link.close(Some(far));
}
