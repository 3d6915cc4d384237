//! Stage: fragments after a datagram's first, which have no ports, go the way of the first.
//!
//! The first fragment leaves an entry under the datagram's identification (RFC 791, RFC 8200 section 4.5), with the
//! address rewrite and the way out of its flow. Comes in: a later fragment. Goes out: the fragment, by that entry.
//! Drops: fragments whose first was not seen (or comes later), and those that do not fit and may not be cut again.

use super::resolve::flow_key;
use super::run::{Context, Pipeline};
use super::{Egress, brief::Brief, forward::apply, fragmentation::Fit};
use crate::conntrack::{EntryRef, FlowKey, NewFlow, Verdict};
use crate::port::{DropReason, Frame};
use crate::sync::atomics::Arc;
use crate::wire::parse::Parsed;

impl Pipeline {
    /// Remembers the way of a datagram whose first fragment takes that of `number`.
    pub(super) fn first_fragment(&mut self, context: &Context<'_>, parsed: &Parsed, number: EntryRef) {
        let entry = self.tracker.entry(number);
        let (key, flow) = (fragment_key(parsed), entry.rewritten());
        let rewritten = FlowKey { source: flow.source, destination: flow.destination, ..key };
        let original = Verdict {
            rewritten,
            adjacency: entry.adjacency(),
            arrival: entry.arrival(),
            service: entry.service(),
            epoch: entry.epoch(),
            flags: Default::default(),
        };
        // It exists when the first fragment came twice; without room the later fragments are dropped and counted.
        let _ = self.tracker.insert(&NewFlow { key, original, reply: None }, context.now.ticks());
    }

    /// Sends a later fragment the way of the first.
    pub(super) fn later_fragment<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        egress: &mut impl Egress<F>,
    ) {
        let words = fragment_key(parsed).words();
        let table = Arc::clone(self.tracker.table());
        let hash = words.hash(table.secret());
        let known = table.find(&words, hash).map(|number| table.entry(number));
        let valid = known.filter(|entry| {
            entry.epoch() == context.tables.epoch && entry.arrival() == context.arrival && parsed.ttl > 1
        });
        let way = valid.and_then(|entry| {
            let adjacency = context.tables.routes.adjacency(entry.adjacency())?;
            Some((entry, *adjacency))
        });
        let brief = Brief::of(parsed);
        match way {
            // The sender of the first fragment, which is as large, was told so.
            Some((_, adjacency)) if Fit::of(&frame, &brief, adjacency.mtu) == Fit::Never => {
                egress.drop_frame(DropReason::TooBig, frame);
            }
            Some((entry, adjacency)) if apply(&mut frame, &brief, &entry, &adjacency) => {
                entry.touch(context.now.ticks());
                self.send(frame, &brief, (context.tables, &adjacency, hash), egress);
            }
            _ => egress.drop_frame(DropReason::FragmentWithoutFirst, frame),
        }
    }
}

/// The key of all fragments of a datagram: its identification stands in place of the ports.
pub(super) fn fragment_key(parsed: &Parsed) -> FlowKey {
    FlowKey {
        source_port: (parsed.fragment_id >> 16) as u16,
        destination_port: parsed.fragment_id as u16,
        fragment: true,
        ..flow_key(parsed)
    }
}
