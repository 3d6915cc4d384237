//! A set of addresses, given as prefixes.

use super::Address;
use ipnet::IpNet;

/// Addresses of both families. Made once, then asked for each new connection.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct AddressSet {
    v4: Box<[(u32, u32)]>,
    v6: Box<[(u128, u128)]>,
}

impl AddressSet {
    /// All addresses that one of the prefixes holds.
    pub fn new(prefixes: impl IntoIterator<Item = IpNet>) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for prefix in prefixes {
            match prefix {
                IpNet::V4(net) => v4.push((net.network().to_bits(), net.broadcast().to_bits())),
                IpNet::V6(net) => v6.push((net.network().to_bits(), net.broadcast().to_bits())),
            }
        }
        AddressSet { v4: merged(v4), v6: merged(v6) }
    }

    /// Whether an address is in the set.
    #[inline]
    pub fn contains(&self, address: Address) -> bool {
        if address.is_v4() { holds(&self.v4, address.v4_bits()) } else { holds(&self.v6, address.bits()) }
    }

    /// Whether no address is in the set.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// Ranges from first to last address, sorted, none within another. Prefixes overlap only by one holding the other.
fn merged<T: Ord + Copy>(mut ranges: Vec<(T, T)>) -> Box<[(T, T)]> {
    ranges.sort_unstable_by_key(|&(first, last)| (first, std::cmp::Reverse(last)));
    let mut kept: Vec<(T, T)> = Vec::with_capacity(ranges.len());
    for range in ranges {
        if kept.last().is_none_or(|outer| outer.1 < range.1) {
            kept.push(range);
        }
    }
    kept.into_boxed_slice()
}

fn holds<T: Ord + Copy>(ranges: &[(T, T)], value: T) -> bool {
    let behind = ranges.partition_point(|&(first, _)| first <= value);
    behind.checked_sub(1).is_some_and(|at| value <= ranges[at].1)
}
