//! Where services answer, and what a connection meets there.

use super::*;
use millrace_fastpath::tables::FrontendKind;

#[test]
fn a_service_answers_at_each_cluster_ip_with_endpoints_of_its_family() {
    let mut model = model();
    model.apply(Object::EndpointSlice(slice("web-4", vec![endpoint("10.0.0.1", ALL)])));
    model.apply(Object::EndpointSlice(slice("web-6", vec![endpoint("fd00::1", ALL)])));
    model.apply(Object::Service(service(&["10.96.0.1", "fd96::1"])));
    let tables = model.compile();
    assert_eq!(backends(&tables, "10.96.0.1"), ["10.0.0.1 8080"]);
    assert_eq!(backends(&tables, "fd96::1"), ["fd00::1 8080"]);
    assert_eq!(tables.services.len(), 2);
    let view = model.service(&name("web")).unwrap();
    assert_eq!(view.ports[0].endpoints.len(), 2);
    assert!(view.ports[0].endpoints.iter().all(|endpoint| endpoint.usable));
    let id = frontend(&tables, "10.96.0.1", 6, 80).unwrap().service;
    assert_eq!(model.service_name(id).unwrap().to_string(), "ns/web:http");
}

#[test]
fn services_that_are_not_ours_have_no_frontend() {
    let unserved: [fn(&mut Service); 3] = [
        |service| service.kind = ServiceType::ExternalName,
        |service| service.foreign_proxy = true,
        |service| service.cluster_ips.clear(),
    ];
    for change in unserved {
        let mut model = model();
        let mut web = service(&["10.96.0.1"]);
        model.apply(Object::Service(web.clone()));
        assert_eq!(model.compile().services.len(), 1);
        change(&mut web);
        model.apply(Object::Service(web));
        assert!(model.compile().services.is_empty());
    }
    let mut model = model();
    model.apply(Object::Service(service(&["10.96.0.1"])));
    let headless = EndpointSlice { headless: true, ..slice("a", vec![endpoint("10.0.0.1", ALL)]) };
    model.apply(Object::EndpointSlice(headless));
    assert!(backends(&model.compile(), "10.96.0.1").is_empty());
}

#[test]
fn a_service_port_answers_at_every_kind_of_address() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1", "192.0.2.2"]));
    let tables = serve(&mut model, reachable(), vec![endpoint("10.0.0.1", ALL)]);
    let kinds = [FrontendKind::ExternalIp, FrontendKind::LoadBalancer, FrontendKind::NodePort];
    let places = [("10.96.0.1", 80)].into_iter().chain(EXTERNAL);
    for ((address, port), kind) in places.zip([FrontendKind::ClusterIp].into_iter().chain(kinds)) {
        let frontend = frontend(&tables, address, 6, port).unwrap();
        assert_eq!(frontend.kind, kind, "{address}");
        assert_eq!([offers(&frontend.inside), offers(&frontend.outside)], [["10.0.0.1"]; 2]);
    }
    assert_eq!(tables.services.len(), 4, "and nowhere else");
    for (address, owned) in [("10.96.0.1", true), ("203.0.113.5", false), ("192.0.2.1", false)] {
        assert_eq!(tables.services.is_service_address(ip(address).into()), owned, "{address}");
    }
}

#[test]
fn a_load_balancer_that_is_a_proxy_is_left_alone() {
    let mut web = reachable();
    web.load_balancer_ips[0].vip = false;
    let tables = serve(&mut model(), web, vec![endpoint("10.0.0.1", ALL)]);
    assert!(frontend(&tables, "203.0.113.6", 6, 80).is_none());
    assert!(frontend(&tables, "203.0.113.5", 6, 80).is_some());
}

#[test]
fn node_ports_answer_at_the_primary_addresses_or_where_the_ranges_say() {
    let addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2", "198.51.100.1", "2001:db8::2"];
    let at = |ranges: &[&str]| {
        let node_port_addresses = ranges.iter().map(|text| text.parse().unwrap()).collect();
        let mut model = Model::new(ModelConfig { node_port_addresses, ..model().config.clone() });
        model.apply(node(None, &addresses));
        let web = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")], ..reachable() };
        let tables = serve(&mut model, web, vec![]);
        let answers = |address: &&str| frontend(&tables, address, 6, 30080).is_some();
        addresses.into_iter().filter(answers).collect::<Vec<_>>()
    };
    assert_eq!(at(&[]), ["2001:db8::1", "192.0.2.1"]);
    assert_eq!(at(&["192.0.2.0/24"]), ["192.0.2.1", "192.0.2.2"]);
    assert_eq!(at(&["198.51.100.1/32", "2001:db8::2/127"]), ["198.51.100.1", "2001:db8::2"]);
    assert_eq!(at(&["0.0.0.0/0", "::/0"]), addresses);
    assert!(at(&["10.0.0.0/8"]).is_empty());
}

#[test]
fn node_ports_follow_the_addresses_of_this_node() {
    let mut model = model();
    let answers = |model: &mut Model, address| frontend(&model.compile(), address, 6, 30080).is_some();
    serve(&mut model, reachable(), vec![endpoint("10.0.0.1", ALL)]);
    assert!(!answers(&mut model, "192.0.2.1"));
    model.apply(node(None, &["192.0.2.1"]));
    assert!(answers(&mut model, "192.0.2.1"));
    model.apply(node(None, &["192.0.2.2", "192.0.2.1"]));
    assert_eq!([answers(&mut model, "192.0.2.1"), answers(&mut model, "192.0.2.2")], [false, true]);
    model.delete(Kind::Node, &ObjectName::cluster_wide(NODE));
    assert!(!answers(&mut model, "192.0.2.2"));
}

#[test]
fn only_services_of_the_type_have_node_ports() {
    for (kind, wanted) in
        [(ServiceType::ClusterIp, false), (ServiceType::NodePort, true), (ServiceType::LoadBalancer, true)]
    {
        let mut model = model();
        model.apply(node(None, &["192.0.2.1"]));
        let tables = serve(&mut model, Service { kind, ..reachable() }, vec![]);
        assert_eq!(frontend(&tables, "192.0.2.1", 6, 30080).is_some(), wanted, "{kind:?}");
    }
}

#[test]
fn a_family_without_a_cluster_ip_has_no_frontend_of_any_kind() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1", "2001:db8::1"]));
    let mut web = Service { cluster_ips: vec![ip("fd96::1")], ..reachable() };
    web.external_ips.push(ip("2001:db8:5::1"));
    web.load_balancer_ips.push(LoadBalancerIp { ip: ip("2001:db8:6::1"), vip: true });
    model.apply(Object::EndpointSlice(slice("four", vec![endpoint("10.0.0.1", ALL)])));
    let tables = serve(&mut model, web, vec![endpoint("fd00::1", ALL)]);
    assert!(tables.services.iter().all(|(key, _)| !key.address.is_v4()));
    let places = [("fd96::1", 80), ("2001:db8:5::1", 80), ("2001:db8:6::1", 80), ("2001:db8::1", 30080)];
    for (address, port) in places {
        assert_eq!(offers(&frontend(&tables, address, 6, port).unwrap().outside), ["fd00::1"]);
    }
    let id = frontend(&tables, "fd96::1", 6, 80).unwrap().service;
    let v4 = Backend { address: ip("10.0.0.1").into(), port: 8080 };
    assert!(!tables.services.is_serving(id, v4));
}

#[test]
fn the_same_number_in_several_protocols_is_several_frontends() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    let protocols = [Transport::Tcp, Transport::Udp, Transport::Sctp];
    let ports = protocols.map(|protocol| ServicePort { node_port: Some(30080), ..port("x", protocol, 80) });
    let tables = serve(&mut model, Service { ports: ports.into(), ..reachable() }, vec![]);
    let ids = protocols.map(|protocol| {
        let id = frontend(&tables, "10.96.0.1", protocol.number(), 80).unwrap().service;
        assert_eq!(frontend(&tables, "192.0.2.1", protocol.number(), 30080).unwrap().service, id);
        id
    });
    assert_eq!(ids.into_iter().collect::<std::collections::BTreeSet<_>>().len(), 3);
}

#[test]
fn an_external_policy_of_local_is_for_outside_only() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    let web = Service { external_policy: TrafficPolicy::Local, ..reachable() };
    let endpoints = vec![on(NODE, "10.0.0.1", ALL), on("there", "10.0.1.1", ALL)];
    let tables = serve(&mut model, web.clone(), endpoints);
    for (address, port) in EXTERNAL {
        let frontend = frontend(&tables, address, 6, port).unwrap();
        assert_eq!(offers(&frontend.inside), ["10.0.0.1", "10.0.1.1"], "{address}");
        assert_eq!(offers(&frontend.outside), ["10.0.0.1"], "{address}");
        assert!(frontend.keeps_client);
    }
    let cluster = frontend(&tables, "10.96.0.1", 6, 80).unwrap();
    assert_eq!([offers(&cluster.inside), offers(&cluster.outside)], [["10.0.0.1", "10.0.1.1"]; 2]);
    assert!(!cluster.keeps_client);
    let tables = serve(&mut model, web, vec![on("there", "10.0.1.1", ALL)]);
    for (address, port) in EXTERNAL {
        let frontend = frontend(&tables, address, 6, port).unwrap();
        assert_eq!(frontend.outside.when_empty, WhenEmpty::Drop, "others may have some");
        assert_eq!(offers(&frontend.inside), ["10.0.1.1"]);
    }
    let tables = serve(&mut model, reachable(), vec![on("there", "10.0.1.1", GONE)]);
    for (address, port) in EXTERNAL {
        let frontend = frontend(&tables, address, 6, port).unwrap();
        assert_eq!(frontend.outside.when_empty, WhenEmpty::Reject, "nobody has any");
        assert!(!frontend.keeps_client);
    }
}

#[test]
fn an_internal_policy_of_local_is_for_cluster_ips_only() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    let web = Service { internal_policy: TrafficPolicy::Local, ..reachable() };
    let tables = serve(&mut model, web, vec![on(NODE, "10.0.0.1", ALL), on("there", "10.0.1.1", ALL)]);
    let cluster = frontend(&tables, "10.96.0.1", 6, 80).unwrap();
    assert_eq!([offers(&cluster.inside), offers(&cluster.outside)], [["10.0.0.1"]; 2]);
    for (address, port) in EXTERNAL {
        let frontend = frontend(&tables, address, 6, port).unwrap();
        assert_eq!([&frontend.inside, &frontend.outside].map(offers), [["10.0.0.1", "10.0.1.1"]; 2]);
    }
}

#[test]
fn source_ranges_are_for_load_balancers_and_for_their_own_family() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    let mut web = Service { cluster_ips: vec![ip("10.96.0.1"), ip("fd96::1")], ..reachable() };
    web.load_balancer_ips.push(LoadBalancerIp { ip: ip("2001:db8:6::1"), vip: true });
    let sources = |model: &mut Model, ranges: &[&str], address: &str, port: u16| {
        let source_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
        let tables = serve(model, Service { source_ranges, ..web.clone() }, vec![]);
        frontend(&tables, address, 6, port).unwrap().sources.clone()
    };
    let ranges = ["198.51.100.0/24", "10.0.0.0/8"];
    let admits = sources(&mut model, &ranges, "203.0.113.6", 80).unwrap();
    assert_eq!(
        ["198.51.100.9", "10.1.1.1", "8.8.8.8"].map(|a| admits.contains(ip(a).into())),
        [true, true, false]
    );
    for (address, port) in [("203.0.113.5", 80), ("192.0.2.1", 30080), ("10.96.0.1", 80)] {
        assert_eq!(sources(&mut model, &ranges, address, port), None, "{address}");
    }
    assert_eq!(sources(&mut model, &ranges, "2001:db8:6::1", 80), None, "no range of this family");
    assert!(sources(&mut model, &["fd00::/8"], "2001:db8:6::1", 80).is_some());
    assert_eq!(sources(&mut model, &["10.0.0.0/8", "0.0.0.0/0"], "203.0.113.6", 80), None, "everyone");
    assert_eq!(sources(&mut model, &[], "203.0.113.6", 80), None);
}

#[test]
fn session_affinity_is_for_every_frontend() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    for affinity_seconds in [Some(10_800), None] {
        let tables = serve(&mut model, Service { affinity_seconds, ..reachable() }, vec![]);
        assert_eq!(tables.services.len(), 4);
        assert!(tables.services.iter().all(|(_, frontend)| frontend.affinity == affinity_seconds));
    }
}
