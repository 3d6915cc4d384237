//! Which way to an address.

use super::{Address, SharedMap, TunnelId};
use crate::port::PortId;
use crate::wire::ethernet::MacAddr;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::{Prefix, PrefixMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Names an [`Adjacency`] within one [`RouteTable`]. A number may be used again under a later
/// [`epoch`](super::TableSet::epoch).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct AdjacencyId(pub u32);

/// A neighbour: the port that leads to it and the Ethernet header that it wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Adjacency {
    /// The port to send to.
    pub port: PortId,
    /// MTU of the way, in bytes of IP packet; through a tunnel, of the packet inside.
    pub mtu: u16,
    /// Destination MAC address; through a tunnel, that of the inner frame.
    pub destination_mac: MacAddr,
    /// Source MAC address: the node's end of the port; through a tunnel, that of the inner frame.
    pub source_mac: MacAddr,
    /// The tunnel that the frame is put into, if it is.
    pub tunnel: Option<TunnelId>,
}

/// Names a group of adjacencies within one [`RouteTable`], among which flows are spread. As with [`AdjacencyId`], a
/// number may be used again under a later epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct GroupId(pub u32);

/// Where packets for an address go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Route {
    /// To a neighbour.
    Via(AdjacencyId),
    /// To one of several neighbours, which the flow's hash chooses (ECMP, RFC 2992).
    Spread(GroupId),
    /// To whoever has the address on the link behind this uplink; its MAC address is not known yet.
    OnLink(PortId),
    /// To this node itself: it answers pings to the address.
    Local,
    /// Nowhere: somebody wants it so.
    Refused(RefusedRoute),
}

/// How a route refuses what it is for (`RTN_…`, linux/rtnetlink.h).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RefusedRoute {
    /// In silence.
    Blackhole,
    /// The sender is told that the destination cannot be reached.
    Unreachable,
    /// The sender is told that it is forbidden.
    Prohibit,
}

/// A route of one of two versions of a table, or of both; they may be equal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RouteChange {
    /// What it leads to.
    pub prefix: IpNet,
    /// The route in the earlier version.
    pub before: Option<Route>,
    /// The route now.
    pub now: Option<Route>,
}

/// Routes to hosts and prefixes of both families, and the adjacencies that they name.
#[derive(Clone, Debug, Default)]
pub struct RouteTable {
    hosts: SharedMap<Address, Route>,
    v4: Arc<PrefixMap<Ipv4Net, Route>>,
    v6: Arc<PrefixMap<Ipv6Net, Route>>,
    adjacencies: Arc<Vec<Option<Adjacency>>>,
    groups: Arc<Vec<Option<Box<[AdjacencyId]>>>>,
}

impl RouteTable {
    /// The route of the longest prefix that holds `address`.
    pub fn lookup(&self, address: Address) -> Option<Route> {
        if let Some(route) = self.hosts.get(&address) {
            return Some(*route);
        }
        match address.to_ip() {
            IpAddr::V4(ip) => self.v4.get_lpm(&host_v4(ip)).map(|(_, route)| *route),
            IpAddr::V6(ip) => self.v6.get_lpm(&host_v6(ip)).map(|(_, route)| *route),
        }
    }

    /// The neighbour that an address is reached by, of several the first; none for this node's own addresses, where there
    /// is no route, and for a neighbour that is not known yet.
    pub fn way(&self, address: Address) -> Option<&Adjacency> {
        self.adjacency(self.choose(self.lookup(address)?, 0)?)
    }

    /// The port by which an address is reached, whether its neighbour is known or not.
    pub fn port_toward(&self, address: Address) -> Option<PortId> {
        match self.lookup(address)? {
            Route::OnLink(port) => Some(port),
            route => self.adjacency(self.choose(route, 0)?).map(|to| to.port),
        }
    }

    /// The neighbour that a flow with this hash goes to by a route, if the route leads to known ones.
    #[inline]
    pub fn choose(&self, route: Route, hash: u64) -> Option<AdjacencyId> {
        match route {
            Route::Via(id) => Some(id),
            Route::Spread(group) => {
                let members = self.group(group)?;
                // The upper half: buckets and endpoints are chosen by other bits.
                let scaled = ((hash >> 32) * members.len() as u64) >> 32;
                members.get(scaled as usize).copied()
            }
            Route::OnLink(_) | Route::Local | Route::Refused(_) => None,
        }
    }

    /// The route of this very prefix, whatever other prefixes hold its addresses. Host bits are ignored.
    pub fn get(&self, prefix: IpNet) -> Option<Route> {
        match prefix.trunc() {
            net if net.prefix_len() == net.max_prefix_len() => self.hosts.get(&net.addr().into()).copied(),
            IpNet::V4(net) => self.v4.get(&net).copied(),
            IpNet::V6(net) => self.v6.get(&net).copied(),
        }
    }

    /// Adds or replaces the route of a prefix; gives the former one. Host bits of the prefix are ignored.
    pub fn insert(&mut self, prefix: IpNet, route: Route) -> Option<Route> {
        match prefix.trunc() {
            net if net.prefix_len() == net.max_prefix_len() => self.hosts.insert(net.addr().into(), route),
            IpNet::V4(net) => Arc::make_mut(&mut self.v4).insert(net, route),
            IpNet::V6(net) => Arc::make_mut(&mut self.v6).insert(net, route),
        }
    }

    /// Removes the route of a prefix; gives what it was.
    pub fn remove(&mut self, prefix: IpNet) -> Option<Route> {
        match prefix.trunc() {
            net if net.prefix_len() == net.max_prefix_len() => self.hosts.remove(&net.addr().into()),
            IpNet::V4(net) => Arc::make_mut(&mut self.v4).remove(&net),
            IpNet::V6(net) => Arc::make_mut(&mut self.v6).remove(&net),
        }
    }

    /// The adjacency with this number.
    #[inline]
    pub fn adjacency(&self, id: AdjacencyId) -> Option<&Adjacency> {
        self.adjacencies.get(id.0 as usize)?.as_ref()
    }

    /// All adjacencies by number, for a burst of lookups.
    #[inline(always)]
    pub fn adjacencies(&self) -> &[Option<Adjacency>] {
        &self.adjacencies
    }

    /// Adds an adjacency under the lowest free number.
    pub fn add_adjacency(&mut self, adjacency: Adjacency) -> AdjacencyId {
        AdjacencyId(put(Arc::make_mut(&mut self.adjacencies), adjacency) as u32)
    }

    /// Removes an adjacency. Routes that name it must have been removed before, and the tables' epoch must be
    /// raised before the number is used again.
    pub fn remove_adjacency(&mut self, id: AdjacencyId) -> Option<Adjacency> {
        Arc::make_mut(&mut self.adjacencies).get_mut(id.0 as usize)?.take()
    }

    /// The members of a group, in order.
    pub fn group(&self, id: GroupId) -> Option<&[AdjacencyId]> {
        self.groups.get(id.0 as usize)?.as_deref()
    }

    /// Adds a group under the lowest free number.
    pub fn add_group(&mut self, members: Box<[AdjacencyId]>) -> GroupId {
        let groups = Arc::make_mut(&mut self.groups);
        GroupId(put(groups, members) as u32)
    }

    /// Removes a group. Routes that name it must have been removed before, and the tables' epoch must be raised before the
    /// number is used again.
    pub fn remove_group(&mut self, id: GroupId) -> Option<Box<[AdjacencyId]>> {
        Arc::make_mut(&mut self.groups).get_mut(id.0 as usize)?.take()
    }

    /// Groups by number.
    pub fn groups(&self) -> &[Option<Box<[AdjacencyId]>>] {
        &self.groups
    }

    /// Routes that came, went or may have changed since an earlier version of this table. What both share is not looked at;
    /// a change to a prefix has all prefixes of its family looked at, one to a host some of the hosts.
    pub fn changes_since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = RouteChange> + 'a {
        let hosts = self.hosts.changes_since(&earlier.hosts).map(|change| RouteChange {
            prefix: change.key.to_ip().into(),
            before: change.before.copied(),
            now: change.now.copied(),
        });
        hosts.chain(prefix_changes(&self.v4, &earlier.v4)).chain(prefix_changes(&self.v6, &earlier.v6))
    }

    /// Routes to single hosts and to prefixes.
    pub fn len(&self) -> usize {
        self.hosts.len() + self.v4.len() + self.v6.len()
    }

    /// Whether there is no route.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn prefix_changes<'a, P: Prefix + Copy + Into<IpNet>>(
    now: &'a Arc<PrefixMap<P, Route>>,
    earlier: &'a Arc<PrefixMap<P, Route>>,
) -> impl Iterator<Item = RouteChange> + 'a {
    let differ = !Arc::ptr_eq(now, earlier);
    let gone = earlier.iter().filter(|(prefix, _)| now.get(prefix).is_none());
    let gone = gone.map(|(prefix, &route)| (prefix, Some(route), None));
    let there = now.iter().map(|(prefix, &route)| (prefix, earlier.get(&prefix).copied(), Some(route)));
    let all = differ.then(|| gone.chain(there)).into_iter().flatten();
    all.map(|(prefix, before, now)| RouteChange { prefix: prefix.into(), before, now })
}

/// Puts something into the first free place; gives its position.
pub(super) fn put<T>(places: &mut Vec<Option<T>>, new: T) -> usize {
    match places.iter().position(Option::is_none) {
        Some(free) => {
            places[free] = Some(new);
            free
        }
        None => {
            places.push(Some(new));
            places.len() - 1
        }
    }
}

fn host_v4(ip: Ipv4Addr) -> Ipv4Net {
    Ipv4Net::from(ip)
}

fn host_v6(ip: Ipv6Addr) -> Ipv6Net {
    Ipv6Net::from(ip)
}
