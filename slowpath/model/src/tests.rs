mod changes;
mod choice;
mod contests;
mod epoch;
mod frontends;
mod health;
mod host_ports;
mod places;
mod uplinks;
mod views;

use super::*;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{
    Backend, Frontend, FrontendKey, Gateway, PortRole, Route, TableSet, WhenEmpty,
};
use millrace_fastpath::wire::ethernet::MacAddr;
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
        routing: Default::default(),
        leaving: false,
        network_unavailable: None,
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
        port: Default::default(),
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
        Route::Spread(_) | Route::OnLink(_) | Route::Refused(_) => None,
    }
}

fn serve(model: &mut Model, service: Service, endpoints: Vec<Endpoint>) -> TableSet {
    model.apply(Object::Service(service));
    model.apply(Object::EndpointSlice(slice("a", endpoints)));
    model.compile()
}

/// A service with a frontend of each kind: port 80 at 10.96.0.1, 203.0.113.5 (external IP) and 203.0.113.6 (load
/// balancer), 30080 at this node.
fn reachable() -> Service {
    Service {
        kind: ServiceType::LoadBalancer,
        external_ips: vec![ip("203.0.113.5")],
        load_balancer_ips: vec![LoadBalancerIp { ip: ip("203.0.113.6"), vip: true }],
        ports: vec![ServicePort { node_port: Some(30080), ..port("http", Transport::Tcp, 80) }],
        ..service(&["10.96.0.1"])
    }
}

const EXTERNAL: [(&str, u16); 3] = [("203.0.113.5", 80), ("203.0.113.6", 80), ("192.0.2.1", 30080)];

/// An endpoint on a node.
fn on(node: &str, address: &str, conditions: Conditions) -> Endpoint {
    Endpoint { node: Some(node.into()), ..endpoint(address, conditions) }
}

/// Addresses of the endpoints that a pool offers.
fn offers(pool: &millrace_fastpath::tables::Pool) -> Vec<String> {
    pool.backends.backends().iter().map(|backend| backend.address.to_string()).collect()
}

fn owner(model: &mut Model, address: &str, port: u16) -> Option<String> {
    let id = frontend(&model.compile(), address, 6, port)?.service;
    model.service_name(id).map(|name| name.service.name.clone())
}
