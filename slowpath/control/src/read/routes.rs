//! The ways to other nodes and to the world.

use crate::control::Control;
use millrace_api::{NextHop, ObjectError, Peer, PeerList, RouteFilter, RouteList, TableRoute};
use millrace_fastpath::port::Frame;
use millrace_fastpath::tables::{Adjacency, AdjacencyId, RefusedRoute, Route, RouteTable};
use millrace_model::underlay::{PeerState, PeerView, Place, WhyMode};
use std::collections::BTreeMap;
use std::net::IpAddr;

impl<F: Frame> Control<F> {
    /// The other nodes.
    pub fn list_peers(&self) -> PeerList {
        PeerList { peers: self.model.peers().map(|peer| self.peer(peer)).collect() }
    }

    fn peer(&self, peer: &PeerView) -> Peer {
        let hops = |places: &[Place]| places.iter().map(|place| self.next_hop(place)).collect();
        Peer {
            name: peer.name.name.clone(),
            mode: mode(peer).to_owned(),
            reason: match peer.why {
                WhyMode::Annotation => "annotation",
                WhyMode::Configuration => "configuration",
                WhyMode::SameLink => "same-link",
                WhyMode::OtherLink => "other-link",
            }
            .to_owned(),
            state: state(peer.state()).to_owned(),
            address: peer.address.map(|address| address.to_string()),
            vtep_mac: peer.vtep_mac.map(|mac| mac.to_string()),
            ranges: peer.ranges.iter().map(ToString::to_string).collect(),
            next_hops: hops(&peer.hops),
            awaited: hops(&peer.awaited),
            mtu: peer.mtu,
        }
    }

    fn next_hop(&self, &(port, address): &Place) -> NextHop {
        NextHop {
            port: self.port_name(port).unwrap_or_default(),
            address: Some(address.to_string()),
            mac: self.model.neighbour_mac(port, address).map(|mac| mac.to_string()),
        }
    }

    /// How many other nodes there are, by mode and state.
    pub fn count_peers(&self) -> BTreeMap<(&'static str, &'static str), u64> {
        let states = [PeerState::Reached, PeerState::Resolving, PeerState::Unreachable].map(state);
        let all = states.into_iter().flat_map(|state| [("native", state), ("vxlan", state)]);
        let mut counts: BTreeMap<_, _> = all.map(|kind| (kind, 0)).collect();
        for peer in self.model.peers() {
            *counts.entry((mode(peer), state(peer.state()))).or_default() += 1;
        }
        counts
    }

    /// The routes that workers have; of those to one address the one that counts.
    pub fn list_routes(&self, filter: &RouteFilter) -> RouteList {
        let nothing = RouteTable::default();
        let all = self.current.routes.changes_since(&nothing);
        let mut routes: Vec<_> = all.filter_map(|change| Some((change.prefix, change.now?))).collect();
        if let Some(to) = filter.to {
            routes.retain(|(prefix, _)| prefix.contains(&to));
            let longest = routes.iter().map(|(prefix, _)| prefix.prefix_len()).max();
            routes.retain(|(prefix, _)| Some(prefix.prefix_len()) == longest);
        }
        routes.sort_unstable_by_key(|(prefix, _)| *prefix);
        let told = routes.into_iter().map(|(prefix, route)| {
            let (kind, next_hops) = match (route, self.model.awaited_for(prefix)) {
                (Route::OnLink(_), Some(awaited)) => {
                    ("waiting", awaited.iter().map(|place| self.next_hop(place)).collect())
                }
                _ => self.told(route),
            };
            TableRoute { prefix: prefix.to_string(), kind: kind.to_owned(), next_hops }
        });
        RouteList { routes: told.collect() }
    }

    /// What is wrong with other nodes, and with configured routes.
    pub(super) fn way_errors(&self) -> impl Iterator<Item = ObjectError> {
        let nodes = self.model.peer_problems().iter().map(|(node, problem)| ObjectError {
            object: Some(format!("Node {node}")),
            reason: problem.to_string(),
            ..ObjectError::default()
        });
        let uplinks = self.model.uplinks();
        let is_near = |router: &IpAddr| {
            let mut nets = uplinks.iter().flat_map(|uplink| &uplink.addresses);
            nets.any(|net| net.contains(router))
        };
        // While no uplink is open, that is what is wrong.
        let routes = self.config.routing.routes.iter().filter(|_| !uplinks.is_empty());
        let far = routes.flat_map(move |route| {
            let routers = route.via.iter().filter(move |router| !is_near(router));
            routers.map(|router| ObjectError {
                file: "configuration".to_owned(),
                object: Some(format!("routing.routes {}", route.to)),
                reason: format!("router {router} is on the link of no uplink: it is left out"),
                ..ObjectError::default()
            })
        });
        nodes.chain(far)
    }

    fn told(&self, route: Route) -> (&'static str, Vec<NextHop>) {
        let routes = &self.current.routes;
        let ways: Vec<AdjacencyId> = match route {
            Route::Local => return ("local", Vec::new()),
            Route::Refused(RefusedRoute::Blackhole) => return ("blackhole", Vec::new()),
            Route::Refused(RefusedRoute::Unreachable) => return ("unreachable", Vec::new()),
            Route::Refused(RefusedRoute::Prohibit) => return ("prohibit", Vec::new()),
            Route::OnLink(port) => {
                let port = self.port_name(port).unwrap_or_default();
                return ("on-link", vec![NextHop { port, ..NextHop::default() }]);
            }
            Route::Via(id) => vec![id],
            Route::Spread(group) => routes.group(group).unwrap_or_default().to_vec(),
        };
        let found: Vec<&Adjacency> = ways.into_iter().filter_map(|id| routes.adjacency(id)).collect();
        let kind = match found.first() {
            None => "unreachable",
            Some(way) if way.tunnel.is_some() => "tunnel",
            Some(_) => "port",
        };
        (kind, found.into_iter().map(|way| self.way(way)).collect())
    }

    fn way(&self, way: &Adjacency) -> NextHop {
        let tunnel = way.tunnel.and_then(|id| self.current.tunnels.get(id));
        NextHop {
            port: self.port_name(way.port).unwrap_or_default(),
            address: tunnel.map(|tunnel| tunnel.remote.to_ip().to_string()),
            mac: Some(tunnel.map_or(way.destination_mac, |tunnel| tunnel.destination_mac).to_string()),
        }
    }
}

fn mode(peer: &PeerView) -> &'static str {
    if peer.tunnelled { "vxlan" } else { "native" }
}

fn state(state: PeerState) -> &'static str {
    match state {
        PeerState::Reached => "reached",
        PeerState::Resolving => "resolving",
        PeerState::Unreachable => "unreachable",
    }
}
