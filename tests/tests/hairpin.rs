//! A pod that reaches itself through a service, and the node itself as a client.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, Family, Kind, Network, Protocol, ServiceSpec, ask, count_answers, exchange, expose, ping,
    serve_sctp,
};
use serde_json::json;
use std::net::SocketAddr;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const EXTERNAL: [&str; 2] = ["203.0.113.80", "2001:db8:e::80"];
const BALANCER: [&str; 2] = ["203.0.113.90", "2001:db8:e::90"];

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

/// The service with a frontend of each sort.
fn serve(network: &Network, pods: &[usize], policy: &str) {
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| {
            expose(service, "LoadBalancer", NODE_PORT);
            service["spec"]["externalIPs"] = json!(EXTERNAL);
            service["spec"]["externalTrafficPolicy"] = json!(policy);
            service["status"] = json!({"loadBalancer": {"ingress": BALANCER.map(|ip| json!({"ip": ip}))}});
        });
        manifests.endpoints_as(&service(), &network.endpoints(pods));
    });
}

/// Where it answers.
fn frontends(family: Family) -> [SocketAddr; 4] {
    let of = |addresses: [&str; 2]| addresses[usize::from(family == Family::V6)].parse().unwrap();
    [
        SocketAddr::new(Network::cluster_ip(&service(), family), PORT),
        SocketAddr::new(Network::node_address(family), NODE_PORT),
        SocketAddr::new(of(EXTERNAL), PORT),
        SocketAddr::new(of(BALANCER), PORT),
    ]
}

#[test]
fn a_pod_reaches_itself_at_every_frontend_of_its_service() {
    let network = Network::start(&Kind::ALL);
    for policy in ["Cluster", "Local"] {
        for (at, pod) in network.pods().iter().enumerate() {
            let _server = Echo::start(pod, TARGET);
            serve(&network, &[at], policy);
            for family in Family::BOTH {
                for to in frontends(family) {
                    for protocol in Protocol::USUAL {
                        let answer = ask(pod, protocol, to)
                            .unwrap_or_else(|error| panic!("{protocol:?} {:?} at {to}: {error}", pod.kind));
                        assert_eq!(answer.name, pod.name);
                        // Its own address as source would never leave the pod again.
                        assert_eq!(answer.client.ip(), Network::node_address(family), "{to}");
                    }
                    exchange(pod, to, 1 << 18).unwrap();
                }
            }
        }
    }
    network.stop();
}

#[test]
fn a_pod_reaches_itself_by_sctp_as_well() {
    let network = Network::start(&[Kind::Tap]);
    let _server = serve_sctp(network.pod(0), TARGET);
    serve(&network, &[0], "Cluster");
    for family in Family::BOTH {
        let answer = ask(network.pod(0), Protocol::Sctp, frontends(family)[0]).unwrap();
        assert_eq!(answer.client.ip(), Network::node_address(family));
    }
    network.stop();
}

#[test]
fn one_of_several_backends_reaches_them_all_and_itself() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap]);
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    serve(&network, &[0, 1], "Cluster");
    for family in Family::BOTH {
        for _ in 0..30 {
            let answer = ask(network.pod(0), Protocol::Tcp, frontends(family)[0]).unwrap();
            let expected = match &*answer.name {
                "a" => Network::node_address(family),
                _ => network.pod(0).address(family),
            };
            assert_eq!(answer.client.ip(), expected);
        }
        assert_eq!(count_answers(network.pod(0), Protocol::Udp, frontends(family)[0], 40).len(), 2);
    }
    network.stop();
}

#[test]
fn a_node_without_an_address_lends_its_pods_that_of_their_gateway() {
    let network = Network::start(&[Kind::Tap]);
    let _server = Echo::start(network.pod(0), TARGET);
    network.apply(|manifests| {
        manifests.node_with(Network::node_name(), |node| node["status"] = json!({"addresses": []}));
    });
    serve(&network, &[0], "Cluster");
    for (family, gateway) in Family::BOTH.into_iter().zip(["169.254.1.1", "fe80::4d:52ff:fe00:1"]) {
        let answer = ask(network.pod(0), Protocol::Tcp, frontends(family)[0])
            .unwrap_or_else(|error| panic!("{family:?}: {error}"));
        assert_eq!(answer.client.ip().to_string(), gateway);
    }
    network.stop();
}

#[test]
fn the_node_reaches_services_and_pods_and_the_backend_sees_the_node() {
    let mut network = Network::with_world(&Kind::ALL, Kind::AfXdp);
    network.add_host();
    let host = network.host();
    for (at, pod) in network.pods().iter().enumerate() {
        let _server = Echo::start(pod, TARGET);
        serve(&network, &[at], "Cluster");
        for family in Family::BOTH {
            let [cluster, _, external, balancer] = frontends(family);
            for to in [cluster, external, balancer, pod.at(family, TARGET)] {
                for protocol in Protocol::USUAL {
                    let answer =
                        ask(host, protocol, to).unwrap_or_else(|error| panic!("{protocol:?} {to}: {error}"));
                    assert_eq!(answer.name, pod.name);
                    assert_eq!(answer.client.ip(), Network::node_address(family), "{to}");
                }
                exchange(host, to, 1 << 18).unwrap();
            }
            assert!(ping(host, &pod.address(family).to_string(), 56));
            assert!(ping(pod, &host.address(family).to_string(), 56));
        }
    }
    // A policy on external traffic is none for the node: it may use endpoints of other nodes.
    let _server = Echo::start(network.pod(0), TARGET);
    serve(&network, &[], "Local");
    network.apply(|manifests| {
        let away = network.endpoints(&[0]).into_iter().map(|endpoint| endpoint.on("elsewhere"));
        manifests.endpoints_as(&service(), &away.collect::<Vec<_>>());
    });
    for family in Family::BOTH {
        let [_, _, external, balancer] = frontends(family);
        for to in [external, balancer] {
            assert_eq!(ask(host, Protocol::Tcp, to).unwrap().name, "a");
        }
    }
    network.stop();
}

/// A kernel keeps connections to its own addresses to itself. Whoever wants the node to reach its own NodePorts sends
/// them to Millrace by a rule before that of the local table, and takes replies from its own address.
#[test]
fn the_node_reaches_its_own_node_ports_where_its_routes_lead_them_to_millrace() {
    let mut network = Network::start(&[Kind::AfXdp, Kind::Tap]);
    network.add_host();
    let host = network.host();
    for (family, gateway) in [("-4", "169.254.1.1"), ("-6", "fe80::4d:52ff:fe00:1")] {
        for rule in [
            &["add", "pref", "100", "lookup", "local"][..],
            &["add", "pref", "10", "ipproto", "tcp", "dport", "30000-32767", "lookup", "100"],
            &["add", "pref", "11", "ipproto", "udp", "dport", "30000-32767", "lookup", "100"],
            &["del", "pref", "0"],
        ] {
            host.netns().must(&[&["ip", family, "rule"], rule].concat());
        }
        host.netns().must(&[
            "ip", family, "route", "add", "default", "via", gateway, "dev", "eth0", "onlink", "table", "100",
        ]);
    }
    host.netns().must(&[
        "sysctl",
        "-qw",
        "net.ipv4.conf.eth0.accept_local=1",
        "net.ipv4.conf.all.rp_filter=0",
    ]);
    let _server = Echo::start(network.pod(0), TARGET);
    serve(&network, &[0], "Cluster");
    for family in Family::BOTH {
        let node_port = frontends(family)[1];
        for protocol in Protocol::USUAL {
            let answer = ask(host, protocol, node_port).unwrap_or_else(|error| {
                panic!("{protocol:?} {node_port}: {error}\n{}", network.daemon().cli(&["drops"]).stdout)
            });
            assert_eq!((answer.name.as_str(), answer.client.ip()), ("a", Network::node_address(family)));
        }
        exchange(host, node_port, 1 << 18).unwrap();
    }
    network.stop();
}
