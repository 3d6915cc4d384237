//! The memory of all flows and what any thread may do with it.

use super::entry::{Entry, EntryRef};
use super::index::Index;
use super::key::{FlowKey, KeyWords, Secret};
use super::line::Line;
use super::timeouts::{FlowState, Ticks, Timeouts};
use crate::port::PortId;
use crate::sync::atomics::{Arc, Mutex, Ordering};
use crate::sync::{Domain, Epoch, Region};
use crate::tables::{AdjacencyId, ServiceId};
use std::collections::VecDeque;
use thiserror::Error;

/// Lines of a connection: original direction, reply direction, shared.
const LINES_PER_CONNECTION: usize = 3;
/// Lines before the index: counters that all workers share, each line for one use, and what the memory holds.
const CONTROL_LINES: usize = 3;
pub(super) const FREE_LIST: usize = 0;
pub(super) const COUNTS: usize = 1;
pub(super) const IDENTITY: usize = 2;
/// Words of the `COUNTS` line.
pub(super) const FRESH: usize = 0;
pub(super) const AVAILABLE: usize = 1;
const SWEEP: usize = 2;

/// Size and rules of a flow table.
#[derive(Clone, Copy, Debug)]
pub struct FlowTableConfig {
    /// Connections that fit, each with both directions.
    pub connections: u32,
    /// Secret that keys are hashed under: random for every table. One that goes on with an earlier table's flows has that
    /// table's.
    pub secret: Secret,
    /// When silent flows are forgotten.
    pub timeouts: Timeouts,
}

/// Why a flow table cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum FlowTableError {
    /// Outside what entry numbers can name.
    #[error("{0} connections: a flow table holds between 1024 and 536870912")]
    Connections(u32),
    /// The memory has not the size that [`FlowTable::lines`] says.
    #[error("the memory for the flow table has {given} lines of 64 bytes where {needed} are needed")]
    Memory {
        /// Lines given.
        given: usize,
        /// Lines needed.
        needed: usize,
    },
}

/// All flows of a node, shared by its workers.
#[derive(Debug)]
pub struct FlowTable {
    memory: Region<Line>,
    buckets: usize,
    config: FlowTableConfig,
    domain: Arc<Domain>,
    /// What workers that ended have left waiting for a grace period. Not touched by those that run.
    left: Mutex<Vec<(Epoch, u32)>>,
}

/// One direction of a flow, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FlowInfo {
    /// The connection's number: both directions have the same.
    pub connection: u32,
    /// Whether this is the direction of the replies.
    pub reply: bool,
    /// As packets arrive.
    pub key: FlowKey,
    /// As packets leave.
    pub rewritten: FlowKey,
    /// State of the connection.
    pub state: FlowState,
    /// The service that it was translated for.
    pub service: ServiceId,
    /// The port that packets arrive by.
    pub arrival: PortId,
    /// The neighbour that they are sent to.
    pub adjacency: AdjacencyId,
    /// Seconds since the last packet of this direction; `None` when there was none yet.
    pub idle_seconds: Option<u32>,
}

impl FlowTable {
    /// Lines of memory that a table for so many connections takes.
    pub fn lines(connections: u32) -> usize {
        CONTROL_LINES + buckets(connections) + connections as usize * LINES_PER_CONNECTION
    }

    /// A table in `memory`. If an earlier table of this size has left its flows there, however it ended, it goes on with
    /// them; all zeroes are an empty table; anything else is cleared. Its entries are recycled by the grace periods of
    /// `domain`, of which every worker is a reader.
    ///
    /// Verdicts of an earlier table are resolved again when their next packet comes: numbers of ports and neighbours mean
    /// something else in another process. Services' numbers and times are taken to mean the same.
    ///
    /// # Errors
    /// [`FlowTableError`]: a number of connections out of range, or memory of another size than [`FlowTable::lines`].
    pub fn try_new(
        config: FlowTableConfig,
        memory: Region<Line>,
        domain: &Arc<Domain>,
    ) -> Result<FlowTable, FlowTableError> {
        if !(1024..=1 << 29).contains(&config.connections) {
            return Err(FlowTableError::Connections(config.connections));
        }
        let needed = FlowTable::lines(config.connections);
        if memory.len() != needed {
            return Err(FlowTableError::Memory { given: memory.len(), needed });
        }
        let buckets = buckets(config.connections);
        let left = Mutex::new(Vec::new());
        let mut table = FlowTable { memory, buckets, config, domain: Arc::clone(domain), left };
        table.resume();
        Ok(table)
    }

    /// Connections that fit.
    pub fn capacity(&self) -> u32 {
        self.config.connections
    }

    /// Connections in use, give or take a few that workers keep at hand.
    pub fn len(&self) -> u32 {
        self.config.connections.saturating_sub(self.available())
    }

    /// Whether no connection is in use.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// When silent flows are forgotten.
    pub fn timeouts(&self) -> &Timeouts {
        &self.config.timeouts
    }

    /// The secret that keys are hashed under.
    #[inline(always)]
    pub fn secret(&self) -> &Secret {
        &self.config.secret
    }

    /// The table as a burst looks things up in it.
    #[inline(always)]
    pub fn view(&self) -> FlowView<'_> {
        let (connections, _) = self.memory[CONTROL_LINES + self.buckets..].as_chunks();
        FlowView { index: self.index(), connections, first: &connections[0], secret: &self.config.secret }
    }

    /// The entry of a key.
    #[inline]
    pub fn find(&self, key: &KeyWords, hash: u64) -> Option<EntryRef> {
        self.index().find(hash, |entry| self.entry(entry).is(key))
    }

    /// The contents of an entry. A number that was not given out by this table shows an arbitrary entry.
    #[inline]
    pub fn entry(&self, entry: EntryRef) -> Entry<'_> {
        self.view().entry(entry)
    }

    /// Both directions of all connections, as they are now.
    pub fn flows(&self, now: Ticks) -> impl Iterator<Item = FlowInfo> + '_ {
        (0..self.fresh().min(self.config.connections)).flat_map(move |connection| {
            let original = EntryRef(connection << 1);
            [original, original.peer()].into_iter().filter_map(move |entry| self.info(entry, now))
        })
    }

    fn info(&self, number: EntryRef, now: Ticks) -> Option<FlowInfo> {
        let entry = self.entry(number);
        if !entry.is_used() {
            return None;
        }
        let original = EntryRef(number.0 & !1);
        let last_seen = entry.last_seen();
        Some(FlowInfo {
            connection: number.connection(),
            reply: number.is_reply(),
            key: entry.key(),
            rewritten: entry.rewritten(),
            state: FlowState::of(&self.entry(original), &self.entry(original.peer())),
            service: entry.service(),
            arrival: entry.arrival(),
            adjacency: entry.adjacency(),
            idle_seconds: (last_seen != Ticks::default()).then(|| now.seconds_since(last_seen)),
        })
    }

    #[inline(always)]
    pub(super) fn index(&self) -> Index<'_> {
        Index::new(&self.memory[CONTROL_LINES..CONTROL_LINES + self.buckets])
    }

    pub(super) fn memory(&self) -> &[Line] {
        &self.memory
    }

    pub(super) fn set_secret(&mut self, secret: Secret) {
        self.config.secret = secret;
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    /// Keeps what a worker that ends has waiting for a grace period.
    pub(super) fn leave(&self, waiting: impl Iterator<Item = (Epoch, u32)>) {
        if let Ok(mut left) = self.left.lock() {
            left.extend(waiting);
        }
    }

    /// Moves what was left into `waiting`, oldest first.
    pub(super) fn adopt(&self, waiting: &mut VecDeque<(Epoch, u32)>) {
        if let Ok(mut left) = self.left.lock() {
            left.sort_unstable();
            waiting.extend(left.drain(..));
        }
    }

    fn counts(&self) -> &Line {
        &self.memory[COUNTS]
    }

    /// Connections that have been used at least once: numbers from there on were never given out.
    pub(super) fn fresh(&self) -> u32 {
        self.counts().get(FRESH).min(u64::from(self.config.connections)) as u32
    }

    /// Connections that are free now.
    pub(super) fn available(&self) -> u32 {
        self.counts().get(AVAILABLE) as u32
    }

    /// The next `count` connections that are due for a look at their timeouts; wraps at the highest used.
    pub(super) fn sweep(&self, count: u32) -> impl Iterator<Item = u32> + use<> {
        let used = u64::from(self.fresh());
        let first = self.counts().word(SWEEP).fetch_add(u64::from(count), Ordering::Relaxed);
        (0..u64::from(count).min(used)).map(move |offset| ((first + offset) % used) as u32)
    }

    /// Moves free connections into `cache`, up to `wanted`.
    pub(super) fn take_free(&self, cache: &mut Vec<u32>, wanted: usize) {
        let before = cache.len();
        while cache.len() - before < wanted {
            match self.pop_free().or_else(|| self.take_fresh()) {
                Some(connection) => cache.push(connection),
                None => break,
            }
        }
        let taken = (cache.len() - before) as u64;
        self.counts().word(AVAILABLE).fetch_sub(taken, Ordering::Relaxed);
    }

    /// Marks both directions of a connection as unused.
    pub(super) fn vacate(&self, connection: u32) {
        let original = EntryRef(connection << 1);
        self.entry(original).clear();
        self.entry(original.peer()).clear();
    }

    /// Gives a connection back that nobody can see any more.
    pub(super) fn give_free(&self, connection: u32) {
        let head = self.memory[FREE_LIST].word(0);
        let mut seen = head.load(Ordering::Acquire);
        loop {
            self.link(connection).set(0, seen & 0xffff_ffff);
            // The upper half counts changes, so that a head that was taken and given back meanwhile is noticed.
            let next = ((seen >> 32).wrapping_add(1)) << 32 | u64::from(connection + 1);
            match head.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break,
                Err(changed) => seen = changed,
            }
        }
        self.counts().word(AVAILABLE).fetch_add(1, Ordering::Relaxed);
    }

    fn pop_free(&self) -> Option<u32> {
        let head = self.memory[FREE_LIST].word(0);
        let mut seen = head.load(Ordering::Acquire);
        loop {
            let connection = (seen as u32).checked_sub(1)?;
            let after = self.link(connection).get(0) & 0xffff_ffff;
            let next = ((seen >> 32).wrapping_add(1)) << 32 | after;
            match head.compare_exchange_weak(seen, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Some(connection),
                Err(changed) => seen = changed,
            }
        }
    }

    fn take_fresh(&self) -> Option<u32> {
        if self.counts().get(FRESH) >= u64::from(self.config.connections) {
            return None;
        }
        let fresh = self.counts().word(FRESH).fetch_add(1, Ordering::Relaxed);
        (fresh < u64::from(self.config.connections)).then_some(fresh as u32)
    }

    /// The line whose first word links a free connection to the next.
    fn link(&self, connection: u32) -> &Line {
        &self.memory[CONTROL_LINES + self.buckets + connection as usize * LINES_PER_CONNECTION]
    }
}

/// A [`FlowTable`] with its parts at hand, for a burst of lookups.
#[derive(Clone, Copy, Debug)]
pub struct FlowView<'a> {
    index: Index<'a>,
    connections: &'a [[Line; LINES_PER_CONNECTION]],
    first: &'a [Line; LINES_PER_CONNECTION],
    secret: &'a Secret,
}

impl<'a> FlowView<'a> {
    /// The secret that keys are hashed under.
    #[inline(always)]
    pub fn secret(&self) -> &'a Secret {
        self.secret
    }

    /// Starts to load the index bucket for a hash.
    #[inline(always)]
    pub fn prefetch(&self, hash: u64) {
        self.index.prefetch(hash);
    }

    /// Starts to load the index buckets that a new flow with this hash needs.
    #[inline]
    pub fn prefetch_both(&self, hash: u64) {
        self.index.prefetch_both(hash);
    }

    /// The entry that most likely is that of the key with this hash; to be compared with [`Entry::is`].
    #[inline(always)]
    pub fn guess(&self, hash: u64) -> Option<EntryRef> {
        self.index.guess(hash)
    }

    /// The contents of an entry. A number that was not given out by this table shows an arbitrary entry.
    #[inline(always)]
    pub fn entry(&self, entry: EntryRef) -> Entry<'a> {
        let lines = self.connections.get(entry.connection() as usize).unwrap_or(self.first);
        let [original, reply, shared] = lines;
        Entry::new(if entry.is_reply() { reply } else { original }, shared, entry.is_reply())
    }
}

/// Buckets for so many connections: two keys each, at most half of all slots in use on average.
fn buckets(connections: u32) -> usize {
    let slots = (connections as usize * 2) * 3 / 2;
    (slots / Line::WORDS).next_power_of_two()
}
