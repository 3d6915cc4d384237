//! One worker's hand in the flow table: making flows, forgetting them, and giving their memory back.

use super::entry::{Entry, EntryFlags, EntryRef, Verdict};
use super::index::Inserted;
use super::key::FlowKey;
use super::table::FlowTable;
use super::timeouts::{FlowState, Ticks};
use crate::sync::Epoch;
use crate::sync::atomics::Arc;
use crate::wire::checksum::Delta;
use std::collections::VecDeque;
use thiserror::Error;

/// Free connections that a worker keeps at hand: those that a burst may make.
const CACHE: usize = 64;
/// Connections looked at in one step of the sweep.
const SWEEP_STEP: u32 = 32;
/// Nanoseconds in which one worker alone has looked at every used connection.
const SWEEP_PERIOD: u64 = 4_000_000_000;
/// The part of all connections that is kept free: below it, every new flow evicts an old one. More than workers
/// take at hand and than wait for a grace period.
const RESERVE_PART: u32 = 16;
/// Connections looked at for an eviction: so many at once, and so often while there is only unwilling prey.
const EVICT_STEP: u32 = 16;
const EVICT_STEPS: u32 = 8;

/// How long packets of a flow may pass unseen, at most ([`EntryFlags::SHORTENED`]): seconds, which are less than as many ticks.
pub const LONGEST_UNSEEN: u32 = 10;

/// A connection to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewFlow {
    /// The 5-tuple of its first packet, as it arrived.
    pub key: FlowKey,
    /// What becomes of this direction.
    pub original: Verdict,
    /// What becomes of the replies. `None` when none are expected: fragments.
    pub reply: Option<Verdict>,
}

/// Why a connection was not made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum NotTracked {
    /// There is a flow with this key already.
    #[error("the flow exists")]
    Exists(EntryRef),
    /// The replies would have the key of another flow.
    #[error("the replies could not be told from those of another flow")]
    ReplyTaken,
    /// Another worker is making the same flow at this moment.
    #[error("another worker is making the same flow")]
    Contended,
    /// No room.
    #[error("the flow table is full")]
    Full,
}

/// One worker's access to the shared [`FlowTable`]. All its memory is taken when it is made.
#[derive(Debug)]
pub struct Tracker {
    table: Arc<FlowTable>,
    cache: Vec<u32>,
    /// Out of the index since the last [`maintain`](Tracker::maintain).
    retired: Vec<u32>,
    /// Waiting for a grace period, oldest first.
    limbo: VecDeque<(Epoch, u32)>,
    next_sweep: u64,
    /// Flows made and forgotten by this worker.
    made: u64,
    forgotten: u64,
    evicted: u64,
}

impl Tracker {
    /// For one worker.
    pub fn new(table: Arc<FlowTable>) -> Self {
        let mut limbo = VecDeque::with_capacity(16_384);
        table.adopt(&mut limbo);
        Tracker {
            table,
            cache: Vec::with_capacity(CACHE),
            retired: Vec::with_capacity(4096),
            limbo,
            next_sweep: 0,
            made: 0,
            forgotten: 0,
            evicted: 0,
        }
    }

    /// The shared table.
    #[inline(always)]
    pub fn table(&self) -> &Arc<FlowTable> {
        &self.table
    }

    /// The entry with this number.
    #[inline(always)]
    pub fn entry(&self, number: EntryRef) -> Entry<'_> {
        self.table.entry(number)
    }

    /// Connections made, forgotten (evictions included) and evicted by this worker until now.
    pub fn counts(&self) -> [u64; 3] {
        [self.made, self.forgotten, self.evicted]
    }

    /// Has the memory of the next `count` connections on its way.
    pub fn prepare(&mut self, count: usize) {
        let count = count.min(CACHE);
        if self.cache.len() < count {
            let table = Arc::clone(&self.table);
            let missing = count - self.cache.len();
            // What is at hand is taken last, so that nothing stays there for ever.
            table.take_free(&mut self.cache, missing);
        }
        for &connection in self.cache.iter().rev().take(count) {
            let original = EntryRef(connection << 1);
            self.entry(original).prefetch(true);
            self.entry(original.peer()).prefetch(false);
        }
    }

    /// Makes a connection, with an entry for each direction; gives that of the original direction.
    pub fn insert(&mut self, flow: &NewFlow, now: Ticks) -> Result<EntryRef, NotTracked> {
        let connection = self.allocate(now).ok_or(NotTracked::Full)?;
        let original = EntryRef(connection << 1);
        self.fill(original, flow, now);
        let outcome = self.index(original, flow);
        match outcome {
            Ok(()) => self.made += 1,
            // A rival may have looked at the entry: it has to wait for a grace period like any other.
            Err(_) => self.retire(connection),
        }
        outcome.map(|()| original)
    }

    /// Forgets a connection, both directions.
    pub fn remove(&mut self, entry: EntryRef) {
        let (original, table) = (EntryRef(entry.0 & !1), Arc::clone(&self.table));
        let mut present = false;
        for number in [original, original.peer()] {
            let entry = table.entry(number);
            if entry.is_used() {
                let hash = entry.key().words().hash(table.secret());
                present |= table.index().remove(hash, number);
            }
        }
        // Of several workers that forget a connection at once, the one that took it out of the index retires it.
        if present {
            self.forgotten += 1;
            self.retire(original.connection());
        }
    }

    /// Work that has to go on beside the packets: called at the end of every poll, `now` in nanoseconds.
    pub fn maintain(&mut self, now: u64) {
        if !self.retired.is_empty() {
            let epoch = self.table.domain().advance();
            self.limbo.extend(self.retired.drain(..).map(|connection| (epoch, connection)));
        }
        self.reuse();
        if now >= self.next_sweep {
            let used = u64::from(self.table.fresh()).max(1);
            self.next_sweep = now + (SWEEP_PERIOD * u64::from(SWEEP_STEP) / used).min(SWEEP_PERIOD / 4);
            self.sweep(Ticks::from_nanos(now));
        }
    }

    /// Gives connections back whose grace period is over.
    fn reuse(&mut self) {
        let mut passed = None;
        while let Some(&(epoch, connection)) = self.limbo.front() {
            if passed < Some(epoch) {
                if !self.table.domain().passed(epoch) {
                    break;
                }
                passed = Some(epoch);
            }
            self.limbo.pop_front();
            self.table.give_free(connection);
        }
    }

    fn sweep(&mut self, now: Ticks) {
        let table = Arc::clone(&self.table);
        for connection in table.sweep(SWEEP_STEP) {
            let Some((state, last_seen)) = look(&table, connection) else { continue };
            if table.timeouts().expired(state, last_seen, now) {
                self.remove(EntryRef(connection << 1));
            }
        }
    }

    fn allocate(&mut self, now: Ticks) -> Option<u32> {
        if self.table.available() < self.table.capacity() / RESERVE_PART {
            self.evict(now);
        }
        if self.cache.is_empty() {
            let table = Arc::clone(&self.table);
            table.take_free(&mut self.cache, CACHE);
        }
        self.cache.pop()
    }

    /// Forgets one connection of the next few: one that is over, else the most idle embryonic one. Only when room
    /// is really short and there is none of these, the most idle of them all.
    fn evict(&mut self, now: Ticks) {
        let table = Arc::clone(&self.table);
        let mut best = None;
        for _ in 0..EVICT_STEPS {
            let ranked = table.sweep(EVICT_STEP).filter_map(|connection| {
                let (state, last_seen) = look(&table, connection)?;
                let idle = now.0.saturating_sub(last_seen.0).saturating_sub(unseen(&table, connection));
                Some((state.is_over(), state.is_embryonic(), idle, connection))
            });
            best = best.max(ranked.max());
            if let Some((over, embryonic, ..)) = best
                && (over || embryonic)
            {
                break;
            }
        }
        let short = table.available() < table.capacity() / RESERVE_PART / 2;
        if let Some((over, embryonic, _, connection)) = best
            && (over || embryonic || short)
        {
            self.evicted += 1;
            self.remove(EntryRef(connection << 1));
        }
    }

    fn fill(&self, original: EntryRef, flow: &NewFlow, now: Ticks) {
        let entry = self.table.entry(original);
        let reply = self.table.entry(original.peer());
        entry.fill_shared(&flow.key, &flow.original.rewritten);
        entry.fill(
            &flow.key.words(),
            &with_nat(flow.original, &flow.key),
            deltas(&flow.key, &flow.original),
            now,
        );
        match &flow.reply {
            Some(verdict) => {
                let key = flow.original.rewritten.reversed();
                let never = Ticks::default();
                reply.fill(&key.words(), &with_nat(*verdict, &key), deltas(&key, verdict), never);
            }
            None => reply.clear(),
        }
    }

    /// Puts both keys into the index, or neither.
    fn index(&self, original: EntryRef, flow: &NewFlow) -> Result<(), NotTracked> {
        let index = self.table.index();
        let claim = |number: EntryRef, key: &FlowKey| {
            let words = key.words();
            let is_key = |rival: EntryRef| self.table.entry(rival).is(&words);
            index.claim(words.hash(self.table.secret()), number, is_key)
        };
        let first = claim(original, &flow.key).map_err(|lost| match lost {
            Inserted::Exists(entry) => NotTracked::Exists(entry),
            Inserted::Contended | Inserted::Done => NotTracked::Contended,
            Inserted::Full => NotTracked::Full,
        })?;
        let Some(_) = flow.reply else {
            return if index.commit(first) { Ok(()) } else { Err(NotTracked::Contended) };
        };
        let reply_key = flow.original.rewritten.reversed();
        let second = claim(original.peer(), &reply_key).map_err(|lost| {
            index.release(first);
            match lost {
                Inserted::Exists(_) => NotTracked::ReplyTaken,
                Inserted::Contended | Inserted::Done => NotTracked::Contended,
                Inserted::Full => NotTracked::Full,
            }
        })?;
        if !index.commit(first) {
            index.release(second);
            return Err(NotTracked::Contended);
        }
        if !index.commit(second) {
            index.remove(flow.key.words().hash(self.table.secret()), original);
            return Err(NotTracked::Contended);
        }
        Ok(())
    }

    fn retire(&mut self, connection: u32) {
        self.table.vacate(connection);
        self.retired.push(connection);
    }
}

impl Drop for Tracker {
    /// A worker that ends leaves what it has at hand, and what still waits for a grace period, to the next.
    fn drop(&mut self) {
        self.maintain(0);
        self.table.leave(self.limbo.drain(..));
        for connection in self.cache.drain(..) {
            self.table.give_free(connection);
        }
    }
}

/// State and last packet of a connection; `None` when it is not in use.
fn look(table: &FlowTable, connection: u32) -> Option<(FlowState, Ticks)> {
    let number = EntryRef(connection << 1);
    let (original, reply) = (table.entry(number), table.entry(number.peer()));
    original
        .is_used()
        .then(|| (FlowState::of(&original, &reply), original.last_seen().max(reply.last_seen())))
}

/// For how long packets of a connection may have passed unseen, in ticks.
fn unseen(table: &FlowTable, connection: u32) -> u32 {
    let number = EntryRef(connection << 1);
    let is_shortened = |number| table.entry(number).flags().has(EntryFlags::SHORTENED);
    if is_shortened(number) || is_shortened(number.peer()) { LONGEST_UNSEEN } else { 0 }
}

fn with_nat(verdict: Verdict, key: &FlowKey) -> Verdict {
    let nat = if verdict.rewritten == *key { EntryFlags::default() } else { EntryFlags::NAT };
    Verdict { flags: verdict.flags.with(nat), ..verdict }
}

/// What the rewrite of `key` adds to a checksum over the addresses, and over addresses and ports.
fn deltas(key: &FlowKey, verdict: &Verdict) -> (u16, u16) {
    let new = &verdict.rewritten;
    let address = |old: crate::tables::Address, new: crate::tables::Address| {
        let (old, new) = (old.bits(), new.bits());
        // The upper 96 bits of mapped IPv4 addresses are equal and so add nothing.
        (0..4).fold(Delta::NONE, |sum, part| {
            sum.join(Delta::of_u32((old >> (32 * part)) as u32, (new >> (32 * part)) as u32))
        })
    };
    let addresses = address(key.source, new.source).join(address(key.destination, new.destination));
    let ports = Delta::of_u16(key.source_port, new.source_port)
        .join(Delta::of_u16(key.destination_port, new.destination_port));
    (addresses.bits(), addresses.join(ports).bits())
}
