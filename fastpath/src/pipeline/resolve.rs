//! Stage: a packet without a valid verdict gets one.
//!
//! Comes in: a packet that begins a flow, or whose flow's verdict is of an older epoch. Goes out: a packet on its way
//! with its flow in the table, or an answer to its sender. Drops: bad and spoofed addresses, no route, no service, no
//! backend, TTL, size, invalid first packets, no room.

use super::answer::Answer;
use super::brief::Brief;
use super::forward::{apply, fits};
use super::run::{Context, Pipeline, addresses};
use super::{Egress, WorkerCounter};
use crate::conntrack::{EntryFlags, EntryRef, FlowKey, NewFlow, NotTracked, TcpSeen, TcpState, Verdict};
use crate::port::{DropReason, Frame, PortId};
use crate::tables::{
    Address, Adjacency, AdjacencyId, Backend, FrontendKey, Route, ServiceId, TableSet, WhenEmpty,
};
use crate::wire::IpProtocol;
use crate::wire::parse::{Family, IcmpEcho, L4Kind, Parsed};

/// How often another source port, or another look, is tried for a flow that another one stands in the way of.
const ATTEMPTS: usize = 32;
/// Source ports that are taken in place of one that is taken: all but the privileged.
const FIRST_SOURCE_PORT: u16 = 1024;

/// Why a packet is not forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// In silence.
    Drop(DropReason),
    /// With an answer to the sender.
    Answer(Answer, DropReason),
    /// It is for this node itself.
    Local,
}

/// Where a flow goes.
#[derive(Clone, Copy)]
struct Target {
    rewritten: FlowKey,
    service: ServiceId,
}

impl Pipeline {
    /// Gives a packet its verdict and carries it out.
    #[inline(never)]
    pub(super) fn resolve<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        hash: u64,
        egress: &mut impl Egress<F>,
    ) {
        let key = flow_key(parsed);
        let verdict = self.verdict(context, parsed, &key, hash).and_then(|number| {
            let adjacency = self.admit(context, &frame, parsed, number)?;
            Ok((number, adjacency))
        });
        match verdict {
            Ok((number, adjacency)) => {
                if parsed.first_fragment {
                    self.first_fragment(context, parsed, number);
                }
                let entry = self.tracker.entry(number);
                entry.touch(context.now.ticks());
                if parsed.kind == L4Kind::Tcp {
                    entry.note_tcp(TcpSeen::of_flags(parsed.tcp_flags));
                }
                match apply(&mut frame, &Brief::of(parsed), &entry, &adjacency) {
                    true => egress.send(adjacency.port, frame),
                    false => egress.drop_frame(DropReason::Truncated, frame),
                }
            }
            Err(refusal) => self.refuse(context, frame, parsed, refusal, egress),
        }
    }

    /// The entry whose verdict is valid for this packet; made or brought up to date if need be.
    fn verdict(
        &mut self,
        context: &Context<'_>,
        parsed: &Parsed,
        key: &FlowKey,
        hash: u64,
    ) -> Result<EntryRef, Refusal> {
        if let Some(number) = self.tracker.table().find(&key.words(), hash) {
            if self.may_continue(context, parsed, number) {
                return self.revalidate(context, key, number);
            }
            self.tracker.remove(number);
        }
        check_source(context, key)?;
        may_begin(parsed)?;
        let target = translate(context.tables, parsed, key, hash)?;
        self.track(context, key, target)
    }

    /// Whether a packet belongs to the flow that has its key; otherwise that is forgotten and another begins.
    fn may_continue(&self, context: &Context<'_>, parsed: &Parsed, number: EntryRef) -> bool {
        let entry = self.tracker.entry(number);
        if parsed.kind == L4Kind::Tcp {
            let opens = TcpSeen::of_flags(parsed.tcp_flags) == TcpSeen::SYN;
            let peer = self.tracker.entry(number.peer());
            return !(opens && TcpState::of(entry.tcp_seen(), peer.tcp_seen()).is_over());
        }
        if parsed.kind != L4Kind::Udp || entry.epoch() == context.tables.epoch {
            return true;
        }
        // A UDP flow follows its service at once: its backend is gone, or its address has become a service's.
        let (key, rewritten) = (entry.key(), entry.rewritten());
        let services = &context.tables.services;
        match (entry.service(), number.is_reply()) {
            (ServiceId::NONE, true) => true,
            (ServiceId::NONE, false) => services.frontend(&frontend_key(&key)).is_none(),
            (service, true) => {
                services.is_serving(service, Backend { address: key.source, port: key.source_port })
            }
            (service, false) => services.is_serving(
                service,
                Backend { address: rewritten.destination, port: rewritten.destination_port },
            ),
        }
    }

    /// Brings the way out up to date, if the tables have changed since it was found; translation stays.
    fn revalidate(
        &self,
        context: &Context<'_>,
        key: &FlowKey,
        number: EntryRef,
    ) -> Result<EntryRef, Refusal> {
        let entry = self.tracker.entry(number);
        if entry.epoch() != context.tables.epoch || entry.arrival() != context.arrival {
            check_source(context, key)?;
            let (id, _) = neighbour(context.tables, entry.rewritten().destination)?;
            entry.reroute(id, context.arrival, context.tables.epoch);
        }
        Ok(number)
    }

    /// Makes the flow, both directions.
    fn track(&mut self, context: &Context<'_>, key: &FlowKey, target: Target) -> Result<EntryRef, Refusal> {
        let tables = context.tables;
        let (forward, out) = neighbour(tables, target.rewritten.destination)?;
        let (back, _) = neighbour(tables, key.source)?;
        let verdict = |rewritten, adjacency, arrival| Verdict {
            rewritten,
            adjacency,
            arrival,
            service: target.service,
            epoch: tables.epoch,
            flags: EntryFlags::default(),
        };
        let mut rewritten = target.rewritten;
        for _ in 0..ATTEMPTS {
            let flow = NewFlow {
                key: *key,
                original: verdict(rewritten, forward, context.arrival),
                reply: Some(verdict(key.reversed(), back, out.port)),
            };
            match self.tracker.insert(&flow, context.now.ticks()) {
                Ok(number) | Err(NotTracked::Exists(number)) => return Ok(number),
                Err(NotTracked::Contended) => {}
                Err(NotTracked::Full) => return Err(Refusal::Drop(DropReason::FlowTableFull)),
                Err(NotTracked::ReplyTaken) => self.change_source_port(&mut rewritten),
            }
        }
        Err(Refusal::Drop(DropReason::NoSourcePort))
    }

    fn change_source_port(&mut self, key: &mut FlowKey) {
        let span = u64::from(u16::MAX - FIRST_SOURCE_PORT) + 1;
        key.source_port = FIRST_SOURCE_PORT + (self.next_random() % span) as u16;
        let is_echo = matches!(IpProtocol(key.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6);
        if is_echo {
            key.destination_port = key.source_port;
        }
    }

    /// Whether the packet itself may go the flow's way: it has a hop left and fits.
    fn admit<F: Frame>(
        &self,
        context: &Context<'_>,
        frame: &F,
        parsed: &Parsed,
        number: EntryRef,
    ) -> Result<Adjacency, Refusal> {
        let id = self.tracker.entry(number).adjacency();
        let adjacency = context.tables.routes.adjacency(id).ok_or(Refusal::Drop(DropReason::PortGone))?;
        if parsed.ttl <= 1 {
            return Err(Refusal::Answer(Answer::TIME_EXCEEDED, DropReason::TtlExceeded));
        }
        if parsed.ip_total > u32::from(adjacency.mtu) && !fits(frame, &Brief::of(parsed), adjacency.mtu) {
            return Err(Refusal::Answer(Answer::too_big(adjacency.mtu), DropReason::TooBig));
        }
        Ok(*adjacency)
    }

    /// Answers or drops a packet that is not forwarded.
    pub(super) fn refuse<F: Frame>(
        &mut self,
        context: &Context<'_>,
        frame: F,
        parsed: &Parsed,
        refusal: Refusal,
        egress: &mut impl Egress<F>,
    ) {
        match refusal {
            Refusal::Drop(reason) => egress.drop_frame(reason, frame),
            Refusal::Answer(answer, reason) => self.answer(context, frame, parsed, answer, reason, egress),
            Refusal::Local => self.local(context, frame, parsed, egress),
        }
    }

    /// A packet for one of this node's own addresses: echo is answered, all else refused as a host would.
    fn local<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        egress: &mut impl Egress<F>,
    ) {
        if parsed.kind == L4Kind::IcmpEcho(IcmpEcho::Request) && !parsed.first_fragment {
            match super::answer::echo_reply(&mut frame, parsed, context) {
                true => {
                    self.counters.add(WorkerCounter::Answers, 1);
                    egress.send(context.arrival, frame);
                }
                false => egress.drop_frame(DropReason::Truncated, frame),
            }
            return;
        }
        let answer = if parsed.kind == L4Kind::Tcp { Answer::Reset } else { Answer::PORT_UNREACHABLE };
        self.answer(context, frame, parsed, answer, DropReason::Consumed, egress);
    }
}

/// The key of a packet's flow.
pub(super) fn flow_key(parsed: &Parsed) -> FlowKey {
    let (source, destination) = addresses(parsed);
    FlowKey {
        source,
        destination,
        source_port: parsed.source_port,
        destination_port: parsed.destination_port,
        protocol: parsed.protocol.0,
        fragment: false,
    }
}

/// Whether the sender may use this source address, and both addresses may be routed at all.
pub(super) fn check_source(context: &Context<'_>, key: &FlowKey) -> Result<(), Refusal> {
    let (source, destination) = (key.source, key.destination);
    if is_multicast(destination) {
        return Err(Refusal::Drop(DropReason::Multicast));
    }
    if source.is_unroutable() || destination.is_unroutable() || source.is_v4() != destination.is_v4() {
        return Err(Refusal::Drop(DropReason::BadAddress));
    }
    if !context.port.spoof_check || owns(context.tables, context.arrival, source) {
        return Ok(());
    }
    // An interface's own link-local address reaches its router, and no farther.
    let to_us = context.tables.routes.lookup(destination) == Some(Route::Local);
    if source.is_link_local() && to_us { Ok(()) } else { Err(Refusal::Drop(DropReason::SpoofedAddress)) }
}

/// Whether the way to an address is through this port.
fn owns(tables: &TableSet, port: PortId, address: Address) -> bool {
    match tables.routes.lookup(address) {
        Some(Route::Via(id)) => tables.routes.adjacency(id).is_some_and(|to| to.port == port),
        _ => false,
    }
}

fn is_multicast(address: Address) -> bool {
    if address.is_v4() { address.v4_bits() >= 0xe000_0000 } else { address.bits() >> 120 == 0xff }
}

/// Whether a packet can be the first of a flow.
fn may_begin(parsed: &Parsed) -> Result<(), Refusal> {
    let valid = match parsed.kind {
        L4Kind::Tcp => !TcpSeen::of_flags(parsed.tcp_flags).has(TcpSeen::RST),
        L4Kind::IcmpEcho(IcmpEcho::Reply) => false,
        // IPv4 addresses in IPv6's clothes are of no flow (RFC 4291, section 2.5.5.2).
        _ => true,
    };
    let mapped = parsed.family() == Family::V6 && {
        let (source, destination) = addresses(parsed);
        source.is_v4() || destination.is_v4()
    };
    match (valid, mapped) {
        (_, true) => Err(Refusal::Drop(DropReason::BadAddress)),
        (false, _) => Err(Refusal::Drop(DropReason::FlowInvalid)),
        (true, false) => Ok(()),
    }
}

/// Chooses a backend, when the destination is a service's.
fn translate(tables: &TableSet, parsed: &Parsed, key: &FlowKey, hash: u64) -> Result<Target, Refusal> {
    let has_ports = matches!(parsed.kind, L4Kind::Tcp | L4Kind::Udp | L4Kind::Sctp);
    if let Some(frontend) = tables.services.frontend(&frontend_key(key)).filter(|_| has_ports) {
        return match frontend.inside.backends.choose(hash) {
            Some(backend) => Ok(toward(tables, key, backend, frontend.service)),
            None if frontend.inside.when_empty == WhenEmpty::Drop => {
                Err(Refusal::Drop(DropReason::NoBackend))
            }
            None => Err(rejection(parsed, DropReason::NoBackend)),
        };
    }
    if tables.services.is_service_address(key.destination) {
        return Err(rejection(parsed, DropReason::NoService));
    }
    Ok(Target { rewritten: *key, service: ServiceId::NONE })
}

fn toward(tables: &TableSet, key: &FlowKey, backend: &Backend, service: ServiceId) -> Target {
    let mut rewritten = FlowKey { destination: backend.address, destination_port: backend.port, ..*key };
    if backend.address == key.source {
        // Hairpin: the pod would answer itself past us, so it sees its router as the client.
        rewritten.source =
            if key.source.is_v4() { tables.gateway.ipv4.into() } else { tables.gateway.ipv6.into() };
    }
    Target { rewritten, service }
}

/// Nobody serves this: the sender learns it at once.
fn rejection(parsed: &Parsed, reason: DropReason) -> Refusal {
    match parsed.kind {
        L4Kind::Tcp => Refusal::Answer(Answer::Reset, reason),
        _ => Refusal::Answer(Answer::PORT_UNREACHABLE, reason),
    }
}

fn frontend_key(key: &FlowKey) -> FrontendKey {
    FrontendKey { address: key.destination, port: key.destination_port, protocol: key.protocol }
}

/// The neighbour on the way to an address.
pub(super) fn neighbour(
    tables: &TableSet,
    destination: Address,
) -> Result<(AdjacencyId, Adjacency), Refusal> {
    let unreachable = Refusal::Answer(Answer::HOST_UNREACHABLE, DropReason::NoRoute);
    match tables.routes.lookup(destination) {
        Some(Route::Local) => Err(Refusal::Local),
        Some(Route::Via(id)) => match tables.routes.adjacency(id) {
            Some(adjacency) => Ok((id, *adjacency)),
            None => Err(unreachable),
        },
        None => Err(unreachable),
    }
}
