//! Beside the stages: of an established connection between ports that have shortcuts the control thread is told, which may have the
//! kernel carry it from then on. Of UDP flows, too.
//!
//! Not at each packet: who has few is not worth the trouble. From the first time on the flow's entry says that packets may pass
//! unseen; what it would know of TCP's numbers it does not use any more.

use super::encapsulate::source_port;
use super::run::{Context, Pipeline, Slot};
use super::{Egress, Report};
use crate::conntrack::FlowView;
use crate::tables::{Address, Adjacency, PortRole};
use crate::wire::parse::L4Kind;

/// Of so many packets one is looked at.
const EVERY: u32 = 8;

impl Pipeline {
    /// Looks whether the connection of a packet, which was rewritten and goes to `way`, may have a shortcut.
    #[inline(never)]
    pub(super) fn offer_shortcut<F>(
        &mut self,
        context: &Context<'_>,
        flows: &FlowView<'_>,
        slot: &Slot,
        way: &Adjacency,
        egress: &mut impl Egress<F>,
    ) {
        let is_udp = slot.brief.kind == L4Kind::Udp;
        // Uplinks are received in two ways, of which that for datagrams makes a copy before the kernel could carry them. Not counted:
        // where questions and answers alternate, it would always be an answer that is looked at.
        if is_udp && context.port.role == PortRole::Uplink {
            return;
        }
        self.until_offer = self.until_offer.checked_sub(1).unwrap_or(EVERY - 1);
        let Some(number) = slot.guess.filter(|_| self.until_offer == 0) else { return };
        let (tables, entry) = (context.tables, flows.entry(number));
        let leaves = tables.shortcuts.contains(way.port) && has_words_for(context, way);
        let goes = is_udp || entry.is_established(&flows.entry(number.peer()));
        if !leaves || !goes || !is_arrival_known(context, entry.key().source) {
            return;
        }
        entry.shorten();
        egress.report(Report::Established {
            arrival: context.arrival,
            key: entry.key(),
            rewritten: entry.rewritten(),
            adjacency: entry.adjacency(),
            mark: source_port(slot.hash),
            epoch: tables.epoch,
        });
    }
}

/// Whether a shortcut can say how packets from there arrive: not out of a tunnel over IPv6.
fn is_arrival_known(context: &Context<'_>, source: Address) -> bool {
    let tables = context.tables;
    let tunnel =
        tables.routes.way(source).filter(|way| way.port == context.arrival).and_then(|way| way.tunnel);
    tunnel.and_then(|id| tables.tunnels.get(id)).is_none_or(|tunnel| tunnel.remote.is_v4())
}

/// Whether a shortcut can say how a packet gets there.
fn has_words_for(context: &Context<'_>, way: &Adjacency) -> bool {
    let tunnel = way.tunnel.map(|id| context.tables.tunnels.get(id));
    tunnel.is_none_or(|tunnel| tunnel.is_some_and(|tunnel| tunnel.remote.is_v4() && !tunnel.checksum))
}
