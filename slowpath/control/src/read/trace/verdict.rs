//! What becomes of a traced packet at last.

use super::Story;
use super::steps::sentence;
use millrace_api::{Protocol, TraceOutcome, TraceVerdict};
use millrace_fastpath::conntrack::FlowKey;
use millrace_fastpath::pipeline::{TraceEnd, TraceStep};
use millrace_fastpath::port::{DropReason, Frame, PortId};
use millrace_fastpath::wire::icmp_error::Problem;

impl<F: Frame> Story<'_, F> {
    pub(super) fn verdict(&self) -> TraceVerdict {
        match self.traced.end {
            TraceEnd::Sent { port, rewritten } => self.sent(port, &rewritten),
            TraceEnd::Waits { port, address } => {
                let text = format!("waits for the MAC address of {address} behind {}", self.port(port));
                bare(TraceOutcome::Waits, text)
            }
            TraceEnd::Local => bare(TraceOutcome::Local, self.local()),
            TraceEnd::Reset(reason) => {
                refused(TraceOutcome::Reset, "the sender gets a TCP reset".to_owned(), reason)
            }
            TraceEnd::Icmp(problem, reason) => {
                refused(TraceOutcome::Icmp, format!("the sender gets ICMP {}", name(problem)), reason)
            }
            TraceEnd::Dropped(reason) => {
                refused(TraceOutcome::Dropped, "dropped in silence".to_owned(), reason)
            }
        }
    }

    fn sent(&self, port: PortId, rewritten: &FlowKey) -> TraceVerdict {
        let tuple = self.leaves_as(rewritten);
        let mac = self.traced.steps.iter().rev().find_map(|step| match step {
            TraceStep::Route { neighbour, .. } => Some(neighbour.destination_mac.to_string()),
            _ => None,
        });
        let to = mac.as_ref().map(|mac| format!(" to {mac}")).unwrap_or_default();
        let text = match tuple == self.packet.tuple {
            true => format!("sent by {}{to}, unchanged", self.port(port)),
            false => format!("sent by {}{to} as {tuple}", self.port(port)),
        };
        TraceVerdict {
            port: self.control.port_name(port),
            mac,
            leaves_as: Some(tuple),
            ..bare(TraceOutcome::Sent, text)
        }
    }

    /// The node answers pings and refuses all else.
    fn local(&self) -> String {
        let how = match self.packet.tuple.protocol {
            Protocol::Icmp | Protocol::Icmpv6 => "it answers the ping",
            Protocol::Tcp => "it answers with a TCP reset",
            _ => "it answers with ICMP port unreachable",
        };
        format!("for this node itself: {how}")
    }
}

fn bare(outcome: TraceOutcome, text: String) -> TraceVerdict {
    TraceVerdict { outcome, text, port: None, mac: None, leaves_as: None, reason: None, meaning: None }
}

fn refused(outcome: TraceOutcome, what: String, reason: DropReason) -> TraceVerdict {
    TraceVerdict {
        reason: Some(reason.name().to_owned()),
        meaning: Some(reason.meaning().to_owned()),
        ..bare(outcome, format!("{what}: {}; it counts as {}", sentence(reason), reason.name()))
    }
}

fn name(problem: Problem) -> String {
    match problem {
        Problem::NoRoute => "network unreachable".to_owned(),
        Problem::HostUnreachable => "host unreachable".to_owned(),
        Problem::PortUnreachable => "port unreachable".to_owned(),
        Problem::Prohibited => "administratively prohibited".to_owned(),
        Problem::TooBig { mtu } => format!("packet too big (MTU {mtu})"),
        Problem::HopLimitExceeded => "time exceeded".to_owned(),
    }
}
