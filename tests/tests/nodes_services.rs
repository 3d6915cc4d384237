//! Services whose endpoints are on several nodes, for pods, nodes and the world.
//!
//! ```text
//!   node-1: a, c    node-2: b    world behind the router
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Conversation, Echo, EndpointSpec, Fabric, Family, Kind, Plan, Pod, Protocol, Role, ServiceSpec,
    UdpClient, ask, assert_refused, assert_silent, count_answers, datagram, exchange, expose, http_get,
    request, serve_sctp,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::ops::RangeInclusive;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const EXTERNAL: [&str; 2] = ["203.0.113.80", "2001:db8:e::80"];
const BALANCER: [&str; 2] = ["203.0.113.90", "2001:db8:e::90"];
/// The default of `services.masqueradePorts`.
const MASQUERADE: RangeInclusive<u16> = 49_152..=65_535;

struct Scene {
    fabric: Fabric,
    _servers: Vec<Box<dyn std::any::Any>>,
}

/// Two nodes; `a` and `c` are on the first, `b` on the second. All pods and both nodes serve.
fn scene(mode: &str) -> Scene {
    let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |_, config| {
        config["routing"] = json!({"mode": mode});
    });
    for (node, kind) in [(0, Kind::Veth), (1, Kind::Veth), (0, Kind::AfXdp)] {
        fabric.add_pod(node, kind);
    }
    let mut servers: Vec<Box<dyn std::any::Any>> = Vec::new();
    for place in fabric.pods().iter().chain(fabric.nodes().iter().map(|node| &node.host)) {
        servers.push(Box::new(Echo::start(place, TARGET)));
        servers.push(Box::new(serve_sctp(place, TARGET)));
    }
    for address in EXTERNAL.iter().chain(&BALANCER) {
        let family = usize::from(address.contains(':'));
        let hop = fabric.node(0).host.addresses()[family].to_string();
        fabric.netns().must(&["ip", "route", "add", address, "via", &hop]);
    }
    Scene { fabric, _servers: servers }
}

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at_service(family: Family) -> SocketAddr {
    SocketAddr::new(service().cluster_ips[usize::from(family == Family::V6)], PORT)
}

fn at(addresses: [&str; 2], family: Family) -> SocketAddr {
    SocketAddr::new(addresses[usize::from(family == Family::V6)].parse().unwrap(), PORT)
}

fn at_node(fabric: &Fabric, node: usize, family: Family) -> SocketAddr {
    SocketAddr::new(fabric.node(node).at(family), NODE_PORT)
}

fn everywhere(policy: &str) -> impl FnOnce(&mut Value) + use<'_> {
    move |service| {
        expose(service, "LoadBalancer", NODE_PORT);
        service["spec"]["externalIPs"] = json!(EXTERNAL);
        service["spec"]["externalTrafficPolicy"] = json!(policy);
        service["status"] =
            json!({"loadBalancer": {"ingress": BALANCER.map(|ip| json!({"ip": ip, "ipMode": "VIP"}))}});
    }
}

fn client_of(from: &Pod, protocol: Protocol, to: SocketAddr) -> SocketAddr {
    ask(from, protocol, to)
        .unwrap_or_else(|error| panic!("{} → {to} {protocol:?}: {error}", from.name))
        .client
}

#[test]
fn a_cluster_ip_leads_pods_and_nodes_to_endpoints_of_other_nodes() {
    for mode in ["native", "vxlan"] {
        let scene = scene(mode);
        let fabric = &scene.fabric;
        fabric.serve_with(&service(), &[1], |_| ());
        for family in Family::BOTH {
            let to = at_service(family);
            for from in [fabric.pod(0), fabric.pod(2), &fabric.node(0).host] {
                request(from, to, &Protocol::ALL, "b", from.address(family));
                exchange(from, to, 2 << 20)
                    .unwrap_or_else(|error| panic!("{mode}: {} → {to}: {error}", from.name));
                for length in [1, 1400, 9000] {
                    let found = (0..3).find_map(|_| datagram(from, to, length).ok());
                    assert!(found.is_some(), "{mode}: {} → {to}, {length} bytes", from.name);
                }
            }
            // The endpoint itself, and its node.
            request(
                fabric.pod(1),
                to,
                &Protocol::USUAL,
                "b",
                client_of(fabric.pod(1), Protocol::Udp, to).ip(),
            );
            request(&fabric.node(1).host, to, &Protocol::USUAL, "b", fabric.node(1).at(family));
        }
        // Spread over both nodes.
        fabric.serve_with(&service(), &[0, 1], |_| ());
        for family in Family::BOTH {
            let answers = count_answers(fabric.pod(2), Protocol::Udp, at_service(family), 40);
            assert_eq!(answers.len(), 2, "{answers:?}");
        }
        fabric.serve_with(&service(), &[], |_| ());
        for family in Family::BOTH {
            assert_refused(fabric.pod(0), Protocol::Tcp, at_service(family));
        }
        scene.fabric.stop();
    }
}

#[test]
fn processes_of_other_nodes_are_endpoints() {
    let scene = scene("auto");
    let fabric = &scene.fabric;
    let nodes = fabric.nodes().iter();
    let endpoints: Vec<EndpointSpec> = nodes
        .flat_map(|node| node.host.addresses().map(|address| EndpointSpec::ready(address, &node.name)))
        .collect();
    for (at, node) in fabric.nodes().iter().enumerate() {
        let own: Vec<_> = endpoints.iter().filter(|endpoint| endpoint.node == node.name).cloned().collect();
        fabric.apply(|manifests| {
            manifests.service_with(&service(), |service| expose(service, "NodePort", NODE_PORT));
            manifests.endpoints_as(&service(), &own);
        });
        for family in Family::BOTH {
            for from in [fabric.pod(0), fabric.pod(1)] {
                let far = (at == 0) != (from.name == "a");
                let answer = ask(from, Protocol::Tcp, at_service(family))
                    .unwrap_or_else(|error| panic!("{} → {} by its service: {error}", from.name, node.name));
                assert_eq!(answer.name, node.name);
                assert_eq!(answer.client.ip(), from.address(family), "far: {far}");
                request(from, at_service(family), &[Protocol::Udp], &node.name, from.address(family));
                exchange(from, at_service(family), 1 << 20).unwrap();
            }
            let other = &fabric.node(1 - at).host;
            assert_eq!(ask(other, Protocol::Tcp, at_service(family)).unwrap().name, node.name);
            // The world, at either node.
            for entry in 0..2 {
                for protocol in Protocol::USUAL {
                    let answer = ask(fabric.world(), protocol, at_node(fabric, entry, family))
                        .unwrap_or_else(|error| panic!("world → node {entry} → {}: {error}", node.name));
                    assert_eq!(answer.name, node.name);
                }
            }
        }
    }
    scene.fabric.stop();
}

#[test]
fn the_world_reaches_endpoints_of_other_nodes_masqueraded() {
    for mode in ["native", "vxlan"] {
        let scene = scene(mode);
        let fabric = &scene.fabric;
        let world = fabric.world();
        fabric.serve_with(&service(), &[1], everywhere("Cluster"));
        for family in Family::BOTH {
            for to in [at_node(fabric, 0, family), at(EXTERNAL, family), at(BALANCER, family)] {
                for protocol in Protocol::ALL {
                    let answer = ask(world, protocol, to)
                        .unwrap_or_else(|error| panic!("{mode}: world → {to} {protocol:?}: {error}"));
                    assert_eq!(answer.name, "b");
                    assert_eq!(
                        answer.client.ip(),
                        fabric.node(0).at(family),
                        "{mode}: masqueraded by the node it came by"
                    );
                    assert!(MASQUERADE.contains(&answer.client.port()), "{}", answer.client);
                }
                exchange(world, to, 4 << 20).unwrap_or_else(|error| panic!("{mode}: world → {to}: {error}"));
                for length in [1, 1422, 1423, 1450, 1472, 4000] {
                    let found = (0..3).find_map(|_| datagram(world, to, length).ok());
                    assert!(found.is_some(), "{mode}: world → {to}: {length} bytes");
                }
            }
            // Where the endpoint is.
            request(world, at_node(fabric, 1, family), &Protocol::USUAL, "b", fabric.node(1).at(family));
            // Pods and nodes at another node's NodePort.
            request(
                fabric.pod(1),
                at_node(fabric, 0, family),
                &Protocol::USUAL,
                "b",
                fabric.node(0).at(family),
            );
            // What comes by one uplink leaves by it again, and out of one tunnel into another.
            exchange(fabric.pod(1), at_node(fabric, 0, family), 4 << 20)
                .unwrap_or_else(|error| panic!("{mode}: b → node-1 → b: {error}"));
            assert_eq!(ask(fabric.pod(0), Protocol::Tcp, at_node(fabric, 1, family)).unwrap().name, "b");
            let other = ask(&fabric.node(1).host, Protocol::Tcp, at_node(fabric, 0, family));
            let other = other
                .unwrap_or_else(|error| panic!("{mode} {family:?}: a node at another's NodePort: {error}"));
            assert_eq!(other.name, "b");
        }
        scene.fabric.stop();
    }
}

/// A host sends what is for an external address by its NIC; where such an address is a service's, that is no way to it.
#[test]
fn nodes_themselves_reach_external_and_load_balancers_addresses() {
    let scene = scene("auto");
    let fabric = &scene.fabric;
    fabric.serve_with(&service(), &[1], everywhere("Cluster"));
    for node in fabric.nodes() {
        for family in Family::BOTH {
            for to in [at(EXTERNAL, family), at(BALANCER, family)] {
                request(&node.host, to, &Protocol::ALL, "b", node.host.address(family));
                exchange(&node.host, to, 2 << 20).unwrap();
            }
            // Only there: other ports go where they went before.
            let other = SocketAddr::new(at(EXTERNAL, family).ip(), PORT + 1);
            ask(&node.host, Protocol::Tcp, other).unwrap_err();
        }
    }
    fabric.serve_with(&service(), &[], everywhere("Cluster"));
    for family in Family::BOTH {
        assert_refused(&fabric.node(1).host, Protocol::Tcp, at(EXTERNAL, family));
    }
    scene.fabric.stop();
}

#[test]
fn with_the_local_policy_the_client_is_kept_and_nodes_without_endpoints_are_silent() {
    let scene = scene("auto");
    let fabric = &scene.fabric;
    let world = fabric.world();
    fabric.serve_with(&service(), &[0], everywhere("Local"));
    for family in Family::BOTH {
        for to in [at_node(fabric, 0, family), at(EXTERNAL, family), at(BALANCER, family)] {
            request(world, to, &Protocol::ALL, "a", world.address(family));
            exchange(world, to, 1 << 20).unwrap();
        }
        for protocol in Protocol::USUAL {
            assert_silent(world, None, protocol, at_node(fabric, 1, family));
        }
        // Pods of the other node are served all the same.
        assert_eq!(ask(fabric.pod(1), Protocol::Tcp, at_service(family)).unwrap().name, "a");
        // At another node's NodePort pods are as outside as the world; at their own node's they are not.
        let (far, near) = (fabric.pod(1), fabric.pod(2));
        request(far, at_node(fabric, 0, family), &Protocol::ALL, "a", far.address(family));
        for protocol in Protocol::USUAL {
            assert_silent(near, None, protocol, at_node(fabric, 1, family));
            for (from, node) in [(near, 0), (far, 1)] {
                assert_eq!(ask(from, protocol, at_node(fabric, node, family)).unwrap().name, "a");
            }
        }
        // So are other nodes themselves.
        let host = &fabric.node(1).host;
        request(host, at_node(fabric, 0, family), &Protocol::USUAL, "a", host.address(family));
        assert_silent(&fabric.node(0).host, None, Protocol::Tcp, at_node(fabric, 1, family));
    }
    fabric.serve_with(&service(), &[1], everywhere("Local"));
    for family in Family::BOTH {
        assert_silent(world, None, Protocol::Tcp, at_node(fabric, 0, family));
        request(world, at_node(fabric, 1, family), &Protocol::USUAL, "b", world.address(family));
    }
    scene.fabric.stop();
}

/// The tests of `test/e2e/network/conntrack.go` in Kubernetes: clients that keep their port while servers come and go, pods and
/// hosts, at NodePorts and ClusterIPs, with servers on another node.
#[test]
fn udp_clients_that_keep_their_port_follow_the_endpoints_over_nodes() {
    let scene = scene("auto");
    let fabric = &scene.fabric;
    let (pod, host) = (fabric.pod(0), &fabric.node(0).host);
    let serve = |pods: &[usize]| {
        fabric.serve_with(&service(), pods, |service| expose(service, "NodePort", NODE_PORT))
    };
    serve(&[]);
    let clients: Vec<UdpClient> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            let [near, far] = [0, 1].map(|node| at_node(fabric, node, family));
            let froms = [(pod, near), (pod, far), (pod, at_service(family))];
            [froms, [(host, near), (host, far), (host, at_service(family))]].concat()
        })
        .map(|(from, to)| UdpClient::open(from, to).unwrap())
        .collect();
    let all_hear = |name: &str| {
        for client in &clients {
            let answer = (0..2).find_map(|_| client.ask().ok());
            assert_eq!(answer.map(|answer| answer.name).as_deref(), Some(name), "{client:?}");
        }
    };
    let nobody_is_served = || {
        clients.iter().for_each(|client| {
            client.ask_within(std::time::Duration::from_millis(300)).unwrap_err();
        })
    };
    nobody_is_served();
    serve(&[1]);
    all_hear("b");
    // Another comes before the first goes, and the other way round.
    serve(&[1, 2]);
    all_hear("b");
    serve(&[2]);
    all_hear("c");
    serve(&[]);
    nobody_is_served();
    // Its container starts; then it is ready.
    let unready: Vec<_> = fabric.endpoints(&[1]).into_iter().map(EndpointSpec::unready).collect();
    fabric.apply(|manifests| manifests.endpoints_as(&service(), &unready));
    nobody_is_served();
    serve(&[1]);
    all_hear("b");
    // With the internal policy Local those of other nodes are no substitute.
    let local = |pods: &[usize]| {
        fabric.serve_with(&service(), pods, |service| {
            service["spec"]["internalTrafficPolicy"] = json!("Local")
        });
    };
    for family in Family::BOTH {
        local(&[1, 2]);
        let clients = [pod, host].map(|from| UdpClient::open(from, at_service(family)).unwrap());
        clients.iter().for_each(|client| assert_eq!(client.ask().unwrap().name, "c"));
        local(&[1]);
        clients.iter().for_each(|client| {
            client.ask_within(std::time::Duration::from_millis(300)).unwrap_err();
        });
        local(&[0, 1]);
        assert_eq!(clients[1].ask().unwrap().name, "a");
        local(&[1, 2]);
        clients.iter().for_each(|client| assert_eq!(client.ask().unwrap().name, "c"));
    }
    scene.fabric.stop();
}

#[test]
fn affinity_holds_over_nodes_and_pods_that_are_their_own_endpoint_reach_themselves() {
    let scene = scene("auto");
    let fabric = &scene.fabric;
    fabric.serve_with(&service(), &[0, 1, 2], |service| {
        expose(service, "NodePort", NODE_PORT);
        service["spec"]["sessionAffinity"] = json!("ClientIP");
    });
    for family in Family::BOTH {
        for (from, to) in [
            (fabric.world(), at_node(fabric, 0, family)),
            (fabric.pod(0), at_service(family)),
            (&fabric.node(0).host, at_service(family)),
        ] {
            let answers = count_answers(from, Protocol::Tcp, to, 12);
            assert_eq!(answers.len(), 1, "{} → {to}: {answers:?}", from.name);
        }
    }
    for own in [0, 1] {
        fabric.serve_with(&service(), &[own], |service| expose(service, "NodePort", NODE_PORT));
        let pod = fabric.pod(own);
        for family in Family::BOTH {
            for to in [at_service(family), at_node(fabric, 0, family), at_node(fabric, 1, family)] {
                for protocol in Protocol::USUAL {
                    let answer =
                        ask(pod, protocol, to).unwrap_or_else(|error| panic!("{} → {to}: {error}", pod.name));
                    assert_eq!(answer.name, pod.name);
                }
            }
        }
    }
    scene.fabric.stop();
}

#[test]
fn connections_over_nodes_live_while_services_change() {
    let scene = scene("vxlan");
    let fabric = &scene.fabric;
    fabric.serve_with(&service(), &[1], everywhere("Cluster"));
    let froms = [fabric.world(), fabric.pod(0), &fabric.node(0).host];
    let mut talks: Vec<Conversation> = Vec::new();
    for family in Family::BOTH {
        talks.push(Conversation::open(froms[0], at_node(fabric, 0, family)).unwrap());
        talks.push(Conversation::open(froms[1], at_service(family)).unwrap());
        talks.push(Conversation::open(froms[2], at_service(family)).unwrap());
    }
    let client = UdpClient::open(froms[1], at_service(Family::V4)).unwrap();
    assert_eq!(client.ask().unwrap().name, "b");
    for round in 0..5_u8 {
        fabric.serve_with(&service(), &[1, usize::from(round % 2) * 2], everywhere("Cluster"));
        talks.iter_mut().for_each(|talk| talk.say("still here").unwrap());
        assert_eq!(client.ask().unwrap().name, "b");
    }
    scene.fabric.stop();
}

#[test]
fn the_node_itself_probes_its_pods_and_the_world_reaches_its_own_servers() {
    let scene = scene("auto");
    let fabric = &scene.fabric;
    let (node, world) = (fabric.node(0), fabric.world());
    let _world = Echo::start(world, TARGET);
    for family in Family::BOTH {
        for pod in [0, 2] {
            request(
                &node.host,
                fabric.pod(pod).at(family, TARGET),
                &Protocol::USUAL,
                &fabric.pod(pod).name,
                node.at(family),
            );
        }
        // What nobody claimed goes to the kernel as before.
        request(world, node.host.at(family, TARGET), &Protocol::ALL, &node.name, world.address(family));
        request(&node.host, world.at(family, TARGET), &Protocol::USUAL, "world", node.at(family));
        assert_refused(world, Protocol::Tcp, node.host.at(family, 4));
        assert_refused(world, Protocol::Udp, node.host.at(family, 4));
    }
    let answer = http_get(world.netns(), &format!("http://{}:10256/healthz", node.at(Family::V4)));
    assert_eq!(answer.map(|answer| answer.status), Some(200), "health checks come by the NIC");
    scene.fabric.stop();
}
