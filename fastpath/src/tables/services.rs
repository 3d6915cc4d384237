//! Service frontends and the backends behind them.

use super::{Address, MaglevTable, SharedMap};
use crate::sync::prefetch;
use std::sync::Arc;

/// Names a service port (a service may have several) for as long as it exists.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceId(pub u32);

impl ServiceId {
    /// No service: an untranslated flow.
    pub const NONE: ServiceId = ServiceId(0);
}

/// An address and port at which a service answers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct FrontendKey {
    /// Virtual address.
    pub address: Address,
    /// Port, in host order.
    pub port: u16,
    /// IP protocol number: TCP 6, UDP 17, SCTP 132.
    pub protocol: u8,
}

/// What a packet to a frontend meets.
#[derive(Clone, Debug)]
pub struct Frontend {
    /// The service port that this frontend belongs to.
    pub service: ServiceId,
    /// Endpoints that may be chosen on this node.
    pub backends: Arc<BackendSet>,
    /// What happens when there are none.
    pub when_empty: WhenEmpty,
}

/// What a new connection to a frontend without usable backends meets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenEmpty {
    /// TCP RST or ICMP port unreachable: nobody serves this anywhere.
    Reject,
    /// Silence: a `Local` traffic policy leaves none on this node, others may have some.
    Drop,
}

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

/// Backends among which connections are spread.
#[derive(Clone, Debug, Default)]
pub struct BackendSet {
    backends: Box<[Backend]>,
    maglev: Option<MaglevTable>,
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
        BackendSet { backends: backends.into_boxed_slice(), maglev }
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

/// All frontends of this node.
#[derive(Clone, Debug, Default)]
pub struct ServiceTable {
    frontends: SharedMap<FrontendKey, Frontend>,
    addresses: SharedMap<Address, u32>,
    serving: SharedMap<(ServiceId, Backend), ()>,
}

impl ServiceTable {
    /// The frontend at an address, port and protocol.
    #[inline]
    pub fn frontend(&self, key: &FrontendKey) -> Option<&Frontend> {
        self.frontends.get(key)
    }

    /// Whether any frontend has this address: what is sent to another of its ports is refused.
    #[inline]
    pub fn is_service_address(&self, address: Address) -> bool {
        self.addresses.get(&address).is_some()
    }

    /// Whether a backend of a service still serves. Flows to one that does not are resolved again (UDP) or left
    /// to die (TCP).
    #[inline]
    pub fn is_serving(&self, service: ServiceId, backend: Backend) -> bool {
        self.serving.get(&(service, backend)).is_some()
    }

    /// Adds or replaces a frontend.
    pub fn insert(&mut self, key: FrontendKey, frontend: Frontend) -> Option<Frontend> {
        let former = self.frontends.insert(key, frontend);
        if former.is_none() {
            let uses = self.addresses.get(&key.address).copied().unwrap_or(0);
            self.addresses.insert(key.address, uses + 1);
        }
        former
    }

    /// Removes a frontend; gives what it was.
    pub fn remove(&mut self, key: &FrontendKey) -> Option<Frontend> {
        let former = self.frontends.remove(key)?;
        match self.addresses.get(&key.address).copied() {
            Some(uses) if uses > 1 => self.addresses.insert(key.address, uses - 1),
            _ => self.addresses.remove(&key.address),
        };
        Some(former)
    }

    /// Says that a backend serves, or no longer serves, a service. True when that was news.
    pub fn set_serving(&mut self, service: ServiceId, backend: Backend, serving: bool) -> bool {
        if serving {
            self.serving.get(&(service, backend)).is_none()
                && self.serving.insert((service, backend), ()).is_none()
        } else {
            self.serving.remove(&(service, backend)).is_some()
        }
    }

    /// Frontends, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&FrontendKey, &Frontend)> {
        self.frontends.iter()
    }

    /// Number of frontends.
    pub fn len(&self) -> usize {
        self.frontends.len()
    }

    /// Whether there is no frontend.
    pub fn is_empty(&self) -> bool {
        self.frontends.is_empty()
    }
}
