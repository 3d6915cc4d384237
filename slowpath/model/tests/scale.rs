//! A large cluster: what it costs to load it, and to change it afterwards. To be run in release with `--ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use millrace_fastpath::tables::{FrontendKey, Gateway};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const SERVICES: u32 = 10_000;
const ENDPOINTS: u32 = 10;
const CHANGES: u32 = 1_000;

fn address(first: u32, number: u32) -> IpAddr {
    Ipv4Addr::from_bits(first << 24 | number).into()
}

fn name(number: u32) -> ObjectName {
    ObjectName::new("ns", format!("service-{number}"))
}

fn service(number: u32) -> Object {
    Object::Service(Service {
        name: name(number),
        labels: Default::default(),
        kind: ServiceType::NodePort,
        cluster_ips: vec![address(172, number)],
        external_ips: vec![],
        load_balancer_ips: vec![],
        source_ranges: vec![],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Transport::Tcp,
            port: 80,
            node_port: (number < 2_000).then_some(30_000 + number as u16),
        }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Local,
        affinity_seconds: None,
        health_check_node_port: None,
        foreign_proxy: false,
    })
}

fn slice(number: u32, endpoints: u32) -> Object {
    let endpoint = |which: u32| Endpoint {
        address: address(10, number * 16 + which),
        conditions: Conditions::new(None, None, None),
        node: Some(format!("node-{}", which % 100)),
        zone: None,
        for_nodes: vec![],
        for_zones: vec![],
        pod: None,
    };
    Object::EndpointSlice(EndpointSlice {
        name: name(number),
        service: Some(format!("service-{number}")),
        family: AddressFamily::V4,
        headless: false,
        ports: vec![SlicePort { name: "http".into(), protocol: Transport::Tcp, port: 8080 }],
        endpoints: (0..endpoints).map(endpoint).collect(),
        trigger_time: None,
    })
}

fn node(addresses: &[&str]) -> Object {
    Object::Node(Node {
        name: ObjectName::cluster_wide("node-1"),
        labels: Default::default(),
        zone: None,
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        pod_cidrs: vec![],
        routing: Default::default(),
        leaving: false,
        network_unavailable: None,
    })
}

fn model() -> Model {
    let gateway = Gateway {
        mac: MacAddr([2, 0, 0, 0, 0, 1]),
        ipv4: [169, 254, 1, 1].into(),
        ipv6: "fe80::1".parse().unwrap(),
    };
    Model::new(ModelConfig::new("node-1", gateway))
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

#[test]
#[ignore = "measures time; run it alone"]
fn a_change_costs_what_changes_not_what_is_there() {
    let start = Instant::now();
    let mut model = model();
    model.apply(node(&["192.0.2.1"]));
    for number in 0..SERVICES {
        model.apply(service(number));
        model.apply(slice(number, ENDPOINTS));
    }
    let applied = start.elapsed();
    let mut published = model.compile();
    println!(
        "{SERVICES} services with {ENDPOINTS} endpoints: applied in {applied:?}, compiled in {:?}",
        start.elapsed() - applied
    );
    assert_eq!(published.services.len(), SERVICES as usize + 2_000);
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let number = change * 7 % SERVICES;
        let object = slice(number, ENDPOINTS - 1 - change % 2);
        let start = Instant::now();
        model.apply(object);
        let next = model.compile();
        times.push(start.elapsed());
        let key = FrontendKey { address: address(172, number).into(), port: 80, protocol: 6 };
        let offered = next.services.frontend(&key).unwrap().inside.backends.backends().len();
        assert_eq!(offered as u32, ENDPOINTS - 1 - change % 2);
        // Workers hold the version before while the next is made.
        published = next;
    }
    println!(
        "an endpoint of a service: median {:?}, 99th percentile {:?}",
        median(times.clone()).0,
        median(times).1
    );
    let start = Instant::now();
    model.apply(node(&["192.0.2.2"]));
    published = {
        drop(published);
        model.compile()
    };
    println!("this node's address, 2,000 NodePorts: {:?}", start.elapsed());
    assert_eq!(published.services.len(), SERVICES as usize + 2_000);
}
