//! Health checks of load balancers, and how long changes take.

use super::*;
use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

/// A service whose load balancer asks at `port`.
fn checked(port: u16) -> Service {
    Service {
        kind: ServiceType::LoadBalancer,
        external_policy: TrafficPolicy::Local,
        health_check_node_port: Some(port),
        external_ips: vec![ip("192.0.2.1")],
        ..service(&["10.96.0.1", "fd00:96::1"])
    }
}

fn here(address: &str, conditions: Conditions) -> Endpoint {
    Endpoint { node: Some(NODE.into()), ..endpoint(address, conditions) }
}

fn at(seconds: u64, slice: EndpointSlice) -> Object {
    Object::EndpointSlice(EndpointSlice {
        trigger_time: Some(UNIX_EPOCH + Duration::from_secs(seconds)),
        ..slice
    })
}

fn checks(model: &mut Model) -> BTreeMap<u16, (String, usize)> {
    model.compile();
    let checks = model.health_checks().into_iter();
    checks.map(|(port, check)| (port, (check.service.to_string(), check.local_endpoints))).collect()
}

#[test]
fn a_health_check_counts_the_addresses_of_ready_endpoints_on_this_node() {
    let mut model = model();
    model.apply(Object::Service(checked(31_000)));
    assert_eq!(checks(&mut model), [(31_000, ("ns/web".into(), 0))].into());
    let mut first =
        slice("a", vec![here("10.0.0.1", ALL), here("10.0.0.2", ENDING), endpoint("10.0.0.3", ALL)]);
    first.ports.push(SlicePort { name: "https".into(), protocol: Transport::Tcp, port: 8443 });
    model.apply(Object::EndpointSlice(first));
    assert_eq!(checks(&mut model)[&31_000].1, 1, "an address with two ports is one endpoint");
    model.apply(Object::EndpointSlice(slice("b", vec![here("10.0.0.1", ALL), here("10.0.0.4", ALL)])));
    model.apply(Object::EndpointSlice(slice("c", vec![here("fd00::1", ALL), here("fd00::2", GONE)])));
    assert_eq!(checks(&mut model)[&31_000].1, 2, "every address once, and the family that has more");
    model.apply(Object::EndpointSlice(slice("d", vec![here("fd00::3", ALL), here("fd00::4", ALL)])));
    assert_eq!(checks(&mut model)[&31_000].1, 3);
    model.delete(Kind::EndpointSlice, &name("d"));
    let elsewhere = Endpoint { node: Some("there".into()), ..endpoint("10.0.0.1", ALL) };
    model.apply(Object::EndpointSlice(slice("a", vec![elsewhere])));
    model.delete(Kind::EndpointSlice, &name("b"));
    assert_eq!(checks(&mut model)[&31_000].1, 1);
}

#[test]
fn only_load_balancers_with_the_local_policy_are_checked() {
    let mut model = model();
    for other in [
        Service { kind: ServiceType::NodePort, ..checked(31_000) },
        Service { external_policy: TrafficPolicy::Cluster, ..checked(31_000) },
        Service { health_check_node_port: None, ..checked(31_000) },
        Service { cluster_ips: vec![], ..checked(31_000) },
    ] {
        model.apply(Object::Service(other));
        assert_eq!(checks(&mut model), BTreeMap::new());
    }
    model.apply(Object::Service(checked(31_000)));
    assert!(checks(&mut model).contains_key(&31_000));
    model.apply(Object::Service(checked(31_001)));
    assert!(checks(&mut model).keys().eq(&[31_001]), "the port moved");
    model.apply(Object::Service(Service { name: name("a"), ..checked(31_001) }));
    assert_eq!(checks(&mut model)[&31_001].0, "ns/a", "of two with one port the first by name has it");
    model.delete(Kind::Service, &name("a"));
    assert_eq!(checks(&mut model)[&31_001].0, "ns/web");
    model.delete(Kind::Service, &name("web"));
    assert_eq!(checks(&mut model), BTreeMap::new());
}

#[test]
fn the_generation_of_health_checks_moves_with_them_only() {
    let mut model = model();
    model.apply(Object::Service(checked(31_000)));
    model.compile();
    let generation = model.health_generation();
    model.apply(Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.3", ALL)])));
    model.compile();
    assert_eq!(model.health_generation(), generation, "an endpoint on another node");
    model.apply(Object::EndpointSlice(slice("a", vec![here("10.0.0.3", ALL)])));
    assert_eq!(model.health_generation(), generation, "not compiled yet");
    model.compile();
    assert_ne!(model.health_generation(), generation);
}

#[test]
fn this_node_is_leaving_when_it_says_so() {
    let mut model = model();
    assert_eq!(model.is_leaving(), None);
    model.apply(node(None, &["192.0.2.9"]));
    assert_eq!(model.is_leaving(), Some(false));
    let Object::Node(mut leaving) = node(None, &["192.0.2.9"]) else { panic!("not a node") };
    leaving.leaving = true;
    model.apply(Object::Node(leaving));
    assert_eq!(model.is_leaving(), Some(true));
    model.delete(Kind::Node, &ObjectName::cluster_wide(NODE));
    assert_eq!(model.is_leaving(), None);
}

#[test]
fn ports_without_local_endpoints_are_counted_by_policy_and_family() {
    let mut model = model();
    model.apply(Object::Service(Service { internal_policy: TrafficPolicy::Local, ..checked(31_000) }));
    assert_eq!(
        model.without_local_endpoints(),
        WithoutLocal::default(),
        "nobody anywhere is no lack of locals"
    );
    model.apply(Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.1", ALL)])));
    model.apply(Object::EndpointSlice(slice("b", vec![endpoint("fd00::1", ENDING)])));
    assert_eq!(model.without_local_endpoints(), WithoutLocal { internal: [1, 1], external: [1, 1] });
    model.apply(Object::EndpointSlice(slice("b", vec![endpoint("fd00::1", ALL), here("fd00::2", ENDING)])));
    assert_eq!(model.without_local_endpoints(), WithoutLocal { internal: [1, 0], external: [1, 0] });
    model.apply(Object::Service(Service { external_ips: vec![], ..checked(31_000) }));
    assert_eq!(model.without_local_endpoints(), WithoutLocal::default(), "no frontend for outsiders");
}

#[test]
fn changes_are_counted_and_their_triggers_kept_until_they_are_taken() {
    let mut model = model();
    let times = |model: &mut Model| {
        let incoming = model.take_incoming();
        let times = incoming.triggers().map(|(_, time)| time.duration_since(UNIX_EPOCH).unwrap().as_secs());
        (incoming.services, incoming.slices, times.collect::<Vec<_>>())
    };
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(at(7, slice("a", vec![endpoint("10.0.0.1", ALL)])));
    model.apply(at(8, slice("b", vec![endpoint("10.0.0.2", ALL)])));
    model.apply(at(9, slice("b", vec![endpoint("10.0.0.2", ALL)])));
    model.apply(Object::EndpointSlice(slice("c", vec![])));
    assert_eq!((model.incoming().services, model.incoming().slices), (1, 3));
    assert_eq!(times(&mut model), (1, 3, vec![7, 8]), "the same content again is no change");
    assert_eq!(times(&mut model), (0, 0, vec![]));
    assert_eq!(model.seen(), Seen { services: 2, slices: 4 });

    model.apply(at(10, slice("a", vec![])));
    model.delete(Kind::EndpointSlice, &name("b"));
    model.delete(Kind::Service, &name("web"));
    model.delete(Kind::Service, &name("web"));
    assert_eq!(times(&mut model), (1, 2, vec![]), "what goes does not say when");
    let headless = EndpointSlice { headless: true, ..slice("h", vec![endpoint("10.0.0.1", ALL)]) };
    model.apply(at(11, headless));
    assert_eq!(times(&mut model), (0, 0, vec![]));
    assert_eq!(model.seen(), Seen { services: 3, slices: 6 });
}
