//! A node with two pods and an uplink, all of which the kernel has.

#![allow(unreachable_pub, reason = "one test program uses it, by its own path")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use crate::packets::{Packet, chained};
use crate::pods::{Namespace, assert_all_back, configure, eal, packet_socket, receive, unique, vxlan};
use millrace_fastpath::port::{
    Claim, ClaimChanges, DropReason, Ends, Frame, Offload, PortCounters, PortTotals, Shortcut, TunnelEnds,
    Wrapping,
};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_ffi::batch::Batches;
use millrace_ffi::device::{Link, Opened};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::shortcut::Shortcuts;
use millrace_ffi::tap::TapPools;
use millrace_ffi::veth::{self, VethConfig};
use millrace_ffi::virtio_header;
use millrace_ffi::xdp::{self, Arena, ArenaConfig, XdpConfig, XdpMode};
use std::fs::File;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The node's interfaces, in the order of [`Site::ports`].
const NAMES: [&str; 3] = ["pod-a", "pod-b", "nic"];
pub const A: usize = 0;
pub const B: usize = 1;
pub const NIC: usize = 2;

/// The router's MAC address, that of the uplink, and of a pod.
pub const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const UPLINK: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const POD: MacAddr = MacAddr([2, 0, 0, 0, 0, 3]);

/// Bytes of an IP packet that a way takes: a full segment over IPv6.
pub const MTU: u16 = 1462;

/// The tunnel of the peer's kernel.
pub const TUNNEL: TunnelEnds =
    TunnelEnds { local: NODE, remote: Ipv4Addr::new(10, 78, 0, 1), vni: 4, port: 4789 };
const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// From where to where.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    PodToPod,
    PodToUplink,
    PodToTunnel,
    UplinkToPod,
    TunnelToPod,
}

pub const WAYS: [Way; 5] =
    [Way::PodToPod, Way::PodToUplink, Way::PodToTunnel, Way::UplinkToPod, Way::TunnelToPod];

impl Way {
    /// The ports of both ends.
    pub fn ports(self) -> (usize, usize) {
        match self {
            Way::PodToPod => (A, B),
            Way::PodToUplink | Way::PodToTunnel => (A, NIC),
            Way::UplinkToPod | Way::TunnelToPod => (NIC, B),
        }
    }
}

pub struct Port {
    opened: Opened,
    counters: Arc<PortCounters>,
    /// At the other end of the interface.
    pub far: File,
}

pub struct Site {
    pub node: Namespace,
    pub pods: [Namespace; 2],
    pub peer: Namespace,
    pub shortcuts: Arc<Shortcuts>,
    pub small: Mempool,
    arena: Arena,
    pools: TapPools,
    pub ports: Vec<Port>,
}

impl Site {
    pub fn new() -> Site {
        let [node, peer, first, second] = ["node", "peer", "first", "second"].map(Namespace::new);
        let pods = [first, second];
        for namespace in [&node, &peer, &pods[A], &pods[B]] {
            // The kernel is to say nothing by itself.
            namespace.run(&["sysctl", "-qw", "net.ipv6.conf.default.disable_ipv6=1"]);
        }
        let ends = [(&pods[A], "1500"), (&pods[B], "1500"), (&peer, "1550")];
        for (name, (far, mtu)) in NAMES.into_iter().zip(ends) {
            let end = ["numrxqueues", "1", "numtxqueues", "1", "mtu", mtu];
            let add =
                [&["ip", "link", "add", name], &end[..], &["type", "veth", "peer", "name", "eth0"], &end];
            node.run(&[&add.concat()[..], &["netns", &far.0]].concat());
            node.run(&["ip", "link", "set", name, "up"]);
            far.run(&["ip", "link", "set", "eth0", "up"]);
        }
        let mac = UPLINK.to_string();
        node.run(&["ip", "link", "set", "nic", "address", &mac]);
        configure(&node, "nic", "10.78.0.2/24");
        configure(&peer, "eth0", &format!("{}/24", TUNNEL.remote));
        let far = NODE.to_string();
        peer.run(&["ip", "route", "add", &far, "dev", "eth0"]);
        peer.run(&["ip", "neigh", "add", &far, "lladdr", &mac, "dev", "eth0"]);
        vxlan(&peer, "eth0", "4", &TUNNEL.remote.to_string(), &far, "10.200.0.2/24");
        let arena_config = ArenaConfig { name: unique("arena"), chunks: 8192, huge_pages: false };
        let arena = Arena::try_new(eal(), &arena_config).unwrap();
        let small = Mempool::try_new(eal(), &MempoolConfig::new(unique("small"), 4095)).unwrap();
        let pools = TapPools::try_new(eal(), &unique("large"), small.clone(), 127).unwrap();
        let shortcuts = shortcuts(60_000);
        let mut site = Site { node, pods, peer, shortcuts, small, arena, pools, ports: Vec::new() };
        site.open();
        site
    }

    /// Opens all ports.
    pub fn open(&mut self) {
        let [a, b] = [A, B].map(|pod| {
            let config = VethConfig { interface: NAMES[pod].to_owned(), queues: 1 };
            let (pools, shortcuts) = (&self.pools, &self.shortcuts);
            self.port(pod, |counters| {
                veth::open(&config, pools, counters, shortcuts, &Arc::new(Batches::new(1))).unwrap()
            })
        });
        let nic = self.port(NIC, |counters| {
            let (large, shortcuts) = (Some(self.pools.clone()), Some(self.shortcuts.clone()));
            let config = XdpConfig { large, shortcuts, mode: XdpMode::Tc, ..XdpConfig::uplink("nic", 1) };
            xdp::open(&config, &self.arena, counters).unwrap()
        });
        let range = |range: &str| Claim::Destination(range.parse().unwrap());
        let tunnel = Claim::Tunnel { address: NODE.into(), port: TUNNEL.port };
        let claimed = vec![range("10.99.0.0/16"), range("10.4.0.0/16"), range("fefe::/16"), tunnel];
        nic.opened.device.steer(&ClaimChanges { released: Vec::new(), claimed }).unwrap();
        self.ports = vec![a, b, nic];
        assert!(self.ports.iter().all(|port| port.opened.device.link() == Link::Up));
    }

    fn port(&self, number: usize, open: impl FnOnce(&Arc<PortCounters>) -> Opened + Send) -> Port {
        let counters = Arc::default();
        let opened = self.node.within(|| open(&counters));
        let far = [&self.pods[A], &self.pods[B], &self.peer][number];
        Port { opened, counters, far: packet_socket(far, "eth0", libc::ETH_P_ALL as u16) }
    }

    /// Closes all ports, of which no more is to come.
    pub fn close(&mut self) {
        for port in [A, B, NIC] {
            assert_eq!((self.receive(port, 0).len(), self.hear(port, 0, 0).len()), (0, 0), "{port}");
        }
        for Port { opened: Opened { device, queues }, counters, far } in self.ports.drain(..) {
            drop((queues, far));
            device.link();
            self.node.within(|| drop(device));
            assert_eq!(DropReason::ALL.iter().find(|reason| counters.drops(**reason) > 0), None);
        }
        for pool in [&self.small, self.pools.large(), self.arena.pool()] {
            assert_all_back(pool);
        }
    }

    /// What comes by a port's queue.
    pub fn receive(&mut self, port: usize, count: usize) -> Vec<Mbuf> {
        receive(&mut self.ports[port].opened, count)
    }

    /// Has a port send a frame.
    pub fn transmit(&mut self, port: usize, frame: Mbuf) {
        let queue = &mut self.ports[port].opened.queues[0];
        assert_eq!(queue.tx_burst(&mut [frame].into_iter().collect()), 1);
        queue.flush();
    }

    /// Waits until so many frames have come to the other end of a port. `outer`: bytes of a tunnel's headers.
    pub fn hear(&self, port: usize, count: usize, outer: u16) -> Vec<Mbuf> {
        hear(&self.small, &self.ports[port].far, count, outer)
    }

    pub fn totals(&self) -> Vec<PortTotals> {
        let read = |port: &Port| {
            port.opened.device.link();
            port.counters.totals()
        };
        self.ports.iter().map(read).collect()
    }

    /// A shortcut; `translated`: to other addresses and ports.
    pub fn shortcut(&self, way: Way, packet: Packet, translated: bool) -> Shortcut {
        let (arrival, out) = way.ports();
        let number = |port: usize| self.ports[port].opened.device.shortcut_end().unwrap();
        let ends = |of: [&str; 2]| {
            let [source, destination] = of.map(|end| end.parse::<SocketAddr>().unwrap());
            Ends { source, destination }
        };
        let (arriving, others) = match packet {
            Packet::Tcp4 | Packet::Udp4 => {
                (["10.4.0.1:1000", "10.4.0.2:80"], ["10.5.255.1:3001", "192.0.2.77:8080"])
            }
            _ => (["[fefe::1]:1000", "[fefe::2]:80"], ["[fd01::ffff:1]:3001", "[2001:db8::77]:8080"]),
        };
        let tunnel = TunnelEnds { vni: 0x12_3456, ..TUNNEL };
        let macs = [MacAddr([2, 0, 0, 0, 9, 1]), MacAddr([2, 0, 0, 0, 9, 2])];
        Shortcut {
            arrival: number(arrival),
            out: number(out),
            protocol: if packet.is_tcp() { 6 } else { 17 },
            arriving: ends(arriving),
            leaving: ends(if translated { others } else { arriving }),
            mtu: MTU,
            own_mac: if way == Way::UplinkToPod { UPLINK } else { OWN },
            sender_mac: (arrival == A).then_some(POD),
            macs: [MacAddr([2, 0, 0, 0, 8, 1]), MacAddr([2, 0, 0, 0, 8, 2])],
            from: (way == Way::TunnelToPod).then_some(TUNNEL),
            into: (way == Way::PodToTunnel).then_some(Wrapping { ends: tunnel, macs, source_port: 0x9abc }),
        }
    }
}

/// Shortcuts where connections are forgotten after so many milliseconds.
pub fn shortcuts(forgotten_after: u64) -> Arc<Shortcuts> {
    Arc::new(Shortcuts::new(Duration::from_millis(forgotten_after)))
}

/// Waits until a socket has heard so many frames, and then a little.
pub fn hear(pool: &Mempool, mut socket: &File, count: usize, outer: u16) -> Vec<Mbuf> {
    let patience = Duration::from_millis(if count == 0 { 20 } else { 2_000 });
    let (mut until, mut frames, mut buffer) = (Instant::now() + patience, Vec::new(), vec![0; 70_000]);
    while Instant::now() < until {
        let Ok(length) = socket.read(&mut buffer) else { continue };
        let (header, bytes) = buffer[..length].split_first_chunk().unwrap();
        let mut frame = chained(pool, bytes, 300, 1999);
        let offload = virtio_header::decode(header, frame.head().len()).unwrap();
        let outer = if offload.gso.is_some() { outer } else { 0 };
        frame.set_offload(Offload { outer, ..offload });
        frames.push(frame);
        if frames.len() >= count {
            until = Instant::now() + Duration::from_millis(2);
        }
    }
    frames
}
