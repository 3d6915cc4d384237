//! Packets that wait until the MAC address of their next hop is known.
//!
//! As a kernel's neighbour queue they are few and do not wait long (Linux: `unres_qlen_bytes`, and three solicitations a
//! second apart): what waits is the beginning of conversations, and who gets no answer sends again.

use super::super::{Nanos, Wait};
use crate::port::{Burst, PortId};
use crate::tables::{Address, Route, TableSet};
use std::collections::VecDeque;

/// Packets that wait in one worker, at most.
const MOST: usize = 64;
/// Packets that wait for one address, at most.
const MOST_FOR_ONE: usize = 3;
/// How long a packet waits.
const PATIENCE: u64 = 1_000_000_000;
/// The control thread is told of an address so often.
const BETWEEN_REPORTS: u64 = 100_000_000;

struct Parked<F> {
    wait: Wait,
    /// When the control thread was last told of the address.
    told: Nanos,
    frame: F,
}

/// What waits in one worker, the oldest first.
pub(super) struct Parking<F> {
    parked: VecDeque<Parked<F>>,
    /// The version of the tables under which the neighbours were last looked for.
    seen: u64,
}

/// What became of a packet that was to wait.
pub(super) enum Outcome<F> {
    /// It waits; the control thread is to be told.
    New,
    /// It waits.
    Known,
    /// There is no room for it.
    Refused(F),
}

impl<F> Parking<F> {
    pub(super) fn new() -> Self {
        Parking { parked: VecDeque::with_capacity(MOST), seen: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// Has a packet wait, if there is room.
    pub(super) fn put(&mut self, wait: Wait, frame: F) -> Outcome<F> {
        let last = self.last_told(wait.port, wait.address);
        let same = |parked: &&Parked<F>| (parked.wait.port, parked.wait.address) == (wait.port, wait.address);
        if self.parked.len() >= MOST || self.parked.iter().filter(same).count() >= MOST_FOR_ONE {
            return Outcome::Refused(frame);
        }
        let due = last.is_none_or(|last| wait.since.0.saturating_sub(last.0) >= BETWEEN_REPORTS);
        let told = if due { wait.since } else { last.unwrap_or(wait.since) };
        self.parked.push_back(Parked { wait, told, frame });
        if due { Outcome::New } else { Outcome::Known }
    }

    fn last_told(&self, port: PortId, address: Address) -> Option<Nanos> {
        let same =
            self.parked.iter().filter(|parked| (parked.wait.port, parked.wait.address) == (port, address));
        same.map(|parked| parked.told).max()
    }

    /// A packet that has waited too long.
    pub(super) fn take_late(&mut self, now: Nanos) -> Option<F> {
        let first = self.parked.front()?;
        let late = now.0.saturating_sub(first.wait.since.0) >= PATIENCE;
        if late { self.parked.pop_front().map(|parked| parked.frame) } else { None }
    }

    /// Moves packets whose neighbour the tables know by now, or know to be unreachable, into `into`: all that arrived by one
    /// port, which it gives.
    pub(super) fn take_ready(&mut self, tables: &TableSet, into: &mut Burst<F>) -> Option<PortId> {
        if self.seen == tables.version {
            return None;
        }
        let waits = |wait: &Wait| matches!(tables.routes.lookup(wait.address), Some(Route::OnLink(_)));
        let Some(first) = self.parked.iter().find(|parked| !waits(&parked.wait)) else {
            self.seen = tables.version;
            return None;
        };
        let arrival = first.wait.arrival;
        for _ in 0..self.parked.len() {
            let Some(parked) = self.parked.pop_front() else { break };
            if parked.wait.arrival == arrival && !waits(&parked.wait) && !into.is_full() {
                into.push(parked.frame);
            } else {
                self.parked.push_back(parked);
            }
        }
        Some(arrival)
    }
}
