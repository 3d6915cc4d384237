//! Any bytes as a frame on an uplink with a tunnel end and a companion: taken out of its tunnel, or passed on as it is, or dropped,
//! through the whole packet path.
//!
//! The first byte says how many outer headers are made right: 0 none, 1 the frame's own IPv4 checksum, 2 or more: the rest of
//! the input is the inner frame of a sound packet from a known node.

use crate::frames::seed_frames;
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Line, Timeouts};
use millrace_fastpath::pipeline::{Egress, Nanos, Pipeline, WorkerCounters};
use millrace_fastpath::port::{BufferFrame, Burst, DropReason, Frame, PortId};
use millrace_fastpath::sync::{Domain, Reader, Region};
use millrace_fastpath::tables::{
    Adjacency, Gateway, PortInfo, PortRole, Route, TableSet, Tunnel, VXLAN_PORT, Vni, Vtep,
};
use millrace_fastpath::wire::{IpProtocol, MacAddr, ipv4, udp, vxlan};
use std::cell::RefCell;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

const UPLINK: PortId = PortId(1);
const HOST: PortId = PortId(2);
const NIC: MacAddr = MacAddr([2; 6]);
const OWN: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
const NETWORK: u32 = 77;
const OUTER: usize = 50;

/// Counts what leaves; every frame must be accounted for.
#[derive(Default)]
struct Sink(usize);

impl Egress<BufferFrame> for Sink {
    fn send(&mut self, port: PortId, frame: BufferFrame) {
        assert!([UPLINK, HOST].contains(&port) && frame.total_len() >= 12);
        self.0 += 1;
    }

    fn drop_frame(&mut self, _: DropReason, _: BufferFrame) {
        self.0 += 1;
    }
}

struct Node {
    tables: TableSet,
    pipeline: Pipeline,
    reader: Reader,
    now: u64,
}

thread_local! {
    static NODE: RefCell<Node> = RefCell::new(Node::new());
}

/// Runs one input.
pub fn check(data: &[u8]) {
    let [right, bytes @ ..] = data else { return };
    let mut frame = match right {
        0 | 1 => bytes.to_vec(),
        _ => encapsulated(bytes),
    };
    if *right == 1
        && let Some(ip) = frame.get_mut(14..)
        && let Ok(mut header) = ipv4::HeaderMut::new_checked(ip)
    {
        header.fill_checksum();
    }
    NODE.with_borrow_mut(|node| node.run(&frame));
}

/// Writes the inputs to start from: each kind of frame inside of a sound packet.
pub fn write_seeds(directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    for (name, frame) in seed_frames() {
        std::fs::write(directory.join(format!("inner-{name}")), [&[2][..], frame].concat())?;
        std::fs::write(directory.join(format!("outer-{name}")), [&[1][..], &encapsulated(frame)].concat())?;
    }
    Ok(())
}

fn encapsulated(inner: &[u8]) -> Vec<u8> {
    let datagram = (inner.len() + udp::LEN + vxlan::LEN) as u16;
    let mut frame = vec![0; OUTER];
    frame[..12].fill(2);
    frame[6] = 4;
    frame[12] = 8;
    let ip = ipv4::Fields {
        source: PEER,
        destination: OWN,
        protocol: IpProtocol::UDP,
        ttl: 64,
        traffic_class: 0,
        identification: 1,
        do_not_fragment: true,
        payload_len: datagram,
    };
    ip.emit(frame[14..34].first_chunk_mut().expect("an IPv4 header has 20 bytes"));
    let header = udp::Fields { source_port: 40_000, destination_port: VXLAN_PORT, len: datagram };
    header.emit(frame[34..42].first_chunk_mut().expect("a UDP header has 8 bytes"));
    frame[42..].copy_from_slice(&vxlan::header(NETWORK));
    frame.extend(inner);
    frame
}

impl Node {
    fn new() -> Node {
        let domain = Domain::new(1);
        let config =
            FlowTableConfig { connections: 1024, secret: [1, 2, 3, 4], timeouts: Timeouts::default() };
        let memory = Region::from_heap(Line::zeroed(FlowTable::lines(1024)));
        let flows = FlowTable::try_new(config, memory, &domain).expect("there is enough memory");
        let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(64)));
        let affinity = AffinityTable::try_new(64, [5, 6, 7, 8], memory).expect("there is enough memory");
        let mut reader = domain.register().expect("the domain has room for one");
        reader.online();
        let counters = Arc::new(WorkerCounters::default());
        let pipeline = Pipeline::new(Arc::new(flows), Arc::new(affinity), counters, 7);
        Node { tables: tables(), pipeline, reader, now: 1 << 40 }
    }

    fn run(&mut self, bytes: &[u8]) {
        let (mut burst, mut sink) = (Burst::new(), Sink::default());
        burst.push(BufferFrame::new(bytes));
        self.now += 1_000_000;
        self.pipeline.run(&self.tables, UPLINK, &mut burst, Nanos(self.now), &mut sink);
        assert!(burst.is_empty() && sink.0 >= 1, "a frame is sent or dropped");
        self.pipeline.maintain(Nanos(self.now));
        self.reader.quiesce();
    }
}

fn tables() -> TableSet {
    let gateway =
        Gateway { mac: MacAddr([6; 6]), ipv4: Ipv4Addr::new(169, 254, 1, 1), ipv6: Ipv6Addr::LOCALHOST };
    let mut tables = TableSet::empty(gateway);
    for (id, own_mac, role, companion) in
        [(UPLINK, NIC, PortRole::Uplink, HOST), (HOST, gateway.mac, PortRole::Host, UPLINK)]
    {
        let mac = MacAddr::default();
        let companion = Some(companion);
        tables.ports.insert(id, PortInfo { mac, own_mac, mtu: 1500, spoof_check: false, role, companion });
    }
    let vni = Vni::try_new(NETWORK).expect("a network has 24 bits");
    let vtep = Vtep { addresses: [OWN.into()].into(), mac: NIC, vni, udp_port: VXLAN_PORT };
    tables.tunnels.set_vtep(Some(vtep));
    tables.tunnels.set_peer(PEER.into(), true);
    let tunnel = tables.tunnels.insert(Tunnel {
        port: UPLINK,
        destination_mac: MacAddr([8; 6]),
        source_mac: NIC,
        local: OWN.into(),
        remote: PEER.into(),
        vni,
        udp_port: VXLAN_PORT,
        checksum: true,
    });
    for (range, port, tunnel) in
        [("10.1.0.0/24", HOST, None), ("10.0.0.0/8", UPLINK, tunnel), ("fd00::/16", HOST, None)]
    {
        let (destination_mac, source_mac) = (MacAddr([8; 6]), NIC);
        let way =
            tables.routes.add_adjacency(Adjacency { port, mtu: 1450, destination_mac, source_mac, tunnel });
        tables.routes.insert(range.parse().expect("a prefix"), Route::Via(way));
    }
    tables
}
