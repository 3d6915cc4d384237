//! Stage: a packet of this node's own network stack goes on without a flow.
//!
//! Comes in: a packet between the stack and the world that can neither continue nor begin a flow that is known here: an answer to a
//! connection that the stack got by a way past the data path, or one that was claimed for the data path and is the
//! stack's. Goes out: the packet, by its route. Drops: TTL, size.

use super::Egress;
use super::answer::Answer;
use super::brief::Brief;
use super::forward::set_macs;
use super::fragmentation::Fit;
use super::icmp_error::decrement_ttl;
use super::resolve::flow_key;
use super::run::{Context, Pipeline};
use crate::port::{DropReason, Frame};
use crate::tables::{AdjacencyId, PortRole};
use crate::wire::parse::Parsed;

impl Pipeline {
    /// Sends a packet on as it is. To the node itself that is no hop.
    pub(super) fn past<F: Frame>(
        &mut self,
        context: &Context<'_>,
        mut frame: F,
        parsed: &Parsed,
        way: AdjacencyId,
        egress: &mut impl Egress<F>,
    ) {
        let Some(way) = context.tables.routes.adjacency(way) else {
            return egress.drop_frame(DropReason::PortGone, frame);
        };
        let brief = Brief::of(parsed);
        if context.port.role == PortRole::Host {
            if parsed.ttl <= 1 {
                let (answer, reason) = (Answer::TIME_EXCEEDED, DropReason::TtlExceeded);
                return self.answer(context, frame, parsed, answer, reason, egress);
            }
            if Fit::of(&frame, &brief, way.mtu) == Fit::Never {
                let answer = Answer::too_big(way.mtu);
                return self.answer(context, frame, parsed, answer, DropReason::TooBig, egress);
            }
            let ip = frame.head_mut().get_mut(usize::from(parsed.l3)..).unwrap_or_default();
            if decrement_ttl(ip, parsed.family()).is_none() {
                return egress.drop_frame(DropReason::Truncated, frame);
            }
        }
        if !set_macs(frame.head_mut(), way) {
            return egress.drop_frame(DropReason::Truncated, frame);
        }
        let words = flow_key(parsed).words();
        let hash = words.hash(self.tracker.table().secret());
        self.send(frame, &brief, (context.tables, way, hash), egress);
    }
}
