//! Ways behind uplinks: peers, routes, neighbours.

use super::*;
use crate::underlay::{Hop, PeerState, Underlay, UnderlayRoute, Uplink, WhyMode};
use ipnet::IpNet;
use millrace_fastpath::tables::Adjacency;

const NIC: PortId = PortId(1);
const OWN_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);
const ROUTER: MacAddr = MacAddr([2, 0, 0, 0, 0, 254]);
const NEAR: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

fn other(name: &str, addresses: &[&str], ranges: &[&str]) -> Node {
    Node {
        name: ObjectName::cluster_wide(name),
        labels: Default::default(),
        zone: None,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_cidrs: ranges.iter().map(|text| text.parse().unwrap()).collect(),
        routing: NodeRouting::default(),
        leaving: false,
        network_unavailable: None,
    }
}

fn underlay(neighbours: &[(&str, MacAddr)]) -> Underlay {
    let gateway = |to: &str, gateway: &str| UnderlayRoute {
        to: to.parse().unwrap(),
        metric: 0,
        hops: vec![Hop { port: NIC, gateway: Some(ip(gateway)) }],
        refuses: None,
    };
    Underlay {
        uplinks: vec![Uplink {
            port: NIC,
            mac: OWN_MAC,
            mtu: 1500,
            addresses: vec!["192.0.2.1/24".parse().unwrap(), "2001:db8::1/64".parse().unwrap()],
            is_up: true,
            companion: None,
        }],
        routes: vec![gateway("0.0.0.0/0", "192.0.2.254"), gateway("::/0", "2001:db8::fe")],
        neighbours: neighbours.iter().map(|(address, mac)| ((NIC, ip(address)), *mac)).collect(),
    }
}

/// This node with an uplink, a node on its subnet and one behind the router.
fn model_with(change: impl FnOnce(&mut ModelConfig)) -> Model {
    let mut config = model().config.clone();
    change(&mut config);
    let mut model = Model::new(config);
    model.apply(Object::Node(other(NODE, &["192.0.2.1", "2001:db8::1"], &["10.1.0.0/24"])));
    model.apply(Object::Node(other("near", &["192.0.2.2", "2001:db8::2"], &["10.2.0.0/24", "fd00:2::/64"])));
    model.apply(Object::Node(other("far", &["198.51.100.3"], &["10.3.0.0/24"])));
    model.set_underlay(underlay(&[
        ("192.0.2.254", ROUTER),
        ("192.0.2.2", NEAR),
        ("2001:db8::2", NEAR),
        ("2001:db8::fe", ROUTER),
    ]));
    model
}

fn way(tables: &TableSet, address: &str) -> Adjacency {
    *tables.routes.way(ip(address).into()).unwrap_or_else(|| panic!("no way to {address}"))
}

#[test]
fn near_nodes_are_reached_as_they_are_and_far_ones_in_tunnels() {
    let tables = model_with(|_| ()).compile();
    for address in ["10.2.0.7", "fd00:2::7", "192.0.2.2"] {
        let way = way(&tables, address);
        assert_eq!((way.destination_mac, way.source_mac, way.mtu, way.tunnel), (NEAR, OWN_MAC, 1500, None));
    }
    for address in ["10.3.0.7", "198.51.100.3"] {
        let way = way(&tables, address);
        assert_eq!((way.mtu, way.port), (1450, NIC));
        assert_eq!(way.destination_mac, MacAddr([2, 0x56, 198, 51, 100, 3]));
        assert_eq!(way.source_mac, MacAddr([2, 0x56, 192, 0, 2, 1]));
        let tunnel = tables.tunnels.get(way.tunnel.unwrap()).unwrap();
        assert_eq!((tunnel.local, tunnel.remote), (ip("192.0.2.1").into(), ip("198.51.100.3").into()));
        assert_eq!((tunnel.destination_mac, tunnel.checksum), (ROUTER, false));
    }
    assert_eq!(way(&tables, "203.0.113.1").destination_mac, ROUTER);
    assert_eq!(tables.routes.lookup(ip("192.0.2.77").into()), Some(Route::OnLink(NIC)));
    assert!(tables.routes.way(ip("10.1.0.77").into()).is_none(), "an address of ours that no pod has");
    assert!(
        tables.tunnels.is_peer(ip("198.51.100.3").into())
            && !tables.tunnels.is_peer(ip("203.0.113.1").into())
    );
}

#[test]
fn the_mode_of_all_and_that_of_a_node_decide() {
    let native = model_with(|config| config.routing.mode = RoutingMode::Native).compile();
    assert_eq!(way(&native, "10.3.0.7").destination_mac, ROUTER, "the fabric knows where pods are");
    assert!(native.tunnels.vtep().is_none());
    let mut model = model_with(|config| config.routing.mode = RoutingMode::Vxlan);
    let tunnels = model.compile();
    assert!(way(&tunnels, "10.2.0.7").tunnel.is_some() && way(&tunnels, "192.0.2.2").tunnel.is_some());
    let mut node = other("near", &["192.0.2.2"], &["10.2.0.0/24"]);
    node.routing = NodeRouting { mode: Some(RoutingMode::Native), vtep_mac: None };
    model.apply(Object::Node(node));
    let tables = model.compile();
    assert_eq!(way(&tables, "10.2.0.7").tunnel, None);
    let mut node = other("far", &["198.51.100.3"], &["10.3.0.0/24"]);
    node.routing.vtep_mac = Some(MacAddr([2, 1, 1, 1, 1, 1]));
    model.apply(Object::Node(node));
    assert_eq!(way(&model.compile(), "10.3.0.7").destination_mac, MacAddr([2, 1, 1, 1, 1, 1]));
}

#[test]
fn what_changes_behind_an_uplink_changes_ways_and_what_does_not_raises_no_epoch() {
    let mut model = model_with(|_| ());
    let before = model.compile();
    let same = model.underlay.clone();
    model.set_underlay(same);
    assert!(!model.has_changes());
    // A neighbour more is no reason to ask again for others; one with another MAC address is.
    let mut more = underlay(&[("192.0.2.254", ROUTER), ("192.0.2.2", NEAR), ("2001:db8::2", NEAR)]);
    more.neighbours.insert((NIC, ip("2001:db8::fe")), ROUTER);
    more.neighbours.insert((NIC, ip("192.0.2.2")), MacAddr([2; 6]));
    model.set_underlay(more);
    let after = model.compile();
    assert_ne!(before.epoch, after.epoch);
    assert_eq!(way(&after, "10.2.0.7").destination_mac, MacAddr([2; 6]));
    // Without a link nothing is reached, and the node's own addresses stay.
    let mut down = model.underlay.clone();
    down.uplinks[0].is_up = false;
    model.set_underlay(down);
    let down = model.compile();
    assert!(
        ["10.2.0.7", "10.3.0.7", "203.0.113.1"].iter().all(|to| down.routes.way(ip(to).into()).is_none())
    );
    assert_eq!(down.routes.lookup(ip("192.0.2.1").into()), Some(Route::Local));
    model.delete(Kind::Node, &ObjectName::cluster_wide("far"));
    assert_eq!(model.peers().count(), 2, "known until the next compilation");
    model.compile();
    assert_eq!(model.peers().count(), 1);
}

#[test]
fn of_several_routes_the_preferred_one_that_is_alive_counts_and_flows_are_spread_over_its_hops() {
    let mut model = model_with(|_| ());
    let hop = |gateway: &str| Hop { port: NIC, gateway: Some(ip(gateway)) };
    let to: IpNet = "10.8.0.0/16".parse().unwrap();
    let mut underlay = underlay(&[("192.0.2.254", ROUTER), ("192.0.2.2", NEAR)]);
    underlay.routes.push(UnderlayRoute { to, metric: 20, hops: vec![hop("192.0.2.254")], refuses: None });
    let hops = vec![hop("192.0.2.2"), hop("192.0.2.254")];
    underlay.routes.push(UnderlayRoute { to, metric: 10, hops, refuses: None });
    model.set_underlay(underlay.clone());
    let tables = model.compile();
    let Some(Route::Spread(group)) = tables.routes.get(to) else { panic!("one of two") };
    assert_eq!(tables.routes.group(group).unwrap().len(), 2);
    // One is not known yet: the other has all.
    underlay.neighbours.remove(&(NIC, ip("192.0.2.2")));
    model.set_underlay(underlay);
    assert_eq!(way(&model.compile(), "10.8.0.1").destination_mac, ROUTER);
    assert!(model.wanted_neighbours().any(|wanted| wanted == (NIC, ip("192.0.2.2"))));
}

#[test]
fn connections_that_leave_the_cluster_are_masqueraded_and_others_not() {
    let outgoing =
        OutgoingConfig { exceptions: vec!["203.0.113.0/24".parse().unwrap()], ..OutgoingConfig::default() };
    let tables = model_with(|config| config.routing.outgoing = Some(outgoing)).compile();
    let outgoing = tables.masquerade.outgoing.unwrap();
    let applies = |from: &str, to: &str| outgoing.applies(ip(from).into(), ip(to).into());
    assert!(applies("10.1.0.7", "198.18.0.1"));
    for kept in ["10.2.0.7", "192.0.2.2", "198.51.100.3", "203.0.113.9"] {
        assert!(!applies("10.1.0.7", kept), "{kept}");
    }
    assert!(!applies("192.0.2.1", "198.18.0.1"), "no pod");
    assert_eq!(model_with(|_| ()).compile().masquerade.outgoing, None);
}

fn problems(model: &Model) -> Vec<String> {
    model.peer_problems().iter().map(|(name, problem)| format!("{name}: {problem}")).collect()
}

#[test]
fn a_range_that_overlaps_ours_is_left_out_and_said_and_the_rest_of_its_node_is_reached() {
    let mut model = model_with(|_| ());
    model.compile();
    assert_eq!(problems(&model), [""; 0]);
    model.apply(Object::Node(other("near", &["192.0.2.2"], &["10.1.0.128/25", "10.2.0.0/24"])));
    let tables = model.compile();
    assert!(tables.routes.way(ip("10.1.0.200").into()).is_none());
    assert_eq!(way(&tables, "10.2.0.7").destination_mac, NEAR);
    assert_eq!(
        problems(&model),
        ["near: spec.podCIDRs 10.1.0.128/25 overlaps 10.1.0.0/24 of this node, here: it is left out"]
    );
}

#[test]
fn of_two_nodes_with_one_range_the_first_name_has_it_and_the_other_inherits_it() {
    let mut model = model_with(|_| ());
    model.apply(Object::Node(other("zone-edge", &["192.0.2.3"], &["10.2.0.0/24", "10.3.0.0/25"])));
    let tables = model.compile();
    assert_eq!(way(&tables, "10.2.0.7").destination_mac, NEAR);
    assert_eq!(
        problems(&model),
        [
            "zone-edge: spec.podCIDRs 10.2.0.0/24 is that of node near, too, which has it",
            "zone-edge: spec.podCIDRs 10.3.0.0/25 lies in 10.3.0.0/24 of node far: packets to it come here",
        ]
    );
    let mut underlay = model.underlay.clone();
    underlay.neighbours.insert((NIC, ip("192.0.2.3")), MacAddr([2, 0, 0, 0, 0, 3]));
    model.set_underlay(underlay);
    model.delete(Kind::Node, &ObjectName::cluster_wide("near"));
    assert_eq!(way(&model.compile(), "10.2.0.7").destination_mac, MacAddr([2, 0, 0, 0, 0, 3]));
    assert_eq!(problems(&model).len(), 1, "the range is its own now");
}

#[test]
fn a_node_that_cannot_be_reached_for_want_of_an_address_says_which() {
    let mut model = model_with(|config| config.routing.mode = RoutingMode::Native);
    model.apply(Object::Node(other("far", &["198.51.100.3"], &["10.3.0.0/24", "fd00:3::/64"])));
    model.apply(Object::Node(other("near", &[], &["10.2.0.0/24"])));
    model.compile();
    let lacks = "status.addresses has no address by which spec.podCIDRs";
    assert_eq!(
        problems(&model),
        [
            format!("far: {lacks} fd00:3::/64 could be reached"),
            format!("near: {lacks} 10.2.0.0/24 could be reached")
        ]
    );
    let mut model = model_with(|_| ());
    model.apply(Object::Node(other(NODE, &["192.0.2.1"], &["10.1.0.0/24"])));
    model.apply(Object::Node(other("far", &["2001:db8:f::3"], &["10.3.0.0/24"])));
    model.apply(Object::Node(other("other", &["192.0.2.2"], &[])));
    let tables = model.compile();
    // Not by the default route, as pods here know no others.
    assert!(tables.routes.way(ip("10.3.0.7").into()).is_none());
    let said = problems(&model);
    assert!(said[0].starts_with("far: status.addresses has no address of a family that this node, here"));
    assert!(said[1].starts_with("other: status.addresses 192.0.2.2 is that of node near"), "{said:?}");
}

#[test]
fn packets_wait_for_next_hops_that_are_not_known_and_say_for_which() {
    let mut model = model_with(|_| ());
    let mut underlay = model.underlay.clone();
    underlay.neighbours.clear();
    model.set_underlay(underlay.clone());
    let tables = model.compile();
    for address in ["10.2.0.7", "10.3.0.7", "203.0.113.1", "192.0.2.77"] {
        assert_eq!(tables.routes.lookup(ip(address).into()), Some(Route::OnLink(NIC)), "{address}");
    }
    assert_eq!(model.awaited(NIC, ip("10.2.0.7")), [(NIC, ip("192.0.2.2"))]);
    assert_eq!(model.awaited(NIC, ip("10.3.0.7")), [(NIC, ip("192.0.2.254"))]);
    assert_eq!(model.awaited(NIC, ip("203.0.113.1")), [(NIC, ip("192.0.2.254"))]);
    assert_eq!(model.awaited(NIC, ip("192.0.2.77")), [(NIC, ip("192.0.2.77"))]);
    assert!(model.peers().all(|peer| peer.state() == PeerState::Resolving));
    // What there is no link to does not wait.
    underlay.uplinks[0].is_up = false;
    model.set_underlay(underlay);
    let tables = model.compile();
    assert!(!matches!(tables.routes.lookup(ip("10.2.0.7").into()), Some(Route::OnLink(_))));
    assert!(model.peers().all(|peer| peer.state() == PeerState::Unreachable));
}

#[test]
fn a_change_of_one_node_or_neighbour_changes_its_prefixes_only() {
    let mut model = model_with(|_| ());
    let before = model.compile();
    let mut underlay = model.underlay.clone();
    underlay.neighbours.insert((NIC, ip("192.0.2.2")), MacAddr([2; 6]));
    model.set_underlay(underlay);
    let after = model.compile();
    let changed = |after: &TableSet, before: &TableSet| {
        let all = after.routes.changes_since(&before.routes);
        let moved = all.filter(|change| change.before != change.now);
        let mut prefixes: Vec<String> = moved.map(|change| change.prefix.to_string()).collect();
        prefixes.sort();
        prefixes
    };
    // Its IPv6 range goes by its IPv6 address, which has not moved.
    assert_eq!(changed(&after, &before), ["10.2.0.0/24", "192.0.2.2/32"]);
    model.apply(Object::Node(other("far", &["198.51.100.4"], &["10.3.0.0/24"])));
    let moved = model.compile();
    assert_eq!(changed(&moved, &after), ["10.3.0.0/24", "198.51.100.3/32", "198.51.100.4/32"]);
    model.delete(Kind::Node, &ObjectName::cluster_wide("far"));
    let gone = model.compile();
    assert_eq!(changed(&gone, &moved), ["10.3.0.0/24", "198.51.100.4/32"]);
    model.apply(Object::Node(other("far", &["198.51.100.4"], &["10.3.0.0/24"])));
    assert_eq!(changed(&model.compile(), &gone), ["10.3.0.0/24", "198.51.100.4/32"], "it is back");
}

#[test]
fn a_view_of_a_peer_says_what_decided_the_mode() {
    let mut model = model_with(|_| ());
    let mut told = other("told", &["192.0.2.5"], &["10.5.0.0/24"]);
    told.routing.mode = Some(RoutingMode::Vxlan);
    model.apply(Object::Node(told));
    model.compile();
    let views: Vec<_> = model.peers().map(|peer| (peer.tunnelled, peer.why, peer.state())).collect();
    assert_eq!(
        views,
        [
            (true, WhyMode::OtherLink, PeerState::Reached),
            (false, WhyMode::SameLink, PeerState::Reached),
            (true, WhyMode::Annotation, PeerState::Resolving),
        ]
    );
    let told = model.peers().last().unwrap();
    assert_eq!(told.vtep_mac, Some(MacAddr([2, 0x56, 192, 0, 2, 5])));
    assert_eq!((&told.awaited[..], told.mtu), (&[(NIC, ip("192.0.2.5"))][..], None));
    let configured = model_with(|config| config.routing.mode = RoutingMode::Native);
    let of_all = configured.peers().filter(|peer| peer.why == WhyMode::Configuration);
    assert_eq!(of_all.count(), 2);
}
