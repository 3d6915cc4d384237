//! Which packets of a shared NIC are ours: from the tables to the claims on an uplink.
//!
//! Several things may be a reason for the same claim (frontends of one ClusterIP, ranges given twice), so reasons are
//! counted. A change of the tables is looked at as a difference, whose size is the cost.

mod reasons;
#[cfg(test)]
mod tests;

use crate::driver::{Device, Refusal};
use ipnet::IpNet;
use millrace_fastpath::port::{Claim, ClaimChanges};
use millrace_fastpath::tables::{Gateway, TableSet};
use millrace_fastpath::wire::ethernet::MacAddr;
use reasons::Reasons;
use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What the claims are derived from.
#[derive(Clone, Debug)]
pub struct ClaimInput {
    /// What the workers know.
    pub tables: TableSet,
    /// Ranges of this node's pods and of services: all of their addresses are claimed, in use or not.
    pub ranges: Vec<IpNet>,
    /// This node's own addresses: what other nodes' pods may speak to. They are the kernel's in a claimed range, too.
    pub addresses: Vec<IpAddr>,
    /// Ranges of other nodes' pods.
    pub remote_ranges: Vec<IpNet>,
}

impl ClaimInput {
    /// Nothing to claim.
    fn nothing() -> ClaimInput {
        let (ipv4, ipv6) = (Ipv4Addr::UNSPECIFIED, Ipv6Addr::UNSPECIFIED);
        let gateway = Gateway { mac: MacAddr([0; 6]), ipv4, ipv6 };
        let tables = TableSet::empty(gateway);
        ClaimInput { tables, ranges: Vec::new(), addresses: Vec::new(), remote_ranges: Vec::new() }
    }
}

/// The claims on all shared uplinks of this node, kept exact as the tables change.
#[derive(Debug)]
pub struct Steering {
    former: ClaimInput,
    /// How many reasons there are for each claim; none is 0.
    reasons: HashMap<Claim, u32>,
}

impl Default for Steering {
    fn default() -> Self {
        Steering { former: ClaimInput::nothing(), reasons: HashMap::new() }
    }
}

impl Steering {
    /// Takes in a new version; gives what it changes on every uplink.
    pub fn update(&mut self, now: ClaimInput) -> ClaimChanges {
        let reasons = Reasons::between(&self.former, &now);
        self.former = now;
        self.apply(reasons)
    }

    /// Makes all claims on an uplink that was just opened and has none.
    ///
    /// # Errors
    /// The device's, which names the claim.
    pub fn claim_all(&self, device: &dyn Device) -> Result<(), Refusal> {
        device.steer(&ClaimChanges { released: Vec::new(), claimed: self.claims().collect() })
    }

    /// What is claimed now, in no order.
    pub fn claims(&self) -> impl Iterator<Item = Claim> {
        self.reasons.keys().copied().filter(|&claim| self.holds(claim))
    }

    fn apply(&mut self, reasons: Reasons) -> ClaimChanges {
        let mut touched: HashMap<Claim, bool> = HashMap::new();
        let reasons: Vec<_> = reasons.into_iter().collect();
        for &(claim, _) in &reasons {
            touched.insert(claim, self.holds(claim));
            if let Claim::Returned(prefix) = claim {
                let beneath = Claim::Destination(prefix);
                touched.insert(beneath, self.holds(beneath));
            }
        }
        for (claim, difference) in reasons {
            let count = self.reasons.get(&claim).copied().unwrap_or(0).saturating_add_signed(difference);
            match count {
                0 => self.reasons.remove(&claim),
                count => self.reasons.insert(claim, count),
            };
        }
        let mut changes = ClaimChanges::default();
        for (claim, was) in touched {
            match (was, self.holds(claim)) {
                (true, false) => changes.released.push(claim),
                (false, true) => changes.claimed.push(claim),
                _ => {}
            }
        }
        changes
    }

    /// Whether there is a reason for a claim, and none against it.
    fn holds(&self, claim: Claim) -> bool {
        let is_wanted = self.reasons.contains_key(&claim);
        match claim {
            Claim::Destination(prefix) => is_wanted && !self.reasons.contains_key(&Claim::Returned(prefix)),
            _ => is_wanted,
        }
    }
}
