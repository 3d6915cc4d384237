//! Lost frames.

use crate::control::Control;
use millrace_api::{DropCount, DropList};
use millrace_fastpath::port::{DropReason, Frame, PortCounters};

impl<F: Frame> Control<F> {
    /// Every reason and how many frames it cost: in the workers, at the ports that are and at those that were.
    pub fn drops(&self) -> DropList {
        self.count_losses();
        DropList {
            drops: DropReason::ALL.iter().map(|&reason| count(reason, self.dropped(reason))).collect(),
        }
    }

    /// Has the drivers count what the kernel lost for them: they do so when they are asked for the link.
    fn count_losses(&self) {
        for device in self.ports.values().filter_map(|port| port.device.as_ref()) {
            device.link();
        }
    }

    pub(super) fn dropped(&self, reason: DropReason) -> u64 {
        let by_workers: u64 = self.workers.iter().map(|worker| worker.counters().drops(reason)).sum();
        let at_ports: u64 = self.ports.values().map(|port| port.counters.drops(reason)).sum();
        by_workers + at_ports + self.past_drops[reason.index()]
    }

    /// What was lost, all reasons together. Frames that the node consumed itself are not lost.
    pub(super) fn lost(&self) -> u64 {
        self.count_losses();
        let lost = DropReason::ALL.iter().filter(|&&reason| reason != DropReason::Consumed);
        lost.map(|&reason| self.dropped(reason)).sum()
    }
}

/// The losses of one port, without the reasons that cost nothing.
pub(super) fn of_port(counters: &PortCounters) -> Vec<DropCount> {
    DropReason::ALL
        .iter()
        .map(|&reason| count(reason, counters.drops(reason)))
        .filter(|count| count.frames > 0)
        .collect()
}

fn count(reason: DropReason, frames: u64) -> DropCount {
    DropCount { reason: reason.name().to_owned(), meaning: reason.meaning().to_owned(), frames }
}
