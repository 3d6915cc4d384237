//! What people are told of services.

use super::*;
use millrace_fastpath::tables::FrontendKind;

fn view(model: &Model) -> ServiceView {
    model.service(&name("web")).unwrap()
}

/// For each endpoint its address, and why it is not in the cluster set and in the local set, if so.
fn reasons(model: &mut Model, endpoints: Vec<Endpoint>) -> Vec<(String, Option<String>, Option<String>)> {
    serve(model, service(&["10.96.0.1"]), endpoints);
    let why = |standing: &Result<(), WhyNot>| standing.as_ref().err().map(ToString::to_string);
    let endpoints = view(model).ports.remove(0).endpoints;
    endpoints.iter().map(|view| (view.address.to_string(), why(&view.cluster), why(&view.local))).collect()
}

fn reason(address: &str, cluster: &str, local: &str) -> (String, Option<String>, Option<String>) {
    let text = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    (address.into(), text(cluster), text(local))
}

#[test]
fn an_endpoint_that_is_not_chosen_has_a_reason() {
    let mut model = model();
    let unready = Conditions { ready: false, serving: true, terminating: false };
    let endpoints = vec![
        on(NODE, "10.0.0.1", ALL),
        on(NODE, "10.0.0.2", ENDING),
        on(NODE, "10.0.0.3", GONE),
        on(NODE, "10.0.0.4", unready),
        on("there", "10.0.0.5", ALL),
        endpoint("10.0.0.6", ALL),
    ];
    let ending = "it is terminating, and others are ready";
    let gone = "it is terminating and has stopped to serve";
    assert_eq!(
        reasons(&mut model, endpoints),
        [
            reason("10.0.0.1", "", ""),
            reason("10.0.0.2", ending, ending),
            reason("10.0.0.3", gone, gone),
            reason("10.0.0.4", "it is not ready", "it is not ready"),
            reason("10.0.0.5", "", "it is on node there"),
            reason("10.0.0.6", "", "it does not say which node it is on"),
        ]
    );
    let endpoints = vec![on(NODE, "10.0.0.2", ENDING), on("there", "10.0.0.5", ALL)];
    assert_eq!(reasons(&mut model, endpoints)[0], reason("10.0.0.2", ending, ""), "the last resort here");
}

#[test]
fn hints_are_a_reason_only_while_they_hold() {
    let mut model = model();
    model.apply(node(Some("x"), &[]));
    let zones = |address, zones: &[&str]| Endpoint {
        for_zones: zones.iter().map(ToString::to_string).collect(),
        ..on(NODE, address, ALL)
    };
    let hinted = vec![zones("10.0.0.1", &["x", "y"]), zones("10.0.0.2", &["y", "z"])];
    let elsewhere = "its hints are for zones y, z, and this node's zone has its own";
    assert_eq!(reasons(&mut model, hinted)[1], reason("10.0.0.2", elsewhere, ""));
    let one_without = vec![zones("10.0.0.1", &["x"]), zones("10.0.0.2", &["y"]), zones("10.0.0.3", &[])];
    assert!(reasons(&mut model, one_without).iter().all(|(_, cluster, _)| cluster.is_none()));
    let nodes = |address, node: &str| Endpoint { for_nodes: vec![node.into()], ..zones(address, &["x"]) };
    let hinted = vec![nodes("10.0.0.1", NODE), nodes("10.0.0.2", "there")];
    let elsewhere = "its hints are for node there, and this node has its own";
    assert_eq!(reasons(&mut model, hinted)[1], reason("10.0.0.2", elsewhere, ""));
}

#[test]
fn a_second_mention_and_a_family_that_is_not_served_are_reasons() {
    let mut model = model();
    model
        .apply(Object::EndpointSlice(slice("z", vec![on(NODE, "10.0.0.1", ALL), endpoint("10.0.0.2", ALL)])));
    model.apply(Object::EndpointSlice(slice("six", vec![on(NODE, "fd00::1", ALL)])));
    let found = reasons(&mut model, vec![on(NODE, "10.0.0.1", GONE)]);
    let (twice, family) = ("it is counted as a mention in slice ns/z", "the service has no IPv6 ClusterIP");
    assert_eq!(
        found,
        [
            reason("10.0.0.1", twice, twice),
            reason("fd00::1", family, family),
            reason("10.0.0.1", "", ""),
            reason("10.0.0.2", "", "it does not say which node it is on"),
        ]
    );
    let endpoints = view(&model).ports.remove(0).endpoints;
    assert_eq!(endpoints.iter().map(|view| view.usable).collect::<Vec<_>>(), [false, false, true, true]);
}

#[test]
fn an_endpoint_is_usable_if_some_frontend_offers_it() {
    let mut model = model();
    let local =
        |internal_policy, external_policy| Service { internal_policy, external_policy, ..reachable() };
    let (cluster, here) = (TrafficPolicy::Cluster, TrafficPolicy::Local);
    for (web, wanted) in [
        (local(cluster, cluster), true),
        (local(here, here), true),
        (Service { internal_policy: here, ..service(&["10.96.0.1"]) }, false),
    ] {
        serve(&mut model, web, vec![on("there", "10.0.0.1", ALL)]);
        assert_eq!(view(&model).ports[0].endpoints[0].usable, wanted);
    }
}

#[test]
fn a_service_is_shown_with_all_that_it_was_given() {
    let mut model = model();
    model.apply(node(None, &["192.0.2.1"]));
    let web = Service {
        external_policy: TrafficPolicy::Local,
        affinity_seconds: Some(90),
        source_ranges: vec!["10.0.0.0/8".parse().unwrap()],
        health_check_node_port: Some(32_000),
        ..reachable()
    };
    serve(&mut model, web.clone(), vec![on(NODE, "10.0.0.1", ALL), on("there", "10.0.0.2", ALL)]);
    let shown = view(&model);
    assert_eq!(
        (shown.kind, shown.internal_policy, shown.external_policy),
        (ServiceType::LoadBalancer, TrafficPolicy::Cluster, TrafficPolicy::Local)
    );
    assert_eq!((shown.affinity_seconds, shown.health_check_node_port), (Some(90), Some(32_000)));
    assert_eq!(shown.source_ranges, web.source_ranges);
    let port = &shown.ports[0];
    assert_eq!((port.name.as_str(), port.protocol, port.port), ("http", Transport::Tcp, 80));
    assert_eq!(model.service_name(port.id.unwrap()).unwrap().to_string(), "ns/web:http");
    let pool = |set, usable, when_empty| PoolView { set, usable, when_empty };
    let cluster = pool(TrafficPolicy::Cluster, 2, WhenEmpty::Reject);
    let local = pool(TrafficPolicy::Local, 1, WhenEmpty::Drop);
    let frontends: Vec<_> = port
        .frontends
        .iter()
        .map(|view| {
            (
                view.kind,
                view.address,
                view.port,
                view.inside,
                view.outside,
                view.keeps_client,
                view.restricted,
            )
        })
        .collect();
    assert_eq!(
        frontends,
        [
            (FrontendKind::ClusterIp, ip("10.96.0.1"), 80, cluster, cluster, false, false),
            (FrontendKind::NodePort, ip("192.0.2.1"), 30080, cluster, local, true, false),
            (FrontendKind::ExternalIp, ip("203.0.113.5"), 80, cluster, local, true, false),
            (FrontendKind::LoadBalancer, ip("203.0.113.6"), 80, cluster, local, true, true),
        ]
    );
}

#[test]
fn who_holds_a_contested_address_is_said() {
    let mut model = model();
    serve(&mut model, service(&["10.96.0.1"]), vec![endpoint("10.0.0.1", ALL)]);
    let abc = Service { name: name("abc"), ..service(&["10.96.0.1"]) };
    let zoo = Service { name: name("zoo"), external_ips: vec![ip("10.96.0.1")], ..service(&["10.96.0.2"]) };
    model.apply(Object::Service(abc));
    model.apply(Object::Service(zoo));
    model.compile();
    let frontend = |model: &Model, service: &str, at: usize| {
        let mut port = model.service(&name(service)).unwrap().ports.remove(0);
        port.frontends.remove(at)
    };
    let web = frontend(&model, "web", 0);
    assert_eq!(web.held_by.unwrap().to_string(), "ns/abc:http");
    assert_eq!(web.contested_by, [name("abc"), name("zoo")]);
    assert_eq!(web.inside.usable, 1, "what it would offer");
    assert!(!view(&model).ports[0].endpoints[0].usable);
    assert_eq!(frontend(&model, "abc", 0).held_by, None);
    let zoo = frontend(&model, "zoo", 1);
    assert_eq!((zoo.kind, zoo.held_by.unwrap().service), (FrontendKind::ExternalIp, name("abc")));
}

#[test]
fn services_that_are_not_served_are_listed_with_the_reason() {
    let mut model = model();
    let label = ("service.kubernetes.io/service-proxy-name".to_owned(), "other".to_owned());
    let other = Service { foreign_proxy: true, labels: [label].into(), ..service(&["10.96.0.3"]) };
    model.apply(Object::Service(Service { name: name("a"), ..service(&[]) }));
    model.apply(Object::Service(Service {
        name: name("b"),
        kind: ServiceType::ExternalName,
        ..service(&[])
    }));
    model.apply(Object::Service(Service { name: name("c"), ..other }));
    model.apply(Object::Service(service(&["10.96.0.1"])));
    let excluded: Vec<_> =
        model.excluded().map(|service| (service.name.name, service.reason.to_string())).collect();
    let sentences = [
        "it is headless: it has no ClusterIP",
        "it is of type ExternalName: an alias in DNS",
        "its label service.kubernetes.io/service-proxy-name names proxy `other`",
    ];
    assert_eq!(
        excluded,
        ["a", "b", "c"].map(String::from).into_iter().zip(sentences.map(String::from)).collect::<Vec<_>>()
    );
    assert_eq!(model.exclusion(&name("a")), Some(Exclusion::Headless));
    assert_eq!(model.exclusion(&name("web")), None);
    assert!(model.service(&name("a")).is_none());
}

#[test]
fn slices_that_contribute_nothing_say_why() {
    let mut model = model();
    let mut web = service(&["10.96.0.1"]);
    let why = |model: &Model| view(model).ports[0].no_endpoints.as_ref().map(ToString::to_string);
    model.apply(Object::Service(web.clone()));
    model.compile();
    assert_eq!(why(&model).unwrap(), "no slice names the service");
    model.apply(Object::EndpointSlice(EndpointSlice {
        headless: true,
        ..slice("h", vec![endpoint("10.0.0.9", ALL)])
    }));
    assert_eq!(why(&model).unwrap(), "no slice names the service");
    model.apply(Object::EndpointSlice(slice("a", vec![])));
    assert_eq!(why(&model).unwrap(), "the service's slices list no endpoint");
    web.ports[0].name = "web".into();
    model.apply(Object::Service(web.clone()));
    assert_eq!(why(&model).unwrap(), "no slice has a port named `web` for TCP");
    web.ports[0].name = String::new();
    model.apply(Object::Service(web));
    assert_eq!(why(&model).unwrap(), "no slice has a port without a name for TCP");
    let slices = &view(&model).ports[0].slices;
    let said: Vec<_> = slices
        .iter()
        .map(|slice| {
            (slice.name.name.as_str(), slice.endpoints.as_ref().map_err(ToString::to_string).cloned())
        })
        .collect();
    let headless = "it is labelled service.kubernetes.io/headless".to_owned();
    assert_eq!(said, [("a", Err("its ports are `http` for TCP".to_owned())), ("h", Err(headless))]);
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.1", GONE)])));
    assert_eq!(why(&model), None, "it has one, though it cannot be used");
    assert_eq!(view(&model).ports[0].slices[0].endpoints, Ok(1));
}

#[test]
fn where_an_endpoint_is_is_shown() {
    let mut model = model();
    let endpoint = Endpoint { zone: Some("x".into()), pod: Some(name("p")), ..on("there", "10.0.0.1", ALL) };
    serve(&mut model, service(&["10.96.0.1"]), vec![endpoint]);
    let shown = view(&model).ports.remove(0).endpoints.remove(0);
    assert_eq!((shown.address, shown.port, shown.slice), (ip("10.0.0.1"), 8080, name("a")));
    assert_eq!(
        (shown.node.as_deref(), shown.zone.as_deref(), shown.pod),
        (Some("there"), Some("x"), Some(name("p")))
    );
    assert_eq!(shown.conditions, ALL);
}
