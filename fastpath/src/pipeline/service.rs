//! Stage: a connection to a service is given an endpoint.
//!
//! Comes in: the first packet of a flow. Goes out: the 5-tuple that it leaves with, which is its own unless it is addressed
//! to a frontend. Drops: senders outside of the source ranges; services without a usable endpoint; ports that a
//! ClusterIP does not have. Rules: `pkg/proxy/iptables/proxier.go` of Kubernetes, in the order of its chains.

use super::answer::Answer;
use super::resolve::Refusal;
use super::run::Context;
use super::trace::{Notes, TraceStep};
use crate::conntrack::{AffinityTable, FlowKey};
use crate::port::DropReason;
use crate::tables::{
    Address, Backend, Frontend, FrontendKey, Pool, PortRole, ServiceId, TableSet, WhenEmpty,
};
use crate::wire::parse::{L4Kind, Parsed};

/// Where a flow goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Target {
    /// The 5-tuple that its packets leave with; the source port is yet to be found if `masqueraded`.
    pub(super) rewritten: FlowKey,
    pub(super) service: ServiceId,
    /// Whether the source is this node's address.
    pub(super) masqueraded: bool,
    /// The endpoint that the client is to stay with.
    pub(super) binds: Option<Backend>,
}

/// What becomes of the 5-tuple of a flow that begins: an endpoint in place of a service's address, and the node's address in
/// place of a pod's that leaves the cluster.
pub(super) fn translate(
    context: &Context<'_>,
    affinity: &AffinityTable,
    parsed: &Parsed,
    key: &FlowKey,
    hash: u64,
    notes: &mut impl Notes,
) -> Result<Target, Refusal> {
    let mut target = serve(context, affinity, parsed, key, hash, notes)?;
    if let Some(address) = outgoing(context, &target) {
        notes.note(TraceStep::LeavesCluster { address });
        target.rewritten.source = address;
        let has_ports = matches!(parsed.kind, L4Kind::Tcp | L4Kind::Udp | L4Kind::Sctp | L4Kind::IcmpEcho(_));
        // What has no ports is told apart by addresses alone.
        target.masqueraded = has_ports;
    }
    Ok(target)
}

/// The node's address, if a pod's connection leaves the cluster under it.
fn outgoing(context: &Context<'_>, target: &Target) -> Option<Address> {
    let masquerade = &context.tables.masquerade;
    let outgoing = masquerade.outgoing.as_ref()?;
    let (source, destination) = (target.rewritten.source, target.rewritten.destination);
    let leaves = context.port.role == PortRole::Pod
        && !target.masqueraded
        && outgoing.applies(source, destination)
        && context.tables.role_toward(destination) == Some(PortRole::Uplink);
    let (ipv4, ipv6) = (masquerade.ipv4.map(Address::from), masquerade.ipv6.map(Address::from));
    (if source.is_v4() { ipv4 } else { ipv6 }).filter(|_| leaves)
}

/// Chooses an endpoint, when the destination is a service's.
fn serve(
    context: &Context<'_>,
    affinity: &AffinityTable,
    parsed: &Parsed,
    key: &FlowKey,
    hash: u64,
    notes: &mut impl Notes,
) -> Result<Target, Refusal> {
    let services = &context.tables.services;
    let has_ports = matches!(parsed.kind, L4Kind::Tcp | L4Kind::Udp | L4Kind::Sctp);
    let Some(frontend) = services.frontend(&frontend_key(key)).filter(|_| has_ports) else {
        if services.is_service_address(key.destination) {
            return Err(rejection(parsed, DropReason::NoService));
        }
        notes.note(TraceStep::NoFrontend);
        return Ok(Target { rewritten: *key, service: ServiceId::NONE, masqueraded: false, binds: None });
    };
    let origin = context.tables.origin(context.port.role, key.source);
    let pool = frontend.pool(origin);
    let usable = pool.backends.backends().len();
    notes.note(TraceStep::Frontend { service: frontend.service, kind: frontend.kind, origin, usable });
    if let Some(sources) = &frontend.sources {
        if !sources.contains(key.source) {
            return Err(Refusal::Drop(DropReason::SourceRange));
        }
        notes.note(TraceStep::Admitted);
    }
    let backend = match bound(context, affinity, frontend, pool, key) {
        Some(backend) => {
            notes.note(TraceStep::Bound { backend: *backend });
            backend
        }
        None => pool.backends.choose(hash).ok_or_else(|| match pool.when_empty {
            WhenEmpty::Drop => Refusal::Drop(DropReason::NoBackend),
            WhenEmpty::Reject => rejection(parsed, DropReason::NoBackend),
        })?,
    };
    notes.note(TraceStep::Backend { backend: *backend });
    let hairpin = backend.address == key.source;
    let masqueraded = hairpin || frontend.masquerades(origin);
    let mut target = toward(key, backend, frontend);
    if masqueraded {
        let address = masquerade_address(context.tables, key, backend);
        notes.note(TraceStep::Masqueraded { address, hairpin });
        target.rewritten.source = address;
        target.masqueraded = true;
    }
    Ok(target)
}

/// The endpoint that the client stays with, if that may still be used.
fn bound<'a>(
    context: &Context<'_>,
    affinity: &AffinityTable,
    frontend: &Frontend,
    pool: &'a Pool,
    key: &FlowKey,
) -> Option<&'a Backend> {
    let timeout = frontend.affinity?;
    let digest = affinity.find(frontend.service, key.source, context.now.ticks(), timeout)?;
    pool.backends.find(digest)
}

fn toward(key: &FlowKey, backend: &Backend, frontend: &Frontend) -> Target {
    Target {
        rewritten: FlowKey { destination: backend.address, destination_port: backend.port, ..*key },
        service: frontend.service,
        masqueraded: false,
        binds: frontend.affinity.map(|_| *backend),
    }
}

/// The node's address, or what stands for it toward the node itself.
fn masquerade_address(tables: &TableSet, key: &FlowKey, backend: &Backend) -> Address {
    let is_v4 = key.source.is_v4();
    match tables.leads_to_host(backend.address) {
        true => tables.masquerade.address_toward_host(is_v4, &tables.gateway, &tables.routes),
        false => tables.masquerade.address(is_v4, &tables.gateway),
    }
}

/// Nobody serves this: the sender learns it at once.
fn rejection(parsed: &Parsed, reason: DropReason) -> Refusal {
    match parsed.kind {
        L4Kind::Tcp => Refusal::Answer(Answer::Reset, reason),
        _ => Refusal::Answer(Answer::PORT_UNREACHABLE, reason),
    }
}

/// The frontend that a packet with this key is addressed to.
pub(super) fn frontend_key(key: &FlowKey) -> FrontendKey {
    FrontendKey { address: key.destination, port: key.destination_port, protocol: key.protocol }
}
