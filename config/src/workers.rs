//! The threads that carry packets.

use crate::error::InvalidValue;
use crate::node::bounded_number;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// The worker threads.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "RawWorkers")]
pub struct Workers {
    /// How many there are, and where they run.
    pub cores: Cores,
    /// What a worker does that has nothing to do.
    pub idle: Idle,
}

/// How many workers there are, and where they run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Cores {
    /// One worker on each of these cores, and on no other.
    Pinned(Vec<CoreId>),
    /// So many workers, wherever the scheduler puts them.
    Count(u16),
}

/// A CPU, as the kernel numbers them.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct CoreId(pub u16);

/// What a worker does that has nothing to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Idle {
    /// It polls on. Lowest latency; the core is always fully used.
    Busy,
    /// It sleeps, and is late by no more than this.
    Adaptive {
        /// The longest time that a packet may wait for a sleeping worker.
        max_latency: Duration,
    },
}

bounded_number! {
    /// A bound on latency.
    Microseconds(u32), 1..=100_000, " microseconds"
}

bounded_number! {
    /// A number of workers. More would not have a core each on any machine that is sold.
    WorkerCount(u16), 1..=256, " workers"
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
struct RawWorkers {
    cores: Option<Vec<CoreId>>,
    count: Option<WorkerCount>,
    idle: RawIdle,
    max_latency_microseconds: Microseconds,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum RawIdle {
    Busy,
    Adaptive,
}

impl Default for RawWorkers {
    fn default() -> Self {
        RawWorkers {
            cores: None,
            count: None,
            idle: RawIdle::Adaptive,
            max_latency_microseconds: Microseconds(100),
        }
    }
}

impl Default for Workers {
    fn default() -> Self {
        let raw = RawWorkers::default();
        Workers { cores: Cores::Count(1), idle: raw.idle() }
    }
}

impl RawWorkers {
    fn idle(&self) -> Idle {
        match self.idle {
            RawIdle::Busy => Idle::Busy,
            RawIdle::Adaptive => Idle::Adaptive {
                max_latency: Duration::from_micros(self.max_latency_microseconds.get().into()),
            },
        }
    }
}

impl TryFrom<RawWorkers> for Workers {
    type Error = InvalidValue;
    fn try_from(raw: RawWorkers) -> Result<Self, InvalidValue> {
        let idle = raw.idle();
        let cores = match (raw.cores, raw.count) {
            (Some(_), Some(_)) => {
                return Err(InvalidValue::Unwanted {
                    field: "count",
                    reason: "cores already says how many workers there are",
                });
            }
            (Some(cores), None) => Cores::Pinned(distinct(cores)?),
            (None, count) => Cores::Count(count.map_or(1, WorkerCount::get)),
        };
        Ok(Workers { cores, idle })
    }
}

fn distinct(cores: Vec<CoreId>) -> Result<Vec<CoreId>, InvalidValue> {
    if cores.is_empty() {
        return Err(InvalidValue::Missing { field: "cores", reason: "an empty list leaves nobody to work" });
    }
    let mut seen = BTreeSet::new();
    match cores.iter().find(|core| !seen.insert(**core)) {
        Some(core) => Err(InvalidValue::Twice { field: "cores", value: core.0.to_string() }),
        None => Ok(cores),
    }
}
