//! What a packet would meet, without sending one.
//!
//! A trace runs the functions that a worker runs for a packet without a valid verdict, over the same tables, and writes
//! down what each of them decides. Workers pass `()` instead of a list, and the compiler removes the notes.

use super::Nanos;
use super::answer::Answer;
use super::resolve::{Refusal, Standing, check_source, flow_key, may_begin, neighbour, standing};
use super::run::Context;
use super::service::translate;
use super::track::check_transit;
use crate::conntrack::{AffinityTable, EntryRef, FlowKey, FlowState, FlowTable, Shown};
use crate::port::{DropReason, PortId};
use crate::tables::{Address, Adjacency, Backend, FrontendKind, Origin, Route, ServiceId, TableSet, Tunnel};
use crate::wire::icmp_error::Problem;
use crate::wire::parse::{Addresses, IcmpEcho, L4Kind, Parsed};
use crate::wire::{IpProtocol, ethernet};
use std::net::IpAddr;

/// A packet to be traced: the first of a connection, as a peer sends it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Probe {
    /// The port that it would arrive by.
    pub arrival: PortId,
    /// Its source address.
    pub source: Address,
    /// Its destination address, of the same family.
    pub destination: Address,
    /// Its source port; the identifier of an ICMP echo.
    pub source_port: u16,
    /// Its destination port; not looked at for an ICMP echo.
    pub destination_port: u16,
    /// Its protocol. TCP is traced with a SYN, ICMP with an echo request.
    pub protocol: IpProtocol,
    /// Bytes of the IP packet, which must not be fragmented: nearly all senders say so today.
    pub length: u16,
    /// Its TTL or hop limit.
    pub ttl: u8,
}

/// What one stage decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceStep {
    /// The flow table knows the packet's flow.
    KnownFlow {
        /// The state of the connection.
        state: FlowState,
        /// The service that it was translated for.
        service: ServiceId,
        /// Whether its verdict is of the present tables; else the way out is looked up again.
        current: bool,
    },
    /// The flow table knows the packet's flow, but the packet begins another: the old one is over, or its
    /// endpoint serves no more.
    FlowIsOver {
        /// The state of the connection.
        state: FlowState,
    },
    /// The flow table does not know it.
    NewFlow,
    /// The sender may use its source address.
    SourceOwned,
    /// The destination is a frontend.
    Frontend {
        /// Its service port.
        service: ServiceId,
        /// Why the service answers there.
        kind: FrontendKind,
        /// Where the sender is.
        origin: Origin,
        /// How many endpoints may be chosen.
        usable: usize,
    },
    /// The destination is no frontend.
    NoFrontend,
    /// The frontend's source ranges admit the sender.
    Admitted,
    /// The client stays with an endpoint by session affinity.
    Bound {
        /// The endpoint.
        backend: Backend,
    },
    /// The endpoint that is taken.
    Backend {
        /// The endpoint.
        backend: Backend,
    },
    /// The source becomes this node's address, with a port that is chosen when the flow is made.
    Masqueraded {
        /// The address.
        address: Address,
        /// Whether it is a pod that reaches itself.
        hairpin: bool,
    },
    /// The connection leaves the cluster: its source becomes this node's address, with a port that is chosen when the flow
    /// is made.
    LeavesCluster {
        /// The address.
        address: Address,
    },
    /// There are several ways out, one of which the connection's hash chooses.
    Spread {
        /// How many.
        ways: usize,
    },
    /// The way out is a tunnel to another node.
    Tunnel {
        /// That tunnel.
        tunnel: Tunnel,
    },
    /// The way out.
    Route {
        /// The address that the way leads to.
        destination: Address,
        /// The neighbour on it.
        neighbour: Adjacency,
    },
}

/// What becomes of the packet at last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TraceEnd {
    /// It leaves by a port.
    Sent {
        /// The port.
        port: PortId,
        /// The 5-tuple that it leaves with. Of a new masqueraded flow, the source port is not known yet.
        rewritten: FlowKey,
    },
    /// It waits until the MAC address of its next hop is found.
    Waits {
        /// The uplink behind which the next hop is.
        port: PortId,
        /// The next hop.
        address: Address,
    },
    /// It is for this node itself, which answers pings and nothing else.
    Local,
    /// The sender gets a TCP reset; the packet counts as dropped for this reason.
    Reset(DropReason),
    /// The sender gets an ICMP error; the packet counts as dropped for this reason.
    Icmp(Problem, DropReason),
    /// It is dropped in silence.
    Dropped(DropReason),
}

/// A packet's way through the stages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Trace {
    /// What the stages decide, in their order.
    pub steps: Vec<TraceStep>,
    /// What becomes of the packet.
    pub end: TraceEnd,
}

/// Takes notes of a packet's way.
pub(super) trait Notes {
    fn note(&mut self, step: TraceStep);
}

/// Workers take none.
impl Notes for () {
    #[inline(always)]
    fn note(&mut self, _: TraceStep) {}
}

impl Notes for Vec<TraceStep> {
    fn note(&mut self, step: TraceStep) {
        self.push(step);
    }
}

/// Tells what a packet would meet now. Nothing is changed, nothing is sent.
pub fn trace(
    tables: &TableSet,
    flows: &FlowTable,
    affinity: &AffinityTable,
    probe: &Probe,
    now: Nanos,
) -> Trace {
    let mut steps = Vec::new();
    let end = match tables.ports.get(probe.arrival) {
        Some(port) => {
            let adjacencies = tables.routes.adjacencies();
            let context = Context { tables, arrival: probe.arrival, port, now, adjacencies };
            walk(&context, flows, affinity, probe, &mut steps).unwrap_or_else(TraceEnd::from)
        }
        None => TraceEnd::Dropped(DropReason::PortGone),
    };
    Trace { steps, end }
}

fn walk(
    context: &Context<'_>,
    flows: &FlowTable,
    affinity: &AffinityTable,
    probe: &Probe,
    steps: &mut Vec<TraceStep>,
) -> Result<TraceEnd, Refusal> {
    let parsed = probe.parsed();
    let key = flow_key(&parsed);
    let words = key.words();
    let hash = words.hash(flows.secret());
    let known = flows.find(&words, hash);
    let rewritten = match known.filter(|&number| goes_on(context, flows, &parsed, number, steps)) {
        Some(number) => {
            if !is_current(context, flows, number) {
                check_source(context, &key)?;
            }
            flows.entry(number).rewritten()
        }
        None => {
            if known.is_none() {
                steps.note(TraceStep::NewFlow);
            }
            check_source(context, &key)?;
            steps.note(TraceStep::SourceOwned);
            may_begin(&parsed, &Shown::opening(parsed.protocol))?;
            let target = translate(context, affinity, &parsed, &key, hash, steps)?;
            let (_, way) = neighbour(context.tables, target.rewritten.destination, hash)?;
            check_transit(context, target.service, way.port)?;
            // A flow is made only if its replies find back.
            neighbour(context.tables, key.source, hash)?;
            target.rewritten
        }
    };
    let (_, way) = neighbour(context.tables, rewritten.destination, hash)?;
    note_way(context.tables, rewritten.destination, &way, steps);
    steps.note(TraceStep::Route { destination: rewritten.destination, neighbour: way });
    if parsed.ttl <= 1 {
        return Err(Refusal::Answer(Answer::TIME_EXCEEDED, DropReason::TtlExceeded));
    }
    if parsed.ip_total > u32::from(way.mtu) {
        return Err(Refusal::Answer(Answer::too_big(way.mtu), DropReason::TooBig));
    }
    Ok(TraceEnd::Sent { port: way.port, rewritten })
}

/// Notes how a way out was chosen, and what kind it is.
fn note_way(tables: &TableSet, destination: Address, way: &Adjacency, steps: &mut Vec<TraceStep>) {
    if let Some(Route::Spread(group)) = tables.routes.lookup(destination) {
        steps.note(TraceStep::Spread { ways: tables.routes.group(group).map_or(0, <[_]>::len) });
    }
    if let Some(tunnel) = way.tunnel.and_then(|id| tables.tunnels.get(id)) {
        steps.note(TraceStep::Tunnel { tunnel: *tunnel });
    }
}

/// Whether the packet continues a known flow; notes which.
fn goes_on(
    context: &Context<'_>,
    flows: &FlowTable,
    parsed: &Parsed,
    number: EntryRef,
    steps: &mut Vec<TraceStep>,
) -> bool {
    let (entry, peer) = (flows.entry(number), flows.entry(number.peer()));
    let state = if number.is_reply() { FlowState::of(&peer, &entry) } else { FlowState::of(&entry, &peer) };
    let shown = Shown::opening(parsed.protocol);
    let goes_on = matches!(standing(context, flows, parsed, &shown, number), Standing::Continues);
    let current = is_current(context, flows, number);
    steps.note(match goes_on {
        true => TraceStep::KnownFlow { state, service: entry.service(), current },
        false => TraceStep::FlowIsOver { state },
    });
    goes_on
}

/// Whether a flow's verdict is of the present tables and for this port.
fn is_current(context: &Context<'_>, flows: &FlowTable, number: EntryRef) -> bool {
    let entry = flows.entry(number);
    entry.epoch() == context.tables.epoch && entry.arrival() == context.arrival
}

impl Probe {
    /// The packet as the parser would show it.
    fn parsed(&self) -> Parsed {
        let addresses = match (self.source.to_ip(), self.destination.to_ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => Addresses::V4 { source, destination },
            _ => Addresses::V6 {
                source: self.source.bits().into(),
                destination: self.destination.bits().into(),
            },
        };
        let (kind, has_ports) = match self.protocol {
            IpProtocol::TCP => (L4Kind::Tcp, true),
            IpProtocol::UDP => (L4Kind::Udp, true),
            IpProtocol::SCTP => (L4Kind::Sctp, true),
            IpProtocol::ICMPV4 | IpProtocol::ICMPV6 => (L4Kind::IcmpEcho(IcmpEcho::Request), true),
            _ => (L4Kind::Other, false),
        };
        let port = |port: u16| if has_ports { port } else { 0 };
        let is_echo = matches!(kind, L4Kind::IcmpEcho(_));
        let header = if self.source.is_v4() { 20 } else { 40 };
        Parsed {
            addresses,
            l3: ethernet::LEN as u8,
            l4: ethernet::LEN as u16 + header,
            ip_total: u32::from(self.length),
            protocol: self.protocol,
            ttl: self.ttl,
            vlan: None,
            first_fragment: false,
            fragment_id: 0,
            kind,
            source_port: port(self.source_port),
            destination_port: port(if is_echo { self.source_port } else { self.destination_port }),
            tcp_flags: if kind == L4Kind::Tcp { 2 } else { 0 },
        }
    }
}

impl From<Refusal> for TraceEnd {
    fn from(refusal: Refusal) -> TraceEnd {
        match refusal {
            Refusal::Drop(reason) => TraceEnd::Dropped(reason),
            Refusal::Answer(Answer::Reset, reason) => TraceEnd::Reset(reason),
            Refusal::Answer(Answer::Icmp(problem), reason) => TraceEnd::Icmp(problem, reason),
            Refusal::Local => TraceEnd::Local,
            Refusal::Unresolved { port, address } => TraceEnd::Waits { port, address },
            // A packet that is traced begins a flow: it never needs to go on without one.
            Refusal::Past(_) => TraceEnd::Dropped(DropReason::FlowInvalid),
        }
    }
}
