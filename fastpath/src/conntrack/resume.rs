//! A table that outlives its process: what an earlier one has left in the memory is put in order.
//!
//! A process may end between any two writes, so the index, the list of free connections and all counts are made anew
//! from the entries. Which entries to believe the old index says, once: a connection stays if the index led to it by every
//! key that it has. What was half made or half removed, and what waited for a grace period, does not. Whoever ends while
//! it puts things in order leaves a mark from which on the entries alone say what stays.

use super::entry::EntryRef;
use super::identity;
use super::table::{AVAILABLE, COUNTS, FREE_LIST, FRESH, FlowTable, IDENTITY};
use crate::port::PortId;
use crate::sync::atomics::{Ordering, fence};
use crate::tables::AdjacencyId;

#[cfg(all(test, not(loom)))]
mod tests;

/// The rules that a table's memory follows: another number whenever a line comes to mean something else.
const LAYOUT: u64 = u64::from_be_bytes(*b"MRflows\x01");
/// Word of the identity line: whether the entries in use are those that stay, and the index is unfinished.
const SORTED: usize = 7;
/// How far ahead the index's buckets are asked for: it is read in no order.
const AHEAD: u32 = 16;
/// No tables have this epoch: it is that of what has to be resolved again.
const NO_EPOCH: u32 = 0;

impl FlowTable {
    /// Puts the memory in order: an empty table, or the flows that an earlier one has left.
    pub(super) fn resume(&mut self) {
        let size = u64::from(self.capacity());
        if let Some(secret) = identity::former(self.memory(), IDENTITY, LAYOUT, size) {
            self.set_secret(secret);
            self.sort();
            return;
        }
        self.set_counts(0);
        self.memory()[IDENTITY].set(SORTED, 0);
        identity::put(&self.memory()[IDENTITY], LAYOUT, size, self.secret());
    }

    fn sort(&self) {
        let (known, mark) = (self.fresh(), &self.memory()[IDENTITY]);
        if mark.get(SORTED) == 0 {
            for connection in 0..known {
                self.expect(connection.saturating_add(AHEAD), known);
                if !self.is_whole(connection) {
                    self.vacate(connection);
                }
            }
            fence(Ordering::SeqCst);
            mark.set(SORTED, 1);
            fence(Ordering::SeqCst);
        }
        self.index().clear();
        self.memory()[FREE_LIST].set(0, 0);
        self.set_counts(known);
        // Downwards: low numbers are given out first.
        for connection in (0..known).rev() {
            self.expect(connection.wrapping_sub(AHEAD), known);
            if !self.is_used(connection) || !self.enter(connection) {
                self.vacate(connection);
                self.give_free(connection);
            }
        }
        fence(Ordering::SeqCst);
        mark.set(SORTED, 0);
    }

    /// Sets the counts of a table of which so many connections are known and none is free.
    fn set_counts(&self, known: u32) {
        let counts = &self.memory()[COUNTS];
        counts.set(FRESH, u64::from(known));
        counts.set(AVAILABLE, u64::from(self.capacity() - known));
    }

    /// Whether the index leads to a connection by all keys that it must have.
    fn is_whole(&self, connection: u32) -> bool {
        let number = EntryRef(connection << 1);
        let (original, reply) = (self.entry(number), self.entry(number.peer()));
        let leads_to = |number: EntryRef| {
            let hash = self.entry(number).key().words().hash(self.secret());
            self.index().find(hash, |found| found == number).is_some()
        };
        original.is_used()
            && leads_to(number)
            && if original.key().fragment {
                !reply.is_used()
            } else {
                reply.is_used() && reply.key() == original.rewritten().reversed() && leads_to(number.peer())
            }
    }

    /// Has the buckets that a connection is found by on their way, if it is one of those known.
    fn expect(&self, connection: u32, known: u32) {
        let number = EntryRef(connection << 1);
        for number in [number, number.peer()].into_iter().filter(|_| connection < known) {
            let entry = self.entry(number);
            if entry.is_used() {
                self.index().prefetch(entry.key().words().hash(self.secret()));
            }
        }
    }

    fn is_used(&self, connection: u32) -> bool {
        self.entry(EntryRef(connection << 1)).is_used()
    }

    /// Puts a connection into the index, with verdicts that are resolved again. False when another has one of its keys.
    fn enter(&self, connection: u32) -> bool {
        let (index, original) = (self.index(), EntryRef(connection << 1));
        let enter = |number: EntryRef| {
            let entry = self.entry(number);
            if !entry.is_used() {
                return true;
            }
            entry.reroute(AdjacencyId(u32::MAX), PortId(u16::MAX), NO_EPOCH);
            let words = entry.key().words();
            let is_key = |rival: EntryRef| self.entry(rival).is(&words);
            let claim = index.claim(words.hash(self.secret()), number, is_key);
            claim.is_ok_and(|claim| index.commit(claim))
        };
        if !enter(original) {
            return false;
        }
        let whole = enter(original.peer());
        if !whole {
            index.remove(self.entry(original).key().words().hash(self.secret()), original);
        }
        whole
    }
}
