//! What the kernel knows of the interfaces that uplinks stand on: their state, addresses, routes and neighbours.
//!
//! A [`Follower`] keeps a [`View`] of it and tells each change. The kernel is asked by [`solicit`] for neighbours that it does
//! not know yet. Both speak routing netlink over a [`Socket`] of their own.

mod error;
mod follow;
mod neighbour;
mod parse;
mod socket;
mod state;
#[cfg(test)]
mod tests;

pub use error::KernelError;
pub use follow::Follower;
pub use neighbour::solicit;
pub(crate) use socket::{Socket, request};

use ipnet::IpNet;
use millrace_config::InterfaceName;
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::underlay::Refuses;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// What the kernel knows of some interfaces, at one moment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct View {
    /// The interfaces that are there.
    pub interfaces: BTreeMap<InterfaceName, Interface>,
    /// Routes of the main table by these interfaces, or that refuse, ours left out; those with the least metric first.
    pub routes: Vec<Route>,
    /// What is known of neighbours at these interfaces.
    pub neighbours: BTreeMap<(InterfaceName, IpAddr), Neighbour>,
}

/// An interface of the kernel's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// Its number. An interface that goes and comes back under its name has another.
    pub index: u32,
    /// Its MAC address; all zeroes if it has none.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether it is up and has a carrier.
    pub is_up: bool,
    /// Its addresses that can be used, each with the prefix of its link; link-local ones of IPv6 left out.
    pub addresses: Vec<IpNet>,
}

/// A route of the kernel's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Route {
    /// Its destination.
    pub to: IpNet,
    /// The kernel prefers the least.
    pub metric: u32,
    /// Its next hops by the interfaces of interest; none if it refuses.
    pub hops: Vec<Hop>,
    /// How it refuses what it is for, if it does.
    pub refuses: Option<Refuses>,
}

/// A next hop of a route.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Hop {
    /// The interface that it is reached by.
    pub interface: InterfaceName,
    /// The router; `None` if the destination itself is on the link.
    pub gateway: Option<IpAddr>,
}

/// What is known of a neighbour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Neighbour {
    /// Its MAC address; `None` if it did not answer.
    pub mac: Option<MacAddr>,
    /// How sure the kernel is of it.
    pub trust: Trust,
}

/// How sure the kernel is of a neighbour's MAC address (`NUD_…`, linux/neighbour.h).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trust {
    /// Somebody has set it; it is not to be touched.
    Permanent,
    /// It was confirmed of late, or is being confirmed.
    Confirmed,
    /// It was confirmed once. Nobody looks at it before it is used.
    Stale,
    /// It did not answer.
    Failed,
}
