//! The host's leg: when it comes, what it owns, where it leads, when it goes.

use super::bench::{Node, port};
use millrace_config::PortRole;
use millrace_fastpath::port::PortId;
use millrace_model::{HostPort, Kind, Node as NodeObject, Object, ObjectName, Transport};
use std::net::IpAddr;
use std::sync::atomic::Ordering;
use std::time::Instant;

const LEG: &str = "millrace0";

fn node(ranges: &[&str]) -> Node {
    let mut node = Node::new(1);
    node.control.config.cluster.service_cidrs = ranges.iter().map(|range| range.parse().unwrap()).collect();
    set_addresses(&node, &["192.0.2.1", "192.0.2.9", "2001:db8::1"]);
    node
}

fn set_addresses(node: &Node, addresses: &[&str]) {
    node.outside.host.lock().unwrap().addresses = addresses.iter().map(|text| ip(text)).collect();
}

pub(super) fn object(name: &str, addresses: &[&str], ranges: &[&str]) -> Object {
    Object::Node(NodeObject {
        name: ObjectName::cluster_wide(name),
        labels: Default::default(),
        zone: None,
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_cidrs: ranges.iter().map(|range| range.parse().unwrap()).collect(),
        routing: Default::default(),
        leaving: false,
        network_unavailable: None,
    })
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn sync(node: &mut Node) {
    node.control.set_synced();
    look(node);
}

/// Publishes, and has the leg looked at whatever the time.
fn look(node: &mut Node) {
    node.control.host_leg.hurry();
    node.control.publish();
}

/// What the leg owns; `None` when there is none.
fn owned(node: &Node) -> Option<Vec<String>> {
    let ports = node.control.list_ports().ports;
    let port = ports.into_iter().find(|port| port.config.name.as_str() == LEG)?;
    assert_eq!((port.config.role(), port.config.spoof_check), (PortRole::Host, false));
    Some(port.config.addresses.iter().map(ToString::to_string).collect())
}

/// Where the host was led last: addresses to send from, and ranges.
fn led(node: &Node) -> (Vec<String>, Vec<String>) {
    let host = node.outside.host.lock().unwrap();
    let led = host.led.as_ref().unwrap();
    (
        led.sources.iter().map(ToString::to_string).collect(),
        led.ranges.iter().map(ToString::to_string).collect(),
    )
}

fn errors(node: &Node) -> Vec<String> {
    let errors = node.control.object_errors().errors;
    assert_eq!(node.control.status().source.errors, errors.len() as u64);
    errors.into_iter().map(|error| error.reason).collect()
}

#[test]
fn it_comes_when_the_objects_are_known_and_owns_what_the_host_sends_from() {
    let mut node = node(&["10.96.0.0/16", "fd00:96::/64"]);
    look(&mut node);
    assert_eq!(owned(&node), None, "the objects are not known yet");
    sync(&mut node);
    assert_eq!(owned(&node).unwrap(), ["192.0.2.1/32", "2001:db8::1/128"]);
    assert_eq!(led(&node).1, ["10.96.0.0/16", "fd00:96::/64"]);
    // Masquerading and NodePorts know these addresses, too.
    let masquerade = node.control.current.masquerade.clone();
    assert_eq!(
        (masquerade.ipv4.map(IpAddr::V4), masquerade.ipv6.map(IpAddr::V6)),
        (Some(ip("192.0.2.1")), Some(ip("2001:db8::1")))
    );
    assert!(errors(&node).is_empty());
    node.end();
}

/// What the leg was told to take of what the host sends to itself.
fn taken(node: &Node) -> Vec<String> {
    let leg = node.control.leg_id().unwrap();
    node.outside.claims.lock().unwrap()[&leg].iter().cloned().collect()
}

#[test]
fn it_takes_what_the_host_sends_to_frontends_at_its_own_addresses() {
    let mut node = node(&["10.96.0.0/16"]);
    let to = |host_ip: Option<&str>| HostPort {
        host_ip: host_ip.map(ip),
        host_port: 8080,
        container_port: 80,
        protocol: Transport::Tcp,
    };
    node.control.model().set_host_ports(PortId(7), &[ip("10.1.0.7")], vec![to(None)]);
    sync(&mut node);
    let [at_node, at_localhost] =
        ["192.0.2.1", "127.0.0.1"].map(|at| format!("Frontend {{ address: {at}, protocol: 6, port: 8080 }}"));
    assert_eq!(taken(&node), [at_localhost.clone(), at_node]);
    node.control.model().set_host_ports(PortId(7), &[ip("10.1.0.7")], vec![to(Some("127.0.0.1"))]);
    // What it could not be told is reported, and told again.
    node.outside.steering_fails.store(1, Ordering::SeqCst);
    look(&mut node);
    assert!(errors(&node)[0].contains("steering refused"), "{:?}", errors(&node));
    node.outside.steering_fails.store(0, Ordering::SeqCst);
    look(&mut node);
    assert_eq!(taken(&node), std::slice::from_ref(&at_localhost));
    assert!(errors(&node).is_empty());
    // A new leg is told everything.
    set_addresses(&node, &[]);
    look(&mut node);
    assert_eq!(owned(&node), None);
    set_addresses(&node, &["192.0.2.1"]);
    look(&mut node);
    assert_eq!(taken(&node), [at_localhost]);
    node.end();
}

#[test]
fn without_anything_to_lead_to_there_is_none() {
    let mut node = node(&[]);
    sync(&mut node);
    assert_eq!(owned(&node), None);
    node.control.model().apply(object("other", &[], &["10.1.0.0/24"]));
    node.control.publish();
    assert_eq!(led(&node).1, ["10.1.0.0/24"]);
    node.control.model().delete(Kind::Node, &ObjectName::cluster_wide("other"));
    node.control.publish();
    assert_eq!(owned(&node), None);
    node.end();
}

#[test]
fn it_owns_those_of_the_nodes_addresses_that_the_host_has_and_follows_both() {
    let mut node = node(&["10.96.0.0/16"]);
    sync(&mut node);
    // An ExternalIP that is translated elsewhere.
    node.control.model().apply(object(
        "node",
        &["192.0.2.9", "203.0.113.1"],
        &["10.96.4.0/24", "10.1.0.0/24"],
    ));
    node.control.publish();
    assert_eq!(owned(&node).unwrap(), ["192.0.2.9/32"]);
    assert_eq!(led(&node), (vec!["192.0.2.9".into()], vec!["10.1.0.0/24".into(), "10.96.0.0/16".into()]));
    set_addresses(&node, &["203.0.113.1", "192.0.2.9"]);
    look(&mut node);
    assert_eq!(owned(&node).unwrap(), ["192.0.2.9/32", "203.0.113.1/32"]);
    set_addresses(&node, &["198.51.100.1"]);
    look(&mut node);
    assert_eq!(owned(&node), None);
    assert!(errors(&node)[0].contains("192.0.2.9"), "{:?}", errors(&node));
    node.end();
}

#[test]
fn routes_that_vanish_are_set_again_and_those_in_the_way_are_reported() {
    let mut node = node(&["10.96.0.0/16", "fd00:96::/64"]);
    sync(&mut node);
    node.outside.host.lock().unwrap().led = None;
    look(&mut node);
    assert_eq!(led(&node).1.len(), 2);
    node.outside.host.lock().unwrap().routes = vec!["10.0.0.0/8".parse().unwrap()];
    node.control.model().apply(object("other", &[], &["172.16.0.0/24"]));
    node.control.publish();
    let told = errors(&node);
    assert!(
        told.len() == 1 && told[0].contains("10.0.0.0/8") && told[0].contains("10.96.0.0/16"),
        "{told:?}"
    );
    node.outside.host.lock().unwrap().routes.clear();
    look(&mut node);
    assert!(errors(&node).is_empty());
    node.end();
}

#[test]
fn another_port_of_the_host_takes_its_place_and_who_removes_it_is_heard() {
    let mut node = node(&["10.96.0.0/16"]);
    sync(&mut node);
    assert!(owned(&node).is_some());
    let mut other = port(7, 1);
    other.role = Some(PortRole::Host);
    node.control.add_port(other.clone()).unwrap();
    look(&mut node);
    assert_eq!(owned(&node), None);
    node.control.remove_port(&other.name).unwrap();
    look(&mut node);
    assert!(owned(&node).is_some());
    node.control.remove_port(&LEG.parse().unwrap()).unwrap();
    look(&mut node);
    node.control.tend_host_leg(Instant::now());
    assert_eq!(owned(&node), None);
    node.end();
}
