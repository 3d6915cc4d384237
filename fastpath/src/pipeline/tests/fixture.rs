//! A node with two pods and a service, its packets, and an account of what moved.
//!
//! ```text
//!   pod A (port 1)  10.0.0.1  fd00::1 ─┐
//!                                      ├─ node (gateway 169.254.1.1, fe80::1)
//!   pod B (port 2)  10.0.0.2  fd00::2 ─┘
//!   service 10.96.0.1 / fd96::1, port 80 ─► pod B, port 8080 (TCP, UDP, SCTP)
//!   after `add_uplink`: node 192.0.2.1 / 2001:db8::1, the world at port 3
//! ```

use crate::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Line, Timeouts};
use crate::pipeline::{Egress, Nanos, Pipeline, Report, Wait, WorkerCounter, WorkerCounters};
use crate::port::{BufferFrame, Burst, DropReason, Frame, PortId};
use crate::sync::{Domain, Reader, Region};
use crate::tables::{
    AddressSet, Adjacency, Backend, BackendSet, Balancing, Frontend, FrontendKey, FrontendKind, Gateway,
    Masquerade, Pool, PortInfo, PortRole, Route, ServiceId, SourcePorts, TableSet, WhenEmpty,
};
use crate::wire::MacAddr;
use etherparse::PacketBuilder;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

pub(super) const GATEWAY_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0xfe]);
pub(super) const A: PortId = PortId(1);
pub(super) const B: PortId = PortId(2);
pub(super) const UPLINK: PortId = PortId(3);
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const SCTP: u8 = 132;

/// Everything that left a port, in order, and why frames were dropped.
#[derive(Default)]
pub(super) struct Sink {
    pub(super) sent: Vec<(PortId, BufferFrame)>,
    pub(super) dropped: Vec<DropReason>,
    pub(super) parked: Vec<(Wait, BufferFrame)>,
    pub(super) reports: Vec<Report>,
}

impl Egress<BufferFrame> for Sink {
    fn send(&mut self, port: PortId, frame: BufferFrame) {
        self.sent.push((port, frame));
    }

    fn drop_frame(&mut self, reason: DropReason, _frame: BufferFrame) {
        self.dropped.push(reason);
    }

    fn park(&mut self, wait: &Wait, frame: BufferFrame) {
        self.parked.push((*wait, frame));
    }

    fn report(&mut self, report: Report) {
        self.reports.push(report);
    }
}

pub(super) struct Node {
    pub(super) tables: TableSet,
    pub(super) pipeline: Pipeline,
    pub(super) sink: Sink,
    pub(super) now: Nanos,
    counters: Arc<WorkerCounters>,
    expected: HashMap<&'static str, u64>,
    reader: Reader,
}

/// The addresses of pod A, pod B, the service and the gateway in one family.
#[derive(Clone, Copy, Debug)]
pub(super) struct Net {
    pub(super) a: IpAddr,
    pub(super) b: IpAddr,
    pub(super) vip: IpAddr,
    pub(super) gateway: IpAddr,
    /// The node's own address, once it has an uplink.
    pub(super) node: IpAddr,
    /// A client outside of the cluster.
    pub(super) client: IpAddr,
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(super) fn families() -> [Net; 2] {
    [
        Net {
            a: ip("10.0.0.1"),
            b: ip("10.0.0.2"),
            vip: ip("10.96.0.1"),
            gateway: ip("169.254.1.1"),
            node: ip("192.0.2.1"),
            client: ip("198.51.100.7"),
        },
        Net {
            a: ip("fd00::1"),
            b: ip("fd00::2"),
            vip: ip("fd96::1"),
            gateway: ip("fe80::1"),
            node: ip("2001:db8::1"),
            client: ip("2001:db8:9::7"),
        },
    ]
}

pub(super) fn mac_of(port: PortId) -> MacAddr {
    MacAddr([2, 0, 0, 0, 0, port.0 as u8])
}

impl Node {
    pub(super) fn new() -> Node {
        let domain = Domain::new(2);
        let connections = 4096;
        let config = FlowTableConfig { connections, secret: [11, 22, 33, 44], timeouts: Timeouts::default() };
        let memory = Region::from_heap(Line::zeroed(FlowTable::lines(connections)));
        let flows = Arc::new(FlowTable::try_new(config, memory, &domain).unwrap());
        let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(1024)));
        let affinity = Arc::new(AffinityTable::try_new(1024, [5, 6, 7, 8], memory).unwrap());
        let counters = Arc::new(WorkerCounters::default());
        let mut reader = domain.register().unwrap();
        reader.online();
        Node {
            tables: tables(),
            pipeline: Pipeline::new(flows, affinity, counters.clone(), 7),
            sink: Sink::default(),
            now: Nanos(1 << 40),
            counters,
            expected: HashMap::new(),
            reader,
        }
    }

    /// Runs one frame that arrived by a port; gives what left, if anything.
    pub(super) fn run(&mut self, port: PortId, frame: BufferFrame) -> Option<(PortId, BufferFrame)> {
        let mut burst = Burst::new();
        burst.push(frame);
        let before = self.sink.sent.len();
        self.pipeline.run(&self.tables, port, &mut burst, self.now, &mut self.sink);
        assert!(burst.is_empty());
        self.pipeline.maintain(self.now);
        self.reader.quiesce();
        self.expect(WorkerCounter::Frames, 1);
        (self.sink.sent.len() > before).then(|| self.sink.sent.pop().unwrap())
    }

    /// Goes on with what waited; gives what left, if anything.
    pub(super) fn run_parked(&mut self) -> Option<(PortId, BufferFrame)> {
        let (wait, frame) = self.sink.parked.remove(0);
        let mut burst = Burst::new();
        burst.push(frame);
        self.pipeline.run_again(&self.tables, wait.arrival, &mut burst, self.now, &mut self.sink);
        self.sink.sent.pop()
    }

    /// Says that a counter has moved.
    pub(super) fn expect(&mut self, counter: WorkerCounter, by: u64) {
        let name = WorkerCounter::ALL[counter as usize].1;
        *self.expected.entry(name).or_default() += by;
    }

    /// Checks all counters against what was expected, and the drops in their order.
    #[track_caller]
    pub(super) fn check(&mut self, drops: &[DropReason]) {
        for (counter, name) in WorkerCounter::ALL {
            let expected = self.expected.get(name).copied().unwrap_or(0);
            assert_eq!(self.counters.get(counter), expected, "counter {name}");
        }
        assert_eq!(self.sink.dropped, drops);
    }

    /// Gives the node an address and a port to the world.
    pub(super) fn add_uplink(&mut self) {
        self.tables.ports.insert(UPLINK, port_info(UPLINK, PortRole::Uplink));
        let id = self.tables.routes.add_adjacency(Adjacency {
            port: UPLINK,
            mtu: 1500,
            destination_mac: mac_of(UPLINK),
            source_mac: GATEWAY_MAC,
            tunnel: None,
        });
        for everything in ["0.0.0.0/0", "::/0"] {
            self.tables.routes.insert(everything.parse().unwrap(), Route::Via(id));
        }
        for net in families() {
            self.tables.routes.insert(net.node.into(), Route::Local);
        }
        let [v4, v6] = families().map(|net| net.node);
        if let (IpAddr::V4(v4), IpAddr::V6(v6)) = (v4, v6) {
            self.tables.masquerade = Masquerade {
                ipv4: Some(v4),
                ipv6: Some(v6),
                toward_host: (None, None),
                ports: SourcePorts { first: 50_000, last: 50_999 },
                outgoing: None,
            };
        }
        let ranges = ["10.0.0.0/8", "fd00::/16"].map(|range| range.parse().unwrap());
        self.tables.pod_ranges = Arc::new(AddressSet::new(ranges));
    }

    /// Adds a frontend with one backend, pod B's port 8080, and lets `adapt` change it.
    pub(super) fn add_frontend(
        &mut self,
        address: IpAddr,
        port: u16,
        kind: FrontendKind,
        adapt: impl Fn(&mut Frontend),
    ) -> ServiceId {
        let net = families().into_iter().find(|net| net.b.is_ipv4() == address.is_ipv4()).unwrap();
        let backend = Backend { address: net.b.into(), port: 8080 };
        let service = ServiceId(1000 + u32::from(port));
        for protocol in [TCP, UDP, SCTP] {
            let key = FrontendKey { address: address.into(), port, protocol };
            let mut frontend = Frontend { kind, ..Frontend::cluster_ip(service, pool(vec![backend])) };
            adapt(&mut frontend);
            self.tables.services.insert(key, frontend);
        }
        self.tables.services.set_serving(service, backend, true);
        service
    }

    pub(super) fn answered_drops(&self, reason: DropReason) -> u64 {
        self.counters.drops(reason)
    }

    pub(super) fn flows(&self) -> usize {
        self.pipeline.tracker().table().flows(self.now.ticks()).count()
    }

    /// Gives the service these backends, all of them serving.
    pub(super) fn set_backends(&mut self, backends: &[(IpAddr, u16)]) {
        let backends: Vec<Backend> =
            backends.iter().map(|&(address, port)| Backend { address: address.into(), port }).collect();
        for net in families() {
            let own: Vec<Backend> = backends
                .iter()
                .copied()
                .filter(|backend| backend.address.is_v4() == net.vip.is_ipv4())
                .collect();
            for protocol in [TCP, UDP, SCTP] {
                let key = FrontendKey { address: net.vip.into(), port: 80, protocol };
                let service = ServiceId(u32::from(protocol));
                let former =
                    self.tables.services.insert(key, Frontend::cluster_ip(service, pool(own.clone())));
                for old in former.iter().flat_map(|frontend| frontend.inside.backends.backends()) {
                    self.tables.services.set_serving(service, *old, false);
                }
                for new in &own {
                    self.tables.services.set_serving(service, *new, true);
                }
            }
        }
        self.tables.epoch += 1;
    }
}

/// A pool that rejects when it is empty.
pub(super) fn pool(backends: Vec<Backend>) -> Pool {
    Pool { backends: Arc::new(BackendSet::new(backends, Balancing::Maglev)), when_empty: WhenEmpty::Reject }
}

fn tables() -> TableSet {
    let gateway =
        Gateway { mac: GATEWAY_MAC, ipv4: "169.254.1.1".parse().unwrap(), ipv6: "fe80::1".parse().unwrap() };
    let mut tables = TableSet::empty(gateway);
    for net in families() {
        for (port, address) in [(A, net.a), (B, net.b)] {
            tables.ports.insert(port, port_info(port, PortRole::Pod));
            let id = tables.routes.add_adjacency(Adjacency {
                port,
                mtu: 1500,
                destination_mac: mac_of(port),
                source_mac: GATEWAY_MAC,
                tunnel: None,
            });
            tables.routes.insert(address.into(), Route::Via(id));
        }
        tables.routes.insert(net.gateway.into(), Route::Local);
    }
    for net in families() {
        for protocol in [TCP, UDP, SCTP] {
            let backend = Backend { address: net.b.into(), port: 8080 };
            let service = ServiceId(u32::from(protocol));
            tables.services.insert(
                FrontendKey { address: net.vip.into(), port: 80, protocol },
                Frontend::cluster_ip(service, pool(vec![backend])),
            );
            tables.services.set_serving(service, backend, true);
        }
    }
    tables
}

/// One packet, to be built.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) from: PortId,
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) protocol: u8,
    pub(super) ports: (u16, u16),
    pub(super) ttl: u8,
    pub(super) flags: &'static str,
    pub(super) payload: usize,
    /// TCP's numbers, and the window scale option.
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) scale: Option<u8>,
    pub(super) mss: Option<u16>,
    /// SCTP's verification tag, the first chunk's type and flags, and what INIT asks for.
    pub(super) tag: u32,
    pub(super) chunk: (u8, u8),
    pub(super) initiate: Option<u32>,
}

impl Packet {
    pub(super) fn new(
        from: PortId,
        source: IpAddr,
        destination: IpAddr,
        protocol: u8,
        ports: (u16, u16),
    ) -> Self {
        Packet {
            from,
            source,
            destination,
            protocol,
            ports,
            ttl: 64,
            flags: "S",
            payload: 10,
            seq: 1000,
            ack: 2000,
            window: 4000,
            scale: None,
            mss: None,
            tag: 0,
            chunk: (0, 1),
            initiate: None,
        }
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(mac_of(self.from).0, GATEWAY_MAC.0);
        let ip = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                ethernet.ipv4(source.octets(), destination.octets(), self.ttl)
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                ethernet.ipv6(source.octets(), destination.octets(), self.ttl)
            }
            other => panic!("{other:?}"),
        };
        let payload: Vec<u8> = (0..self.payload).map(|byte| byte as u8).collect();
        let mut bytes = Vec::new();
        let (source, destination) = self.ports;
        match self.protocol {
            UDP => ip.udp(source, destination).write(&mut bytes, &payload).unwrap(),
            TCP => {
                let mut tcp = ip.tcp(source, destination, self.seq, self.window);
                if let Some(scale) = self.scale {
                    tcp = tcp.options(&[etherparse::TcpOptionElement::WindowScale(scale)]).unwrap();
                }
                if let Some(mss) = self.mss {
                    tcp = tcp.options(&[etherparse::TcpOptionElement::MaximumSegmentSize(mss)]).unwrap();
                }
                for flag in self.flags.chars() {
                    tcp = match flag {
                        'S' => tcp.syn(),
                        'A' => tcp.ack(self.ack),
                        'F' => tcp.fin(),
                        'R' => tcp.rst(),
                        _ => panic!("{flag}"),
                    };
                }
                tcp.write(&mut bytes, &payload).unwrap();
            }
            SCTP => {
                let mut sctp = Vec::new();
                sctp.extend(source.to_be_bytes());
                sctp.extend(destination.to_be_bytes());
                sctp.extend(self.tag.to_be_bytes());
                sctp.extend([0; 4]);
                sctp.extend(&payload);
                if let Some(chunk) = sctp.get_mut(12..14) {
                    chunk.copy_from_slice(&[self.chunk.0, self.chunk.1]);
                }
                if let Some(tag) = self.initiate {
                    sctp[16..20].copy_from_slice(&tag.to_be_bytes());
                }
                let crc = crate::wire::crc32c::crc32c(&sctp);
                sctp[8..12].copy_from_slice(&crc.to_le_bytes());
                ip.write(&mut bytes, etherparse::IpNumber(SCTP), &sctp).unwrap();
            }
            1 => ip.icmpv4_echo_request(source, 1).write(&mut bytes, &payload).unwrap(),
            58 => ip.icmpv6_echo_request(source, 1).write(&mut bytes, &payload).unwrap(),
            other => panic!("{other}"),
        }
        bytes
    }

    pub(super) fn frame(&self) -> BufferFrame {
        BufferFrame::new(&self.bytes())
    }
}

/// What an independent parser finds in a frame, after it has checked every checksum.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    pub(super) macs: ([u8; 6], [u8; 6]),
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    pub(super) ports: (u16, u16),
    pub(super) ttl: u8,
    pub(super) payload: Vec<u8>,
}

#[track_caller]
pub(super) fn see(frame: &BufferFrame) -> Seen {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    let headers = PacketHeaders::from_ethernet_slice(frame.head()).unwrap();
    let payload = headers.payload.slice().to_vec();
    let Some(etherparse::LinkHeader::Ethernet2(link)) = headers.link else { panic!("no Ethernet header") };
    let (source, destination, ttl) = match headers.net.as_ref().unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4 header checksum");
            (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.time_to_live)
        }
        NetHeaders::Ipv6(ip, _) => (IpAddr::from(ip.source), IpAddr::from(ip.destination), ip.hop_limit),
        other => panic!("{other:?}"),
    };
    let mut ports = (0, 0);
    let mut body = payload.clone();
    match (headers.transport, headers.net.as_ref().unwrap()) {
        (Some(TransportHeader::Udp(udp)), NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(ip, &payload).unwrap(), "UDP checksum");
            ports = (udp.source_port, udp.destination_port);
        }
        (Some(TransportHeader::Udp(udp)), NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, &payload).unwrap(), "UDP checksum");
            ports = (udp.source_port, udp.destination_port);
        }
        (Some(TransportHeader::Tcp(tcp)), NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, &payload).unwrap(), "TCP checksum");
            ports = (tcp.source_port, tcp.destination_port);
        }
        (Some(TransportHeader::Tcp(tcp)), NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, &payload).unwrap(), "TCP checksum");
            ports = (tcp.source_port, tcp.destination_port);
        }
        (Some(TransportHeader::Icmpv4(icmp)), _) => {
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(&payload), "ICMP checksum");
        }
        (Some(TransportHeader::Icmpv6(icmp)), NetHeaders::Ipv6(ip, _)) => {
            let wanted = icmp.icmp_type.calc_checksum(ip.source, ip.destination, &payload).unwrap();
            assert_eq!(icmp.checksum, wanted, "ICMPv6 checksum");
        }
        (None, _) if payload.len() >= 12 => {
            // SCTP, which etherparse does not know.
            ports =
                (u16::from_be_bytes([payload[0], payload[1]]), u16::from_be_bytes([payload[2], payload[3]]));
            let mut zeroed = payload.clone();
            zeroed[8..12].fill(0);
            let crc = crate::wire::crc32c::crc32c(&zeroed);
            assert_eq!(payload[8..12], crc.to_le_bytes(), "SCTP checksum");
            body = payload[12..].to_vec();
        }
        other => panic!("{other:?}"),
    }
    Seen { macs: (link.destination, link.source), source, destination, ports, ttl, payload: body }
}

/// A port as the tables have it. Only pods are held to their own addresses.
fn port_info(port: PortId, role: PortRole) -> PortInfo {
    PortInfo {
        mac: mac_of(port),
        own_mac: GATEWAY_MAC,
        mtu: 1500,
        spoof_check: role == PortRole::Pod,
        role,
        companion: None,
    }
}
