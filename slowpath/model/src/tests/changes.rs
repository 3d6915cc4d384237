//! Changes one by one, and all at once.

use super::*;
use std::sync::Arc;

#[test]
fn a_reset_leaves_only_what_is_in_the_list() {
    let mut model = model();
    model.apply(Object::Service(service(&["10.96.0.1"])));
    let other = Service { name: name("other"), ..service(&["10.96.0.2"]) };
    model.reset(Kind::Service, vec![Object::Service(other), Object::Pod(pod("x", &[]))]);
    let tables = model.compile();
    assert!(frontend(&tables, "10.96.0.1", 6, 80).is_none());
    assert!(frontend(&tables, "10.96.0.2", 6, 80).is_some());
    assert_eq!(model.objects(), 1);
}

#[test]
fn a_service_port_that_comes_back_has_its_id_again_also_after_a_restart() {
    let id = |model: &mut Model| frontend(&model.compile(), "10.96.0.1", 6, 80).unwrap().service;
    let mut before = model();
    before.apply(Object::Service(service(&["10.96.0.1"])));
    let first = id(&mut before);
    before.delete(Kind::Service, &name("web"));
    before.compile();
    assert_eq!(before.service_name(first), None);
    before.apply(Object::Service(service(&["10.96.0.1"])));
    assert_eq!(id(&mut before), first);
    let mut after = model();
    let other = Service { name: name("other"), ..service(&["10.96.0.2"]) };
    after.apply(Object::Service(other));
    after.compile();
    after.apply(Object::Service(service(&["10.96.0.1"])));
    assert_eq!(id(&mut after), first);
}

#[test]
fn a_renamed_port_is_another_one() {
    let mut model = model();
    let mut web = service(&["10.96.0.1"]);
    model.apply(Object::Service(web.clone()));
    let id = |model: &mut Model| frontend(&model.compile(), "10.96.0.1", 6, 80).unwrap().service;
    let first = id(&mut model);
    web.ports[0].name = "web".into();
    model.apply(Object::Service(web));
    let second = id(&mut model);
    assert_ne!(first, second);
    assert_eq!(model.service_name(first), None);
    assert_eq!(model.service_name(second).unwrap().to_string(), "ns/web:web");
}

#[test]
fn equal_sets_of_a_service_are_one_and_stay_the_same_while_they_do_not_change() {
    let mut model = model();
    let mut web = Service { external_ips: vec![ip("203.0.113.5")], ..service(&["10.96.0.1"]) };
    web.ports.push(port("metrics", Transport::Tcp, 90));
    model.apply(Object::Service(web.clone()));
    let mut both = slice("a", vec![endpoint("10.0.0.1", ALL), endpoint("10.0.0.2", ALL)]);
    model.apply(Object::EndpointSlice(both.clone()));
    let set = |tables: &TableSet, address| {
        let frontend = frontend(tables, address, 6, 80).unwrap();
        assert!(Arc::ptr_eq(&frontend.inside.backends, &frontend.outside.backends));
        Arc::clone(&frontend.inside.backends)
    };
    let first = model.compile();
    assert!(Arc::ptr_eq(&set(&first, "10.96.0.1"), &set(&first, "203.0.113.5")));
    both.ports.push(SlicePort { name: "metrics".into(), protocol: Transport::Tcp, port: 9090 });
    model.apply(Object::EndpointSlice(both));
    web.affinity_seconds = Some(10);
    model.apply(Object::Service(web));
    let second = model.compile();
    assert_eq!(frontend(&second, "10.96.0.1", 6, 80).unwrap().affinity, Some(10));
    assert_eq!(frontend(&second, "10.96.0.1", 6, 90).unwrap().inside.backends.backends().len(), 2);
    assert!(Arc::ptr_eq(&set(&first, "10.96.0.1"), &set(&second, "203.0.113.5")), "the other port changed");
    model.apply(Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.1", ALL)])));
    assert!(!Arc::ptr_eq(&set(&first, "10.96.0.1"), &set(&model.compile(), "10.96.0.1")));
}

#[test]
fn masquerading_takes_the_primary_addresses_and_the_configured_ports() {
    let config =
        ModelConfig { masquerade_ports: (50_000, 50_999), reset_vanished: true, ..model().config.clone() };
    let mut model = Model::new(config);
    let tables = model.compile();
    let ports = |tables: &TableSet| (tables.masquerade.ports.first, tables.masquerade.ports.last);
    assert_eq!((tables.masquerade.ipv4, tables.masquerade.ipv6), (None, None));
    assert_eq!(ports(&tables), (50_000, 50_999));
    assert!(tables.reset_vanished);
    model.apply(node(None, &["2001:db8::1", "192.0.2.1", "192.0.2.2", "2001:db8::2"]));
    let tables = model.compile();
    let addresses = (tables.masquerade.ipv4.map(IpAddr::V4), tables.masquerade.ipv6.map(IpAddr::V6));
    assert_eq!(addresses, (Some(ip("192.0.2.1")), Some(ip("2001:db8::1"))));
    assert_eq!(ports(&tables), (50_000, 50_999));
    model.delete(Kind::Node, &ObjectName::cluster_wide(NODE));
    assert_eq!(model.compile().masquerade.ipv4, None);
}

#[test]
fn pods_are_where_the_configuration_and_the_nodes_say() {
    let config = ModelConfig { pod_ranges: vec!["10.9.0.0/16".parse().unwrap()], ..model().config.clone() };
    let mut model = Model::new(config);
    let holds = |model: &mut Model, address| model.compile().pod_ranges.contains(ip(address).into());
    assert!(holds(&mut model, "10.9.1.1"));
    let there = |ranges: &[&str]| {
        Object::Node(Node {
            name: ObjectName::cluster_wide("there"),
            labels: Default::default(),
            zone: None,
            addresses: vec![],
            pod_cidrs: ranges.iter().map(|text| text.parse().unwrap()).collect(),
            routing: Default::default(),
            leaving: false,
            network_unavailable: None,
        })
    };
    model.apply(there(&["10.1.0.0/24", "fd01::/64"]));
    assert_eq!(["10.1.0.7", "fd01::7", "10.2.0.7"].map(|ip| holds(&mut model, ip)), [true, true, false]);
    let before = model.compile();
    model.apply(there(&["10.2.0.0/24"]));
    assert_eq!(["10.1.0.7", "10.9.1.1", "10.2.0.7"].map(|ip| holds(&mut model, ip)), [false, true, true]);
    assert_eq!(model.compile().epoch, before.epoch, "flows keep their source");
    model.delete(Kind::Node, &ObjectName::cluster_wide("there"));
    assert!(!holds(&mut model, "10.2.0.7"));
    let mut nothing = super::model();
    assert!(nothing.compile().pod_ranges.is_empty());
}

#[test]
fn policies_are_known_and_no_table_depends_on_them() {
    let policy = |name: &str| {
        Object::NetworkPolicy(NetworkPolicy {
            name: ObjectName::new("demo", name),
            pods: Selector::default(),
            ingress: Some([].into()),
            egress: None,
        })
    };
    let mut model = model();
    let before = model.compile();
    model.apply(policy("a"));
    model.apply(policy("b"));
    model.apply(policy("a"));
    assert_eq!((model.policies().len(), model.objects()), (2, 2));
    assert!(!model.has_changes());
    assert_eq!(model.compile().version, before.version);
    model.reset(Kind::NetworkPolicy, vec![policy("b")]);
    assert!(model.policies().contains_key(&ObjectName::new("demo", "b")) && model.policies().len() == 1);
    model.delete(Kind::NetworkPolicy, &ObjectName::new("demo", "b"));
    assert_eq!(model.objects(), 0);
}
