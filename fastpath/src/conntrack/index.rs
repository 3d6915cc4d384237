//! From a key's hash to its entry: buckets of one cache line, two choices each, without locks.
//!
//! A bucket has eight slots of 64 bits: the hash's upper half as tag, and the entry's number. A key may stand in
//! either of two buckets; it is put into the first unless that is full. When both are full, a neighbour is moved to
//! its other bucket: at the load for which the table is sized (at most half of all slots) there always is one.
//!
//! **Insertion.** Two workers may insert the same key at once (both directions' first packets, a retransmission on
//! another queue). Exactly one may win. A worker *claims* a slot with the pending mark set, then looks through
//! both buckets for others with its key: a live one wins over it; of two pending ones that in the earlier slot wins,
//! and kills the other by emptying its slot. It then *commits* by turning its own mark off with a compare-and-swap,
//! which fails if it was killed meanwhile. Lookups see live slots only. No step waits for another worker.
//!
//! **Moving.** The entry is put into a free slot of its other bucket and then taken out of its own; for a moment it
//! stands in both. A lookup that meets a move may miss the key, and goes on to insert it; an insertion looks at the
//! first bucket again at the end, and so does not.

use super::entry::EntryRef;
use super::line::Line;
use crate::sync::atomics::Ordering;
use crate::sync::prefetch;

const EMPTY: u64 = 0;
const PENDING: u64 = 1 << 31;
const NUMBER: u64 = PENDING - 1;

/// A claimed slot, to be committed or released.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Claim {
    slot: Slot,
    value: u64,
}

/// Where a slot is: bucket and place.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Slot {
    bucket: usize,
    place: usize,
}

/// How an insertion ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Inserted {
    /// The key is in the table and leads to the new entry.
    Done,
    /// The key was there already, with this entry.
    Exists(EntryRef),
    /// Another worker is inserting the same key just now.
    Contended,
    /// Both buckets are full.
    Full,
}

/// The buckets of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Index<'a> {
    buckets: &'a [Line],
}

impl<'a> Index<'a> {
    /// Over a power of two of lines.
    #[inline(always)]
    pub(super) fn new(buckets: &'a [Line]) -> Self {
        debug_assert!(buckets.len().is_power_of_two());
        Index { buckets }
    }

    #[inline(always)]
    fn first(&self, hash: u64) -> usize {
        hash as usize & (self.buckets.len() - 1)
    }

    /// The other bucket: derived from the tag, so that it is the same seen from either.
    #[inline(always)]
    fn second(&self, hash: u64) -> usize {
        self.other(self.first(hash), hash >> 32)
    }

    #[inline(always)]
    fn other(&self, bucket: usize, tag: u64) -> usize {
        let offset = (tag.wrapping_mul(0x5bd1_e995) >> 8) | 1;
        (bucket ^ offset as usize) & (self.buckets.len() - 1)
    }

    /// Starts to load the bucket in which the key most likely is.
    #[inline(always)]
    pub(super) fn prefetch(&self, hash: u64) {
        prefetch(&self.buckets[self.first(hash)]);
    }

    /// Starts to load both buckets in which the key may be: who inserts it looks into both.
    #[inline]
    pub(super) fn prefetch_both(&self, hash: u64) {
        prefetch(&self.buckets[self.first(hash)]);
        prefetch(&self.buckets[self.second(hash)]);
    }

    /// The entry in the first bucket whose tag fits: a guess for prefetching, right in all but a few of 2³² cases
    /// when there is one. Free of branches: eight compares, one bit scan.
    #[inline(always)]
    pub(super) fn guess(&self, hash: u64) -> Option<EntryRef> {
        let bucket = &self.buckets[self.first(hash)];
        let hits = bucket.tagged((hash >> 32) as u32);
        if hits == 0 {
            return None;
        }
        live_entry(bucket.word(hits.trailing_zeros() as usize & 7).load(Ordering::Acquire))
    }

    /// The live entry of a key; `is_key` compares in full.
    #[inline]
    pub(super) fn find(&self, hash: u64, is_key: impl Fn(EntryRef) -> bool) -> Option<EntryRef> {
        self.both(hash).find_map(|bucket| {
            self.tagged(bucket, hash).find_map(|slot| {
                let value = self.load(slot);
                let entry = live_entry(value).filter(|_| value >> 32 == hash >> 32)?;
                is_key(entry).then_some(entry)
            })
        })
    }

    /// Takes a free slot for `entry`, whose contents are complete, and settles with whoever has the same key.
    pub(super) fn claim(
        &self,
        hash: u64,
        entry: EntryRef,
        is_key: impl Fn(EntryRef) -> bool,
    ) -> Result<Claim, Inserted> {
        let value = hash >> 32 << 32 | PENDING | u64::from(entry.0 + 1);
        let slot = self.take_free(hash, value).or_else(|| {
            self.make_room(hash);
            self.take_free(hash, value)
        });
        let slot = slot.ok_or(Inserted::Full)?;
        let claim = Claim { slot, value };
        match self.settle(hash, claim, is_key) {
            None => Ok(claim),
            Some(lost) => {
                self.release(claim);
                Err(lost)
            }
        }
    }

    /// Makes a claim visible to lookups. False when another worker has killed it.
    pub(super) fn commit(&self, claim: Claim) -> bool {
        self.swap(claim.slot, claim.value, claim.value & !PENDING)
    }

    /// Gives a claim back.
    pub(super) fn release(&self, claim: Claim) {
        // It fails when the slot was killed, which is as good.
        self.swap(claim.slot, claim.value, EMPTY);
    }

    /// Takes a live entry out. False when it was not there.
    pub(super) fn remove(&self, hash: u64, entry: EntryRef) -> bool {
        let value = hash >> 32 << 32 | u64::from(entry.0 + 1);
        // In both buckets, in case it is being moved.
        self.slots(hash).filter(|&slot| self.load(slot) == value && self.swap(slot, value, EMPTY)).count() > 0
    }

    /// Takes everything out. Nobody else uses the index meanwhile.
    pub(super) fn clear(&self) {
        self.buckets.iter().for_each(Line::clear);
    }

    fn take_free(&self, hash: u64, value: u64) -> Option<Slot> {
        self.both(hash).find_map(|bucket| self.free(bucket).find(|&slot| self.swap(slot, EMPTY, value)))
    }

    /// Moves one entry of the two buckets of a hash to that entry's other bucket, if any has room there.
    #[cold]
    fn make_room(&self, hash: u64) {
        for from in self.slots(hash) {
            let value = self.load(from);
            if live_entry(value).is_none() {
                continue;
            }
            let bucket = self.other(from.bucket, value >> 32);
            let mut places = (0..Line::WORDS).map(|place| Slot { bucket, place });
            let Some(to) = places.find(|&to| self.load(to) == EMPTY && self.swap(to, EMPTY, value)) else {
                continue;
            };
            if self.swap(from, value, EMPTY) {
                return;
            }
            // It was removed meanwhile: so is the copy.
            self.swap(to, value, EMPTY);
        }
    }

    /// Looks for rivals of a claim. `None`: the claim stands.
    fn settle(&self, hash: u64, claim: Claim, is_key: impl Fn(EntryRef) -> bool) -> Option<Inserted> {
        let once_more = self.both(hash).take(1);
        for bucket in self.both(hash).chain(once_more) {
            for slot in self.tagged(bucket, hash).filter(|&slot| slot != claim.slot) {
                if let Some(lost) = self.settle_with(slot, hash, claim, &is_key) {
                    return Some(lost);
                }
            }
        }
        None
    }

    /// Settles with whoever is in one slot.
    fn settle_with(
        &self,
        slot: Slot,
        hash: u64,
        claim: Claim,
        is_key: impl Fn(EntryRef) -> bool,
    ) -> Option<Inserted> {
        loop {
            let value = self.load(slot);
            let entry = entry_of(value).filter(|_| value >> 32 == hash >> 32)?;
            if !is_key(entry) {
                return None;
            }
            if value & PENDING == 0 {
                return Some(Inserted::Exists(entry));
            }
            if slot < claim.slot {
                return Some(Inserted::Contended);
            }
            if self.swap(slot, value, EMPTY) {
                return None;
            }
        }
    }

    /// The two buckets of a key in the order of search. With one bucket in all, both choices are the same.
    #[inline(always)]
    fn both(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let (first, second) = (self.first(hash), self.second(hash));
        [Some(first), (second != first).then_some(second)].into_iter().flatten()
    }

    /// The slots of a bucket that have the tag of a hash, when they are looked at.
    #[inline(always)]
    fn tagged(&self, bucket: usize, hash: u64) -> Places {
        Places { bucket, hits: self.buckets[bucket].tagged((hash >> 32) as u32) }
    }

    /// The slots of a bucket that are free, when they are looked at.
    #[inline(always)]
    fn free(&self, bucket: usize) -> Places {
        let line = &self.buckets[bucket];
        let mut hits = 0;
        for place in 0..Line::WORDS {
            hits |= u32::from(line.word(place).load(Ordering::SeqCst) == EMPTY) << place;
        }
        Places { bucket, hits }
    }

    /// The slots of a key in the order of search.
    fn slots(&self, hash: u64) -> impl Iterator<Item = Slot> + use<> {
        self.both(hash).flat_map(|bucket| (0..Line::WORDS).map(move |place| Slot { bucket, place }))
    }

    // Claims and scans of two workers must not both miss each other (store, then load, on either side), so the
    // protocol's accesses are sequentially consistent. On x86 the loads cost nothing by that.
    #[inline(always)]
    fn load(&self, slot: Slot) -> u64 {
        self.buckets[slot.bucket].word(slot.place).load(Ordering::SeqCst)
    }

    fn swap(&self, slot: Slot, from: u64, to: u64) -> bool {
        let word = self.buckets[slot.bucket].word(slot.place);
        word.compare_exchange(from, to, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }
}

/// Slots of one bucket, a bit each.
struct Places {
    bucket: usize,
    hits: u32,
}

impl Iterator for Places {
    type Item = Slot;

    #[inline(always)]
    fn next(&mut self) -> Option<Slot> {
        let place = self.hits.trailing_zeros() as usize;
        self.hits &= self.hits.wrapping_sub(1);
        (place < Line::WORDS).then_some(Slot { bucket: self.bucket, place })
    }
}

/// The entry of a slot, live or pending.
#[inline(always)]
fn entry_of(value: u64) -> Option<EntryRef> {
    (value & NUMBER != 0).then(|| EntryRef((value & NUMBER) as u32 - 1))
}

#[inline(always)]
fn live_entry(value: u64) -> Option<EntryRef> {
    entry_of(value).filter(|_| value & PENDING == 0)
}
