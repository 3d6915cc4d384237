//! The ways to other nodes and to the world.

use crate::control::Control;
use millrace_api::{NextHop, Peer, PeerList, RouteList, TableRoute};
use millrace_fastpath::port::{Frame, PortId};
use millrace_fastpath::tables::{Adjacency, AdjacencyId, Route, RouteTable};
use millrace_model::underlay::PeerView;

impl<F: Frame> Control<F> {
    /// The other nodes.
    pub fn list_peers(&self) -> PeerList {
        PeerList { peers: self.model.peers().map(|peer| self.peer(peer)).collect() }
    }

    fn peer(&self, peer: &PeerView) -> Peer {
        let hop = |(port, address): &(PortId, std::net::IpAddr)| NextHop {
            port: self.port_name(*port).unwrap_or_default(),
            address: Some(address.to_string()),
            mac: None,
        };
        Peer {
            name: peer.name.name.clone(),
            mode: if peer.tunnelled { "vxlan" } else { "native" }.to_owned(),
            address: peer.address.map(|address| address.to_string()),
            ranges: peer.ranges.iter().map(ToString::to_string).collect(),
            next_hops: peer.hops.iter().map(hop).collect(),
            mtu: peer.mtu,
        }
    }

    /// The routes that workers have.
    pub fn list_routes(&self) -> RouteList {
        let nothing = RouteTable::default();
        let all = self.current.routes.changes_since(&nothing);
        let mut routes: Vec<_> = all.filter_map(|change| Some((change.prefix, change.now?))).collect();
        routes.sort_unstable_by_key(|(prefix, _)| *prefix);
        let told = routes.into_iter().map(|(prefix, route)| {
            let (kind, next_hops) = self.told(route);
            TableRoute { prefix: prefix.to_string(), kind: kind.to_owned(), next_hops }
        });
        RouteList { routes: told.collect() }
    }

    fn told(&self, route: Route) -> (&'static str, Vec<NextHop>) {
        let routes = &self.current.routes;
        let ways: Vec<AdjacencyId> = match route {
            Route::Local => return ("local", Vec::new()),
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
