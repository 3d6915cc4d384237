//! From the limits that a container runtime asks for to those of the workers.

use millrace_api::Bandwidth as Asked;
use millrace_fastpath::port::{Bandwidth, Limiter, PortLimits};
use std::num::NonZeroU64;
use std::sync::Arc;

/// The limits of a port that all its queues share; nothing if it has none. A rate of 0 is none, and a burst without a rate
/// means nothing.
pub(super) fn limits(asked: Option<Asked>) -> Option<Arc<PortLimits>> {
    let asked = asked?;
    let limiter = |rate: Option<u64>, burst: Option<u64>| {
        let bits_per_second = rate.and_then(NonZeroU64::new)?;
        Some(Limiter::new(Bandwidth { bits_per_second, burst_bits: burst.filter(|&bits| bits > 0) }))
    };
    let limits = PortLimits {
        egress: limiter(asked.egress_rate, asked.egress_burst),
        ingress: limiter(asked.ingress_rate, asked.ingress_burst),
    };
    (limits.egress.is_some() || limits.ingress.is_some()).then(|| Arc::new(limits))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_direction_without_a_rate_has_no_limit() {
        assert!(limits(None).is_none());
        assert!(
            limits(Some(Asked { ingress_rate: Some(0), egress_burst: Some(7), ..Asked::default() }))
                .is_none()
        );
        let one = limits(Some(Asked { ingress_rate: Some(1_000_000), ..Asked::default() })).unwrap();
        assert!(one.ingress.is_some() && one.egress.is_none());
    }
}
