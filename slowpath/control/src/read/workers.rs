//! Worker threads.

use crate::control::Control;
use crate::worker::WorkerHandle;
use millrace_api::{Worker, WorkerList};
use millrace_fastpath::pipeline::WorkerCounter;
use millrace_fastpath::port::{DropReason, Frame, WorkerId};
use std::time::Duration;

/// What the metrics want of a worker besides the API's description.
#[derive(Clone, PartialEq, Debug)]
pub struct WorkerReading {
    /// Which worker.
    pub id: WorkerId,
    /// Every counter, by its name.
    pub counters: Vec<(&'static str, u64)>,
    /// Time with frames in hand since the start.
    pub busy: Duration,
    /// Share of time with frames in hand, 0 to 1, over the last seconds.
    pub load: f64,
}

impl<F: Frame> Control<F> {
    /// All workers.
    pub fn list_workers(&self) -> WorkerList {
        WorkerList { workers: self.workers.iter().map(|worker| self.describe_worker(worker)).collect() }
    }

    /// All workers, for metrics.
    pub fn read_workers(&self) -> Vec<WorkerReading> {
        let read = |worker: &WorkerHandle<F>| WorkerReading {
            id: worker.id(),
            counters: WorkerCounter::ALL
                .iter()
                .map(|&(counter, name)| (name, worker.counters().get(counter)))
                .collect(),
            busy: worker.load().busy(),
            load: worker.load().recent(),
        };
        self.workers.iter().map(read).collect()
    }

    fn describe_worker(&self, worker: &WorkerHandle<F>) -> Worker {
        let queues = self.ports.values().flat_map(|port| {
            let own = port.workers.iter().enumerate().filter(|(_, owner)| **owner == worker.id());
            own.map(|(queue, _)| format!("{}:{queue}", port.config.name))
        });
        let lost = DropReason::ALL.iter().filter(|&&reason| reason != DropReason::Consumed);
        Worker {
            id: worker.id().0.into(),
            core: worker.core().map(u32::from),
            queues: queues.collect(),
            counters: WorkerCounter::ALL
                .iter()
                .map(|&(counter, name)| (name.to_owned(), worker.counters().get(counter)))
                .collect(),
            dropped: lost.map(|&reason| worker.counters().drops(reason)).sum(),
            load: worker.load().recent(),
        }
    }
}
