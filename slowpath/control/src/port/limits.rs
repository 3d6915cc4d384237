//! From the limits that a container runtime asks for to those of the workers.

use super::{PortError, Step};
use crate::control::Control;
use millrace_api::Bandwidth as Asked;
use millrace_config::PortName;
use millrace_fastpath::pipeline::Command;
use millrace_fastpath::port::{Bandwidth, Frame, Limiter, PortLimits};
use std::num::NonZeroU64;
use std::sync::Arc;

/// The limits of a port that all its queues share; nothing if it has none. A rate of 0 is none, and a burst without a rate
/// means nothing.
pub(crate) fn limits(asked: Option<Asked>) -> Option<Arc<PortLimits>> {
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

impl<F: Frame> Control<F> {
    /// Has a port carry so much from now on; without effect if it does so already, or is not there.
    pub(crate) fn limit_port(&mut self, name: &PortName, asked: Option<Asked>) -> Result<(), PortError> {
        let Some(port) = self.ports.get_mut(name).filter(|port| port.bandwidth != asked) else {
            return Ok(());
        };
        let (id, limits) = (port.id, limits(asked));
        port.bandwidth = asked;
        self.follow_limits_of(name);
        for worker in self.workers.iter_mut().filter(|worker| worker.queues_of(id) > 0) {
            let command = Command::Limit { port: id, limits: limits.clone() };
            worker.send(command).map_err(|error| error.at(name, Step::Attach))?;
        }
        tracing::info!(port = %name, ?asked, "limits changed");
        Ok(())
    }
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
