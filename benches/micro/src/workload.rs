//! A node with a client port, two backends and some services, and bursts through its pipeline.

use crate::packets::{Family, MACS, SERVICE_PORT, packet, vip_v4, vip_v6};
use ipnet::IpNet;
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Line, Timeouts};
use millrace_fastpath::pipeline::{Egress, Nanos, Pipeline, WorkerCounters};
use millrace_fastpath::port::{BURST, BufferFrame, Burst, DropReason, PortId};
use millrace_fastpath::sync::{Domain, Reader, Region};
use millrace_fastpath::tables::{
    Address, Adjacency, Backend, BackendSet, Balancing, Frontend, FrontendKey, Gateway, Pool, PortInfo,
    PortRole, Route, ServiceId, TableSet, WhenEmpty,
};
use millrace_fastpath::wire::MacAddr;
use millrace_ffi::flow_memory::FlowMemory;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CLIENT: PortId = PortId(0);
const SERVER: PortId = PortId(1);

/// What runs.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// IP version.
    pub family: Family,
    /// Distinct flows, in an order that repeats only after all of them.
    pub flows: u32,
    /// Services that are loaded; flows are spread over them.
    pub services: u32,
}

/// A pipeline and the packets for it.
pub struct Workload {
    tables: TableSet,
    pipeline: Pipeline,
    reader: Reader,
    packets: Vec<Vec<u8>>,
    next: usize,
    spare: Vec<BufferFrame>,
    sink: Sink,
    now: Nanos,
}

/// Takes the frames back for the next burst.
struct Sink {
    frames: Vec<BufferFrame>,
    dropped: u64,
}

impl Egress<BufferFrame> for Sink {
    #[inline]
    fn send(&mut self, _port: PortId, frame: BufferFrame) {
        self.frames.push(frame);
    }

    fn drop_frame(&mut self, _reason: DropReason, frame: BufferFrame) {
        self.dropped += 1;
        self.frames.push(frame);
    }
}

impl Workload {
    /// Sets a node up. The flow table has room for four times the flows.
    ///
    /// # Panics
    /// When there is no memory for it: a benchmark cannot go on.
    pub fn new(shape: Shape) -> Workload {
        match Workload::team(shape, 1).pop() {
            Some(workload) => workload,
            None => panic!("a team of one"),
        }
    }

    /// Several workers over one flow table and one set of tables, each with its share of the flows.
    ///
    /// # Panics
    /// As [`Workload::new`].
    pub fn team(shape: Shape, workers: usize) -> Vec<Workload> {
        let domain = Domain::new(workers);
        let connections = (shape.flows * 2).next_power_of_two().max(4096);
        let timeouts = Timeouts { udp_unreplied: 100_000, ..Timeouts::default() };
        let config = FlowTableConfig { connections, secret: [0x9e37_79b9, 2, 3, 4], timeouts };
        let memory = FlowMemory::try_new(FlowTable::lines(connections), true);
        let flows = memory.ok().and_then(|memory| FlowTable::try_new(config, memory.region, &domain).ok());
        let clients = 1024;
        let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(clients)));
        let affinity = AffinityTable::try_new(clients, [1, 2, 3, 4], memory).ok();
        let (Some(flows), Some(affinity)) = (flows.map(Arc::new), affinity.map(Arc::new)) else {
            panic!("no memory")
        };
        let tables = tables(shape.services);
        let worker = |number: usize| {
            let Some(reader) = domain.register() else { panic!("more workers than readers") };
            let counters = Arc::new(WorkerCounters::default());
            let pipeline =
                Pipeline::new(Arc::clone(&flows), Arc::clone(&affinity), counters, number as u64 + 1);
            Workload::of_worker(shape, (number, workers), tables.clone(), pipeline, reader)
        };
        (0..workers).map(worker).collect()
    }

    fn of_worker(
        shape: Shape,
        (number, workers): (usize, usize),
        tables: TableSet,
        pipeline: Pipeline,
        mut reader: Reader,
    ) -> Workload {
        reader.online();
        Workload {
            tables,
            pipeline,
            reader,
            packets: shuffled(shape.flows)
                .filter(|flow| *flow as usize % workers == number)
                .map(|flow| packet(shape.family, flow, flow % shape.services))
                .collect(),
            next: 0,
            spare: (0..BURST).map(|_| BufferFrame::new(&[0; 128])).collect(),
            sink: Sink { frames: Vec::with_capacity(BURST), dropped: 0 },
            now: Nanos(1 << 40),
        }
    }

    /// Sends so many packets through the pipeline; gives the time spent in it.
    ///
    /// # Panics
    /// When a packet was dropped: that would measure something else.
    pub fn run(&mut self, packets: usize) -> Duration {
        let mut spent = Duration::ZERO;
        let mut burst = Burst::new();
        for _ in 0..packets.div_ceil(BURST) {
            for mut frame in self.spare.drain(..) {
                frame.refill(&self.packets[self.next]);
                self.next = (self.next + 1) % self.packets.len();
                burst.push(frame);
            }
            self.now.0 += 2_000;
            let begin = Instant::now();
            self.pipeline.run(&self.tables, CLIENT, &mut burst, self.now, &mut self.sink);
            self.reader.quiesce();
            self.pipeline.maintain(self.now);
            spent += begin.elapsed();
            self.spare.append(&mut self.sink.frames);
        }
        assert_eq!(self.sink.dropped, 0, "packets were dropped");
        spent
    }

    /// Distinct flows.
    pub fn flows(&self) -> usize {
        self.packets.len()
    }
}

/// 0 to `count`, in an order that no prefetcher guesses: a full cycle of a linear congruence.
fn shuffled(count: u32) -> impl Iterator<Item = u32> {
    let size = count.next_power_of_two();
    let mut at = 1_u32;
    (0..size).filter_map(move |_| {
        at = at.wrapping_mul(1_664_525).wrapping_add(1_013_904_223) % size;
        (at < count).then_some(at)
    })
}

fn tables(services: u32) -> TableSet {
    let [g0, g1, g2, g3, g4, g5, s0, s1, s2, s3, s4, s5] = MACS;
    let gateway_mac = MacAddr([g0, g1, g2, g3, g4, g5]);
    let gateway = Gateway {
        mac: gateway_mac,
        ipv4: "169.254.1.1".parse().unwrap_or(std::net::Ipv4Addr::UNSPECIFIED),
        ipv6: "fe80::1".parse().unwrap_or(std::net::Ipv6Addr::UNSPECIFIED),
    };
    let mut tables = TableSet::empty(gateway);
    let ports = [
        (CLIENT, MacAddr([s0, s1, s2, s3, s4, s5]), ["10.1.0.0/16", "fd01::/64"]),
        (SERVER, MacAddr([2, 0, 0, 0, 0, 2]), ["10.2.0.0/16", "fd02::/64"]),
    ];
    for (port, mac, prefixes) in ports {
        tables.ports.insert(
            port,
            PortInfo {
                mac,
                own_mac: gateway_mac,
                mtu: 1500,
                spoof_check: true,
                role: PortRole::Pod,
                companion: None,
            },
        );
        let adjacency =
            Adjacency { port, mtu: 1500, destination_mac: mac, source_mac: gateway_mac, tunnel: None };
        let id = tables.routes.add_adjacency(adjacency);
        for prefix in prefixes.iter().filter_map(|prefix| prefix.parse::<IpNet>().ok()) {
            tables.routes.insert(prefix, Route::Via(id));
        }
    }
    for service in 0..services {
        let v4 = [0x0a02_0001, 0x0a02_0002].map(Address::from_v4);
        let v6 = [1, 2].map(|host| Address::from_v6((0xfd02 << 112) + host));
        for (vip, backends) in [(vip_v4(service).into(), v4), (vip_v6(service).into(), v6)] {
            add_service(&mut tables, ServiceId(service + 1), vip, &backends);
        }
    }
    tables
}

fn add_service(tables: &mut TableSet, service: ServiceId, vip: Address, backends: &[Address]) {
    let backends: Vec<Backend> = backends.iter().map(|&address| Backend { address, port: 8080 }).collect();
    for backend in &backends {
        tables.services.set_serving(service, *backend, true);
    }
    let backends = Arc::new(BackendSet::new(backends, Balancing::Maglev));
    let frontend = Frontend::cluster_ip(service, Pool { backends, when_empty: WhenEmpty::Reject });
    tables.services.insert(FrontendKey { address: vip, port: SERVICE_PORT, protocol: 17 }, frontend);
}
