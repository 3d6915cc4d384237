//! Making a flow: an entry for each direction, under a source port that tells its replies from all others.

use super::resolve::{Refusal, neighbour};
use super::run::{Context, Pipeline};
use super::service::Target;
use crate::conntrack::{EntryFlags, EntryRef, FlowKey, NewFlow, NotTracked, Verdict};
use crate::port::{DropReason, PortId};
use crate::tables::{PortRole, Route, ServiceId, SourcePorts};
use crate::wire::IpProtocol;

/// How many source ports are tried for a flow.
const ATTEMPTS: u32 = 128;
/// Source ports that are taken in place of a sender's own that is taken: all but the privileged.
const UNPRIVILEGED: SourcePorts = SourcePorts { first: 1024, last: u16::MAX };

impl Pipeline {
    /// Makes the flow of a packet, both directions.
    pub(super) fn track(
        &mut self,
        context: &Context<'_>,
        key: &FlowKey,
        hash: u64,
        target: &Target,
    ) -> Result<EntryRef, Refusal> {
        let tables = context.tables;
        let (forward, out) = neighbour(tables, target.rewritten.destination, hash)?;
        check_transit(context, target.service, out.port)?;
        let (mut back, _) = neighbour(tables, key.source, hash)?;
        let back_route = tables.routes.lookup(key.source);
        let back_spreads = matches!(back_route, Some(Route::Spread(_)));
        let verdict = |rewritten, adjacency, arrival| Verdict {
            rewritten,
            adjacency,
            arrival,
            service: target.service,
            epoch: tables.epoch,
            flags: EntryFlags::default(),
        };
        let ports = if target.masqueraded { tables.masquerade.ports } else { UNPRIVILEGED };
        let mut rewritten = target.rewritten;
        let mut searching = target.masqueraded;
        for _ in 0..ATTEMPTS {
            if searching && !self.next_source_port(ports, &mut rewritten) {
                continue;
            }
            if back_spreads {
                // Replies are spread by their own hash, as they will be when their way is looked up again.
                let reply = rewritten.reversed().words().hash(self.tracker.table().secret());
                back = back_route.and_then(|route| tables.routes.choose(route, reply)).unwrap_or(back);
            }
            let flow = NewFlow {
                key: *key,
                original: verdict(rewritten, forward, context.arrival),
                reply: Some(verdict(key.reversed(), back, out.port)),
            };
            match self.tracker.insert(&flow, context.now.ticks()) {
                Ok(number) => {
                    if let Some(backend) = target.binds {
                        let now = context.now.ticks();
                        self.affinity.keep(target.service, key.source, backend.digest(), now);
                    }
                    return Ok(number);
                }
                Err(NotTracked::Exists(number)) => return Ok(number),
                Err(NotTracked::Contended) => {}
                Err(NotTracked::Full) => return Err(Refusal::Drop(DropReason::FlowTableFull)),
                Err(NotTracked::ReplyTaken) => searching = true,
            }
        }
        Err(Refusal::Drop(DropReason::NoSourcePort))
    }

    /// Gives the key the next source port on this worker's way through the range; false when replies to it would be
    /// another flow's. The way begins at a secret place for every destination (RFC 6056, section 3.3.3), so ports
    /// cannot be guessed, and are used again as late as possible.
    fn next_source_port(&mut self, ports: SourcePorts, key: &mut FlowKey) -> bool {
        let table = self.tracker.table();
        let begin = FlowKey { source_port: 0, ..*key }.words().hash(table.secret());
        key.source_port = ports.at((begin as u32 >> 1).wrapping_add(self.next_port));
        self.next_port = self.next_port.wrapping_add(1);
        if matches!(IpProtocol(key.protocol), IpProtocol::ICMPV4 | IpProtocol::ICMPV6) {
            key.destination_port = key.source_port;
        }
        // A look costs less than an insertion that fails.
        let reply = key.reversed().words();
        table.find(&reply, reply.hash(table.secret())).is_none()
    }
}

/// What comes by an uplink leaves by one only for a service: this node is no router for others, and two nodes that took each
/// other for the way to somewhere would send a packet to and fro until its TTL ends. Between different uplinks it may be
/// asked to be one.
pub(super) fn check_transit(context: &Context<'_>, service: ServiceId, out: PortId) -> Result<(), Refusal> {
    let tables = context.tables;
    let leaves = || tables.ports.get(out).is_some_and(|port| port.role == PortRole::Uplink);
    let returns = out == context.arrival || (!tables.transit && leaves());
    match context.port.role == PortRole::Uplink && service == ServiceId::NONE && returns {
        true => Err(Refusal::Drop(DropReason::Transit)),
        false => Ok(()),
    }
}
