//! The flow table's size and the life of its entries.

use crate::node::bounded_number;
use serde::Deserialize;

/// The flow table: fixed in size, allocated when the daemon starts.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct FlowTable {
    /// How many entries there are; a connection takes two, one a direction.
    pub entries: FlowEntries,
    /// How long a flow without packets is remembered.
    pub timeouts: FlowTimeouts,
}

bounded_number! {
    /// A number of entries of the flow table.
    FlowEntries(u32), 1_024..=268_435_456, " entries"
}

impl Default for FlowEntries {
    fn default() -> Self {
        FlowEntries(524_288)
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
    /// TCP, a SYN was seen.
    tcp_syn_sent = 120,
    /// TCP, SYN and SYN-ACK were seen.
    tcp_syn_received = 60,
    /// TCP, the connection is open.
    tcp_established = 432_000,
    /// TCP, one side has sent FIN.
    tcp_fin_wait = 120,
    /// TCP, the other side has acknowledged the FIN.
    tcp_close_wait = 60,
    /// TCP, both sides have sent FIN.
    tcp_last_ack = 30,
    /// TCP, both FINs are acknowledged.
    tcp_time_wait = 120,
    /// TCP, reset.
    tcp_close = 10,
    /// UDP, packets in one direction only.
    udp = 30,
    /// UDP, packets in both directions.
    udp_stream = 120,
    /// SCTP, aborted or shut down.
    sctp_closed = 10,
    /// SCTP, INIT was seen.
    sctp_cookie_wait = 3,
    /// SCTP, COOKIE ECHO was seen.
    sctp_cookie_echoed = 3,
    /// SCTP, the association is up.
    sctp_established = 210,
    /// SCTP, the association is being shut down.
    sctp_shutdown = 3,
    /// ICMP and ICMPv6 echo.
    icmp = 30,
    /// Any other protocol.
    generic = 600,
}
