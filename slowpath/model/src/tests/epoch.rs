//! Which changes make cached verdicts stale.

use super::*;

#[test]
fn the_epoch_rises_only_when_a_flow_may_have_to_move() {
    let mut model = model();
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply_port(port_spec(1, &["10.0.0.1/32"], None));
    let first = model.compile();
    let mut change = |change: &dyn Fn(&mut Model)| {
        let before = model.compile();
        change(&mut model);
        let after = model.compile();
        (after.epoch != before.epoch, after.version != before.version)
    };
    let endpoints = |list: Vec<Endpoint>| {
        move |model: &mut Model| model.apply(Object::EndpointSlice(slice("a", list.clone())))
    };
    let (a, b) = (endpoint("10.0.0.1", ALL), endpoint("10.0.0.2", ALL));
    assert_eq!(change(&endpoints(vec![a.clone(), b.clone()])), (false, true), "endpoints were added");
    assert_eq!(change(&endpoints(vec![a.clone(), b.clone()])), (false, false), "nothing changed");
    let ending = endpoint("10.0.0.2", ENDING);
    assert_eq!(change(&endpoints(vec![a.clone(), ending])), (false, true), "an endpoint drains");
    assert_eq!(change(&endpoints(vec![a])), (true, true), "an endpoint is gone");
    assert_eq!(
        change(&|model| model.apply_port(port_spec(2, &["10.0.0.2/32"], None))),
        (false, true),
        "a port came"
    );
    assert_eq!(
        change(&|model| model.apply_port(port_spec(3, &["0.0.0.0/0"], None))),
        (false, true),
        "a way out came"
    );
    assert_eq!(
        change(&|model| model.apply_port(port_spec(4, &["10.9.0.0/16"], None))),
        (true, true),
        "a route split"
    );
    assert_eq!(change(&|model| model.delete_port(PortId(2))), (true, true), "a port went");
    let moved = PortSpec { mac: MacAddr([2; 6]), ..port_spec(1, &["10.0.0.1/32"], None) };
    assert_eq!(change(&|model| model.apply_port(moved.clone())), (true, true), "a peer changed");
    assert!(
        frontend(&first, "10.96.0.1", 6, 80).unwrap().inside.backends.backends().is_empty(),
        "old tables stay"
    );
}

#[test]
fn an_endpoint_that_drains_still_serves_its_flows() {
    let mut model = model();
    model.apply(Object::Service(service(&["10.96.0.1"])));
    let list = |conditions| {
        Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.1", ALL), endpoint("10.0.0.2", conditions)]))
    };
    model.apply(list(ENDING));
    let tables = model.compile();
    let id = frontend(&tables, "10.96.0.1", 6, 80).unwrap().service;
    let second = Backend { address: ip("10.0.0.2").into(), port: 8080 };
    assert_eq!(backends(&tables, "10.96.0.1"), ["10.0.0.1 8080"]);
    assert!(tables.services.is_serving(id, second));
    model.apply(list(GONE));
    assert!(!model.compile().services.is_serving(id, second));
    model.delete(Kind::Service, &name("web"));
    let tables = model.compile();
    assert!(tables.services.is_empty());
    assert!(!tables.services.is_service_address(ip("10.96.0.1").into()));
    assert!(model.service_name(id).is_none());
}

/// Whether a change raises the epoch, and whether it changes the tables.
fn effect(model: &mut Model, change: impl FnOnce(&mut Model)) -> (bool, bool) {
    let before = model.compile();
    change(model);
    let after = model.compile();
    (after.epoch != before.epoch, after.version != before.version)
}

#[test]
fn readiness_policy_topology_and_affinity_move_no_flow() {
    let mut model = model();
    model.apply(node(Some("x"), &["192.0.2.1"]));
    let base = || vec![on(NODE, "10.0.0.1", ALL), on("there", "10.0.1.1", ALL)];
    serve(&mut model, reachable(), base());
    let unready = Conditions { ready: false, serving: true, terminating: false };
    let changes: Vec<(&str, Service, Vec<Endpoint>)> = vec![
        ("not ready", reachable(), vec![on(NODE, "10.0.0.1", unready), on("there", "10.0.1.1", ALL)]),
        ("ready again", reachable(), base()),
        ("terminating", reachable(), vec![on(NODE, "10.0.0.1", ENDING), on("there", "10.0.1.1", ALL)]),
        ("internal policy", Service { internal_policy: TrafficPolicy::Local, ..reachable() }, base()),
        ("external policy", Service { external_policy: TrafficPolicy::Local, ..reachable() }, base()),
        ("affinity", Service { affinity_seconds: Some(60), ..reachable() }, base()),
        (
            "source ranges",
            Service { source_ranges: vec!["10.0.0.0/8".parse().unwrap()], ..reachable() },
            base(),
        ),
        ("a frontend less", Service { external_ips: vec![], ..reachable() }, base()),
        ("a frontend more", reachable(), base()),
    ];
    for (what, service, endpoints) in changes {
        let raised = effect(&mut model, |model| drop(serve(model, service, endpoints)));
        assert_eq!(raised, (false, true), "{what}");
    }
    let hinted = |mut endpoint: Endpoint, zone: &str| {
        endpoint.for_zones.push(zone.into());
        endpoint
    };
    let hints = base().into_iter().zip(["x", "y"]).map(|(endpoint, zone)| hinted(endpoint, zone)).collect();
    assert_eq!(effect(&mut model, |model| drop(serve(model, reachable(), hints))), (false, true), "hints");
    assert_eq!(
        effect(&mut model, |model| model.apply(node(Some("y"), &["192.0.2.1"]))),
        (false, true),
        "zone"
    );
}

#[test]
fn an_endpoint_in_two_slices_is_gone_only_when_it_is_in_none() {
    let mut model = model();
    serve(&mut model, service(&["10.96.0.1"]), vec![endpoint("10.0.0.1", ALL)]);
    let second = || slice("b", vec![endpoint("10.0.0.1", ALL)]);
    assert!(!effect(&mut model, |model| model.apply(Object::EndpointSlice(second()))).0);
    assert!(!effect(&mut model, |model| model.delete(Kind::EndpointSlice, &name("a"))).0);
    assert!(effect(&mut model, |model| model.delete(Kind::EndpointSlice, &name("b"))).0);
}

#[test]
fn an_endpoint_that_moves_between_slices_in_one_step_is_never_gone() {
    let mut model = model();
    serve(&mut model, service(&["10.96.0.1"]), vec![endpoint("10.0.0.1", ALL)]);
    let moved = effect(&mut model, |model| {
        model.delete(Kind::EndpointSlice, &name("a"));
        model.apply(Object::EndpointSlice(slice("b", vec![endpoint("10.0.0.1", ALL)])));
    });
    assert_eq!(moved, (false, true));
}

#[test]
fn a_service_that_appears_on_a_routed_address_takes_its_flows_over() {
    let mut model = model();
    let uplink = PortSpec { role: PortRole::Uplink, ..port_spec(9, &["0.0.0.0/0"], None) };
    model.apply_port(uplink);
    let mut web = service(&["10.96.0.1"]);
    assert!(effect(&mut model, |model| model.apply(Object::Service(web.clone()))).0);
    web.ports.push(port("more", Transport::Tcp, 81));
    assert!(
        !effect(&mut model, |model| model.apply(Object::Service(web.clone()))).0,
        "81 was refused until now"
    );
    web.external_ips = vec![ip("203.0.113.5")];
    assert!(effect(&mut model, |model| model.apply(Object::Service(web))).0);
}

#[test]
fn a_node_port_at_an_address_that_nobody_could_reach_takes_nothing_over() {
    let mut model = model();
    model.apply_port(PortSpec { role: PortRole::Uplink, ..port_spec(9, &["0.0.0.0/0"], None) });
    model.apply(node(None, &["192.0.2.1"]));
    serve(&mut model, service(&["10.96.0.1"]), vec![]);
    let web = || Service { external_ips: vec![], load_balancer_ips: vec![], ..reachable() };
    assert_eq!(effect(&mut model, |model| model.apply(Object::Service(web()))), (false, true));
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply_port(PortSpec { role: PortRole::Host, ..port_spec(3, &["192.0.2.1/32"], None) });
    assert!(
        effect(&mut model, |model| model.apply(Object::Service(web()))).0,
        "flows to the host may stand there"
    );
}

#[test]
fn an_address_that_changes_hands_does_so_for_its_flows_too() {
    let mut model = model();
    model.apply(Object::Service(Service { name: name("zoo"), ..service(&["10.96.0.1"]) }));
    let abc = Service { name: name("abc"), ..service(&["10.96.0.1"]) };
    assert!(effect(&mut model, |model| model.apply(Object::Service(abc.clone()))).0);
    let there_and_back = effect(&mut model, |model| {
        model.delete(Kind::Service, &name("abc"));
        model.apply(Object::Service(abc));
    });
    assert!(!there_and_back.0, "what was never published");
}
