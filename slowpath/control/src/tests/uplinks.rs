//! Uplinks as the control thread sees them: opened and closed as interfaces come and go, steered, their neighbours kept known.

use super::bench::{Node, Outside};
use crate::uplink::kernel::{Hop, Interface, Neighbour, Route, Trust, View};
use millrace_api::RouteFilter;
use millrace_config::{Config, InterfaceName, PortName};
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::{Kind, Object, ObjectName, RoutingMode};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(super) const CONFIG: &str = "
uplinks: [{interface: eth0}]
cluster: {serviceCIDRs: [10.96.0.0/16]}
hostLeg: none
";

pub(super) fn node() -> Node {
    let config: Config = millrace_config::parse(Path::new("test"), CONFIG).unwrap();
    let mut node = Node::at(1, config, Arc::new(TempDir::new().unwrap()), Arc::<Outside>::default());
    node.control.set_synced();
    node.control.publish();
    node
}

fn eth0() -> InterfaceName {
    "eth0".parse().unwrap()
}

pub(super) fn port() -> PortName {
    "eth0".parse().unwrap()
}

/// `eth0` under this number, with a default route.
pub(super) fn view(index: u32) -> View {
    let interface = Interface {
        index,
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        mtu: 1400,
        is_up: true,
        addresses: vec!["192.0.2.1/24".parse().unwrap()],
    };
    let hop = Hop { interface: eth0(), gateway: Some("192.0.2.254".parse().unwrap()) };
    let route = Route { to: "0.0.0.0/0".parse().unwrap(), metric: 0, hops: vec![hop], refuses: None };
    View { interfaces: [(eth0(), interface)].into(), routes: vec![route], neighbours: [].into() }
}

pub(super) fn id(node: &Node) -> Option<PortId> {
    node.control.ports.get(&port()).map(|port| port.id)
}

pub(super) fn told(node: &mut Node, view: View) {
    node.control.set_kernel_view(view);
    node.control.publish();
}

pub(super) fn errors(node: &Node) -> Vec<String> {
    node.control.object_errors().errors.into_iter().map(|error| error.reason).collect()
}

pub(super) fn claims(node: &Node) -> Vec<String> {
    let claims = node.outside.claims.lock().unwrap();
    claims.values().next().into_iter().flatten().cloned().collect()
}

#[test]
fn an_uplink_is_open_while_its_interface_is_there_and_as_large_as_it() {
    let mut node = node();
    assert_eq!(id(&node), None);
    told(&mut node, View::default());
    assert!(errors(&node)[0].contains("eth0"), "{:?}", errors(&node));
    told(&mut node, view(3));
    let first = id(&node).unwrap();
    assert_eq!(node.outside.mtus.lock().unwrap()[&first], 1400);
    assert!(errors(&node).is_empty());

    let mut other = view(3);
    other.interfaces.get_mut(&eth0()).unwrap().mtu = 1300;
    told(&mut node, other);
    assert_eq!((id(&node), node.control.ports[&port()].mtu), (Some(first), 1300));

    told(&mut node, view(4));
    assert_ne!(id(&node).unwrap(), first, "another interface of that name is another port");
    told(&mut node, View::default());
    assert_eq!(id(&node), None);
    node.end();
}

#[test]
fn an_uplink_whose_mtu_outgrows_its_sockets_is_opened_anew() {
    let mut node = node();
    told(&mut node, view(3));
    let (first, before) = (id(&node).unwrap(), claims(&node));
    *node.outside.most_mtu.lock().unwrap() = Some(1774);
    let with_mtu = |mtu| {
        let mut view = view(3);
        view.interfaces.get_mut(&eth0()).unwrap().mtu = mtu;
        view
    };
    told(&mut node, with_mtu(1774));
    assert_eq!((id(&node), node.control.ports[&port()].mtu), (Some(first), 1774));
    told(&mut node, with_mtu(9000));
    let second = id(&node).unwrap();
    assert_ne!(second, first);
    assert_eq!(node.outside.mtus.lock().unwrap()[&second], 9000);
    assert_eq!(claims(&node), before);
    // It was opened for it: nothing is asked again.
    told(&mut node, with_mtu(9000));
    assert_eq!(id(&node), Some(second));
    node.end();
}

#[test]
fn what_is_claimed_follows_the_tables_and_is_claimed_again_on_another_interface() {
    let mut node = node();
    told(&mut node, view(3));
    assert!(claims(&node).iter().any(|claim| claim.contains("10.96.0.0/16")), "{:?}", claims(&node));
    let before = claims(&node);
    node.control.model().apply(super::host_leg::object("node", &["192.0.2.1"], &["10.244.1.0/24"]));
    node.control.publish();
    assert!(claims(&node).iter().any(|claim| claim.contains("10.244.1.0/24")), "{:?}", claims(&node));
    let with_range = claims(&node);
    told(&mut node, view(4));
    assert_eq!(claims(&node), with_range);
    node.control.model().delete(Kind::Node, &ObjectName::cluster_wide("node"));
    node.control.publish();
    assert_eq!(claims(&node), before);
    node.end();
}

#[test]
fn an_uplink_that_is_opened_after_the_leg_leaves_it_alone() {
    let config = CONFIG.replace("hostLeg: none", "");
    let config: Config = millrace_config::parse(Path::new("test"), &config).unwrap();
    let mut node = Node::at(1, config, Arc::new(TempDir::new().unwrap()), Arc::<Outside>::default());
    node.outside.host.lock().unwrap().addresses = vec!["192.0.2.1".parse().unwrap()];
    node.control.set_synced();
    node.control.publish();
    let leg = node.control.leg_id();
    assert!(leg.is_some());
    told(&mut node, view(3));
    assert!(id(&node).is_some());
    assert_eq!(node.control.leg_id(), leg);
    assert!(errors(&node).is_empty(), "{:?}", errors(&node));
    node.end();
}

#[test]
fn an_uplink_that_cannot_be_steered_is_closed_and_tried_again() {
    let mut node = node();
    node.outside.steering_fails.store(1, Ordering::SeqCst);
    told(&mut node, view(3));
    assert_eq!(id(&node), None);
    assert!(errors(&node)[0].contains("steering refused"), "{:?}", errors(&node));
    node.outside.steering_fails.store(0, Ordering::SeqCst);
    node.control.tend_uplinks(Instant::now() + Duration::from_secs(2));
    assert!(id(&node).is_some());

    node.outside.steering_fails.store(1, Ordering::SeqCst);
    node.control.model().apply(super::host_leg::object("node", &["192.0.2.1"], &["10.244.1.0/24"]));
    node.control.publish();
    assert_eq!(id(&node), None);
    node.outside.steering_fails.store(0, Ordering::SeqCst);
    node.control.tend_uplinks(Instant::now() + Duration::from_secs(60));
    assert!(claims(&node).iter().any(|claim| claim.contains("10.244.1.0/24")), "{:?}", claims(&node));
    node.end();
}

#[test]
fn what_an_uplink_has_no_room_for_is_told_while_it_serves_on() {
    let mut node = node();
    told(&mut node, view(3));
    let open = id(&node);
    *node.outside.unclaimed.lock().unwrap() = Some("its map is full".to_owned());
    node.control.publish();
    assert_eq!(id(&node), open);
    assert_eq!(errors(&node), ["its map is full"]);
    assert_eq!(node.control.status().source.errors, 1);
    *node.outside.unclaimed.lock().unwrap() = None;
    assert!(errors(&node).is_empty());
    node.end();
}

#[test]
fn routes_of_the_kernels_that_refuse_are_in_the_tables() {
    use millrace_model::underlay::Refuses;
    let mut node = node();
    let mut told_view = view(3);
    for (to, how) in [
        ("203.0.113.0/24", Refuses::Blackhole),
        ("203.0.113.64/26", Refuses::Unreachable),
        ("203.0.113.128/26", Refuses::Prohibit),
        ("203.0.113.192/26", Refuses::Throw),
    ] {
        let to = to.parse().unwrap();
        told_view.routes.push(Route { to, metric: 0, hops: Vec::new(), refuses: Some(how) });
    }
    told(&mut node, told_view);
    for (to, kind) in [
        ("203.0.113.1", "blackhole"),
        ("203.0.113.65", "unreachable"),
        ("203.0.113.129", "prohibit"),
        ("203.0.113.193", "unreachable"),
        ("203.0.114.1", "waiting"),
    ] {
        let filter = RouteFilter { to: Some(to.parse().unwrap()) };
        assert_eq!(node.control.list_routes(&filter).routes[0].kind, kind, "{to}");
    }
    node.end();
}

#[test]
fn next_hops_and_those_that_packets_wait_for_are_looked_for() {
    let mut node = node();
    told(&mut node, view(3));
    let solicited = |node: &Node| std::mem::take(&mut node.outside.host.lock().unwrap().solicited);
    assert_eq!(solicited(&node), [(3, "192.0.2.254".parse().unwrap())]);
    let uplink = id(&node).unwrap();
    node.control.report_unresolved([
        (uplink, "192.0.2.7".parse().unwrap()),
        (PortId(99), "192.0.2.8".parse().unwrap()),
    ]);
    assert_eq!(solicited(&node), [(3, "192.0.2.7".parse().unwrap())]);
    let mut known = view(3);
    for address in ["192.0.2.254", "192.0.2.7"] {
        let neighbour = Neighbour { mac: Some(MacAddr([2; 6])), trust: Trust::Permanent };
        known.neighbours.insert((eth0(), address.parse().unwrap()), neighbour);
    }
    told(&mut node, known);
    node.control.tend_neighbours(Instant::now() + Duration::from_secs(100));
    assert!(solicited(&node).is_empty());
    node.end();
}

const TAKING: &str = "
uplinks: [{interface: eth0, kind: dpdk, dpdk: {devargs: 'net_null9'}}]
cluster: {serviceCIDRs: [10.96.0.0/16]}
";

/// A node whose NIC is to be taken; its leg is there if the host has an address.
fn taking() -> Node {
    let config: Config = millrace_config::parse(Path::new("test"), TAKING).unwrap();
    let mut node = Node::at(1, config, Arc::new(TempDir::new().unwrap()), Arc::<Outside>::default());
    node.control.set_synced();
    node.control.publish();
    node
}

fn leg() -> PortName {
    "millrace0".parse().unwrap()
}

#[test]
fn a_nic_is_taken_once_the_host_can_speak_by_its_leg_which_then_looks_like_it() {
    let mut node = taking();
    told(&mut node, view(3));
    assert_eq!(id(&node), None);
    assert!(errors(&node)[0].contains("leg"), "{:?}", errors(&node));
    node.outside.host.lock().unwrap().addresses = vec!["192.0.2.1".parse().unwrap()];
    let soon = Instant::now() + Duration::from_secs(2);
    node.control.tend_host_leg(soon);
    node.control.tend_uplinks(soon);
    let uplink = id(&node).unwrap();
    let port = &node.control.ports[&leg()];
    assert_eq!((port.mtu, port.config.peer_mac().octets()), (1400, [2, 0, 0, 0, 0, 1]));

    // What the kernel now has is at the leg.
    let mut moved = view(3);
    let mut voice = moved.interfaces[&eth0()].clone();
    moved.interfaces.get_mut(&eth0()).unwrap().addresses.clear();
    voice.index = 9;
    moved.interfaces.insert("millrace0".parse().unwrap(), voice);
    moved.routes[0].hops[0].interface = "millrace0".parse().unwrap();
    told(&mut node, moved.clone());
    let leg_id = node.control.ports[&leg()].id;
    let tables = node.control.current.clone();
    assert_eq!(tables.ports.get(uplink).unwrap().companion, Some(leg_id));
    assert_eq!(tables.ports.get(uplink).unwrap().own_mac, MacAddr([2, 0, 0, 0, 0, 1]));
    assert_eq!(tables.ports.get(leg_id).unwrap().companion, Some(uplink));
    let solicited = node.outside.host.lock().unwrap().solicited.clone();
    assert!(solicited.contains(&(9, "192.0.2.254".parse().unwrap())), "{solicited:?}");
    assert!(node.outside.followed.lock().unwrap().is_empty());

    // Somebody gives the NIC an address.
    moved.interfaces.get_mut(&eth0()).unwrap().addresses = vec!["198.51.100.1/24".parse().unwrap()];
    told(&mut node, moved);
    assert_eq!(node.outside.followed.lock().unwrap()[0].interface, eth0());
    node.end();
}

#[test]
fn a_leg_that_the_host_speaks_through_stays_and_who_removes_it_gives_the_nic_back_first() {
    let mut node = taking();
    node.outside.host.lock().unwrap().addresses = vec!["192.0.2.1".parse().unwrap()];
    node.control.tend_host_leg(Instant::now() + Duration::from_secs(2));
    told(&mut node, view(3));
    assert!(id(&node).is_some());
    // For a moment the host has no address at all.
    node.outside.host.lock().unwrap().addresses.clear();
    node.control.tend_host_leg(Instant::now() + Duration::from_secs(4));
    assert!(node.control.ports.contains_key(&leg()));
    node.control.remove_port(&leg()).unwrap();
    assert_eq!(id(&node), None);
    node.end();
}

#[test]
fn a_nic_without_an_address_is_not_taken_yet() {
    let mut node = taking();
    node.outside.host.lock().unwrap().addresses = vec!["192.0.2.1".parse().unwrap()];
    node.control.tend_host_leg(Instant::now() + Duration::from_secs(2));
    let mut bare = view(3);
    bare.interfaces.get_mut(&eth0()).unwrap().addresses.clear();
    told(&mut node, bare);
    assert!(errors(&node)[0].contains("no address yet"), "{:?}", errors(&node));
    told(&mut node, view(3));
    assert!(id(&node).is_some());
    node.end();
}

/// This node with pods, one on its link that answers, and one behind a router that does not.
fn with_peers(mut node: Node) -> Node {
    let object = super::host_leg::object;
    node.control.model().apply(object("node", &["192.0.2.1"], &["10.244.1.0/24"]));
    node.control.model().apply(object("near", &["192.0.2.2"], &["10.244.2.0/24"]));
    node.control.model().apply(object("far", &["198.51.100.3"], &["10.244.3.0/24"]));
    let mut known = view(3);
    let neighbour = Neighbour { mac: Some(MacAddr([2, 0, 0, 0, 0, 2])), trust: Trust::Confirmed };
    known.neighbours.insert((eth0(), "192.0.2.2".parse().unwrap()), neighbour);
    told(&mut node, known);
    node
}

#[test]
fn other_nodes_are_told_with_their_way_and_routes_with_what_they_wait_for() {
    let node = with_peers(node());
    let peers = node.control.list_peers().peers;
    let told: Vec<_> =
        peers.iter().map(|peer| [&*peer.name, &*peer.mode, &*peer.reason, &*peer.state]).collect();
    assert_eq!(
        told,
        [["far", "vxlan", "other-link", "resolving"], ["near", "native", "same-link", "reached"]]
    );
    assert_eq!(peers[0].vtep_mac.as_deref(), Some("02:56:c6:33:64:03"));
    assert_eq!(peers[0].awaited[0].address.as_deref(), Some("192.0.2.254"));
    assert_eq!(peers[1].next_hops[0].mac.as_deref(), Some("02:00:00:00:00:02"));
    let route = |to: &str| {
        let filter = RouteFilter { to: Some(to.parse().unwrap()) };
        let mut routes = node.control.list_routes(&filter).routes;
        assert_eq!(routes.len(), 1, "{routes:?}");
        let route = routes.remove(0);
        (route.prefix, route.kind, route.next_hops.first().and_then(|hop| hop.address.clone()))
    };
    let waiting = |prefix: &str| (prefix.to_owned(), "waiting".to_owned(), Some("192.0.2.254".to_owned()));
    assert_eq!(route("10.244.3.9"), waiting("10.244.3.0/24"));
    assert_eq!(route("203.0.113.1"), waiting("0.0.0.0/0"));
    assert_eq!(route("10.244.2.9").1, "port");
    assert_eq!(route("192.0.2.77"), ("192.0.2.0/24".to_owned(), "on-link".to_owned(), None));
    assert_eq!(route("10.244.1.9").1, "unreachable", "no pod of this node has it");
    assert!(node.control.list_routes(&RouteFilter::default()).routes.len() > 5);
    let status = node.control.status();
    assert_eq!((status.uplinks, status.uplinks_up, status.peers, status.peers_reached), (1, 1, 2, 1));
    let port = node.control.show_port(&port()).unwrap();
    assert_eq!((&*port.mac, &*port.addresses), ("02:00:00:00:00:01", &["192.0.2.1/24".to_owned()][..]));
    assert_eq!(node.control.count_peers()[&("vxlan", "resolving")], 1);
    node.end();
}

#[test]
fn nodes_and_routes_that_cannot_be_used_are_said_and_counted() {
    let routes = "routing: {routes: [{to: 10.8.0.0/16, via: [192.0.2.9, 203.0.113.1]}]}";
    let config = millrace_config::parse(Path::new("test"), &format!("{CONFIG}{routes}\n")).unwrap();
    let mut node = Node::at(1, config, Arc::new(TempDir::new().unwrap()), Arc::<Outside>::default());
    node.control.set_synced();
    node.control.publish();
    let mut node = with_peers(node);
    let far = "router 203.0.113.1 is on the link of no uplink: it is left out";
    assert_eq!(errors(&node), [far]);
    node.control.model().apply(super::host_leg::object("near", &["192.0.2.2"], &["10.244.1.0/25"]));
    node.control.publish();
    let list = node.control.object_errors().errors;
    assert_eq!(list.len(), 2, "{list:?}");
    assert_eq!(list[0].object.as_deref(), Some("Node near"));
    assert!(list[0].reason.contains("10.244.1.0/25") && list[0].reason.contains("node"), "{list:?}");
    assert_eq!(node.control.status().source.errors, 2);
    node.end();
}

#[test]
fn packets_that_wait_for_a_router_have_the_router_looked_for_and_not_their_destination() {
    let mut node = with_peers(node());
    let uplink = id(&node).unwrap();
    let solicited = |node: &Node| std::mem::take(&mut node.outside.host.lock().unwrap().solicited);
    solicited(&node);
    node.control.report_unresolved([(uplink, "10.244.3.9".parse().unwrap())]);
    assert!(solicited(&node).is_empty(), "it has been looked for just now");
    node.control.tend_neighbours(Instant::now() + Duration::from_secs(2));
    assert!(solicited(&node).iter().all(|(_, address)| address.to_string() == "192.0.2.254"));
    node.end();
}

#[test]
fn ports_are_as_large_as_what_fits_through_to_every_node() {
    for (mode, annotated, mtu) in [("auto", false, 1350), ("native", false, 1400), ("native", true, 1350)] {
        let text = format!("{CONFIG}routing: {{mode: {mode}}}\n");
        let config = millrace_config::parse(Path::new("test"), &text).unwrap();
        let mut node = Node::at(1, config, Arc::new(TempDir::new().unwrap()), Arc::<Outside>::default());
        node.control.set_synced();
        node.control.publish();
        let mut node = with_peers(node);
        if annotated {
            let Object::Node(mut far) = super::host_leg::object("far", &["198.51.100.3"], &["10.244.3.0/24"])
            else {
                panic!("no node")
            };
            far.routing.mode = Some(RoutingMode::Vxlan);
            node.control.model().apply(Object::Node(far));
            node.control.publish();
        }
        // The bench's model is in mode `auto`, whatever is configured: without a tunnel, nobody is far.
        if mode == "native" && !annotated {
            node.control.model().delete(Kind::Node, &ObjectName::cluster_wide("far"));
            node.control.publish();
        }
        assert_eq!(node.control.default_mtu().get(), mtu, "{mode}, {annotated}");
        node.end();
    }
}
