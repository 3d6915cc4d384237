//! Stage: ARP and neighbour discovery are answered for the gateway, and for what is routed elsewhere.
//!
//! A pod's link has two ends: itself and its router. So the router's MAC address is the answer for its own addresses
//! and for everything that it routes to another port. A pod's question for its own address (a probe for duplicates)
//! gets none, and nothing of one pod's traffic ever reaches another. Comes in: a message. Goes out: the answer.
//! Drops: messages that are malformed or not for this router.

use super::answer::{resize, turn_round};
use super::run::{Context, Pipeline};
use super::{Egress, WorkerCounter};
use crate::port::{DropReason, Frame, Offload};
use crate::tables::{Address, PortRole, Route};
use crate::wire::parse::{Addresses, Parsed};
use crate::wire::{IpProtocol, MacAddr, arp, ethernet, ipv6, ndisc};
use core::net::Ipv6Addr;

/// All nodes of the link: where advertisements go whose asker has no address yet (RFC 4291, section 2.7.1).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

impl Pipeline {
    /// An ARP message.
    pub(super) fn arp<F: Frame>(&mut self, context: &Context<'_>, mut frame: F, egress: &mut impl Egress<F>) {
        let outcome = match frame.head_mut().get_mut(ethernet::LEN..).map(arp::HeaderMut::new_checked) {
            Some(Ok(mut message)) => {
                let header = message.as_header();
                let from_peer = !context.port.spoof_check || header.sender_mac() == context.port.mac;
                match header.operation() {
                    arp::REQUEST if !from_peer => Err(DropReason::SpoofedMac),
                    arp::REQUEST if answers_for(context, header.target_ip().into()) => {
                        message.make_reply(context.port.own_mac);
                        Ok(())
                    }
                    arp::REQUEST => Err(DropReason::NeighbourForeign),
                    // Nothing to learn: the peer's address is configured.
                    _ => Err(DropReason::Consumed),
                }
            }
            _ => Err(DropReason::NeighbourMalformed),
        };
        self.answer_neighbour(context, frame, outcome, egress);
    }

    /// A neighbour discovery message.
    pub(super) fn ndisc<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        egress: &mut impl Egress<F>,
    ) {
        let outcome = advertisement(context, &frame, parsed).and_then(|reply| {
            let written = write(&mut frame, context, reply);
            if written { Ok(()) } else { Err(DropReason::NoHeadroom) }
        });
        self.answer_neighbour(context, frame, outcome, egress);
    }

    fn answer_neighbour<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        outcome: Result<(), DropReason>,
        egress: &mut impl Egress<F>,
    ) {
        match outcome {
            Ok(()) if turn_round(&mut frame, context) => {
                frame.set_offload(Offload::NONE);
                self.counters.add(WorkerCounter::NeighbourAnswers, 1);
                egress.send(context.arrival, frame);
            }
            Ok(()) => egress.drop_frame(DropReason::Truncated, frame),
            Err(reason) => egress.drop_frame(reason, frame),
        }
    }
}

/// Whether this router is the way to an address, as seen from the port.
fn answers_for(context: &Context<'_>, target: Address) -> bool {
    // On a link that many share the kernel speaks for the node.
    if context.port.role == PortRole::Uplink && context.port.mac == MacAddr::default() {
        return false;
    }
    let gateway = context.tables.gateway;
    if target == gateway.ipv4.into() || target == gateway.ipv6.into() {
        return true;
    }
    match context.tables.routes.lookup(target) {
        Some(Route::Local) => true,
        // What is of one link has no way to it through a router, least of all by the default route: the peer that probes
        // its own link-local address for duplicates would be told that there is one.
        Some(_) if target.is_link_local() => false,
        Some(_) => context.tables.routes.port_toward(target).is_some_and(|port| port != context.arrival),
        None => context.tables.services.is_service_address(target),
    }
}

/// A message that answers, and where it goes.
struct Advertisement {
    message: ndisc::Fields,
    source: Ipv6Addr,
    destination: Ipv6Addr,
}

fn advertisement<F: Frame>(
    context: &Context<'_>,
    frame: &F,
    parsed: &Parsed,
) -> Result<Advertisement, DropReason> {
    let Addresses::V6 { source, destination } = parsed.addresses else {
        return Err(DropReason::NeighbourMalformed);
    };
    let envelope = ndisc::Envelope { source, destination, hop_limit: parsed.ttl };
    let begin = usize::from(parsed.l4);
    let message = frame.head().get(begin..begin + parsed.l4_len() as usize);
    let header = ndisc::Header::new_checked(message.ok_or(DropReason::Truncated)?, &envelope)
        .map_err(|_| DropReason::NeighbourMalformed)?;
    let asker = if source.is_unspecified() { ALL_NODES } else { source };
    match header {
        ndisc::Header::NeighbourSolicitation { target, .. } if answers_for(context, target.into()) => {
            let solicited = if source.is_unspecified() { 0 } else { ndisc::FLAG_SOLICITED };
            let flags = ndisc::FLAG_ROUTER | ndisc::FLAG_OVERRIDE | solicited;
            let message =
                ndisc::Fields::NeighbourAdvertisement { target, target_mac: context.port.own_mac, flags };
            Ok(Advertisement { message, source: target, destination: asker })
        }
        ndisc::Header::NeighbourSolicitation { .. } => Err(DropReason::NeighbourForeign),
        // Addresses and routes are configured at the pod, so nobody is offered any.
        ndisc::Header::RouterSolicitation { .. }
        | ndisc::Header::NeighbourAdvertisement { .. }
        | ndisc::Header::RouterAdvertisement { .. } => Err(DropReason::Consumed),
    }
}

/// Writes the answer over the question, from the IP header on.
fn write<F: Frame>(frame: &mut F, context: &Context<'_>, reply: Advertisement) -> bool {
    if !resize(frame, ethernet::LEN + ipv6::LEN + ndisc::LEN) || !turn_round(frame, context) {
        return false;
    }
    let head = frame.head_mut();
    head[12..14].copy_from_slice(&[0x86, 0xdd]);
    let Some((ip, message)) =
        head.get_mut(ethernet::LEN..).and_then(|packet| packet.split_first_chunk_mut::<{ ipv6::LEN }>())
    else {
        return false;
    };
    let header = ipv6::Fields {
        source: reply.source,
        destination: reply.destination,
        next_header: IpProtocol::ICMPV6,
        hop_limit: ndisc::HOP_LIMIT,
        traffic_class: 0,
        payload_len: ndisc::LEN as u16,
    };
    header.emit(ip);
    let Some(message) = message.first_chunk_mut::<{ ndisc::LEN }>() else { return false };
    reply.message.emit(message, reply.source, reply.destination);
    true
}
