//! Routes by uplinks, by their prefixes.

use crate::underlay::UnderlayRoute;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All routes. Those to one prefix are in the order of preference: the least metric first, of several the first told.
#[derive(Debug, Default)]
pub(super) struct RouteIndex {
    by_prefix: BTreeMap<IpNet, Vec<UnderlayRoute>>,
    /// Prefix lengths that occur: of IPv4, of IPv6.
    lengths: [BTreeSet<u8>; 2],
}

impl RouteIndex {
    pub(super) fn new(routes: &[UnderlayRoute]) -> Self {
        let mut index = RouteIndex::default();
        for route in routes {
            let to = route.to.trunc();
            index.lengths[family(to.addr())].insert(to.prefix_len());
            index.by_prefix.entry(to).or_default().push(route.clone());
        }
        for routes in index.by_prefix.values_mut() {
            routes.sort_by_key(|route| route.metric);
        }
        index
    }

    /// The routes to one prefix, the preferred one first.
    pub(super) fn of(&self, prefix: IpNet) -> &[UnderlayRoute] {
        self.by_prefix.get(&prefix).map_or(&[], |routes| routes)
    }

    /// The routes to prefixes that hold an address, the longest and preferred one first.
    pub(super) fn toward(&self, address: IpAddr) -> impl Iterator<Item = &UnderlayRoute> {
        let lengths = self.lengths[family(address)].iter().rev();
        let prefixes = lengths.filter_map(move |&length| IpNet::new(address, length).ok());
        prefixes.flat_map(|prefix| self.of(prefix.trunc()))
    }

    /// The prefixes that there are routes to.
    pub(super) fn prefixes(&self) -> impl Iterator<Item = IpNet> {
        self.by_prefix.keys().copied()
    }

    /// The prefixes to which the routes are not the same in both.
    pub(super) fn differences(&self, other: &RouteIndex) -> BTreeSet<IpNet> {
        let prefixes = self.prefixes().chain(other.prefixes());
        prefixes.filter(|prefix| self.of(*prefix) != other.of(*prefix)).collect()
    }
}

fn family(address: IpAddr) -> usize {
    usize::from(address.is_ipv6())
}
