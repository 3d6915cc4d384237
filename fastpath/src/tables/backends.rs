//! Endpoints of a service, and how one is chosen for a connection.

use super::{Address, MaglevTable};
use crate::sync::prefetch;

/// An endpoint: where a connection is sent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Backend {
    /// The pod's address.
    pub address: Address,
    /// Its port, in host order.
    pub port: u16,
}

/// How a backend is chosen for a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Balancing {
    /// By a Maglev table: most connections keep their backend when the set changes.
    #[default]
    Maglev,
    /// By the connection's hash alone, evenly.
    Random,
}

impl Backend {
    /// A number that stands for this backend wherever one is remembered, also after a restart. Two backends of a set
    /// have the same one in fewer than one of a million cases; then the first has it.
    pub fn digest(&self) -> u32 {
        digest_of(identity(self))
    }
}

fn digest_of(identity: u64) -> u32 {
    (identity >> 32) as u32
}

/// Backends among which connections are spread.
#[derive(Clone, Debug, Default)]
pub struct BackendSet {
    backends: Box<[Backend]>,
    maglev: Option<MaglevTable>,
    /// Digests with positions in `backends`, sorted.
    digests: Box<[(u32, u32)]>,
}

impl BackendSet {
    /// A set of backends; order does not matter, duplicates count once.
    pub fn new(mut backends: Vec<Backend>, balancing: Balancing) -> Self {
        backends.sort_unstable();
        backends.dedup();
        let names: Vec<u64> = backends.iter().map(identity).collect();
        let maglev = match balancing {
            Balancing::Maglev => MaglevTable::try_new(&names).ok(),
            // Too many for a table: an even spread is still right.
            Balancing::Random => None,
        };
        let digests = names.iter().zip(0..).map(|(&name, position)| (digest_of(name), position));
        let mut digests: Box<[(u32, u32)]> = digests.collect();
        digests.sort_unstable();
        BackendSet { backends: backends.into_boxed_slice(), maglev, digests }
    }

    /// The backend with this [digest](Backend::digest).
    pub fn find(&self, digest: u32) -> Option<&Backend> {
        let at = self.digests.partition_point(|&(known, _)| known < digest);
        let &(known, position) = self.digests.get(at)?;
        self.backends.get(position as usize).filter(|_| known == digest)
    }

    /// The backend for a connection with this hash; `None` when the set is empty.
    #[inline]
    pub fn choose(&self, hash: u64) -> Option<&Backend> {
        match &self.maglev {
            Some(table) => self.backends.get(table.lookup(hash)),
            None => {
                let scaled = (u128::from(hash) * self.backends.len() as u128) >> 64;
                self.backends.get(scaled as usize)
            }
        }
    }

    /// Asks for the lines that [`choose`](BackendSet::choose) will need for this hash.
    #[inline]
    pub fn prefetch(&self, hash: u64) {
        if let Some(first) = self.backends.first() {
            prefetch(first);
        }
        if let Some(table) = &self.maglev {
            table.prefetch(hash);
        }
    }

    /// All backends, sorted.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }
}

/// A number that stands for a backend on every node and over restarts, so that all choose alike.
fn identity(backend: &Backend) -> u64 {
    let bits = backend.address.bits();
    let mixed = super::maglev::mix((bits >> 64) as u64 ^ u64::from(backend.port));
    super::maglev::mix(mixed ^ bits as u64)
}
