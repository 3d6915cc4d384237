//! Beside the stages: of an established connection between ports that have shortcuts the control thread is told, which may have the
//! kernel carry it from then on. Of UDP flows, too.
//!
//! Not at each packet: who has few is not worth the trouble. From the first time on the flow's entry says that packets may pass
//! unseen; what it would know of TCP's numbers it does not use any more.

use super::encapsulate::source_port;
use super::run::{Context, Pipeline, Slot};
use super::{Egress, Established, Report};
use crate::conntrack::{Entry, EntryFlags, FlowView};
use crate::tables::{Adjacency, PortRole};
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
        let goes = is_udp || entry.is_established(&flows.entry(number.peer()));
        if !goes || !can_be_carried(context, &entry, way) {
            return;
        }
        entry.shorten();
        egress.report(Report::Established(Established {
            arrival: context.arrival,
            key: entry.key(),
            rewritten: entry.rewritten(),
            adjacency: entry.adjacency(),
            mark: source_port(slot.hash),
            epoch: tables.epoch,
        }));
    }
}

/// Whether the kernel can carry packets of this flow to `way`. If it cannot, nothing is to be marked.
fn can_be_carried(context: &Context<'_>, entry: &Entry<'_>, way: &Adjacency) -> bool {
    let (tables, uplink) = (context.tables, PortRole::Uplink);
    let Some(out) = tables.ports.get(way.port).filter(|_| tables.shortcuts.ports.contains(way.port)) else {
        return false;
    };
    // The kernel does not forget that a frame was in a tunnel: no NIC is to see such.
    if context.port.role == uplink && out.role == uplink {
        return false;
    }
    let source = entry.key().source;
    if !source.is_v4() && entry.flags().has(EntryFlags::NAT) && !tables.shortcuts.translated_v6 {
        return false;
    }
    let from = tables.tunnel_from(context.arrival, source);
    let is_known = |id| tables.tunnels.get(id).is_some_and(|tunnel| tunnel.remote.is_v4());
    let has_words =
        |id| tables.tunnels.get(id).is_some_and(|tunnel| tunnel.remote.is_v4() && !tunnel.checksum);
    from.is_none_or(is_known) && way.tunnel.is_none_or(has_words)
}
