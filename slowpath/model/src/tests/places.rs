//! Ports, pods and nodes: who has which address.

use super::*;

#[test]
fn a_port_has_its_own_addresses_and_those_of_its_pod() {
    let mut model = model();
    model.apply_port(port_spec(1, &["192.0.2.0/24"], Some("a")));
    assert_eq!(way(&model.compile(), "10.0.0.1"), None);
    model.apply(Object::Pod(pod("a", &["10.0.0.1", "fd00::1"])));
    let tables = model.compile();
    assert_eq!([way(&tables, "10.0.0.1"), way(&tables, "fd00::1"), way(&tables, "192.0.2.9")], [Some(1); 3]);
    model.apply(Object::Pod(Pod { phase: PodPhase::Succeeded, ..pod("a", &["10.0.0.1"]) }));
    assert_eq!(way(&model.compile(), "10.0.0.1"), None);
    model.apply(Object::Pod(Pod { host_network: true, ..pod("a", &["10.0.0.1"]) }));
    assert_eq!(way(&model.compile(), "10.0.0.1"), None);
    assert_eq!(model.port_prefixes(PortId(1)).len(), 1);
    model.delete_port(PortId(1));
    let tables = model.compile();
    assert_eq!(way(&tables, "192.0.2.9"), None);
    assert!(tables.ports.get(PortId(1)).is_none());
}

#[test]
fn a_contested_address_stays_with_the_older_port_and_is_inherited() {
    let mut model = model();
    model.apply_port(port_spec(1, &["10.0.0.1/32"], None));
    model.apply_port(port_spec(2, &["10.0.0.1/32"], None));
    assert_eq!(way(&model.compile(), "10.0.0.1"), Some(1));
    model.delete_port(PortId(1));
    assert_eq!(way(&model.compile(), "10.0.0.1"), Some(2));
}

#[test]
fn the_gateway_and_this_node_are_local() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1", "2001:db8::1"]));
    let tables = model.compile();
    for address in ["169.254.1.1", "fe80::1", "192.0.2.1", "2001:db8::1"] {
        assert_eq!(way(&tables, address), Some(u16::MAX), "{address}");
    }
    model.delete(Kind::Node, &ObjectName::cluster_wide(NODE));
    let tables = model.compile();
    assert_eq!((way(&tables, "192.0.2.1"), way(&tables, "169.254.1.1")), (None, Some(u16::MAX)));
}

#[test]
fn an_address_of_this_node_belongs_to_the_port_that_claims_it() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    assert_eq!(way(&model.compile(), "192.0.2.1"), Some(u16::MAX));
    let host = PortSpec { role: PortRole::Host, spoof_check: false, ..port_spec(3, &["192.0.2.1/32"], None) };
    model.apply_port(host);
    let tables = model.compile();
    assert_eq!(way(&tables, "192.0.2.1"), Some(3));
    assert_eq!(tables.ports.get(PortId(3)).unwrap().role, PortRole::Host);
    model.delete_port(PortId(3));
    assert_eq!(way(&model.compile(), "192.0.2.1"), Some(u16::MAX));
}

#[test]
fn addresses_are_assumed_only_while_no_object_names_them() {
    let mut model = model();
    let assumed = vec![ip("192.0.2.7"), ip("2001:db8::7")];
    model.assume_node_addresses(assumed.clone());
    assert!(model.has_moved() && model.node_addresses().is_empty());
    let tables = model.compile();
    assert_eq!((way(&tables, "192.0.2.7"), way(&tables, "2001:db8::7")), (Some(u16::MAX), Some(u16::MAX)));
    assert_eq!(tables.masquerade.ipv4.map(IpAddr::V4), Some(assumed[0]));
    model.assume_node_addresses(assumed.clone());
    assert!(!model.has_moved());
    model.apply(node(None, &["192.0.2.1"]));
    assert_eq!(model.node_addresses(), [ip("192.0.2.1")]);
    let tables = model.compile();
    assert_eq!((way(&tables, "192.0.2.7"), way(&tables, "192.0.2.1")), (None, Some(u16::MAX)));
    model.assume_node_addresses(vec![ip("192.0.2.8")]);
    assert!(!model.has_moved());
    model.delete(Kind::Node, &ObjectName::cluster_wide(NODE));
    assert_eq!(way(&model.compile(), "192.0.2.8"), Some(u16::MAX));
}

#[test]
fn toward_its_own_host_the_node_has_the_first_address_of_its_range() {
    let mut model = model();
    assert_eq!(model.compile().masquerade.toward_host, (None, None));
    let ranges = ["10.7.0.0/24", "fd00:7::/64"].map(|range| range.parse().unwrap()).to_vec();
    let Object::Node(mut here) = node(None, &["192.0.2.1"]) else { unreachable!() };
    here.pod_cidrs = ranges.clone();
    model.apply(Object::Node(here));
    let spare = (Some("10.7.0.1".parse().unwrap()), Some("fd00:7::1".parse().unwrap()));
    assert_eq!(model.compile().masquerade.toward_host, spare);
    assert_eq!(model.pod_ranges().collect::<Vec<_>>(), ranges);
}
