//! A token bucket.

use super::Nanos;

/// Allows a number of events a second, and short bursts of them.
#[derive(Debug)]
pub(super) struct RateLimit {
    nanos_per_event: u64,
    burst_nanos: u64,
    /// The bucket is full when this lies `burst_nanos` in the past.
    next: u64,
}

impl RateLimit {
    pub(super) const fn new(events_per_second: u64, burst: u64) -> Self {
        let nanos_per_event = 1_000_000_000 / events_per_second;
        RateLimit { nanos_per_event, burst_nanos: burst * nanos_per_event, next: 0 }
    }

    /// Whether an event may happen now; if so it is counted.
    pub(super) fn allow(&mut self, now: Nanos) -> bool {
        let next = self.next.max(now.0.saturating_sub(self.burst_nanos));
        let allowed = next + self.nanos_per_event <= now.0;
        if allowed {
            self.next = next + self.nanos_per_event;
        }
        allowed
    }
}
