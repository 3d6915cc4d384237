//! Nodes, and what of this one others depend on.

use crate::endpoints::Policy;
use crate::object::{Node, ObjectName, TrafficPolicy};
use crate::routing::NodeRouting;
use ipnet::IpNet;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// All nodes, and whether something that tables depend on has changed.
#[derive(Debug)]
pub(crate) struct NodeIndex {
    us: String,
    /// This node's object once more: every way depends on it.
    own: Option<Node>,
    /// This node's addresses while no object says which they are.
    assumed: Vec<IpAddr>,
    pub(crate) nodes: BTreeMap<ObjectName, Node>,
    /// This node's addresses have changed.
    pub(crate) addresses_changed: bool,
    /// Some node's range of pods has changed.
    pub(crate) ranges_changed: bool,
    /// Nodes of which something has changed that the way to them, or from this one, depends on.
    pub(crate) moved: BTreeSet<ObjectName>,
}

/// What of this node has changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Moved {
    pub(crate) addresses: bool,
    pub(crate) zone: bool,
}

impl NodeIndex {
    /// No node is known, and nothing that follows from that is in the tables.
    pub(crate) fn new(us: String) -> Self {
        NodeIndex {
            us,
            own: None,
            assumed: Vec::new(),
            nodes: BTreeMap::new(),
            addresses_changed: true,
            ranges_changed: true,
            moved: BTreeSet::new(),
        }
    }

    pub(crate) fn apply(&mut self, node: Node) -> Moved {
        let name = node.name.clone();
        self.change(name, Some(node))
    }

    pub(crate) fn delete(&mut self, name: &ObjectName) -> Moved {
        self.change(name.clone(), None)
    }

    fn change(&mut self, name: ObjectName, node: Option<Node>) -> Moved {
        let is_us = self.is_us(&name);
        let (before, after) = (self.nodes.get(&name), node.as_ref());
        self.ranges_changed |= ranges(before) != ranges(after);
        let moved = Moved {
            addresses: is_us && addresses(before) != addresses(after),
            zone: is_us && zone(before) != zone(after),
        };
        self.addresses_changed |= moved.addresses;
        if way(before) != way(after) {
            self.moved.insert(name.clone());
        }
        if is_us {
            self.own = node.clone();
        }
        match node {
            Some(node) => self.nodes.insert(name, node),
            None => self.nodes.remove(&name),
        };
        moved
    }

    /// Whether this is the name of this node.
    pub(crate) fn is_us(&self, name: &ObjectName) -> bool {
        name.namespace.is_empty() && name.name == self.us
    }

    /// This node, if it is known.
    pub(crate) fn own(&self) -> Option<&Node> {
        self.own.as_ref()
    }

    /// A node, if it is another one and known.
    pub(crate) fn other(&self, name: &ObjectName) -> Option<&Node> {
        self.nodes.get(name).filter(|node| !self.is_us(&node.name))
    }

    /// All nodes but this one.
    pub(crate) fn others(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values().filter(|node| !self.is_us(&node.name))
    }

    /// This node's addresses, `InternalIP` before `ExternalIP`; those that are assumed if its object names none.
    pub(crate) fn own_addresses(&self) -> &[IpAddr] {
        let named = self.named_addresses();
        if named.is_empty() { &self.assumed } else { named }
    }

    /// This node's addresses according to its object.
    pub(crate) fn named_addresses(&self) -> &[IpAddr] {
        addresses(self.own())
    }

    /// Sets what the node's addresses are while its object names none. True when that made a difference.
    pub(crate) fn assume(&mut self, addresses: Vec<IpAddr>) -> bool {
        if self.assumed == addresses {
            return false;
        }
        self.assumed = addresses;
        let moved = self.named_addresses().is_empty();
        self.addresses_changed |= moved;
        moved
    }

    /// This node's primary addresses: the first of each family.
    pub(crate) fn primary_addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let v4 = |address: &IpAddr| if let IpAddr::V4(ip) = address { Some(*ip) } else { None };
        let v6 = |address: &IpAddr| if let IpAddr::V6(ip) = address { Some(*ip) } else { None };
        let addresses = self.own_addresses();
        (addresses.iter().find_map(v4), addresses.iter().find_map(v6))
    }

    /// The first address of this node's first range of pods of each family, which no pod gets.
    pub(crate) fn spare_addresses(&self) -> (Option<Ipv4Addr>, Option<Ipv6Addr>) {
        let v4 = |range: &IpNet| match range {
            IpNet::V4(net) if net.prefix_len() < 31 => Some(Ipv4Addr::from_bits(net.network().to_bits() + 1)),
            _ => None,
        };
        let v6 = |range: &IpNet| match range {
            IpNet::V6(net) if net.prefix_len() < 127 => {
                Some(Ipv6Addr::from_bits(net.network().to_bits() + 1))
            }
            _ => None,
        };
        let ranges = ranges(self.own());
        (ranges.iter().find_map(v4), ranges.iter().find_map(v6))
    }

    /// This node's addresses that one of these ranges holds; its primary ones, if there are no ranges.
    pub(crate) fn selected_addresses(&self, ranges: &[IpNet]) -> Vec<IpAddr> {
        if ranges.is_empty() {
            let (v4, v6) = self.primary_addresses();
            return v4.map(IpAddr::V4).into_iter().chain(v6.map(IpAddr::V6)).collect();
        }
        let is_selected = |address: &IpAddr| ranges.iter().any(|range| range.contains(address));
        self.own_addresses().iter().copied().filter(is_selected).collect()
    }

    /// The ranges of all nodes' pods.
    pub(crate) fn pod_ranges(&self) -> impl Iterator<Item = IpNet> {
        self.nodes.values().flat_map(|node| &node.pod_cidrs).copied()
    }

    /// How this node chooses endpoints for a kind of traffic.
    pub(crate) fn policy(&self, traffic: TrafficPolicy) -> Policy<'_> {
        Policy { node: &self.us, zone: zone(self.own()), traffic }
    }
}

fn addresses(node: Option<&Node>) -> &[IpAddr] {
    node.map_or(&[], |node| &node.addresses)
}

fn ranges(node: Option<&Node>) -> &[IpNet] {
    node.map_or(&[], |node| &node.pod_cidrs)
}

fn way(node: Option<&Node>) -> Option<(&[IpAddr], &[IpNet], NodeRouting)> {
    node.map(|node| (&node.addresses[..], &node.pod_cidrs[..], node.routing))
}

fn zone(node: Option<&Node>) -> Option<&str> {
    node.and_then(|node| node.zone.as_deref())
}
