//! Parts of a random cluster. Addresses, names and numbers are few, so that there are conflicts of all kinds.

use super::{Random, RawEndpoint, World, ip, net};
use millrace_model::{
    LoadBalancerIp, Node, ObjectName, Service, ServicePort, ServiceType, TrafficPolicy, Transport,
};

pub(crate) const NAMESPACES: [&str; 2] = ["red", "blue"];
pub(crate) const SERVICES: [&str; 3] = ["a", "b", "c"];
pub(crate) const CLUSTER_IPS: [[&str; 2]; 2] = [["10.96.0.1", "10.96.0.2"], ["fd96::1", "fd96::2"]];
pub(crate) const NODE_ADDRESSES: [&str; 4] = ["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2"];
pub(crate) const EXTERNAL_IPS: [&str; 6] =
    ["203.0.113.50", "203.0.113.51", "2001:db8:50::1", "2001:db8:50::2", "10.96.0.1", "192.0.2.1"];
pub(crate) const ENDPOINTS: [[&str; 6]; 2] = [
    ["10.0.0.1", "10.0.0.2", "10.0.1.1", "10.0.1.2", "10.0.2.1", "192.0.2.1"],
    ["fd00::1", "fd00::2", "fd00:1::1", "fd00:1::2", "fd00:2::1", "2001:db8::1"],
];
pub(crate) const RANGES: [&str; 7] =
    ["198.51.100.0/24", "10.0.0.0/16", "0.0.0.0/0", "192.0.2.0/24", "2001:db8:9::/48", "fd00::/32", "::/0"];
pub(crate) const POD_CIDRS: [[&str; 2]; 3] =
    [["10.0.0.0/24", "fd00::/64"], ["10.0.1.0/24", "fd00:1::/64"], ["10.0.2.0/24", "fd00:2::/64"]];
pub(crate) const ZONES: [&str; 2] = ["x", "y"];
pub(crate) const PORTS: [(&str, Transport, u16); 6] = [
    ("http", Transport::Tcp, 80),
    ("http", Transport::Udp, 80),
    ("dns", Transport::Udp, 81),
    ("", Transport::Tcp, 81),
    ("sig", Transport::Sctp, 80),
    ("np", Transport::Tcp, 30080),
];

pub(super) fn any_node(random: &mut Random, name: &str) -> Node {
    let number = World::NODES.iter().position(|other| *other == name).unwrap();
    let addresses = if name == World::US { random.some(&NODE_ADDRESSES, 60) } else { Vec::new() };
    Node {
        name: ObjectName::cluster_wide(name),
        labels: Default::default(),
        zone: random.chance(70).then(|| random.pick(&ZONES).to_string()),
        addresses: addresses.iter().map(ip).collect(),
        pod_cidrs: random.some(&POD_CIDRS[number], 80).iter().map(net).collect(),
        routing: Default::default(),
        leaving: false,
        network_unavailable: None,
    }
}

pub(super) fn any_service(random: &mut Random) -> Service {
    let kinds =
        [ServiceType::ClusterIp, ServiceType::NodePort, ServiceType::LoadBalancer, ServiceType::LoadBalancer];
    let kind = if random.chance(4) { ServiceType::ExternalName } else { *random.pick(&kinds) };
    let cluster_ips = random.some(&CLUSTER_IPS, 80).iter().map(|family| ip(random.pick(family))).collect();
    let policy = |random: &mut Random| *random.pick(&[TrafficPolicy::Cluster, TrafficPolicy::Local]);
    let balancers = random.some(&EXTERNAL_IPS, if kind == ServiceType::LoadBalancer { 45 } else { 0 });
    let ports = random.some(&PORTS, 45).into_iter().map(|(name, protocol, port)| ServicePort {
        name: name.to_owned(),
        protocol,
        port,
        node_port: *random.pick(&[None, Some(30080), Some(30081), Some(30082)]),
    });
    let ports = ports.collect();
    Service {
        name: ObjectName::new(*random.pick(&NAMESPACES), *random.pick(&SERVICES)),
        labels: Default::default(),
        kind,
        cluster_ips,
        external_ips: random.some(&EXTERNAL_IPS, 25).iter().map(ip).collect(),
        load_balancer_ips: balancers
            .iter()
            .map(|text| LoadBalancerIp { ip: ip(text), vip: random.chance(85) })
            .collect(),
        source_ranges: random.some(&RANGES, 20).iter().map(net).collect(),
        ports,
        internal_policy: policy(random),
        external_policy: policy(random),
        affinity_seconds: random.chance(25).then_some(600),
        health_check_node_port: None,
        foreign_proxy: random.chance(4),
    }
}

pub(super) fn any_endpoint(random: &mut Random, v4: bool) -> RawEndpoint {
    let mut flag = |yes: usize, no: usize| match random.below(100) {
        roll if roll < yes => Some(true),
        roll if roll < yes + no => Some(false),
        _ => None,
    };
    let (ready, serving, terminating) = (flag(45, 30), flag(45, 15), flag(35, 35));
    // Hints are mostly there, or they would never hold.
    let hinted = random.chance(50);
    let hints = |random: &mut Random, names: &[&str], percent| {
        random.some(names, if hinted { percent } else { 0 }).iter().map(|name| name.to_string()).collect()
    };
    RawEndpoint {
        address: ip(random.pick(&ENDPOINTS[usize::from(!v4)])),
        ready,
        serving,
        terminating,
        node: random.chance(90).then(|| random.pick(&World::NODES).to_string()),
        for_nodes: hints(random, &World::NODES, 40),
        for_zones: hints(random, &ZONES, 60),
    }
}
