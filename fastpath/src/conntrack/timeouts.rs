//! How long a silent flow is kept.

use super::entry::Entry;
use super::sctp::SctpState;
use super::tcp::TcpState;

/// Time in units of 2³⁰ nanoseconds (1.07 s), from 1 on; 0 means never. Coarse on purpose: an entry is written at
/// most once a tick.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Ticks(pub u32);

impl Ticks {
    /// From nanoseconds of the monotonic clock that workers are given.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Ticks {
        Ticks((nanos >> 30) as u32 + 1)
    }

    /// Whole seconds since an earlier point.
    pub const fn seconds_since(self, earlier: Ticks) -> u32 {
        let ticks = self.0.saturating_sub(earlier.0) as u64;
        ((ticks << 30) / 1_000_000_000) as u32
    }
}

/// What a flow is doing, as far as its timeout is concerned.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum FlowState {
    /// TCP, in this state.
    Tcp(TcpState),
    /// UDP without an answer until now.
    UdpUnreplied,
    /// UDP in both directions.
    UdpStream,
    /// SCTP, in this state.
    Sctp(SctpState),
    /// ICMP echo.
    Icmp,
    /// The remaining fragments of one datagram.
    Fragments,
    /// Any other protocol.
    Other,
}

impl FlowState {
    /// The state of the connection with these two entries.
    pub fn of(original: &Entry<'_>, reply: &Entry<'_>) -> FlowState {
        let key = original.key();
        let replied = reply.last_seen() != Ticks::default();
        match key.protocol {
            _ if key.fragment => FlowState::Fragments,
            6 => FlowState::Tcp(TcpState::of(original.tcp_side().seen, reply.tcp_side().seen)),
            17 if replied => FlowState::UdpStream,
            17 => FlowState::UdpUnreplied,
            132 => FlowState::Sctp(SctpState::of(original.sctp_side().seen, reply.sctp_side().seen)),
            1 | 58 => FlowState::Icmp,
            _ => FlowState::Other,
        }
    }

    /// Whether nobody has confirmed this flow yet: the first to go when room is short.
    pub const fn is_embryonic(self) -> bool {
        matches!(
            self,
            FlowState::Tcp(TcpState::SynSent | TcpState::SynReceived | TcpState::Unacknowledged)
                | FlowState::UdpUnreplied
                | FlowState::Sctp(SctpState::Opening)
                | FlowState::Fragments
                | FlowState::Icmp
        )
    }

    /// Whether it is over, and kept for stragglers only.
    pub const fn is_over(self) -> bool {
        match self {
            FlowState::Tcp(state) => state.is_over(),
            FlowState::Sctp(state) => state.is_over(),
            _ => false,
        }
    }

    /// The name in the command line and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            FlowState::Tcp(TcpState::SynSent) => "syn-sent",
            FlowState::Tcp(TcpState::SynReceived) => "syn-received",
            FlowState::Tcp(TcpState::Established) => "established",
            FlowState::Tcp(TcpState::Unacknowledged) => "unacknowledged",
            FlowState::Tcp(TcpState::FinWait) => "fin-wait",
            FlowState::Tcp(TcpState::TimeWait) => "time-wait",
            FlowState::Tcp(TcpState::Close) => "close",
            FlowState::UdpUnreplied => "unreplied",
            FlowState::UdpStream => "replied",
            FlowState::Sctp(SctpState::Opening) => "opening",
            FlowState::Sctp(SctpState::Established) => "established",
            FlowState::Sctp(SctpState::Shutdown) => "shutdown",
            FlowState::Sctp(SctpState::Closed) => "closed",
            FlowState::Icmp => "echo",
            FlowState::Fragments => "fragments",
            FlowState::Other => "active",
        }
    }
}

/// Seconds without a packet after which a flow is forgotten, by state. The defaults are those of Linux conntrack
/// (`Documentation/networking/nf_conntrack-sysctl.rst`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Timeouts {
    /// TCP: SYN sent, no answer.
    pub tcp_syn_sent: u32,
    /// TCP: SYN answered, not yet acknowledged.
    pub tcp_syn_received: u32,
    /// TCP: established.
    pub tcp_established: u32,
    /// TCP: picked up in the middle, one direction only.
    pub tcp_unacknowledged: u32,
    /// TCP: one side has closed.
    pub tcp_fin_wait: u32,
    /// TCP: both sides have closed.
    pub tcp_time_wait: u32,
    /// TCP: reset.
    pub tcp_close: u32,
    /// UDP without an answer.
    pub udp_unreplied: u32,
    /// UDP in both directions.
    pub udp_stream: u32,
    /// SCTP, the handshake is not finished or only one direction was seen.
    pub sctp_unreplied: u32,
    /// SCTP, the association is open.
    pub sctp_established: u32,
    /// SCTP, one side has begun to close.
    pub sctp_shutdown: u32,
    /// SCTP, closed or aborted.
    pub sctp_closed: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// Fragments of a datagram.
    pub fragments: u32,
    /// Other protocols.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Timeouts {
            tcp_syn_sent: 120,
            tcp_syn_received: 60,
            tcp_established: 432_000,
            tcp_unacknowledged: 300,
            tcp_fin_wait: 120,
            tcp_time_wait: 120,
            tcp_close: 10,
            udp_unreplied: 30,
            udp_stream: 120,
            sctp_unreplied: 30,
            sctp_established: 210,
            sctp_shutdown: 3,
            sctp_closed: 10,
            icmp: 30,
            fragments: 30,
            other: 600,
        }
    }
}

impl Timeouts {
    /// Seconds for a state.
    pub const fn seconds(&self, state: FlowState) -> u32 {
        match state {
            FlowState::Tcp(TcpState::SynSent) => self.tcp_syn_sent,
            FlowState::Tcp(TcpState::SynReceived) => self.tcp_syn_received,
            FlowState::Tcp(TcpState::Established) => self.tcp_established,
            FlowState::Tcp(TcpState::Unacknowledged) => self.tcp_unacknowledged,
            FlowState::Tcp(TcpState::FinWait) => self.tcp_fin_wait,
            FlowState::Tcp(TcpState::TimeWait) => self.tcp_time_wait,
            FlowState::Tcp(TcpState::Close) => self.tcp_close,
            FlowState::UdpUnreplied => self.udp_unreplied,
            FlowState::UdpStream => self.udp_stream,
            FlowState::Sctp(SctpState::Opening) => self.sctp_unreplied,
            FlowState::Sctp(SctpState::Established) => self.sctp_established,
            FlowState::Sctp(SctpState::Shutdown) => self.sctp_shutdown,
            FlowState::Sctp(SctpState::Closed) => self.sctp_closed,
            FlowState::Icmp => self.icmp,
            FlowState::Fragments => self.fragments,
            FlowState::Other => self.other,
        }
    }

    /// Whether a flow in this state, last seen then, is to be forgotten.
    pub const fn expired(&self, state: FlowState, last_seen: Ticks, now: Ticks) -> bool {
        now.seconds_since(last_seen) > self.seconds(state)
    }
}
