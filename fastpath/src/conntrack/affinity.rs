//! Session affinity `ClientIP`: which endpoint a client of a service port was led to last.
//!
//! A table of its own, because a binding outlives its connections. It is shared by all workers, fixed in size and
//! lock-free. All that matters lies in its memory, its secret in the last line, and any contents of the rest are valid: so
//! a process that maps the memory of an earlier one goes on with the same bindings.
//!
//! **Layout.** A bucket of four entries takes two lines. What a look-up needs is in the first: in words 0 to 3 the
//! entries' fingerprints, in words 4 to 7 their uses. The second holds the clients' addresses, two words each, for
//! people only. A fingerprint is a keyed 64-bit hash of service port and client, never 0; 0 marks a free entry. A use
//! has the ticks of the last use in its upper half and the endpoint's digest in its lower, hidden under bits of the
//! fingerprint: read with the fingerprint of another entry it is a digest of nothing. A key may stand in either of two
//! buckets and is put into the emptier one; when both are full, it replaces the entry that was unused for longest. There
//! are three entries for every two clients. Of as many clients as the table is made for, more than 99.8 % are found once
//! all are in; while new ones come without end, so are more than 99 % of that many that came last.
//!
//! **Workers meet.** An entry is claimed by a compare-and-swap of its fingerprint, then its use is written, then the
//! address. Nothing waits. The caller asks for every digest whether that endpoint may be used now, and chooses anew
//! otherwise, so the worst that can happen is a new choice:
//!
//! * *A claimed entry is read before its use is written.* Its old use was hidden under another fingerprint: the digest
//!   is of no endpoint. Or the entry was never used, which counts as no binding; or it was this client's own and had
//!   been forgotten, which is then not yet so.
//! * *An entry is replaced while its former owner renews it.* A use is only written over one that was read before the
//!   fingerprint was seen to be still there. The new owner's use, once written, is different, so the late renewal
//!   fails; if it comes before, the new owner writes over it.
//! * *An entry is replaced while its claimant has not written yet.* The claimant notices by the same check, and looks
//!   for another.
//! * *Two workers bind the same client.* Mostly they want the same free entry; one gets it, the other finds it there,
//!   and the later use stays. If something else has made them choose different entries, each looks for the other after
//!   its claim (at least one sees the other's, by the fences between); the entry that comes first in the order of
//!   search stays, the other is emptied, and whoever held it writes to the first instead.
//! * *The entry that such a worker relies on is replaced or forgotten at that moment*, or *an entry is replaced by a worker
//!   that looked at it before it was renewed, or before its claimant had written*: the binding is lost.
//! * *Two claimants write addresses at once.* The address does not fit the fingerprint. Look-ups do not read it;
//!   [`AffinityTable::of_service`] leaves the entry out, until its endpoint changes and the address is written again.

use super::identity;
use super::key::{Secret, fold, halves};
use super::line::Line;
use super::timeouts::Ticks;
use crate::sync::Region;
use crate::sync::atomics::{Ordering, fence};
use crate::tables::{Address, ServiceId};
use thiserror::Error;

#[cfg(all(test, not(loom)))]
mod tests;

/// Entries of a bucket.
const ENTRIES: usize = 4;
/// Lines of a bucket.
const LINES: usize = 2;
/// The rules that a table's memory follows: another number whenever a word comes to mean something else.
const LAYOUT: u64 = u64::from_be_bytes(*b"MRaffin\x01");
/// The fingerprint of a free entry.
const FREE: u64 = 0;
/// How often a binding is tried when others take the entry away each time, before it is given up.
const ATTEMPTS: usize = 8;

/// Which endpoints clients are bound to: shared by all workers.
#[derive(Debug)]
pub struct AffinityTable {
    memory: Region<Line>,
    /// At least two.
    buckets: u32,
    secret: Secret,
}

/// Why a table of bindings cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum AffinityError {
    /// Out of range.
    #[error("{0} clients: session affinity remembers between 1 and 536870912")]
    Clients(u32),
    /// The memory has not the size that [`AffinityTable::lines`] says.
    #[error("the memory for session affinity has {given} lines of 64 bytes where {needed} are needed")]
    Memory {
        /// Lines given.
        given: usize,
        /// Lines needed.
        needed: usize,
    },
}

/// A binding, for people.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AffinityInfo {
    /// The client.
    pub client: Address,
    /// The digest of the endpoint that it is bound to.
    pub backend: u32,
    /// Seconds since it was last led there.
    pub idle_seconds: u32,
}

/// Where an entry is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Place {
    bucket: usize,
    entry: usize,
}

/// What a search for a fingerprint comes to.
enum Sought {
    /// The entry is here.
    Found(Place),
    /// It is not there, and would be put here, in place of this fingerprint.
    Absent(Place, u64),
}

/// The fourth word of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Use {
    last: Ticks,
    backend: u32,
}

impl AffinityTable {
    /// Lines of memory that a table for so many clients takes: 48 bytes a client, and one line.
    pub fn lines(clients: u32) -> usize {
        buckets(clients) as usize * LINES + 1
    }

    /// A table in `memory`. If an earlier table of this size has left its bindings there, it goes on with them and with that
    /// table's secret; all zeroes are an empty table; anything else is cleared. Into memory that is new only the last line
    /// is written, so what is provided when it is touched stays unused until there are clients.
    ///
    /// # Errors
    /// [`AffinityError`]: a number of clients out of range, or memory of another size than [`AffinityTable::lines`].
    pub fn try_new(clients: u32, secret: Secret, memory: Region<Line>) -> Result<Self, AffinityError> {
        if !(1..=1 << 29).contains(&clients) {
            return Err(AffinityError::Clients(clients));
        }
        let needed = AffinityTable::lines(clients);
        if memory.len() != needed {
            return Err(AffinityError::Memory { given: memory.len(), needed });
        }
        let mut table = AffinityTable { memory, buckets: buckets(clients), secret };
        table.resume();
        Ok(table)
    }

    fn resume(&mut self) {
        let (identity, size) = (self.memory.len() - 1, u64::from(self.buckets));
        match identity::former(&self.memory, identity, LAYOUT, size) {
            Some(secret) => self.secret = secret,
            None => identity::put(&self.memory[identity], LAYOUT, size, &self.secret),
        }
    }

    /// The digest of the endpoint that a client of a service port is bound to, if it was led there no more than `timeout`
    /// seconds ago. It may be a digest of no endpoint, or of one that may not be used any more.
    pub fn find(&self, service: ServiceId, client: Address, now: Ticks, timeout: u32) -> Option<u32> {
        let fingerprint = self.fingerprint(service, client);
        let place = self.places(fingerprint).find(|&place| self.holds(place, fingerprint))?;
        let found = Use::unpack(self.heads(place).get(use_word(place)), fingerprint);
        let bound = found.last != Ticks::default() && now.seconds_since(found.last) <= timeout;
        bound.then_some(found.backend)
    }

    /// Binds a client of a service port to the endpoint with this digest, or renews its binding. Nothing is written when
    /// that is known of this tick already. Without a time ([`Ticks::default`]) there is no binding.
    pub fn keep(&self, service: ServiceId, client: Address, backend: u32, now: Ticks) {
        let fingerprint = self.fingerprint(service, client);
        if now == Ticks::default() {
            return;
        }
        for _ in 0..ATTEMPTS {
            let place = match self.seek(fingerprint) {
                Sought::Found(place) => place,
                Sought::Absent(place, former) if self.claim(place, former, fingerprint) => place,
                Sought::Absent(..) => continue,
            };
            if self.write(place, fingerprint, client, Use { last: now, backend }) {
                return;
            }
        }
    }

    /// Takes the binding of a client out.
    pub fn forget(&self, service: ServiceId, client: Address) {
        let fingerprint = self.fingerprint(service, client);
        for place in self.places(fingerprint) {
            if self.holds(place, fingerprint) {
                self.swap(place, fingerprint, FREE);
            }
        }
    }

    /// The bindings of a service port, as they are now and whatever their age. Goes through the whole table.
    pub fn of_service(&self, service: ServiceId, now: Ticks) -> impl Iterator<Item = AffinityInfo> + '_ {
        self.all().filter_map(move |place| {
            let fingerprint = self.heads(place).get(place.entry);
            let client = self.client(place);
            let ours = fingerprint != FREE && fingerprint == self.fingerprint(service, client);
            let found = Use::unpack(self.heads(place).get(use_word(place)), fingerprint);
            (ours && found.last != Ticks::default()).then(|| AffinityInfo {
                client,
                backend: found.backend,
                idle_seconds: now.seconds_since(found.last),
            })
        })
    }

    /// Entries in use, of whatever age. Counts through the whole table.
    pub fn len(&self) -> usize {
        self.all().filter(|&place| !self.holds(place, FREE)).count()
    }

    /// Whether no entry is in use. Goes through the whole table.
    pub fn is_empty(&self) -> bool {
        self.all().all(|place| self.holds(place, FREE))
    }

    /// The entry of a fingerprint, or where it would go: the first free entry of the bucket that has more of them, or
    /// the entry that was unused for longest.
    fn seek(&self, fingerprint: u64) -> Sought {
        let [first, second] = self.candidates(fingerprint);
        let mut oldest = (Ticks(u32::MAX), Place { bucket: first, entry: 0 }, FREE);
        let mut roomy = (0, Place { bucket: first, entry: 0 });
        for bucket in [first, second] {
            let mut free = 0;
            let mut place_free = None;
            for entry in 0..ENTRIES {
                let place = Place { bucket, entry };
                let present = self.heads(place).get(entry);
                if present == fingerprint {
                    return Sought::Found(place);
                }
                if present == FREE {
                    free += 1;
                    place_free.get_or_insert(place);
                    continue;
                }
                let last = Use::unpack(self.heads(place).get(use_word(place)), present).last;
                if last < oldest.0 || oldest.2 == FREE {
                    oldest = (last, place, present);
                }
            }
            if let Some(place) = place_free.filter(|_| free > roomy.0) {
                roomy = (free, place);
            }
        }
        if roomy.0 > 0 { Sought::Absent(roomy.1, FREE) } else { Sought::Absent(oldest.1, oldest.2) }
    }

    /// Takes an entry for a fingerprint, and settles with whoever has taken another for the same. False when the entry
    /// was changed meanwhile, or the other's entry stays.
    fn claim(&self, place: Place, former: u64, fingerprint: u64) -> bool {
        if !self.swap(place, former, fingerprint) {
            return false;
        }
        // Claims and searches of two workers must not both miss each other.
        fence(Ordering::SeqCst);
        let mut earlier = true;
        for other in self.places(fingerprint) {
            if other == place {
                earlier = false;
            } else if self.holds(other, fingerprint) {
                if earlier {
                    self.swap(place, fingerprint, FREE);
                    return false;
                }
                self.swap(other, fingerprint, FREE);
            }
        }
        true
    }

    /// Writes the use of an entry while it has this fingerprint. False when it has it no more.
    ///
    /// The word is replaced only as it was read before the fingerprint. Had another claimant written in between, the
    /// word would differ; had it written before, its fingerprint would be seen.
    fn write(&self, place: Place, fingerprint: u64, client: Address, new: Use) -> bool {
        let word = self.heads(place).word(use_word(place));
        loop {
            let seen = word.load(Ordering::Acquire);
            if !self.holds(place, fingerprint) {
                return false;
            }
            let present = Use::unpack(seen, fingerprint);
            if present.backend == new.backend && present.last >= new.last {
                return true;
            }
            let packed = new.pack(fingerprint);
            if word.compare_exchange(seen, packed, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                // A renewal leaves the address as it is.
                if present.backend != new.backend || present.last == Ticks::default() {
                    let [upper, lower] = halves(client.bits());
                    self.clients(place).set(2 * place.entry, upper);
                    self.clients(place).set(2 * place.entry + 1, lower);
                }
                return true;
            }
        }
    }

    #[inline(always)]
    fn holds(&self, place: Place, fingerprint: u64) -> bool {
        self.heads(place).get(place.entry) == fingerprint
    }

    fn swap(&self, place: Place, from: u64, to: u64) -> bool {
        let word = self.heads(place).word(place.entry);
        word.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    fn client(&self, place: Place) -> Address {
        let [upper, lower] = [0, 1].map(|half| self.clients(place).get(2 * place.entry + half));
        Address::from_v6(u128::from(upper) << 64 | u128::from(lower))
    }

    /// Fingerprints and uses of a bucket.
    #[inline(always)]
    fn heads(&self, place: Place) -> &Line {
        &self.memory[place.bucket * LINES]
    }

    /// Addresses of a bucket.
    fn clients(&self, place: Place) -> &Line {
        &self.memory[place.bucket * LINES + 1]
    }

    /// Who does not know the secret cannot choose clients that collide.
    #[inline(always)]
    fn fingerprint(&self, service: ServiceId, client: Address) -> u64 {
        let [s0, s1, s2, s3] = self.secret;
        let [upper, lower] = halves(client.bits());
        // Spread over the word, so that no factor is small.
        let service = (u64::from(service.0) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let folded = fold(fold(upper ^ s0, lower ^ s3) ^ s0, service ^ s1);
        fold(folded ^ s2, service ^ s3).max(1)
    }

    /// The two buckets of a fingerprint, different ones.
    #[inline(always)]
    fn candidates(&self, fingerprint: u64) -> [usize; 2] {
        let buckets = u64::from(self.buckets);
        let first = ((fingerprint >> 32) * buckets) >> 32;
        let offset = ((fingerprint & 0xffff_ffff) * (buckets - 1)) >> 32;
        let second = first + 1 + offset;
        [first as usize, if second < buckets { second } else { second - buckets } as usize]
    }

    /// The entries in which a fingerprint may stand, in the order of search.
    #[inline(always)]
    fn places(&self, fingerprint: u64) -> impl Iterator<Item = Place> + use<> {
        self.candidates(fingerprint)
            .into_iter()
            .flat_map(|bucket| (0..ENTRIES).map(move |entry| Place { bucket, entry }))
    }

    fn all(&self) -> impl Iterator<Item = Place> + use<> {
        (0..self.buckets as usize).flat_map(|bucket| (0..ENTRIES).map(move |entry| Place { bucket, entry }))
    }
}

impl Use {
    #[inline(always)]
    fn pack(self, fingerprint: u64) -> u64 {
        u64::from(self.last.0) << 32 | u64::from(self.backend ^ cover(fingerprint))
    }

    #[inline(always)]
    fn unpack(word: u64, fingerprint: u64) -> Use {
        Use { last: Ticks((word >> 32) as u32), backend: word as u32 ^ cover(fingerprint) }
    }
}

/// What hides a digest: also where two fingerprints lead to the same buckets, most of its bits differ.
#[inline(always)]
fn cover(fingerprint: u64) -> u32 {
    (fingerprint >> 32) as u32 ^ (fingerprint as u32).rotate_left(16)
}

/// Where the use of an entry is in the first line of its bucket.
#[inline(always)]
const fn use_word(place: Place) -> usize {
    ENTRIES + place.entry
}

/// Three entries for every two clients.
fn buckets(clients: u32) -> u32 {
    ((u64::from(clients) * 3).div_ceil(2 * ENTRIES as u64) as u32).max(2)
}
