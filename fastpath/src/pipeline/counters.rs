//! What a worker has done.

use crate::port::{DROP_REASONS, DropReason};
use crate::sync::Counters;

/// Things that a worker counts besides drops.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(usize)]
pub enum WorkerCounter {
    /// Polls of all queues.
    Polls,
    /// Polls that found something to do.
    BusyPolls,
    /// Frames received.
    Frames,
    /// Packets of a known flow with a valid verdict.
    Established,
    /// Packets that had to be resolved: new flows, and known ones whose verdict was of an older epoch.
    Resolved,
    /// Flows made.
    FlowsMade,
    /// Flows forgotten, evictions included.
    FlowsForgotten,
    /// Flows evicted for want of room.
    FlowsEvicted,
    /// Packets that were larger than the MTU of their way out and left in parts.
    Fragmented,
    /// ICMP errors and resets sent in answer.
    Answers,
    /// ARP and neighbour discovery messages answered.
    NeighbourAnswers,
    /// Frames handed to another worker.
    HandedOver,
    /// Packets taken out of tunnels.
    Decapsulated,
    /// Packets put into tunnels.
    Encapsulated,
    /// Frames passed between an uplink and the kernel as they are.
    PassedOn,
    /// Packets that waited for a neighbour's MAC address.
    Parked,
    /// Times that this worker slept.
    Sleeps,
}

const COUNTERS: usize = WorkerCounter::Sleeps as usize + 1;

impl WorkerCounter {
    /// All, with their names in metrics.
    pub const ALL: [(WorkerCounter, &'static str); COUNTERS] = [
        (WorkerCounter::Polls, "polls"),
        (WorkerCounter::BusyPolls, "busy_polls"),
        (WorkerCounter::Frames, "frames"),
        (WorkerCounter::Established, "established"),
        (WorkerCounter::Resolved, "resolved"),
        (WorkerCounter::FlowsMade, "flows_made"),
        (WorkerCounter::FlowsForgotten, "flows_forgotten"),
        (WorkerCounter::FlowsEvicted, "flows_evicted"),
        (WorkerCounter::Fragmented, "fragmented"),
        (WorkerCounter::Answers, "answers"),
        (WorkerCounter::NeighbourAnswers, "neighbour_answers"),
        (WorkerCounter::HandedOver, "handed_over"),
        (WorkerCounter::Decapsulated, "decapsulated"),
        (WorkerCounter::Encapsulated, "encapsulated"),
        (WorkerCounter::PassedOn, "passed_on"),
        (WorkerCounter::Parked, "parked"),
        (WorkerCounter::Sleeps, "sleeps"),
    ];
}

/// Counters of one worker: it writes, anyone reads.
#[derive(Debug, Default)]
pub struct WorkerCounters {
    work: Counters<COUNTERS>,
    drops: Counters<DROP_REASONS>,
}

impl WorkerCounters {
    /// Adds to a counter. For the worker itself.
    #[inline]
    pub fn add(&self, counter: WorkerCounter, amount: u64) {
        self.work.add(counter as usize, amount);
    }

    /// Counts a dropped frame. For the worker itself.
    #[inline]
    pub fn dropped(&self, reason: DropReason) {
        self.drops.add(reason.index(), 1);
    }

    /// Reads a counter.
    pub fn get(&self, counter: WorkerCounter) -> u64 {
        self.work.get(counter as usize)
    }

    /// Frames dropped by this worker for a reason.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason.index())
    }
}
