mod health;

use super::*;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{
    Backend, Frontend, FrontendKey, Gateway, PortRole, Route, TableSet, WhenEmpty,
};
use millrace_fastpath::wire::ethernet::MacAddr;
use proptest::prelude::*;
use std::net::IpAddr;

const NODE: &str = "here";
const ALL: Conditions = Conditions { ready: true, serving: true, terminating: false };
const ENDING: Conditions = Conditions { ready: false, serving: true, terminating: true };
const GONE: Conditions = Conditions { ready: false, serving: false, terminating: true };

fn model() -> Model {
    let gateway = Gateway {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ipv4: [169, 254, 1, 1].into(),
        ipv6: "fe80::1".parse().unwrap(),
    };
    Model::new(ModelConfig::new(NODE, gateway))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn name(name: &str) -> ObjectName {
    ObjectName::new("ns", name)
}

fn service(ips: &[&str]) -> Service {
    Service {
        name: name("web"),
        labels: Default::default(),
        kind: ServiceType::ClusterIp,
        cluster_ips: ips.iter().map(|text| ip(text)).collect(),
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        ports: vec![port("http", Transport::Tcp, 80)],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        health_check_node_port: None,
        foreign_proxy: false,
    }
}

fn port(name: &str, protocol: Transport, port: u16) -> ServicePort {
    ServicePort { name: name.into(), protocol, port, node_port: None }
}

fn endpoint(address: &str, conditions: Conditions) -> Endpoint {
    Endpoint {
        address: ip(address),
        conditions,
        node: None,
        zone: None,
        for_nodes: vec![],
        for_zones: vec![],
        pod: None,
    }
}

fn slice(slice: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    let v4 = endpoints.first().is_none_or(|endpoint| endpoint.address.is_ipv4());
    EndpointSlice {
        name: name(slice),
        service: Some("web".into()),
        family: if v4 { AddressFamily::V4 } else { AddressFamily::V6 },
        headless: false,
        ports: vec![SlicePort { name: "http".into(), protocol: Transport::Tcp, port: 8080 }],
        endpoints,
        trigger_time: None,
    }
}

fn node(zone: Option<&str>, addresses: &[&str]) -> Object {
    Object::Node(Node {
        name: ObjectName::cluster_wide(NODE),
        labels: Default::default(),
        zone: zone.map(String::from),
        addresses: addresses.iter().map(|text| ip(text)).collect(),
        pod_cidrs: vec![],
        leaving: false,
    })
}

fn pod(pod: &str, ips: &[&str]) -> Pod {
    Pod {
        name: name(pod),
        labels: Default::default(),
        node: Some(NODE.into()),
        host_network: false,
        phase: PodPhase::Running,
        ips: ips.iter().map(|text| ip(text)).collect(),
        ports: vec![],
    }
}

fn port_spec(id: u16, addresses: &[&str], pod: Option<&str>) -> PortSpec {
    PortSpec {
        id: PortId(id),
        mac: MacAddr([2, 0, 0, 0, 1, id as u8]),
        mtu: 1500,
        spoof_check: true,
        role: PortRole::Pod,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        pod: pod.map(name),
    }
}

fn frontend<'a>(tables: &'a TableSet, address: &str, protocol: u8, port: u16) -> Option<&'a Frontend> {
    tables.services.frontend(&FrontendKey { address: ip(address).into(), port, protocol })
}

fn backends(tables: &TableSet, address: &str) -> Vec<String> {
    let frontend = frontend(tables, address, 6, 80).unwrap();
    let backends = frontend.inside.backends.backends();
    backends.iter().map(|backend| format!("{} {}", backend.address, backend.port)).collect()
}

/// The number of the port that an address leads to.
fn way(tables: &TableSet, address: &str) -> Option<u16> {
    match tables.routes.lookup(ip(address).into())? {
        Route::Via(adjacency) => Some(tables.routes.adjacency(adjacency).unwrap().port.0),
        Route::Local => Some(u16::MAX),
    }
}

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
fn several_slices_are_one_set_and_duplicates_count_once() {
    let mut model = model();
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(Object::EndpointSlice(slice(
        "a",
        vec![endpoint("10.0.0.1", GONE), endpoint("10.0.0.2", ALL)],
    )));
    model
        .apply(Object::EndpointSlice(slice("b", vec![endpoint("10.0.0.1", ALL), endpoint("10.0.0.3", ALL)])));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.1 8080", "10.0.0.2 8080", "10.0.0.3 8080"]);
    model.delete(Kind::EndpointSlice, &name("b"));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.2 8080"]);
}

#[test]
fn ports_are_matched_by_name_and_protocol() {
    let mut model = model();
    let mut web = service(&["10.96.0.1"]);
    web.ports =
        vec![port("", Transport::Tcp, 80), port("dns", Transport::Udp, 53), port("dns", Transport::Tcp, 53)];
    model.apply(Object::Service(web));
    let mut slice = slice("a", vec![endpoint("10.0.0.1", ALL)]);
    slice.ports = vec![
        SlicePort { name: "".into(), protocol: Transport::Tcp, port: 1 },
        SlicePort { name: "dns".into(), protocol: Transport::Udp, port: 2 },
    ];
    model.apply(Object::EndpointSlice(slice));
    let tables = model.compile();
    let ports = |protocol, port| {
        let backends = frontend(&tables, "10.96.0.1", protocol, port).unwrap().inside.backends.backends();
        backends.iter().map(|backend| backend.port).collect::<Vec<_>>()
    };
    assert_eq!((ports(6, 80), ports(17, 53), ports(6, 53)), (vec![1], vec![2], vec![]));
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
fn nobody_anywhere_rejects_and_nobody_here_drops() {
    let mut model = model();
    let mut web = service(&["10.96.0.1"]);
    model.apply(Object::Service(web.clone()));
    let when_empty = |tables: &TableSet| frontend(tables, "10.96.0.1", 6, 80).unwrap().inside.when_empty;
    assert_eq!(when_empty(&model.compile()), WhenEmpty::Reject);
    web.internal_policy = TrafficPolicy::Local;
    model.apply(Object::Service(web));
    assert_eq!(when_empty(&model.compile()), WhenEmpty::Reject);
    model.apply(Object::EndpointSlice(slice("a", vec![endpoint("10.0.0.1", ALL)])));
    let tables = model.compile();
    assert!(backends(&tables, "10.96.0.1").is_empty());
    assert_eq!(when_empty(&tables), WhenEmpty::Drop);
}

#[test]
fn a_zone_of_our_own_is_followed_when_this_node_learns_it() {
    let mut model = model();
    let hinted = |address, zone: &str| Endpoint { for_zones: vec![zone.into()], ..endpoint(address, ALL) };
    model.apply(Object::Service(service(&["10.96.0.1"])));
    model.apply(Object::EndpointSlice(slice("a", vec![hinted("10.0.0.1", "x"), hinted("10.0.0.2", "y")])));
    assert_eq!(backends(&model.compile(), "10.96.0.1").len(), 2);
    model.apply(node(Some("y"), &[]));
    assert_eq!(backends(&model.compile(), "10.96.0.1"), ["10.0.0.2 8080"]);
}

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

/// The written rules, word for word and slowly.
fn reference(endpoints: &[Endpoint], us: &str, zone: Option<&str>, local: bool) -> (Vec<IpAddr>, WhenEmpty) {
    let mut set: Vec<&Endpoint> = endpoints.iter().filter(|e| e.conditions.ready).collect();
    let last: Vec<&Endpoint> =
        endpoints.iter().filter(|e| e.conditions.serving && e.conditions.terminating).collect();
    let mut when_empty = WhenEmpty::Reject;
    if local {
        if !set.is_empty() || !last.is_empty() {
            when_empty = WhenEmpty::Drop;
        }
        set.retain(|e| e.node.as_deref() == Some(us));
        if set.is_empty() {
            set = last.into_iter().filter(|e| e.node.as_deref() == Some(us)).collect();
        }
    } else if set.is_empty() {
        set = last;
    } else if set.iter().all(|e| !e.for_nodes.is_empty())
        && set.iter().any(|e| e.for_nodes.contains(&us.to_owned()))
    {
        set.retain(|e| e.for_nodes.contains(&us.to_owned()));
    } else if let Some(zone) = zone.map(str::to_owned)
        && set.iter().all(|e| !e.for_zones.is_empty())
        && set.iter().any(|e| e.for_zones.contains(&zone))
    {
        set.retain(|e| e.for_zones.contains(&zone));
    }
    (set.iter().map(|e| e.address).collect(), when_empty)
}

fn any_endpoint() -> impl Strategy<Value = Endpoint> {
    let names = || prop::collection::vec(prop::sample::select(vec!["p".to_owned(), "q".to_owned()]), 0..2);
    let flag = || prop::option::of(any::<bool>());
    let place = prop::option::of(prop::sample::select(vec!["p".to_owned(), "q".to_owned()]));
    (1u8..9, flag(), flag(), flag(), place, names(), names()).prop_map(
        |(last, r, s, t, node, for_nodes, for_zones)| {
            let address = IpAddr::from([10, 0, 0, last]);
            Endpoint {
                address,
                conditions: Conditions::new(r, s, t),
                node,
                zone: None,
                for_nodes,
                for_zones,
                pod: None,
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]
    #[test]
    fn endpoints_are_chosen_as_the_rules_say(
        endpoints in prop::collection::vec(any_endpoint(), 0..6),
        zone in prop::option::of(Just("p")),
        local: bool,
    ) {
        let traffic = if local { TrafficPolicy::Local } else { TrafficPolicy::Cluster };
        let candidates: Vec<&Endpoint> = endpoints.iter().collect();
        let choice = choose(&candidates, Policy { node: "p", zone, traffic });
        let chosen: Vec<IpAddr> = choice.usable().map(|index| endpoints[index].address).collect();
        let expected = reference(&endpoints, "p", zone, local);
        prop_assert_eq!((chosen, choice.when_empty), expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]
    #[test]
    fn compiling_step_by_step_gives_what_compiling_at_once_gives(
        steps in prop::collection::vec((0u8..3, 0u8..3, any::<bool>(), prop::collection::vec(any_endpoint(), 0..4)), 1..12),
    ) {
        let mut stepwise = model();
        for (service_number, slice_number, remove, endpoints) in &steps {
            let service_name = format!("s{service_number}");
            let slice_name = format!("e{slice_number}");
            if *remove && *slice_number == 0 {
                stepwise.delete(Kind::Service, &name(&service_name));
            } else if *remove {
                stepwise.delete(Kind::EndpointSlice, &name(&slice_name));
            } else {
                // All want one address: ownership moves, too.
                stepwise.apply(Object::Service(Service { name: name(&service_name), ..service(&["10.96.0.1"]) }));
                let slice = EndpointSlice { service: Some(service_name), ..slice(&slice_name, endpoints.clone()) };
                stepwise.apply(Object::EndpointSlice(slice));
            }
            stepwise.compile();
        }
        let mut at_once = model();
        for service in stepwise.services.services.values() {
            at_once.apply(Object::Service(service.clone()));
        }
        for slice in stepwise.services.slices.values() {
            at_once.apply(Object::EndpointSlice(slice.clone()));
        }
        let (left, right) = (stepwise.compile(), at_once.compile());
        let show = |model: &Model, tables: &TableSet| {
            tables.services.iter().map(|(key, frontend)| {
                let owner = model.service_name(frontend.service).cloned();
                (*key, owner, frontend.inside.backends.backends().to_vec(), frontend.inside.when_empty)
            }).collect::<Vec<_>>()
        };
        prop_assert_eq!(show(&stepwise, &left), show(&at_once, &right));
    }
}
