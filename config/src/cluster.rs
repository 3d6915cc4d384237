//! The cluster's address ranges.

use crate::address::Prefix;
use crate::error::Conflict;
use serde::Deserialize;

/// The ranges from which pods, services and nodes have their addresses. Empty means not known.
#[derive(Clone, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cluster {
    /// Where pods' addresses come from.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<Prefix>,
    /// Where ClusterIPs come from.
    #[serde(rename = "serviceCIDRs")]
    pub service_cidrs: Vec<Prefix>,
    /// Where the nodes' own addresses come from.
    #[serde(rename = "nodeCIDRs")]
    pub node_cidrs: Vec<Prefix>,
}

impl Cluster {
    /// Refuses ranges of different kinds that have an address in common.
    pub(crate) fn check(&self) -> Result<(), Conflict> {
        let kinds = [
            ("podCIDRs", &self.pod_cidrs),
            ("serviceCIDRs", &self.service_cidrs),
            ("nodeCIDRs", &self.node_cidrs),
        ];
        for (index, &(left_field, lefts)) in kinds.iter().enumerate() {
            for &(right_field, rights) in &kinds[index + 1..] {
                for &left in lefts {
                    if let Some(&right) = rights.iter().find(|right| left.overlaps(**right)) {
                        return Err(Conflict::Ranges { left_field, left, right_field, right });
                    }
                }
            }
        }
        Ok(())
    }
}
