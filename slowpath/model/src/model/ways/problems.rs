//! What is wrong with other nodes' objects.

use super::overlap;
use crate::model::Model;
use crate::object::{Node, ObjectName};
use crate::routing::RoutingMode;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use thiserror::Error;

/// Why a node's pods, or some of them, are not reached.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum PeerProblem {
    /// Its range holds addresses of this node's pods. It is left out.
    #[error("spec.podCIDRs {range} overlaps {ours} of this node, {us}: it is left out")]
    Ours {
        /// The range.
        range: IpNet,
        /// This node's range.
        ours: IpNet,
        /// This node.
        us: ObjectName,
    },
    /// Another node has the same range; the first name has it.
    #[error("spec.podCIDRs {range} is that of node {owner}, too, which has it")]
    Shared {
        /// The range.
        range: IpNet,
        /// Who has it.
        owner: ObjectName,
    },
    /// Its range lies in that of another node; it is used for its part of it.
    #[error("spec.podCIDRs {range} lies in {other} of node {owner}: packets to it come here")]
    Inside {
        /// The range.
        range: IpNet,
        /// The range that holds it.
        other: IpNet,
        /// Whose that is.
        owner: ObjectName,
    },
    /// Two nodes have one address.
    #[error("status.addresses {address} is that of node {owner}, too")]
    Address {
        /// The address.
        address: IpAddr,
        /// The other node.
        owner: ObjectName,
    },
    /// It has no address by which its pods could be reached.
    #[error("status.addresses has no address by which spec.podCIDRs {range} could be reached")]
    NoAddress {
        /// The range.
        range: IpNet,
    },
    /// A tunnel's ends must be of one family.
    #[error(
        "status.addresses has no address of a family that this node, {us}, has one of: there is no tunnel"
    )]
    NoTunnel {
        /// This node.
        us: ObjectName,
    },
}

/// Who has which range and address.
#[derive(Default)]
struct Owners<'a> {
    ranges: BTreeMap<IpNet, &'a ObjectName>,
    /// Prefix lengths of ranges.
    lengths: BTreeSet<u8>,
    addresses: BTreeMap<IpAddr, &'a ObjectName>,
}

impl Model {
    /// What was wrong with other nodes at the last compilation, by name. Without uplinks nobody depends on them.
    pub fn peer_problems(&self) -> &[(ObjectName, PeerProblem)] {
        self.ways.problems.get_or_init(|| self.find_problems())
    }

    fn find_problems(&self) -> Vec<(ObjectName, PeerProblem)> {
        if self.underlay.uplinks.is_empty() {
            return Vec::new();
        }
        let mut owners = Owners::default();
        // The first name has it, and before all this node.
        let nodes = self.own_node().into_iter().chain(self.nodes.others());
        for node in nodes {
            for range in &node.pod_cidrs {
                owners.ranges.entry(range.trunc()).or_insert(&node.name);
                owners.lengths.insert(range.prefix_len());
            }
            for address in &node.addresses {
                owners.addresses.entry(*address).or_insert(&node.name);
            }
        }
        let mut problems = Vec::new();
        for node in self.nodes.others() {
            let own = self.range_problems(node, &owners).chain(address_problems(node, &owners));
            let own = own.chain(self.reach_problems(node));
            problems.extend(own.map(|problem| (node.name.clone(), problem)));
        }
        problems
    }

    fn range_problems<'a>(
        &'a self,
        node: &'a Node,
        owners: &'a Owners<'_>,
    ) -> impl Iterator<Item = PeerProblem> + 'a {
        node.pod_cidrs.iter().filter_map(move |range| {
            let range = range.trunc();
            let us = self.own_node();
            let ours = us.and_then(|us| us.pod_cidrs.iter().find(|ours| overlap(range, **ours)));
            if let (Some(us), Some(ours)) = (us, ours) {
                return Some(PeerProblem::Ours { range, ours: *ours, us: us.name.clone() });
            }
            let owner = *owners.ranges.get(&range)?;
            if *owner != node.name {
                return Some(PeerProblem::Shared { range, owner: owner.clone() });
            }
            let shorter = owners.lengths.range(..range.prefix_len()).rev();
            let mut holders = shorter.filter_map(|&length| {
                let holder = IpNet::new(range.addr(), length).ok()?.trunc();
                Some((holder, *owners.ranges.get(&holder)?))
            });
            let (other, owner) = holders.find(|(_, owner)| **owner != node.name)?;
            Some(PeerProblem::Inside { range, other, owner: owner.clone() })
        })
    }

    fn reach_problems<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = PeerProblem> + 'a {
        let tunnelled = self.ways.peers.get(&node.name).map(|peer| peer.tunnelled);
        let tunnelled = tunnelled.unwrap_or(self.config.routing.mode == RoutingMode::Vxlan);
        let is_near = || node.addresses.iter().any(|address| self.underlay.on_link(*address).is_some());
        let v4 = |range: &IpNet| range.addr().is_ipv4();
        let is_missing = move |range: &&IpNet| match tunnelled {
            true => node.addresses.is_empty(),
            false => !is_near() && !node.addresses.iter().any(|address| address.is_ipv4() == v4(range)),
        };
        let missing = node.pod_cidrs.iter().filter(is_missing);
        let missing = missing.map(|range| PeerProblem::NoAddress { range: *range });
        let has = |addresses: &[IpAddr], v4| addresses.iter().any(|address| address.is_ipv4() == v4);
        let own = self.nodes.own_addresses();
        let meets = [true, false].into_iter().any(|v4| has(own, v4) && has(&node.addresses, v4));
        let apart = tunnelled && !node.pod_cidrs.is_empty() && !node.addresses.is_empty() && !meets;
        let us = || ObjectName::cluster_wide(self.config.node.clone());
        missing.chain(apart.then(|| PeerProblem::NoTunnel { us: us() }))
    }
}

fn address_problems<'a>(node: &'a Node, owners: &'a Owners<'_>) -> impl Iterator<Item = PeerProblem> + 'a {
    node.addresses.iter().filter_map(move |address| {
        let owner = *owners.addresses.get(address)?;
        (*owner != node.name).then(|| PeerProblem::Address { address: *address, owner: owner.clone() })
    })
}
