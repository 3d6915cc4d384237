//! Claims in the XDP program's maps, whose layout is that of `bpf/claims.h`.

use super::error::ClaimError;
use crate::bpf_key::{EndpointKey, octets};
use aya::Pod;
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, MapData, MapError};
use ipnet::IpNet;
use millrace_fastpath::port::Claim;
use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

/// Sizes of the maps: `MAX_…` of the source.
const MOST_PREFIXES: u32 = 131_072;
const MOST_SERVICES: u32 = 131_072;
const MOST_ADDRESSES: u32 = 4_096;

/// Values of the prefix maps: `enum owner` of the source.
const KERNEL: u32 = 0;
const OURS: u32 = 1;

/// Bits of a service entry.
const FRONTEND: u32 = 1;
const TUNNEL: u32 = 2;

/// Bits of `struct prefix` before the address.
const FAMILY_BITS: u32 = 32;

/// `struct prefix` without its length.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct PrefixKey {
    family: u32,
    address: [u8; 16],
}

/// `struct own`.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub(super) struct Own {
    first: u16,
    last: u16,
    is_host: u32,
}

// SAFETY: twenty bytes without padding, of which any pattern is a value.
unsafe impl Pod for PrefixKey {}
// SAFETY: eight bytes without padding, of which any pattern is a value.
unsafe impl Pod for Own {}

/// The maps of claims.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum ClaimMap {
    Destinations,
    Sources,
    Services,
    Addresses,
}

impl ClaimMap {
    /// The map that a claim needs an entry of.
    pub(super) const fn of(claim: Claim) -> ClaimMap {
        match claim {
            Claim::Destination(_) | Claim::Returned(_) => ClaimMap::Destinations,
            Claim::Source(_) => ClaimMap::Sources,
            Claim::Frontend { .. } | Claim::Tunnel { .. } => ClaimMap::Services,
            Claim::Host(_) | Claim::SourcePorts { .. } => ClaimMap::Addresses,
        }
    }
}

impl Own {
    /// No port is from 1 to 0.
    const NOTHING: Own = Own { first: 1, last: 0, is_host: 0 };
}

/// The maps, and what is in them.
pub(super) struct ClaimMaps {
    destinations: LpmTrie<MapData, PrefixKey, u32>,
    sources: LpmTrie<MapData, PrefixKey, u32>,
    services: HashMap<MapData, EndpointKey, u32>,
    addresses: HashMap<MapData, [u8; 16], Own>,
    claims: HashSet<Claim>,
    /// What the entries of two maps are, each of which several claims may share.
    service_kinds: BTreeMap<EndpointKey, u32>,
    own: BTreeMap<IpAddr, Own>,
}

impl ClaimMaps {
    /// Maps in which nothing is.
    pub(super) fn new(
        destinations: LpmTrie<MapData, PrefixKey, u32>,
        sources: LpmTrie<MapData, PrefixKey, u32>,
        services: HashMap<MapData, EndpointKey, u32>,
        addresses: HashMap<MapData, [u8; 16], Own>,
    ) -> ClaimMaps {
        let (claims, service_kinds, own) = (HashSet::new(), BTreeMap::new(), BTreeMap::new());
        ClaimMaps { destinations, sources, services, addresses, claims, service_kinds, own }
    }

    /// Whether this is claimed.
    pub(super) fn holds(&self, claim: Claim) -> bool {
        self.claims.contains(&exact(claim))
    }

    /// Makes a claim.
    pub(super) fn claim(&mut self, claim: Claim) -> Result<(), ClaimError> {
        let claim = exact(claim);
        if self.claims.contains(&claim) {
            return Ok(());
        }
        if let Some(&other) = opposite(claim).and_then(|other| self.claims.get(&other)) {
            return Err(ClaimError::Contradicts(other));
        }
        match claim {
            Claim::Destination(prefix) => enter(&mut self.destinations, prefix, OURS)?,
            Claim::Returned(prefix) => enter(&mut self.destinations, prefix, KERNEL)?,
            Claim::Source(prefix) => enter(&mut self.sources, prefix, OURS)?,
            Claim::Host(address) => {
                let own = Own { is_host: 1, ..self.own(address) };
                self.set_own(address, own)?;
            }
            Claim::SourcePorts { address, first, last } => {
                let own = self.own(address);
                if first > last {
                    return Err(ClaimError::NoPorts);
                }
                if own.first <= own.last {
                    let (first, last) = (own.first, own.last);
                    return Err(ClaimError::Contradicts(Claim::SourcePorts { address, first, last }));
                }
                self.set_own(address, Own { first, last, ..own })?;
            }
            Claim::Frontend { .. } | Claim::Tunnel { .. } => self.set_service(claim, true)?,
        }
        self.claims.insert(claim);
        Ok(())
    }

    /// Gives a claim up.
    pub(super) fn release(&mut self, claim: Claim) -> Result<(), ClaimError> {
        let claim = exact(claim);
        if !self.claims.contains(&claim) {
            return Ok(());
        }
        match claim {
            Claim::Destination(prefix) | Claim::Returned(prefix) => {
                self.destinations.remove(&prefix_key(prefix))?;
            }
            Claim::Source(prefix) => self.sources.remove(&prefix_key(prefix))?,
            Claim::Host(address) => {
                let own = Own { is_host: 0, ..self.own(address) };
                self.set_own(address, own)?;
            }
            Claim::SourcePorts { address, .. } => {
                let own = Own { is_host: self.own(address).is_host, ..Own::NOTHING };
                self.set_own(address, own)?;
            }
            Claim::Frontend { .. } | Claim::Tunnel { .. } => self.set_service(claim, false)?,
        }
        self.claims.remove(&claim);
        Ok(())
    }

    fn own(&self, address: IpAddr) -> Own {
        self.own.get(&address).copied().unwrap_or(Own::NOTHING)
    }

    fn set_own(&mut self, address: IpAddr, own: Own) -> Result<(), ClaimError> {
        if own == Own::NOTHING {
            self.addresses.remove(&octets(address))?;
            self.own.remove(&address);
            return Ok(());
        }
        self.addresses.insert(octets(address), own, 0).map_err(|error| full(error, MOST_ADDRESSES))?;
        self.own.insert(address, own);
        Ok(())
    }

    /// Adds or takes away one of the two meanings of a service entry.
    fn set_service(&mut self, claim: Claim, is_claimed: bool) -> Result<(), ClaimError> {
        let (address, protocol, port, kind) = match claim {
            Claim::Frontend { address, protocol, port } => (address, protocol, port, FRONTEND),
            Claim::Tunnel { address, port } => (address, libc::IPPROTO_UDP as u8, port, TUNNEL),
            _ => return Ok(()),
        };
        let key = EndpointKey::new(address, protocol, port);
        let before = self.service_kinds.get(&key).copied().unwrap_or(0);
        let kinds = if is_claimed { before | kind } else { before & !kind };
        if kinds == 0 {
            self.services.remove(&key)?;
            self.service_kinds.remove(&key);
            return Ok(());
        }
        self.services.insert(key, kinds, 0).map_err(|error| full(error, MOST_SERVICES))?;
        self.service_kinds.insert(key, kinds);
        Ok(())
    }
}

/// A claim in the one form that it is remembered in.
fn exact(claim: Claim) -> Claim {
    match claim {
        Claim::Destination(prefix) => Claim::Destination(prefix.trunc()),
        Claim::Returned(prefix) => Claim::Returned(prefix.trunc()),
        Claim::Source(prefix) => Claim::Source(prefix.trunc()),
        other => other,
    }
}

/// The claim that cannot be beside this one.
fn opposite(claim: Claim) -> Option<Claim> {
    match claim {
        Claim::Destination(prefix) => Some(Claim::Returned(prefix)),
        Claim::Returned(prefix) => Some(Claim::Destination(prefix)),
        _ => None,
    }
}

fn enter(map: &mut LpmTrie<MapData, PrefixKey, u32>, prefix: IpNet, value: u32) -> Result<(), ClaimError> {
    map.insert(&prefix_key(prefix), value, 0).map_err(|error| full(error, MOST_PREFIXES))
}

/// An error of adding to a map of so many entries: hash tables say `E2BIG`, tries `ENOSPC`.
fn full(error: MapError, most: u32) -> ClaimError {
    match &error {
        MapError::SyscallError(cause)
            if matches!(cause.io_error.raw_os_error(), Some(libc::E2BIG | libc::ENOSPC)) =>
        {
            ClaimError::Full { most }
        }
        _ => error.into(),
    }
}

fn prefix_key(prefix: IpNet) -> Key<PrefixKey> {
    let (family, skipped) = if prefix.addr().is_ipv4() { (4, 96) } else { (6, 0) };
    let length = FAMILY_BITS + skipped + u32::from(prefix.prefix_len());
    Key::new(length, PrefixKey { family, address: octets(prefix.addr()) })
}
