//! A hash map whose versions share what did not change.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};
use std::sync::Arc;

/// How many parts a map is cut into: a change copies one part.
const SHARDS: usize = 512;

/// A map that is cheap to clone and to change afterwards: cloning shares all parts, a change copies one of
/// them (1/512 of the entries).
#[derive(Clone, Debug)]
pub struct SharedMap<K, V> {
    shards: Vec<Arc<HashMap<K, V, Folded>>>,
    len: usize,
}

/// An entry of one of two versions of a map, or of both; the values may be equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Change<'a, K, V> {
    /// The key.
    pub key: &'a K,
    /// The value in the earlier version.
    pub before: Option<&'a V>,
    /// The value now.
    pub now: Option<&'a V>,
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        let empty = Arc::new(HashMap::default());
        SharedMap { shards: vec![empty; SHARDS], len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    /// The value of `key`.
    #[inline]
    pub fn get(&self, key: &K) -> Option<&V> {
        self.shards[shard_of(key)].get(key)
    }

    /// Sets the value of `key`; gives the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let shard = Arc::make_mut(&mut self.shards[shard_of(&key)]);
        let former = shard.insert(key, value);
        self.len += usize::from(former.is_none());
        former
    }

    /// Removes `key`; gives its value.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let shard = &mut self.shards[shard_of(key)];
        if !shard.contains_key(key) {
            return None;
        }
        let former = Arc::make_mut(shard).remove(key);
        self.len -= usize::from(former.is_some());
        former
    }

    /// Entries.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// How this map differs from an earlier version of it, in no order. What both share is not looked at, so the cost is
    /// that of the parts that changed.
    pub fn changes_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = Change<'a, K, V>> {
        let parts = self.shards.iter().zip(&earlier.shards).filter(|(now, before)| !Arc::ptr_eq(now, before));
        parts.flat_map(|(now, before)| {
            let gone = before.iter().filter(|(key, _)| !now.contains_key(key));
            let there = now.iter().map(|(key, value)| (key, before.get(key), Some(value)));
            let all = gone.map(|(key, value)| (key, Some(value), None)).chain(there);
            all.map(|(key, before, now)| Change { key, before, now })
        })
    }

    /// All entries, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.shards.iter().flat_map(|shard| shard.iter())
    }
}

fn shard_of<K: Hash>(key: &K) -> usize {
    // The map inside a shard uses the hash's low bits for the place and the top seven as tag: take others.
    (Folded.hash_one(key) >> 40) as usize % SHARDS
}

/// Builds the hasher of keys: multiply and fold, after each 64 bits. Keys come from the cluster's API, not from
/// packets, so a fixed seed is fine.
#[derive(Clone, Copy, Debug, Default)]
struct Folded;

impl BuildHasher for Folded {
    type Hasher = FoldedHasher;

    #[inline]
    fn build_hasher(&self) -> FoldedHasher {
        FoldedHasher(0x9e37_79b9_7f4a_7c15)
    }
}

struct FoldedHasher(u64);

impl std::hash::Hasher for FoldedHasher {
    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }

    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.0 ^ word) * 0xd6e8_feb8_6659_fd93_u128;
        self.0 = (product as u64) ^ (product >> 64) as u64 ^ word.rotate_left(32);
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.write_u64(u64::from(value));
    }

    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.write_u64(value as u64);
        self.write_u64((value >> 64) as u64);
    }
}
