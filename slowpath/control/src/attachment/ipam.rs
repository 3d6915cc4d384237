//! Addresses for containers: which one is given next.
//!
//! Pure arithmetic over ranges; what is taken is derived from the attachments that there are. The next address goes on from
//! the last one given, and one that was just given back rests as long as others are free: who still sends to a pod that is
//! gone does not reach another.

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use thiserror::Error;

/// Addresses of a family that rest after they were given back, at most.
const RESTING: usize = 256;

/// An address family.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// Why there is no address.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum IpamError {
    /// There is nothing to give addresses from.
    #[error(
        "this node has no range of pod addresses: neither its Node object has spec.podCIDRs, nor the configuration cni.podCIDRs"
    )]
    NoRange,
    /// All addresses of a family are taken.
    #[error("no {family} address is left in {ranges}: all {size} are taken")]
    Exhausted {
        /// The family.
        family: Family,
        /// Its ranges.
        ranges: String,
        /// Addresses that can be given in all.
        size: u64,
    },
    /// A requested address is not in any range of this node.
    #[error("{address} was requested, which is not in the node's ranges of pod addresses: {ranges}")]
    Outside {
        /// What was asked for.
        address: IpAddr,
        /// What there is.
        ranges: String,
    },
    /// A requested address is somebody's.
    #[error("{0} was requested, which is taken")]
    Taken(IpAddr),
    /// A requested address is never given.
    #[error("{0} was requested, which is the network's, its router's or a broadcast address")]
    Reserved(IpAddr),
    /// Two addresses of one family were requested.
    #[error("{0} and {1} were requested: there is one address a family")]
    Several(IpAddr, IpAddr),
}

/// What is known of given and free addresses.
#[derive(Clone, Debug, Default)]
pub(super) struct Ipam {
    pools: [Pool; 2],
}

/// One family: addresses as numbers.
#[derive(Clone, Debug, Default)]
struct Pool {
    nets: Vec<IpNet>,
    /// First and last address that can be given, of each range.
    ranges: Vec<(u128, u128)>,
    taken: BTreeSet<u128>,
    /// The last one given.
    cursor: Option<u128>,
    /// Given back, oldest first.
    resting: VecDeque<u128>,
}

/// What is to be remembered beside the attachments themselves.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Memory {
    /// The last address given, of each family.
    pub(super) last: Vec<IpAddr>,
    /// Those that rest, oldest first.
    pub(super) resting: Vec<IpAddr>,
}

impl Ipam {
    /// Nothing taken, with what is remembered of an earlier run.
    pub(super) fn new(memory: &Memory) -> Self {
        let mut ipam = Ipam::default();
        for &address in &memory.last {
            ipam.pool(Family::of(address)).cursor = Some(number(address));
        }
        for &address in &memory.resting {
            ipam.pool(Family::of(address)).rest(number(address));
        }
        ipam
    }

    /// What an [`Ipam`] of a later run has to know.
    pub(super) fn memory(&self) -> Memory {
        let (mut last, mut resting) = (Vec::new(), Vec::new());
        for (family, pool) in Family::ALL.iter().zip(&self.pools) {
            last.extend(pool.cursor.and_then(|number| address(*family, number)));
            resting.extend(pool.resting.iter().filter_map(|&number| address(*family, number)));
        }
        Memory { last, resting }
    }

    /// Says which ranges there are; what is taken stays so, wherever it lies.
    pub(super) fn set_ranges(&mut self, nets: &[IpNet]) {
        for (family, pool) in Family::ALL.into_iter().zip(&mut self.pools) {
            let of_family: Vec<IpNet> =
                nets.iter().copied().filter(|net| Family::of(net.addr()) == family).collect();
            if pool.nets != of_family {
                pool.ranges = of_family.iter().filter_map(usable).collect();
                pool.nets = of_family;
            }
        }
    }

    /// Gives one address of each family that has a range: the requested ones where there are any. `busy` tells of addresses
    /// that somebody else has.
    pub(super) fn give(
        &mut self,
        requested: &[IpAddr],
        busy: impl Fn(IpAddr) -> bool,
    ) -> Result<Vec<IpAddr>, IpamError> {
        if self.pools.iter().all(|pool| pool.nets.is_empty()) {
            return Err(IpamError::NoRange);
        }
        let mut given: Vec<IpAddr> = Vec::new();
        for &wanted in requested {
            if let Some(&first) = given.iter().find(|first| first.is_ipv4() == wanted.is_ipv4()) {
                return Err(IpamError::Several(first, wanted));
            }
            self.refuse(wanted, &busy)?;
            given.push(wanted);
        }
        for family in Family::ALL {
            let pool = &self.pools[family as usize];
            if pool.nets.is_empty() || given.iter().any(|&address| Family::of(address) == family) {
                continue;
            }
            let is_busy = |number| address(family, number).is_none_or(&busy);
            let next = pool.next(is_busy).and_then(|number| address(family, number));
            given.push(next.ok_or_else(|| self.exhausted(family))?);
        }
        given.sort();
        for &address in &given {
            let pool = self.pool(Family::of(address));
            pool.taken.insert(number(address));
            pool.resting.retain(|&resting| resting != number(address));
            if !requested.contains(&address) {
                pool.cursor = Some(number(address));
            }
        }
        Ok(given)
    }

    /// Notes that an address is somebody's.
    pub(super) fn take(&mut self, address: IpAddr) {
        self.pool(Family::of(address)).taken.insert(number(address));
    }

    /// Takes an address back, to be given again as late as possible.
    pub(super) fn give_back(&mut self, address: IpAddr) {
        let pool = self.pool(Family::of(address));
        if pool.taken.remove(&number(address)) {
            pool.rest(number(address));
        }
    }

    /// How many addresses of a family can still be given; nothing if it has no range.
    pub(super) fn left(&self, family: Family) -> Option<u64> {
        let pool = &self.pools[family as usize];
        (!pool.nets.is_empty()).then(|| pool.left())
    }

    fn pool(&mut self, family: Family) -> &mut Pool {
        &mut self.pools[family as usize]
    }

    fn refuse(&self, wanted: IpAddr, busy: impl Fn(IpAddr) -> bool) -> Result<(), IpamError> {
        let pool = &self.pools[Family::of(wanted) as usize];
        let wanted_number = number(wanted);
        if !pool.nets.iter().any(|net| net.contains(&wanted)) {
            let ranges = self.pools.iter().flat_map(|pool| &pool.nets).map(ToString::to_string);
            return Err(IpamError::Outside {
                address: wanted,
                ranges: ranges.collect::<Vec<_>>().join(", "),
            });
        }
        if !pool.ranges.iter().any(|(first, last)| (first..=last).contains(&&wanted_number)) {
            return Err(IpamError::Reserved(wanted));
        }
        let is_free = !pool.taken.contains(&wanted_number) && !busy(wanted);
        is_free.then_some(()).ok_or(IpamError::Taken(wanted))
    }

    fn exhausted(&self, family: Family) -> IpamError {
        let pool = &self.pools[family as usize];
        let ranges: Vec<String> = pool.nets.iter().map(ToString::to_string).collect();
        IpamError::Exhausted { family, ranges: ranges.join(", "), size: saturated(pool.size()) }
    }
}

impl Pool {
    /// The first free address after the last one given; if all free ones rest, the one that has done so for longest.
    fn next(&self, busy: impl Fn(u128) -> bool) -> Option<u128> {
        let resting: BTreeSet<u128> = self.resting.iter().copied().collect();
        let avoid = |number: u128| resting.contains(&number) || busy(number);
        let fresh = self.segments().into_iter().find_map(|(first, last)| self.free_in(first, last, avoid));
        let is_usable = |number: &&u128| {
            let in_range = self.ranges.iter().any(|(first, last)| (first..=last).contains(number));
            in_range && !self.taken.contains(number) && !busy(**number)
        };
        fresh.or_else(|| self.resting.iter().find(is_usable).copied())
    }

    /// The ranges in the order in which they are searched: from behind the cursor around to it.
    fn segments(&self) -> Vec<(u128, u128)> {
        let holds =
            |cursor: u128| self.ranges.iter().position(|&(first, last)| (first..=last).contains(&cursor));
        let Some((cursor, at)) = self.cursor.and_then(|cursor| Some((cursor, holds(cursor)?))) else {
            return self.ranges.clone();
        };
        let (first, last) = self.ranges[at];
        let behind = (cursor < last).then(|| (cursor + 1, last));
        let others = self.ranges[at + 1..].iter().chain(&self.ranges[..at]).copied();
        behind.into_iter().chain(others).chain([(first, cursor)]).collect()
    }

    /// The first address from `first` to `last` that is neither taken nor to be avoided.
    fn free_in(&self, first: u128, last: u128, avoid: impl Fn(u128) -> bool) -> Option<u128> {
        let mut candidate = first;
        let mut taken = self.taken.range(first..=last).peekable();
        loop {
            while taken.next_if(|&&number| number < candidate).is_some() {}
            if taken.next_if(|&&number| number == candidate).is_none() && !avoid(candidate) {
                return Some(candidate);
            }
            if candidate == last {
                return None;
            }
            candidate += 1;
        }
    }

    fn rest(&mut self, number: u128) {
        self.resting.retain(|&resting| resting != number);
        self.resting.push_back(number);
        if self.resting.len() > RESTING {
            self.resting.pop_front();
        }
    }

    fn size(&self) -> u128 {
        self.ranges
            .iter()
            .fold(0, |size: u128, (first, last)| size.saturating_add(last - first).saturating_add(1))
    }

    fn left(&self) -> u64 {
        let taken = self.ranges.iter().map(|&(first, last)| self.taken.range(first..=last).count() as u128);
        saturated(self.size().saturating_sub(taken.sum()))
    }
}

fn saturated(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// First and last address of a range that can be given. Not the network's own (in IPv6 the routers' anycast address, RFC
/// 4291 section 2.6.1), not the one after it, which other tools give to a router, and not IPv4's broadcast address. A
/// range of two addresses or one has none of these (RFC 3021, RFC 6164).
fn usable(net: &IpNet) -> Option<(u128, u128)> {
    let (first, last) = (number(net.network()), number(net.broadcast()));
    if last - first < 2 {
        return Some((first, last));
    }
    let last = if matches!(net, IpNet::V4(_)) { last - 1 } else { last };
    (first + 2 <= last).then_some((first + 2, last))
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

fn address(family: Family, number: u128) -> Option<IpAddr> {
    match family {
        Family::V4 => u32::try_from(number).ok().map(|bits| Ipv4Addr::from_bits(bits).into()),
        Family::V6 => Some(Ipv6Addr::from_bits(number).into()),
    }
}

#[cfg(test)]
mod tests;
