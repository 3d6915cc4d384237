//! Sets of ports in the kernel's notation.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use thiserror::Error;

/// A set of ports. Its text is that of `proc_do_large_bitmap` (kernel/sysctl.c): numbers and ranges, as in
/// `8080,9148,49152-65535`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct PortSet {
    /// Ascending, with at least one port between two of them.
    ranges: Vec<RangeInclusive<u16>>,
}

/// Text that is no list of ports.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{0}` is not a list of ports, as in 8080,9148,49152-65535")]
pub(crate) struct NotPorts(String);

impl PortSet {
    pub(crate) fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// The ports of both.
    pub(crate) fn union(&self, other: &PortSet) -> PortSet {
        let mut ranges: Vec<_> = self.ranges.iter().chain(&other.ranges).cloned().collect();
        ranges.sort_by_key(|range| *range.start());
        let mut merged: Vec<RangeInclusive<u16>> = Vec::with_capacity(ranges.len());
        for range in ranges {
            match merged.last_mut() {
                // In `u32`, so that the last port has a next one.
                Some(last) if u32::from(*range.start()) <= u32::from(*last.end()) + 1 => {
                    *last = *last.start()..=*last.end().max(range.end());
                }
                _ => merged.push(range),
            }
        }
        PortSet { ranges: merged }
    }

    /// The ports of this set that the other does not have.
    pub(crate) fn difference(&self, other: &PortSet) -> PortSet {
        let mut left = Vec::new();
        for range in &self.ranges {
            let (mut next, end) = (u32::from(*range.start()), u32::from(*range.end()));
            for hole in other.ranges.iter().filter(|hole| hole.start() <= range.end()) {
                push(&mut left, next, u32::from(*hole.start()));
                next = next.max(u32::from(*hole.end()) + 1);
            }
            push(&mut left, next, end + 1);
        }
        PortSet { ranges: left }
    }
}

/// Adds the ports from `first` up to and without `end`, if there are any. Both are at most 65,536.
fn push(ranges: &mut Vec<RangeInclusive<u16>>, first: u32, end: u32) {
    if first < end {
        ranges.push(first as u16..=(end - 1) as u16);
    }
}

impl From<RangeInclusive<u16>> for PortSet {
    fn from(range: RangeInclusive<u16>) -> Self {
        PortSet { ranges: if range.is_empty() { Vec::new() } else { vec![range] } }
    }
}

impl FromStr for PortSet {
    type Err = NotPorts;
    fn from_str(text: &str) -> Result<Self, NotPorts> {
        let wrong = || NotPorts(text.to_owned());
        let number = |text: &str| text.parse::<u16>().map_err(|_| wrong());
        let mut set = PortSet::default();
        for part in text.trim().split(',').filter(|part| !part.is_empty()) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let range = number(first)?..=number(last)?;
            if range.is_empty() {
                return Err(wrong());
            }
            set = set.union(&range.into());
        }
        Ok(set)
    }
}

impl fmt::Display for PortSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.ranges.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match (range.start(), range.end()) {
                (first, last) if first == last => write!(out, "{comma}{first}")?,
                (first, last) => write!(out, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn set(text: &str) -> PortSet {
        text.parse().unwrap()
    }

    #[test]
    fn a_list_reads_as_the_kernel_writes_it() {
        for text in ["", "8080", "8080,9148,49152-65535", "0-65535", "1,3,5"] {
            assert_eq!(set(text).to_string(), text);
            assert_eq!(set(&format!("{text}\n")).to_string(), text);
        }
        assert_eq!(set("5,1-3,4,3-4").to_string(), "1-5");
    }

    #[test]
    fn what_is_no_list_is_refused_by_its_text() {
        for text in ["x", "1-", "-1", "1-2-3", "65536", "2-1", "1;2", "1, 2"] {
            assert!(text.parse::<PortSet>().unwrap_err().to_string().contains(text), "{text}");
        }
    }

    #[test]
    fn a_range_is_added_and_taken_back_without_harm_to_others() {
        let others = set("8080,9148,50000-50010,65535");
        let range = PortSet::from(49_152..=65_535);
        let added = range.difference(&others);
        assert_eq!(added.to_string(), "49152-49999,50011-65534");
        let merged = others.union(&range);
        assert_eq!(merged.to_string(), "8080,9148,49152-65535");
        assert_eq!(merged.difference(&added), others);
        assert!(set("1-5").difference(&set("0-65535")).is_empty());
    }

    fn some_ports() -> impl Strategy<Value = Vec<(u16, u16)>> {
        // Few numbers, among them both ends, so that ranges touch and overlap.
        let edge = prop_oneof![0u16..30, 65_520u16..=65_535];
        prop::collection::vec((edge.clone(), edge), 0..6)
    }

    fn both(pairs: &[(u16, u16)]) -> (PortSet, BTreeSet<u16>) {
        let ranges = pairs.iter().map(|&(a, b)| a.min(b)..=a.max(b));
        let set = ranges.clone().fold(PortSet::default(), |set, range| set.union(&range.into()));
        (set, ranges.flatten().collect())
    }

    proptest! {
        #[test]
        fn it_agrees_with_a_plain_set(left in some_ports(), right in some_ports()) {
            let ((left, plain_left), (right, plain_right)) = (both(&left), both(&right));
            let ports = |set: PortSet| -> Vec<u16> {
                assert_eq!(set.to_string().parse::<PortSet>().as_ref(), Ok(&set));
                set.ranges.into_iter().flatten().collect()
            };
            prop_assert_eq!(ports(left.union(&right)), plain_left.union(&plain_right).copied().collect::<Vec<_>>());
            let without: Vec<u16> = plain_left.difference(&plain_right).copied().collect();
            prop_assert_eq!(ports(left.difference(&right)), without);
        }
    }
}
