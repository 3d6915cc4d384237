//! What a fabric looks like: its nodes, subnets and addresses.

use crate::pod::Family;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Where the world's client is.
pub(super) const WORLD_ADDRESSES: [&str; 2] = ["198.51.100.7", "2001:db8:ffff::7"];
/// The cluster's pod ranges.
pub(super) const POD_RANGES: [&str; 2] = ["10.77.0.0/16", "fd00:77::/48"];

/// How a kernel node reaches other nodes' pods.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Routes to the nodes' addresses.
    Native,
    /// The kernel's VXLAN device with static neighbours.
    Vxlan,
}

/// Who carries a node's packets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// A daemon, with the node's NIC as its uplink.
    Millrace,
    /// The kernel alone.
    Kernel(Way),
}

/// The nodes and what is between them.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(super) roles: Vec<Role>,
    pub(super) subnets: u8,
    pub(super) families: Vec<Family>,
    pub(super) mtu: u16,
    pub(super) queues: u8,
}

impl Plan {
    /// All nodes on one bridge.
    pub fn bridge(roles: &[Role]) -> Self {
        Plan { roles: roles.to_vec(), subnets: 1, families: Family::BOTH.to_vec(), mtu: 1500, queues: 1 }
    }

    /// Two bridges with a router between them; nodes take turns.
    pub fn routed(roles: &[Role]) -> Self {
        Plan { subnets: 2, ..Self::bridge(roles) }
    }

    /// Nodes, pods and services have one family only.
    #[must_use]
    pub fn only(self, family: Family) -> Self {
        Plan { families: vec![family], ..self }
    }

    /// NICs and bridges take packets of so many bytes.
    #[must_use]
    pub fn mtu(self, mtu: u16) -> Self {
        Plan { mtu, ..self }
    }

    /// NICs have so many queues.
    #[must_use]
    pub fn queues(self, queues: u8) -> Self {
        Plan { queues, ..self }
    }

    /// Whether nodes have addresses of a family.
    pub(super) fn has(&self, family: Family) -> bool {
        self.families.contains(&family)
    }

    /// The bridge of a node.
    pub(super) fn subnet(&self, node: u8) -> u8 {
        node % self.subnets
    }
}

/// A host of a subnet, by its number, of both families. The router is number 254.
pub(super) fn host(subnet: u8, number: u8) -> [IpAddr; 2] {
    let v4 = if subnet == 0 { [192, 0, 2, number] } else { [203, 0, 113, number] };
    let v6 = Ipv6Addr::new(0x2001, 0xdb8, u16::from(subnet) + 1, 0, 0, 0, 0, number.into());
    [Ipv4Addr::from(v4).into(), v6.into()]
}

/// The router's number in each subnet.
pub(super) const ROUTER: u8 = 254;
/// Lengths of the subnets' prefixes.
pub(super) const LENGTHS: [u8; 2] = [24, 64];

/// The pod ranges of a node.
pub(super) fn ranges(node: u8) -> [String; 2] {
    [format!("10.77.{node}.0/24"), format!("fd00:77:0:{node:x}::/64")]
}

/// A host of a node's pod ranges; number 0 is where its VXLAN device is.
pub(super) fn in_ranges(node: u8, number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 0x77, 0, node.into(), 0, 0, 0, number.into());
    [Ipv4Addr::new(10, 77, node, number).into(), v6.into()]
}

/// The inner MAC address of a node's VXLAN endpoint: it follows from the node's first address.
pub fn vtep_mac(address: IpAddr) -> String {
    let last: [u8; 4] = match address {
        IpAddr::V4(address) => address.octets(),
        IpAddr::V6(address) => {
            let octets = address.octets();
            [octets[12], octets[13], octets[14], octets[15]]
        }
    };
    let tail = last.map(|byte| format!("{byte:02x}")).join(":");
    format!("02:56:{tail}")
}
