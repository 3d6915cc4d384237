//! Stage: a packet without a valid verdict gets one.
//!
//! Comes in: a packet that begins a flow, or whose flow's verdict is of an older epoch. Goes out: a packet on its way
//! with its flow in the table, or an answer to its sender. Drops: bad and spoofed addresses, no route, no service, no
//! backend, TTL, size, invalid first packets, no room.

use super::answer::Answer;
use super::brief::Brief;
use super::clamp::clamp;
use super::forward::apply;
use super::fragmentation::Fit;
use super::run::{Context, Pipeline, addresses};
use super::service::{frontend_key, translate};
use super::track::check_transit;
use super::{Egress, Wait, WorkerCounter};
use crate::conntrack::{Entry, EntryRef, FlowKey, FlowTable, Judgment, Shown};
use crate::port::{DropReason, Frame, PortId};
use crate::tables::{
    Address, Adjacency, AdjacencyId, Backend, PortRole, RefusedRoute, Route, ServiceId, TableSet,
};
use crate::wire::icmp_error::Problem;
use crate::wire::parse::{Family, IcmpEcho, L4Kind, Parsed};

/// Why a packet is not forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) enum Refusal {
    /// In silence.
    Drop(DropReason),
    /// With an answer to the sender.
    Answer(Answer, DropReason),
    /// It is for this node itself.
    Local,
    /// It waits: the MAC address of its next hop is not known yet.
    Unresolved {
        /// The uplink behind which the next hop is.
        port: PortId,
        /// The next hop.
        address: Address,
    },
    /// It goes on without a flow: of a connection of this node's own network stack that came past the data path.
    Past(AdjacencyId),
}

/// What a packet is to the flow that has its key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// It belongs to it.
    Continues,
    /// It begins another: that one is over, or led to an endpoint that serves no more.
    Anew,
    /// The connection's endpoint serves no more, and connections to such are to be reset.
    Reset,
    /// It only looks as if it did: a RST that its receiver cannot have asked for.
    Invalid,
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
        let brief = Brief::of(parsed);
        let shown = brief.shown(frame.head());
        let verdict = self.verdict(context, parsed, &shown, &key, hash).and_then(|number| {
            let adjacency = self.admit(context, &frame, &brief, number)?;
            Ok((number, adjacency))
        });
        match verdict {
            Ok((number, adjacency)) => {
                if parsed.first_fragment {
                    self.first_fragment(context, parsed, number);
                }
                let entry = self.tracker.entry(number);
                entry.note(&self.tracker.entry(number.peer()), &shown, context.now.ticks());
                if context.tables.clamp_mss {
                    clamp(context, &mut frame, &brief, &entry, &self.tracker.entry(number.peer()));
                }
                match apply(&mut frame, &brief, &entry, &adjacency) {
                    true => self.send(frame, &brief, (context.tables, &adjacency, hash), egress),
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
        shown: &Shown,
        key: &FlowKey,
        hash: u64,
    ) -> Result<EntryRef, Refusal> {
        if let Some(number) = self.tracker.table().find(&key.words(), hash) {
            match standing(context, self.tracker.table(), parsed, shown, number) {
                Standing::Continues => return self.revalidate(context, key, hash, number),
                Standing::Anew => self.tracker.remove(number),
                Standing::Invalid => return Err(Refusal::Drop(DropReason::FlowInvalid)),
                Standing::Reset => {
                    self.tracker.remove(number);
                    return Err(Refusal::Answer(Answer::Reset, DropReason::EndpointGone));
                }
            }
        }
        check_source(context, key)?;
        may_begin(parsed, shown).map_err(|refusal| past(context, key, hash).unwrap_or(refusal))?;
        let target = translate(context, &self.affinity, parsed, key, hash, &mut ())?;
        self.track(context, key, hash, &target)
    }

    /// Brings the way out up to date, if the tables have changed since it was found; translation stays.
    fn revalidate(
        &self,
        context: &Context<'_>,
        key: &FlowKey,
        hash: u64,
        number: EntryRef,
    ) -> Result<EntryRef, Refusal> {
        let entry = self.tracker.entry(number);
        if entry.epoch() != context.tables.epoch || entry.arrival() != context.arrival {
            check_source(context, key)?;
            let (id, way) = neighbour(context.tables, entry.rewritten().destination, hash)?;
            check_transit(context, entry.service(), way.port)?;
            entry.reroute(id, context.arrival, context.tables.epoch);
        }
        Ok(number)
    }

    /// Whether the packet itself may go the flow's way: it has a hop left and fits, whole or in parts.
    fn admit<F: Frame>(
        &self,
        context: &Context<'_>,
        frame: &F,
        packet: &Brief,
        number: EntryRef,
    ) -> Result<Adjacency, Refusal> {
        let id = self.tracker.entry(number).adjacency();
        let adjacency = context.tables.routes.adjacency(id).ok_or(Refusal::Drop(DropReason::PortGone))?;
        if packet.ttl <= 1 {
            return Err(Refusal::Answer(Answer::TIME_EXCEEDED, DropReason::TtlExceeded));
        }
        if Fit::of(frame, packet, adjacency.mtu) == Fit::Never {
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
            // That an endpoint is gone is known before any port is open.
            Refusal::Answer(_, reason) if !context.tables.settled && reason != DropReason::EndpointGone => {
                egress.drop_frame(reason, frame);
            }
            Refusal::Answer(answer, reason) => self.answer(context, frame, parsed, answer, reason, egress),
            Refusal::Local => self.local(context, frame, parsed, egress),
            Refusal::Unresolved { port, address } => {
                let wait = Wait { arrival: context.arrival, port, address, since: context.now };
                egress.park(&wait, frame);
            }
            Refusal::Past(way) => self.past(context, frame, parsed, way, egress),
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
                    self.send_back(context, frame, parsed, egress);
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
    let routable = |address: Address| !address.is_unroutable() || is_own_loopback(context, address);
    if !routable(source) || !routable(destination) || source.is_v4() != destination.is_v4() {
        return Err(Refusal::Drop(DropReason::BadAddress));
    }
    if context.port.role == PortRole::Uplink && is_of_this_node(context.tables, context.arrival, source) {
        return Err(Refusal::Drop(DropReason::SpoofedAddress));
    }
    if !context.port.spoof_check || owns(context.tables, context.arrival, source) {
        return Ok(());
    }
    // An interface's own link-local address reaches its router, and no farther.
    let to_us = context.tables.routes.lookup(destination) == Some(Route::Local);
    if source.is_link_local() && to_us { Ok(()) } else { Err(Refusal::Drop(DropReason::SpoofedAddress)) }
}

/// Whether it is this node's own network stack that speaks of its loopback addresses: at these, too, it may have services.
fn is_own_loopback(context: &Context<'_>, address: Address) -> bool {
    address.is_loopback() && context.port.role == PortRole::Host
}

/// Whether the way to an address is through this port.
fn owns(tables: &TableSet, port: PortId, address: Address) -> bool {
    tables.routes.port_toward(address) == Some(port)
}

/// Whether an address is this node's own or that of one of its pods: nobody outside sends from it.
fn is_of_this_node(tables: &TableSet, uplink: PortId, address: Address) -> bool {
    match tables.routes.port_toward(address) {
        Some(port) => {
            port != uplink && tables.ports.get(port).is_some_and(|port| port.role != PortRole::Uplink)
        }
        None => tables.routes.lookup(address) == Some(Route::Local),
    }
}

fn is_multicast(address: Address) -> bool {
    if address.is_v4() { address.v4_bits() >= 0xe000_0000 } else { address.bits() >> 120 == 0xff }
}

/// What a packet is to the flow that has its key, which stands in the table as `number`.
pub(super) fn standing(
    context: &Context<'_>,
    flows: &FlowTable,
    parsed: &Parsed,
    shown: &Shown,
    number: EntryRef,
) -> Standing {
    let entry = flows.entry(number);
    match entry.judge(&flows.entry(number.peer()), shown) {
        Judgment::OpensAnew => return Standing::Anew,
        Judgment::Invalid => return Standing::Invalid,
        Judgment::Valid | Judgment::Ignored => {}
    }
    let stale = entry.epoch() != context.tables.epoch;
    match parsed.kind {
        L4Kind::Tcp | L4Kind::Sctp => {
            let opens = shown.opens();
            match (stale || opens) && is_vanished(context.tables, &entry, number) {
                true if opens && !number.is_reply() => Standing::Anew,
                true if context.tables.reset_vanished && parsed.kind == L4Kind::Tcp => Standing::Reset,
                _ => Standing::Continues,
            }
        }
        // A UDP flow follows its service at once: its backend is gone, or its address has become a service's.
        L4Kind::Udp if stale && is_vanished(context.tables, &entry, number) => Standing::Anew,
        L4Kind::Udp if stale && entry.service() == ServiceId::NONE && !number.is_reply() => {
            match context.tables.services.frontend(&frontend_key(&entry.key())) {
                Some(_) => Standing::Anew,
                None => Standing::Continues,
            }
        }
        _ => Standing::Continues,
    }
}

/// Whether a flow was translated to an endpoint that serves its service no more.
fn is_vanished(tables: &TableSet, entry: &Entry<'_>, number: EntryRef) -> bool {
    let endpoint = if number.is_reply() {
        let key = entry.key();
        Backend { address: key.source, port: key.source_port }
    } else {
        let rewritten = entry.rewritten();
        Backend { address: rewritten.destination, port: rewritten.destination_port }
    };
    entry.service() != ServiceId::NONE && !tables.services.is_serving(entry.service(), endpoint)
}

/// Whether a packet can be the first of a flow.
pub(super) fn may_begin(parsed: &Parsed, shown: &Shown) -> Result<(), Refusal> {
    let valid = match parsed.kind {
        L4Kind::Tcp | L4Kind::Sctp => shown.may_begin(),
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

/// Of a packet that no flow explains: the way on, if it is between this node's own network stack and the world. The stack
/// may have a connection that began before the data path did, or that came another way, and knows best what to answer to
/// what is none.
pub(super) fn past(context: &Context<'_>, key: &FlowKey, hash: u64) -> Option<Refusal> {
    let to = context.tables.role_toward(key.destination)?;
    let between = (context.port.role, to);
    if !matches!(between, (PortRole::Uplink, PortRole::Host) | (PortRole::Host, PortRole::Uplink)) {
        return None;
    }
    match neighbour(context.tables, key.destination, hash) {
        Ok((id, _)) => Some(Refusal::Past(id)),
        Err(Refusal::Unresolved { port, address }) => Some(Refusal::Unresolved { port, address }),
        Err(_) => None,
    }
}

/// What a route does that leads nowhere, as Linux has it (`ip_error`, net/ipv4/route.c; `ip6_pkt_discard` and
/// `ip6_pkt_prohibit`, net/ipv6/route.c).
fn refused(how: RefusedRoute, destination: Address) -> Refusal {
    let unreachable = if destination.is_v4() { Problem::HostUnreachable } else { Problem::NoRoute };
    match how {
        RefusedRoute::Blackhole => Refusal::Drop(DropReason::RouteBlackhole),
        RefusedRoute::Unreachable => Refusal::Answer(Answer::Icmp(unreachable), DropReason::RouteUnreachable),
        RefusedRoute::Prohibit => Refusal::Answer(Answer::PROHIBITED, DropReason::RouteProhibit),
    }
}

/// The neighbour on the way to an address, of several the one for flows with this hash.
pub(super) fn neighbour(
    tables: &TableSet,
    destination: Address,
    hash: u64,
) -> Result<(AdjacencyId, Adjacency), Refusal> {
    let unreachable = Refusal::Answer(Answer::HOST_UNREACHABLE, DropReason::NoRoute);
    match tables.routes.lookup(destination) {
        Some(Route::Local) => Err(Refusal::Local),
        // No router forwards these (RFC 4291, section 2.5.6), whatever a default route says.
        _ if destination.is_link_local() && !destination.is_v4() => {
            Err(Refusal::Drop(DropReason::BadAddress))
        }
        Some(Route::OnLink(port)) => Err(Refusal::Unresolved { port, address: destination }),
        Some(Route::Refused(how)) => Err(refused(how, destination)),
        Some(route) => {
            let id = tables.routes.choose(route, hash).ok_or(unreachable)?;
            tables.routes.adjacency(id).map(|to| (id, *to)).ok_or(unreachable)
        }
        None => Err(unreachable),
    }
}
