//! The written rules of `docs/network.md`, slowly, for one address at a time: all that claims it is listed, and the longest
//! prefix, then the best claim, has it. Shares no code with the model.

use crate::network::{Network, POD, PODS, SERVICES, US, mac};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::RefusedRoute;
use millrace_model::underlay::{Refuses, UnderlayRoute, Uplink};
use millrace_model::{MacAddr, Node, RoutingMode};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// One way of a packet: port, MTU, MAC address on the wire, and the tunnel's far end with its inner MAC address.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Way {
    pub(crate) port: PortId,
    pub(crate) mtu: u16,
    pub(crate) to: MacAddr,
    pub(crate) tunnel: Option<(IpAddr, MacAddr)>,
}

/// What becomes of a packet to an address.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Met {
    Nowhere,
    Local,
    /// For a neighbour at this port.
    Waits(PortId),
    Leaves(BTreeSet<Way>),
    /// As a route of the kernel's says.
    Refused(RefusedRoute),
}

type Hops<'a> = Vec<(&'a Uplink, IpAddr)>;

pub(crate) fn expected(network: &Network, address: IpAddr) -> Met {
    let mut claims: Vec<(IpNet, usize, Met)> = Vec::new();
    let host = IpNet::from(address);
    if address.to_string() == POD.1 {
        let way = Way { port: PortId(POD.0), mtu: 1400, to: mac(POD.0 as u8), tunnel: None };
        claims.push((host, 0, Met::Leaves([way].into())));
    }
    if own_addresses(network).contains(&address) {
        claims.push((host, 1, Met::Local));
    }
    if !network.underlay.uplinks.is_empty() {
        claims.extend(behind_uplinks(network, address));
    }
    claims.retain(|(prefix, ..)| prefix.contains(&address));
    // The first of equals.
    let best = claims.iter().rev().max_by_key(|(prefix, rank, _)| (prefix.prefix_len(), usize::MAX - rank));
    best.map_or(Met::Nowhere, |(.., met)| met.clone())
}

fn behind_uplinks(network: &Network, address: IpAddr) -> Vec<(IpNet, usize, Met)> {
    let mut claims = Vec::new();
    let own: &[IpNet] = us(network).map_or(&[], |node| &node.pod_cidrs);
    claims.extend(own.iter().map(|range| (*range, 2, Met::Nowhere)));
    for node in others(network) {
        let (hops, ranges) = way_to(network, node);
        claims
            .extend(ranges.into_iter().zip(hops).map(|(range, hops)| (range, 3, lead(network, node, &hops))));
    }
    let underlay = &network.underlay;
    if let Some(uplink) = on_link(network, address)
        && underlay.neighbours.contains_key(&(uplink.port, address))
    {
        claims.push((address.into(), 4, leave(network, &vec![(uplink, address)])));
    }
    for uplink in underlay.uplinks.iter().filter(|uplink| uplink.is_up) {
        let links = uplink.addresses.iter().filter(|net| net.prefix_len() < net.max_prefix_len());
        claims.extend(links.filter(|net| usual(**net)).map(|net| (net.trunc(), 5, Met::Waits(uplink.port))));
    }
    let mut routes: Vec<&UnderlayRoute> = underlay.routes.iter().filter(|route| usual(route.to)).collect();
    routes.sort_by_key(|route| route.metric);
    for route in routes.into_iter().filter(|route| counts(network, route)) {
        if let Some(how) = route.refuses {
            claims.push((route.to.trunc(), 6, refused(how)));
            continue;
        }
        let hops = alive(network, route);
        let routers: Hops<'_> = hops.iter().filter_map(|(uplink, ip)| Some((*uplink, (*ip)?))).collect();
        let met = match routers.is_empty() {
            true => Met::Waits(hops[0].0.port),
            false => leave(network, &routers),
        };
        claims.push((route.to.trunc(), 6, met));
    }
    claims.extend([SERVICES, PODS].map(|range| (range.parse().unwrap(), 7, Met::Nowhere)));
    claims
}

/// Whether a route is one that a packet meets: it refuses, or an uplink of its hops is up.
fn counts(network: &Network, route: &UnderlayRoute) -> bool {
    route.refuses.is_some() || !alive(network, route).is_empty()
}

fn refused(how: Refuses) -> Met {
    match how {
        Refuses::Blackhole => Met::Refused(RefusedRoute::Blackhole),
        Refuses::Unreachable => Met::Refused(RefusedRoute::Unreachable),
        Refuses::Prohibit => Met::Refused(RefusedRoute::Prohibit),
        Refuses::Throw => Met::Nowhere,
    }
}

/// The ranges that lead to a node, and for each the next hops.
fn way_to<'a>(network: &'a Network, node: &Node) -> (Vec<Hops<'a>>, Vec<IpNet>) {
    let own: &[IpNet] = us(network).map_or(&[], |us| &us.pod_cidrs);
    let meets = |range: &&IpNet| !own.iter().any(|ours| ours.contains(*range) || range.contains(ours));
    let mut ranges: Vec<IpNet> = node.pod_cidrs.iter().filter(meets).copied().collect();
    if is_tunnelled(network, node) {
        let Some((_, remote)) = ends(network, node) else {
            return (vec![Vec::new(); ranges.len()], ranges);
        };
        ranges.extend(node.addresses.iter().copied().map(IpNet::from));
        return (vec![hops(network, remote); ranges.len()], ranges);
    }
    let near = |ip: &&IpAddr| on_link(network, **ip).is_some();
    let toward = |range: &IpNet| {
        let same: Vec<&IpAddr> =
            node.addresses.iter().filter(|ip| ip.is_ipv4() == range.addr().is_ipv4()).collect();
        let nearest = same.iter().copied().find(near).or(node.addresses.iter().find(near));
        nearest.or(same.first().copied()).map(|ip| hops(network, *ip)).unwrap_or_default()
    };
    (ranges.iter().map(toward).collect(), ranges)
}

fn is_tunnelled(network: &Network, node: &Node) -> bool {
    match node.routing.mode.unwrap_or(network.mode) {
        RoutingMode::Native => false,
        RoutingMode::Vxlan => true,
        RoutingMode::Auto => !node.addresses.iter().any(|ip| on_link(network, *ip).is_some()),
    }
}

/// This node's end of a tunnel, and the other.
fn ends(network: &Network, node: &Node) -> Option<(IpAddr, IpAddr)> {
    let first = |list: &[IpAddr], v4: bool| list.iter().copied().find(|ip| ip.is_ipv4() == v4);
    let both = |v4| {
        Some((first(own_addresses(network), v4).filter(|ip| !ip.is_loopback())?, first(&node.addresses, v4)?))
    };
    both(true).or_else(|| both(false))
}

fn lead(network: &Network, node: &Node, hops: &Hops<'_>) -> Met {
    let met = leave(network, hops);
    let Some((_, remote)) = ends(network, node).filter(|_| is_tunnelled(network, node)) else { return met };
    let Met::Leaves(ways) = met else { return met };
    let overhead = if remote.is_ipv4() { 50 } else { 70 };
    let inner = node.routing.vtep_mac.unwrap_or_else(|| {
        let v4 = node.addresses.iter().find(|ip| ip.is_ipv4()).unwrap_or(&node.addresses[0]);
        let bytes = match v4 {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets()[12..].to_vec(),
        };
        MacAddr([2, 0x56, bytes[0], bytes[1], bytes[2], bytes[3]])
    });
    let through = |way: Way| Way { mtu: way.mtu - overhead, tunnel: Some((remote, inner)), ..way };
    Met::Leaves(ways.into_iter().map(through).collect())
}

fn leave(network: &Network, hops: &Hops<'_>) -> Met {
    let way = |(uplink, ip): &(&Uplink, IpAddr)| {
        let to = *network.underlay.neighbours.get(&(uplink.port, *ip))?;
        Some(Way { port: uplink.port, mtu: uplink.mtu, to, tunnel: None })
    };
    let ways: BTreeSet<Way> = hops.iter().filter_map(way).collect();
    match (hops.first(), ways.is_empty()) {
        (None, _) => Met::Nowhere,
        (Some(_), false) => Met::Leaves(ways),
        // Which of several it waits at does not matter, but it is said: that of the first.
        (Some((uplink, _)), true) => Met::Waits(uplink.port),
    }
}

/// The next hops toward an address: it itself on a link, else those of the best route that leads anywhere.
fn hops(network: &Network, address: IpAddr) -> Hops<'_> {
    if let Some(uplink) = on_link(network, address) {
        return vec![(uplink, address)];
    }
    let holds = |route: &&UnderlayRoute| route.to.contains(&address) && counts(network, route);
    let mut routes: Vec<&UnderlayRoute> = network.underlay.routes.iter().filter(holds).collect();
    routes.sort_by_key(|route| (128 - route.to.prefix_len(), route.metric));
    let hops = routes.first().map(|route| alive(network, route)).unwrap_or_default();
    hops.into_iter().map(|(uplink, ip)| (uplink, ip.unwrap_or(address))).collect()
}

/// All next hops that anything depends on.
pub(crate) fn next_hops(network: &Network) -> BTreeSet<(PortId, IpAddr)> {
    if network.underlay.uplinks.is_empty() {
        return BTreeSet::new();
    }
    let mut all = BTreeSet::new();
    let peers = others(network).flat_map(|node| way_to(network, node).0);
    all.extend(peers.flatten().map(|(uplink, ip)| (uplink.port, ip)));
    for to in network.underlay.routes.iter().map(|route| route.to.trunc()).filter(|to| usual(*to)) {
        let same = network.underlay.routes.iter().filter(|route| route.to.trunc() == to);
        let mut routes: Vec<_> = same.filter(|route| counts(network, route)).collect();
        routes.sort_by_key(|route| route.metric);
        let hops = routes.first().map(|route| alive(network, route)).unwrap_or_default();
        all.extend(hops.into_iter().filter_map(|(uplink, ip)| Some((uplink.port, ip?))));
    }
    all
}

fn alive<'a>(network: &'a Network, route: &UnderlayRoute) -> Vec<(&'a Uplink, Option<IpAddr>)> {
    let up = |port| network.underlay.uplinks.iter().find(|uplink| uplink.port == port && uplink.is_up);
    route.hops.iter().filter_map(|hop| Some((up(hop.port)?, hop.gateway))).collect()
}

/// The longest of links; the first uplink of equals.
fn on_link(network: &Network, address: IpAddr) -> Option<&Uplink> {
    let mut best: Option<(u8, &Uplink)> = None;
    for uplink in network.underlay.uplinks.iter().filter(|uplink| uplink.is_up) {
        for net in uplink.addresses.iter().filter(|net| net.contains(&address)) {
            if best.is_none_or(|(length, _)| net.prefix_len() > length) {
                best = Some((net.prefix_len(), uplink));
            }
        }
    }
    best.map(|(_, uplink)| uplink)
}

fn usual(net: IpNet) -> bool {
    match net.addr() {
        IpAddr::V4(ip) => !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_multicast() && !ip.is_unicast_link_local(),
    }
}

fn us(network: &Network) -> Option<&Node> {
    network.nodes.iter().find(|node| node.name.name == US)
}

fn own_addresses(network: &Network) -> &[IpAddr] {
    us(network).map_or(&[], |node| &node.addresses)
}

/// In the order of names: the first has what several claim.
fn others(network: &Network) -> impl Iterator<Item = &Node> {
    let mut others: Vec<&Node> = network.nodes.iter().filter(|node| node.name.name != US).collect();
    others.sort_by(|a, b| a.name.name.cmp(&b.name.name));
    others.into_iter()
}
