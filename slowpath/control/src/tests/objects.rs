//! A small cluster: `demo/web` with two endpoints and every kind of frontend, and services that lack something.

use millrace_model::{
    AddressFamily, Conditions, Endpoint, EndpointSlice, LoadBalancerIp, Node, Object, ObjectName, Service,
    ServicePort, ServiceType, SlicePort, TrafficPolicy, Transport,
};
use std::net::IpAddr;

/// The service with endpoints.
pub(super) const SERVICE: &str = "web";

pub(super) fn cluster() -> Vec<Object> {
    let ready = Conditions { ready: true, serving: true, terminating: false };
    let mut empty = service("empty");
    (empty.cluster_ips, empty.load_balancer_ips) = (vec![ip("10.96.0.2")], vec![]);
    empty.kind = ServiceType::ClusterIp;
    empty.ports[0].node_port = None;
    let mut local = service("local");
    (local.cluster_ips, local.load_balancer_ips) = (vec![ip("10.96.0.3")], vec![vip("198.51.100.2")]);
    (local.external_policy, local.source_ranges) = (TrafficPolicy::Local, vec![]);
    local.ports[0].node_port = None;
    vec![
        Object::Node(node()),
        Object::Service(service(SERVICE)),
        Object::EndpointSlice(slice(
            SERVICE,
            vec![
                endpoint("10.0.0.2", "node", "b", ready),
                endpoint("10.0.0.3", "node", "c", ready),
                endpoint("10.0.0.4", "node", "d", Conditions { ready: false, ..ready }),
            ],
        )),
        Object::Service(empty),
        Object::Service(local),
        Object::EndpointSlice(slice("local", vec![endpoint("10.0.7.2", "other", "x", ready)])),
    ]
}

pub(super) fn service(name: &str) -> Service {
    Service {
        name: ObjectName::new("demo", name),
        labels: Default::default(),
        kind: ServiceType::LoadBalancer,
        cluster_ips: vec![ip("10.96.0.1")],
        external_ips: vec![],
        load_balancer_ips: vec![vip("198.51.100.1")],
        source_ranges: vec!["192.0.2.0/24".parse().unwrap()],
        ports: vec![ServicePort {
            name: "http".into(),
            protocol: Transport::Udp,
            port: 80,
            node_port: Some(30080),
        }],
        internal_policy: TrafficPolicy::Cluster,
        external_policy: TrafficPolicy::Cluster,
        affinity_seconds: None,
        health_check_node_port: None,
        foreign_proxy: false,
    }
}

fn vip(address: &str) -> LoadBalancerIp {
    LoadBalancerIp { ip: ip(address), vip: true }
}

fn node() -> Node {
    Node {
        name: ObjectName::cluster_wide("node"),
        labels: Default::default(),
        zone: None,
        addresses: vec![ip("192.0.2.1")],
        pod_cidrs: vec![],
        routing: Default::default(),
        leaving: false,
        network_unavailable: None,
    }
}

fn slice(service: &str, endpoints: Vec<Endpoint>) -> EndpointSlice {
    EndpointSlice {
        name: ObjectName::new("demo", format!("{service}-1")),
        service: Some(service.to_owned()),
        family: AddressFamily::V4,
        headless: false,
        ports: vec![SlicePort { name: "http".into(), protocol: Transport::Udp, port: 8080 }],
        endpoints,
        trigger_time: None,
    }
}

fn endpoint(address: &str, node: &str, pod: &str, conditions: Conditions) -> Endpoint {
    Endpoint {
        address: ip(address),
        conditions,
        node: Some(node.to_owned()),
        zone: None,
        for_nodes: vec![],
        for_zones: vec![],
        pod: Some(ObjectName::new("demo", pod)),
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}
