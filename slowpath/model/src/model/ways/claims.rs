//! Who claims which prefix.

use super::{Source, Target};
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};

/// All claims, and the prefixes whose claims have changed.
#[derive(Debug, Default)]
pub(super) struct Claims {
    by_prefix: BTreeMap<IpNet, BTreeMap<Source, Target>>,
    changed: BTreeSet<IpNet>,
}

impl Claims {
    /// Adds or replaces a claim.
    pub(super) fn put(&mut self, prefix: IpNet, source: Source, target: Target) {
        let claims = self.by_prefix.entry(prefix).or_default();
        if claims.get(&source) != Some(&target) {
            claims.insert(source, target);
            self.changed.insert(prefix);
        }
    }

    /// Takes a claim back.
    pub(super) fn withdraw(&mut self, prefix: IpNet, source: &Source) {
        let Some(claims) = self.by_prefix.get_mut(&prefix) else { return };
        if claims.remove(source).is_some() {
            self.changed.insert(prefix);
        }
        if claims.is_empty() {
            self.by_prefix.remove(&prefix);
        }
    }

    /// The claim that counts.
    pub(super) fn first(&self, prefix: IpNet) -> Option<&Target> {
        self.by_prefix.get(&prefix)?.values().next()
    }

    /// Prefixes whose claims have changed since the last time.
    pub(super) fn take_changed(&mut self) -> BTreeSet<IpNet> {
        std::mem::take(&mut self.changed)
    }

    pub(super) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }
}
