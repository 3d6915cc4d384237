//! The flow table.

use crate::clock;
use crate::control::Control;
use millrace_api::{DEFAULT_FLOW_LIMIT, Flow, FlowFilter, FlowList, Protocol};
use millrace_fastpath::conntrack::FlowInfo;
use millrace_fastpath::port::Frame;
use millrace_fastpath::tables::ServiceId;

/// Flows that one request may list. More than a person reads; a machine that wants all of them should count instead.
const MOST: u32 = 100_000;

impl<F: Frame> Control<F> {
    /// Connections that match a filter, up to its limit (at most 100,000), as they are at this moment.
    pub fn list_flows(&self, filter: &FlowFilter) -> FlowList {
        let limit = filter.limit.unwrap_or(DEFAULT_FLOW_LIMIT).min(MOST) as usize;
        let mut list = FlowList::default();
        self.for_each_flow(|info, reply| {
            let flow = self.describe_flow(info, reply);
            if filter.matches(&flow) {
                list.truncated = list.flows.len() == limit;
                if !list.truncated {
                    list.flows.push(flow);
                }
            }
            !list.truncated
        });
        list
    }

    /// Tells of every connection, by its original direction and that of the replies, until `visit` says false.
    pub(super) fn for_each_flow(&self, mut visit: impl FnMut(&FlowInfo, Option<&FlowInfo>) -> bool) {
        let mut directions = self.flows.flows(clock::now().ticks()).peekable();
        while let Some(info) = directions.next() {
            if info.reply {
                continue;
            }
            // The table lists a connection's directions one after the other.
            let reply = directions.next_if(|next| next.reply && next.connection == info.connection);
            if !visit(&info, reply.as_ref()) {
                return;
            }
        }
    }

    pub(super) fn describe_flow(&self, info: &FlowInfo, reply: Option<&FlowInfo>) -> Flow {
        let (key, leaves) = (&info.key, &info.rewritten);
        let translated =
            leaves.destination != key.destination || leaves.destination_port != key.destination_port;
        let adjacency = self.current.routes.adjacency(info.adjacency);
        let service = (info.service != ServiceId::NONE).then(|| self.service_name(info.service)).flatten();
        Flow {
            protocol: Protocol::from_number(key.protocol),
            source: key.source.to_ip(),
            source_port: key.source_port,
            destination: key.destination.to_ip(),
            destination_port: key.destination_port,
            backend: translated.then(|| leaves.destination.to_ip()),
            backend_port: translated.then_some(leaves.destination_port),
            service,
            state: info.state.name().to_owned(),
            in_port: self.port_name(info.arrival),
            out_port: adjacency.and_then(|adjacency| self.port_name(adjacency.port)),
            idle_seconds: info.idle_seconds.unwrap_or(0),
            reply_idle_seconds: reply.and_then(|reply| reply.idle_seconds),
        }
    }
}
