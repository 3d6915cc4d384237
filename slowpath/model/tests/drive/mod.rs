//! The real pipeline, given packets one by one; what comes out is read by code of its own.

mod wire;

use crate::reference::Outcome;
use crate::world::{Packet, World, mac};
use millrace_fastpath::conntrack::{AffinityTable, FlowTable, FlowTableConfig, Line, Timeouts};
use millrace_fastpath::pipeline::{Egress, Nanos, Pipeline, WorkerCounters};
use millrace_fastpath::port::{BufferFrame, Burst, DropReason, Frame, PortId};
use millrace_fastpath::sync::{Domain, Reader, Region};
use millrace_fastpath::tables::TableSet;
use std::sync::Arc;
use wire::Seen;

const FLOWS: u32 = 2048;
const CLIENTS: u32 = 64;
/// More than what the limit of ICMP errors lets pass is asked for: one packet a millisecond keeps below it.
const BETWEEN_PACKETS: u64 = 1_100_000;

#[derive(Default)]
struct Sink {
    sent: Vec<(PortId, BufferFrame)>,
    dropped: Vec<DropReason>,
}

impl Egress<BufferFrame> for Sink {
    fn send(&mut self, port: PortId, frame: BufferFrame) {
        self.sent.push((port, frame));
    }

    fn drop_frame(&mut self, reason: DropReason, _frame: BufferFrame) {
        self.dropped.push(reason);
    }
}

/// A worker with these tables.
pub(crate) struct Driver {
    pub(crate) tables: TableSet,
    pipeline: Pipeline,
    now: u64,
    reader: Reader,
    next_port: u16,
}

impl Driver {
    pub(crate) fn new(tables: TableSet, seed: u64) -> Self {
        let domain = Domain::new(1);
        let config =
            FlowTableConfig { connections: FLOWS, secret: [seed, 22, 33, 44], timeouts: Timeouts::default() };
        let memory = Region::from_heap(Line::zeroed(FlowTable::lines(FLOWS)));
        let flows = Arc::new(FlowTable::try_new(config, memory, &domain).unwrap());
        let memory = Region::from_heap(Line::zeroed(AffinityTable::lines(CLIENTS)));
        let affinity = Arc::new(AffinityTable::try_new(CLIENTS, [5, 6, 7, seed], memory).unwrap());
        let mut reader = domain.register().unwrap();
        reader.online();
        let pipeline = Pipeline::new(flows, affinity, Arc::new(WorkerCounters::default()), seed);
        Driver { tables, pipeline, now: 1 << 40, reader, next_port: 1024 }
    }

    /// What becomes of a packet, from a source port that was not used before.
    pub(crate) fn run(&mut self, packet: &Packet) -> Outcome {
        let source_port = self.next_port;
        self.next_port += 1;
        self.run_from(source_port, packet)
    }

    /// What becomes of a packet from a source port.
    pub(crate) fn run_from(&mut self, source_port: u16, packet: &Packet) -> Outcome {
        let packet = Packet { ports: (source_port, packet.ports.1), ..*packet };
        self.now += BETWEEN_PACKETS;
        let mut burst = Burst::new();
        burst.push(BufferFrame::new(&wire::build(
            &packet,
            mac(packet.arrival.port()).0,
            self.tables.gateway.mac.0,
        )));
        let mut sink = Sink::default();
        let arrival = PortId(packet.arrival.port());
        self.pipeline.run(&self.tables, arrival, &mut burst, Nanos(self.now), &mut sink);
        self.pipeline.maintain(Nanos(self.now));
        self.reader.quiesce();
        match (&sink.sent[..], &sink.dropped[..]) {
            ([], [reason]) => Outcome::Silence(*reason),
            ([(port, frame)], []) => outcome(&packet, *port, frame.head()),
            (sent, dropped) => panic!("{} sent and {dropped:?} dropped of {packet:?}", sent.len()),
        }
    }
}

fn outcome(packet: &Packet, by: PortId, frame: &[u8]) -> Outcome {
    assert_eq!(frame[..6], mac(by.0).0, "the peer's MAC address");
    match wire::see(frame, packet.protocol) {
        Seen::Reset { to } | Seen::PortUnreachable { to } => {
            assert_eq!((to, by.0), (packet.source, packet.arrival.port()), "an answer goes back");
            Outcome::Refused
        }
        Seen::Packet { source, destination } if source == (packet.source, packet.ports.0) => {
            Outcome::Leaves { by: by.0, to: destination, masqueraded: None }
        }
        Seen::Packet { source: (address, port), destination } => {
            let (first, last) = World::MASQUERADE_PORTS;
            assert!((first..=last).contains(&port), "source port {port} of {packet:?}");
            Outcome::Leaves { by: by.0, to: destination, masqueraded: Some(address) }
        }
    }
}
