//! The flow table's size and the life of its entries.

use crate::node::bounded_number;
use serde::Deserialize;

/// The flow table: fixed in size, allocated when the daemon starts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct FlowTable {
    /// How many connections fit, each with both directions.
    pub connections: FlowCount,
    /// How long a flow without packets is remembered.
    pub timeouts: FlowTimeouts,
}

bounded_number! {
    /// A number of connections in the flow table.
    FlowCount(u32), 1_024..=134_217_728, " connections"
}

impl Default for FlowCount {
    fn default() -> Self {
        FlowCount(262_144)
    }
}

bounded_number! {
    /// A time span.
    Seconds(u32), 1..=31_536_000, " seconds"
}

macro_rules! timeouts {
    ($($(#[$doc:meta])* $field:ident = $seconds:literal),+ $(,)?) => {
        /// How long a flow is remembered after its last packet, by protocol and state. The defaults are those of
        /// Linux (`nf_conntrack_proto_{tcp,udp,sctp,icmp,generic}.c`).
        #[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
        #[serde(deny_unknown_fields, default, rename_all = "camelCase")]
        pub struct FlowTimeouts { $($(#[$doc])* pub $field: Seconds),+ }

        impl Default for FlowTimeouts {
            fn default() -> Self {
                FlowTimeouts { $($field: Seconds($seconds)),+ }
            }
        }
    };
}

timeouts! {
    /// TCP, SYN sent, no answer.
    tcp_syn_sent = 120,
    /// TCP, SYN answered, the answer not yet acknowledged.
    tcp_syn_received = 60,
    /// TCP, the connection is open.
    tcp_established = 432_000,
    /// TCP, taken up in the middle, packets in one direction only.
    tcp_unacknowledged = 300,
    /// TCP, one side has closed.
    tcp_fin_wait = 120,
    /// TCP, both sides have closed.
    tcp_time_wait = 120,
    /// TCP, reset.
    tcp_close = 10,
    /// UDP without an answer.
    udp_unreplied = 30,
    /// UDP in both directions.
    udp_stream = 120,
    /// SCTP, the handshake is not finished or packets go in one direction only.
    sctp_unreplied = 30,
    /// SCTP, the association is open.
    sctp_established = 210,
    /// SCTP, one side has begun to close.
    sctp_shutdown = 3,
    /// SCTP, closed or aborted.
    sctp_closed = 10,
    /// ICMP and ICMPv6 echo.
    icmp = 30,
    /// Fragments of one datagram, of which the first was seen.
    fragments = 30,
    /// Any other protocol.
    other = 600,
}
