//! The ways behind the uplinks: to other nodes' pods, routers and neighbours.
//!
//! Whatever leads somewhere is a [`Unit`]: another node, a route, a neighbour. Each is worked out for itself into the
//! prefixes that it claims and the next hops that it depends on, so that a change costs what depends on it. Of several that
//! claim one prefix the first [`Source`] has it; only those that have one get numbers in the tables.

mod changes;
mod claims;
mod ground;
mod numbers;
mod peers;
mod problems;
mod route_index;
mod tunnel_end;

pub use problems::PeerProblem;

use crate::object::ObjectName;
use crate::underlay::{PeerView, Place};
use claims::Claims;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::RefusedRoute;
use millrace_fastpath::wire::ethernet::MacAddr;
use numbers::Numbers;
use route_index::RouteIndex;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// A next hop whose MAC address is known.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Way {
    port: PortId,
    /// Of the packet that takes it, in bytes.
    mtu: u16,
    destination_mac: MacAddr,
    source_mac: MacAddr,
    tunnel: Option<Pipe>,
}

/// A tunnel by one next hop.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Pipe {
    destination_mac: MacAddr,
    source_mac: MacAddr,
    local: IpAddr,
    remote: IpAddr,
    checksum: bool,
}

/// What a prefix leads to.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Target {
    /// Whoever has the address on the link.
    OnLink(PortId),
    /// By one of these next hops, none of which is known yet: packets wait. There is at least one.
    Waits(Vec<Place>),
    /// One of these; if there are none, nobody.
    Ways(Vec<Way>),
    /// Nowhere, as a route says.
    Refused(RefusedRoute),
}

impl Target {
    const NOBODY: Target = Target::Ways(Vec::new());
}

/// Who claims a prefix; the first has it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Source {
    /// This node's range of pods: addresses that no pod has are nobody's, whatever other routes say.
    OwnRange,
    /// Another node: its pods' range or, through a tunnel, its address. Of several the first name has it.
    Peer(ObjectName),
    /// A neighbour's own address, by this port. Only one unit may stand behind a claim, or one would withdraw another's.
    Neighbour(PortId),
    /// The link behind an uplink; of several the first in the order of uplinks.
    Link(usize),
    /// A configured route or one of the kernel's.
    Route,
    /// The cluster's ranges: what nobody claims of them is not the world's.
    Cluster,
}

/// What is worked out for itself.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Unit {
    /// What this node and its links claim.
    Ground,
    /// All routes to one prefix.
    Route(IpNet),
    /// A neighbour.
    Neighbour(PortId, IpAddr),
    /// Another node.
    Peer(ObjectName),
}

/// What came out.
#[derive(Debug, Default)]
struct Outcome {
    claims: BTreeMap<(IpNet, Source), Target>,
    /// Next hops that it depends on, known or not.
    hops: BTreeSet<Place>,
    peer: Option<PeerView>,
    /// Addresses that the way depends on the way to.
    addresses: BTreeSet<IpAddr>,
}

/// What is known of the ways, and what of it the tables hold.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// Units that are to be worked out anew.
    dirty: BTreeSet<Unit>,
    /// Something has changed that everything may depend on.
    all_dirty: bool,
    /// This node's end of tunnels, or who may send to it, may have changed.
    end_dirty: bool,
    routes: RouteIndex,
    claims: Claims,
    /// What the units that came to anything claim, depend on and stand for, to be withdrawn.
    made: BTreeMap<Unit, Made>,
    /// Who depends on a next hop.
    users: BTreeMap<Place, BTreeSet<Unit>>,
    /// Other nodes by the addresses that their ways depend on.
    by_address: BTreeMap<IpAddr, BTreeSet<ObjectName>>,
    peers: BTreeMap<ObjectName, PeerView>,
    tunnelled: usize,
    /// Whose tunnels are listened to.
    ends: BTreeSet<IpAddr>,
    /// The claims that the tables follow.
    targets: BTreeMap<IpNet, Target>,
    numbers: Numbers,
    /// Largest outer packets to tunnel ends, as routers on the way have said, in bytes.
    path_mtus: BTreeMap<IpAddr, u16>,
    /// What is wrong with other nodes, once somebody has asked.
    problems: OnceCell<Vec<(ObjectName, PeerProblem)>>,
}

#[derive(Debug)]
struct Made {
    claims: Vec<(IpNet, Source)>,
    hops: BTreeSet<Place>,
    addresses: BTreeSet<IpAddr>,
}

impl Ways {
    /// Whether there is something to work out or to bring into the tables.
    pub(super) fn has_changes(&self) -> bool {
        self.all_dirty || self.end_dirty || !self.dirty.is_empty() || self.claims.has_changes()
    }

    /// Another node has changed, come or gone.
    pub(super) fn touch_peer(&mut self, name: ObjectName) {
        self.dirty.insert(Unit::Peer(name));
        self.end_dirty = true;
        self.problems = OnceCell::new();
    }

    /// Something of this node has changed.
    pub(super) fn touch_all(&mut self) {
        (self.all_dirty, self.end_dirty) = (true, true);
        self.problems = OnceCell::new();
    }
}

/// Whether two ranges have an address in common.
fn overlap(a: IpNet, b: IpNet) -> bool {
    a.contains(&b) || b.contains(&a)
}

/// Whether packets to such addresses are forwarded at all.
fn is_routed(net: IpNet) -> bool {
    let first = net.addr();
    let is_local = matches!(first, IpAddr::V6(address) if address.is_unicast_link_local());
    !is_local && !first.is_multicast()
}
