//! What has changed behind the uplinks, and what depends on it.

use super::{Made, Outcome, RouteIndex, Target, Unit};
use crate::model::Model;
use crate::routing::tunnel_overhead;
use crate::underlay::{PeerView, Place, Underlay, Uplink};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Bytes that IPv6 asks of every link.
const IPV6_MINIMUM: u16 = 1_280;

impl Model {
    /// Replaces what is known of the uplinks, and of what lies behind them. Costs a look at all of it, and work for what
    /// depends on what has changed.
    pub fn set_underlay(&mut self, underlay: Underlay) {
        if self.underlay == underlay {
            return;
        }
        if self.underlay.uplinks != underlay.uplinks {
            let uplinks = self.underlay.uplinks.iter().chain(&underlay.uplinks);
            let ports = uplinks.flat_map(|uplink| [Some(uplink.port), uplink.companion]).flatten();
            self.addresses.dirty.extend(ports);
            self.ways.touch_all();
        }
        if self.underlay.routes != underlay.routes {
            let routes = RouteIndex::new(&underlay.routes);
            for prefix in routes.differences(&self.ways.routes) {
                self.touch_route(prefix);
            }
            self.ways.routes = routes;
        }
        let (before, after) = (&self.underlay.neighbours, &underlay.neighbours);
        let changed = before.iter().filter(|(place, mac)| after.get(place) != Some(mac));
        let new = after.keys().filter(|place| !before.contains_key(place));
        for &(port, address) in changed.map(|(place, _)| place).chain(new) {
            self.ways.dirty.insert(Unit::Neighbour(port, address));
            self.ways.dirty.extend(self.ways.users.get(&(port, address)).into_iter().flatten().cloned());
        }
        self.underlay = underlay;
        // Nobody asks for neighbours before the next compilation otherwise.
        self.work_out();
    }

    /// The neighbours that are to be kept known: the next hops.
    pub fn wanted_neighbours(&self) -> impl Iterator<Item = (PortId, IpAddr)> {
        self.ways.users.keys().copied()
    }

    /// The other nodes, and the ways to them.
    pub fn peers(&self) -> impl Iterator<Item = &PeerView> {
        self.ways.peers.values()
    }

    /// The uplink of this port, if it is one.
    pub fn uplink(&self, port: PortId) -> Option<&Uplink> {
        self.underlay.uplinks.iter().find(|uplink| uplink.port == port)
    }

    /// The uplinks.
    pub fn uplinks(&self) -> &[Uplink] {
        &self.underlay.uplinks
    }

    /// The MAC address of a neighbour that is known.
    pub fn neighbour_mac(&self, port: PortId, address: IpAddr) -> Option<MacAddr> {
        self.underlay.neighbour(port, address)
    }

    /// The next hops that packets to a prefix wait for, if they do.
    pub fn awaited_for(&self, prefix: IpNet) -> Option<&[Place]> {
        match self.ways.targets.get(&prefix)? {
            Target::Waits(places) => Some(places),
            Target::OnLink(_) | Target::Ways(_) | Target::Refused(_) => None,
        }
    }

    /// Whether any node is behind a tunnel, whatever the configured mode is.
    pub fn has_tunnels(&self) -> bool {
        self.ways.tunnelled > 0
    }

    /// The neighbours that packets to an address by an uplink wait for: the address itself if it is on the link, else next
    /// hops.
    pub fn awaited(&self, port: PortId, address: IpAddr) -> Vec<Place> {
        let lengths = (0..=IpNet::from(address).max_prefix_len()).rev();
        let prefixes = lengths.filter_map(|length| Some(IpNet::new(address, length).ok()?.trunc()));
        match prefixes.filter_map(|prefix| self.ways.targets.get(&prefix)).next() {
            Some(Target::Waits(places)) => places.clone(),
            _ => vec![(port, address)],
        }
    }

    /// A router has said that an outer packet to this tunnel end has at most this many bytes. True if that was news. What
    /// would leave less than IPv6 asks of a link (RFC 8200 section 5) to packets inside is not believed: anybody may say
    /// it, and it is never more than what was said before.
    pub fn lower_path_mtu(&mut self, remote: IpAddr, mtu: u16) -> bool {
        let mtu = mtu.max(IPV6_MINIMUM + tunnel_overhead(remote.is_ipv4()));
        let is_news = self.ways.by_address.contains_key(&remote)
            && self.ways.path_mtus.get(&remote).is_none_or(|known| mtu < *known);
        if is_news {
            self.ways.path_mtus.insert(remote, mtu);
            self.touch_peers_at(remote);
        }
        is_news
    }

    /// The way to this tunnel end may be as wide as its links again.
    pub fn forget_path_mtu(&mut self, remote: IpAddr) {
        if self.ways.path_mtus.remove(&remote).is_some() {
            self.touch_peers_at(remote);
        }
    }

    fn touch_peers_at(&mut self, address: IpAddr) {
        let names = self.ways.by_address.get(&address).into_iter().flatten().cloned();
        self.ways.dirty.extend(names.map(Unit::Peer));
    }

    fn touch_route(&mut self, to: IpNet) {
        self.ways.dirty.insert(Unit::Route(to));
        let within = self.ways.by_address.range(to.network()..=last(to));
        let names = within.flat_map(|(_, names)| names).cloned();
        self.ways.dirty.extend(names.map(Unit::Peer));
    }

    /// Works out what has changed.
    pub(super) fn work_out(&mut self) {
        let mut units = std::mem::take(&mut self.ways.dirty);
        if std::mem::take(&mut self.ways.all_dirty) {
            units.extend(self.ways.made.keys().cloned());
            units.insert(Unit::Ground);
            units.extend(self.ways.routes.prefixes().map(Unit::Route));
            units.extend(self.underlay.neighbours.keys().map(|&(port, ip)| Unit::Neighbour(port, ip)));
            units.extend(self.nodes.others().map(|node| Unit::Peer(node.name.clone())));
        }
        for unit in units {
            let outcome = match &unit {
                Unit::Ground => self.ground(),
                _ if self.underlay.uplinks.is_empty() => Outcome::default(),
                Unit::Route(to) => self.route(*to),
                Unit::Neighbour(port, address) => self.neighbour(*port, *address),
                Unit::Peer(name) => self.peer(name),
            };
            self.ways.settle(unit, outcome);
        }
    }
}

impl super::Ways {
    /// Puts what a unit claims, depends on and stands for in the place of what it did before.
    fn settle(&mut self, unit: Unit, outcome: Outcome) {
        let Outcome { claims, hops, peer, addresses } = outcome;
        let before = self.made.remove(&unit).unwrap_or(Made::NOTHING);
        for (prefix, source) in before.claims.iter().filter(|claim| !claims.contains_key(*claim)) {
            self.claims.withdraw(*prefix, source);
        }
        self.follow_hops(&unit, &before.hops, &hops);
        if let Unit::Peer(name) = &unit {
            for address in before.addresses.difference(&addresses) {
                if let Some(names) = self.by_address.get_mut(address) {
                    names.remove(name);
                    if names.is_empty() {
                        self.by_address.remove(address);
                    }
                }
            }
            for address in addresses.difference(&before.addresses) {
                self.by_address.entry(*address).or_default().insert(name.clone());
            }
            let is_tunnelled = |peer: Option<&PeerView>| peer.is_some_and(|peer| peer.tunnelled);
            let now = is_tunnelled(peer.as_ref());
            let former = match peer {
                Some(peer) => self.peers.insert(name.clone(), peer),
                None => self.peers.remove(name),
            };
            self.count_tunnels(is_tunnelled(former.as_ref()), now);
        }
        let made: Vec<_> = claims.keys().cloned().collect();
        for ((prefix, source), target) in claims {
            self.claims.put(prefix, source, target);
        }
        if !made.is_empty() || !hops.is_empty() || !addresses.is_empty() {
            self.made.insert(unit, Made { claims: made, hops, addresses });
        }
    }

    fn follow_hops(&mut self, unit: &Unit, before: &BTreeSet<Place>, now: &BTreeSet<Place>) {
        for place in before.difference(now) {
            if let Some(users) = self.users.get_mut(place) {
                users.remove(unit);
                if users.is_empty() {
                    self.users.remove(place);
                }
            }
        }
        for place in now.difference(before) {
            self.users.entry(*place).or_default().insert(unit.clone());
        }
    }

    /// Whether there is any tunnel decides on this node's end of it.
    fn count_tunnels(&mut self, before: bool, now: bool) {
        let had_any = self.tunnelled > 0;
        self.tunnelled = self.tunnelled + usize::from(now) - usize::from(before);
        self.end_dirty |= had_any != (self.tunnelled > 0);
    }
}

impl Made {
    const NOTHING: Made = Made { claims: Vec::new(), hops: BTreeSet::new(), addresses: BTreeSet::new() };
}

fn last(net: IpNet) -> IpAddr {
    // An IPv6 range has no broadcast address, but a last one.
    net.broadcast()
}
