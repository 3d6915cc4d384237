//! Addresses that several want.

use super::*;

#[test]
fn a_contested_frontend_belongs_to_the_first_name_and_is_inherited() {
    let mut model = model();
    for other in ["zoo", "abc"] {
        model.apply(Object::Service(Service { name: name(other), ..service(&["10.96.0.1"]) }));
    }
    let owner = |model: &mut Model| {
        let id = frontend(&model.compile(), "10.96.0.1", 6, 80).map(|frontend| frontend.service)?;
        Some(model.service_name(id).unwrap().service.name.clone())
    };
    assert_eq!(owner(&mut model).as_deref(), Some("abc"));
    model.delete(Kind::Service, &name("abc"));
    assert_eq!(owner(&mut model).as_deref(), Some("zoo"));
    model.delete(Kind::Service, &name("zoo"));
    assert_eq!(owner(&mut model), None);
}

#[test]
fn nobody_takes_a_cluster_ip_away() {
    let mut model = model();
    let thief = Service {
        name: name("abc"),
        external_ips: vec![ip("10.96.0.1")],
        load_balancer_ips: vec![LoadBalancerIp { ip: ip("10.96.0.1"), vip: true }],
        ..service(&["10.96.0.2"])
    };
    model.apply(Object::Service(thief));
    assert_eq!(owner(&mut model, "10.96.0.1", 80).as_deref(), Some("abc"), "nobody else wants it");
    model.apply(Object::Service(service(&["10.96.0.1"])));
    assert_eq!(owner(&mut model, "10.96.0.1", 80).as_deref(), Some("web"));
    model.delete(Kind::Service, &name("web"));
    assert_eq!(owner(&mut model, "10.96.0.1", 80).as_deref(), Some("abc"));
}

#[test]
fn a_node_port_gives_way_to_an_external_ip_that_is_the_nodes() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    model.apply(Object::Service(Service { name: name("abc"), ..reachable() }));
    assert_eq!(owner(&mut model, "192.0.2.1", 30080).as_deref(), Some("abc"));
    let external_ips = vec![ip("192.0.2.1")];
    let ports = vec![port("http", Transport::Tcp, 30080)];
    model.apply(Object::Service(Service {
        name: name("zoo"),
        external_ips,
        ports,
        ..service(&["10.96.0.9"])
    }));
    assert_eq!(owner(&mut model, "192.0.2.1", 30080).as_deref(), Some("zoo"));
    let zoo = Service { name: name("zoo"), ..service(&["10.96.0.9"]) };
    model.apply(Object::Service(zoo));
    assert_eq!(owner(&mut model, "192.0.2.1", 30080).as_deref(), Some("abc"), "the claim was given up");
}

#[test]
fn a_load_balancers_address_that_is_an_external_ip_too_keeps_its_source_ranges() {
    let both = Service {
        external_ips: vec![ip("203.0.113.6")],
        source_ranges: vec!["10.0.0.0/8".parse().unwrap()],
        ..reachable()
    };
    let tables = serve(&mut model(), both, vec![]);
    assert!(frontend(&tables, "203.0.113.6", 6, 80).unwrap().sources.is_some());
}

#[test]
fn a_service_that_takes_over_has_its_own_endpoints_there() {
    let mut model = model();
    for (other, address) in [("abc", "10.0.0.1"), ("zoo", "10.0.0.2")] {
        model.apply(Object::Service(Service { name: name(other), ..service(&["10.96.0.1"]) }));
        let slice =
            EndpointSlice { service: Some(other.into()), ..slice(other, vec![endpoint(address, ALL)]) };
        model.apply(Object::EndpointSlice(slice));
    }
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.1 8080"]);
    model.delete(Kind::Service, &name("abc"));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.2 8080"]);
}
