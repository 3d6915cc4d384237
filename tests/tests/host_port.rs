//! Ports of the node that lead to one pod.
//!
//! ```text
//!   world 198.51.100.7 ════ uplink  node 192.0.2.1, 2001:db8::1  ═══ web :8080, other
//!                                 host ── millrace0 ══╝
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{ObjectErrorList, path};
use millrace_tests::{
    Attached, CniCall, Echo, Family, Kind, Network, Pod, Protocol, ServiceSpec, ask, ask_as, assert_refused,
    datagram, eventually, exchange, expose, ping, serve_sctp,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Where the pod serves, and the port of the node that leads there.
const TARGET: u16 = 8080;
const HOST_PORT: u16 = 8088;
const SOON: Duration = Duration::from_secs(15);

fn started() -> Network {
    let mut network = Network::on_host(&[], |_| ());
    network.add_world(Kind::AfXdp);
    network
}

fn at_node(family: Family) -> SocketAddr {
    SocketAddr::new(Network::node_address(family), HOST_PORT)
}

/// The port of the node, by all protocols, at an address if one is given.
fn mapped(call: CniCall, host_ip: &str) -> CniCall {
    let port = |protocol| json!({"hostPort": HOST_PORT, "containerPort": TARGET, "protocol": protocol, "hostIP": host_ip});
    mappings(call, &["tcp", "udp", "sctp"].map(port))
}

fn mappings(call: CniCall, ports: &[Value]) -> CniCall {
    call.with(json!({"runtimeConfig": {"portMappings": ports}}))
}

/// The pod answers, and sees the client's own address, or else that one.
fn answers(from: &Pod, protocol: Protocol, family: Family, pod: &Pod) {
    let mut last = None;
    eventually(&format!("{} answers {} by {protocol:?} {family:?}", pod.name, from.name), SOON, || {
        last = ask(from, protocol, at_node(family)).ok();
        last.is_some()
    });
    let answer = last.expect("it came");
    assert_eq!(answer.name, pod.name);
    if from.name != pod.name {
        assert_eq!(answer.client.ip(), from.address(family), "{protocol:?}");
    }
}

/// The port is the host's own again, where nobody listens.
fn nobody_answers(from: &Pod, protocol: Protocol, family: Family) {
    ask(from, protocol, at_node(family)).expect_err("nobody is there");
}

fn reported(network: &Network, part: &str) -> bool {
    let list: ObjectErrorList = network.daemon().client().get(path::OBJECT_ERRORS).unwrap();
    list.errors.iter().any(|error| error.reason.contains(part))
}

#[test]
fn the_world_and_pods_reach_a_pod_by_a_port_of_the_node_by_every_protocol() {
    let network = started();
    let daemon = network.daemon();
    let other = Attached::add(daemon, "other", Kind::Tap);
    for kind in Kind::ALL {
        let web = Attached::add_with(daemon, "web", kind, |call| mapped(call, ""));
        let (_usual, _sctp) = (Echo::start(&web.pod, TARGET), serve_sctp(&web.pod, TARGET));
        for family in Family::BOTH {
            eventually("the pod is there", SOON, || {
                ping(&other.pod, &web.pod.address(family).to_string(), 56)
            });
            for from in [network.world(), &other.pod, &web.pod, network.host()] {
                for protocol in Protocol::ALL {
                    answers(from, protocol, family, &web.pod);
                }
                assert_eq!(exchange(from, at_node(family), 1 << 20).unwrap(), "web");
                // The host cuts nothing on its way to itself.
                let longest = if from.name == network.host().name { 1400 } else { 4000 };
                for length in [1, 1400, longest] {
                    datagram(from, at_node(family), length).unwrap();
                }
            }
        }
        // It goes with the pod.
        web.delete();
        for family in Family::BOTH {
            for protocol in [Protocol::Tcp, Protocol::Sctp] {
                nobody_answers(network.world(), protocol, family);
                nobody_answers(&other.pod, protocol, family);
                nobody_answers(network.host(), protocol, family);
            }
        }
    }
    other.delete();
    network.stop();
}

#[test]
fn a_port_of_the_node_may_be_one_of_an_address_only() {
    let network = started();
    let daemon = network.daemon();
    let node = Family::BOTH.map(Network::node_address);
    for (host_ip, families) in [
        (node[0].to_string(), [true, false]),
        (node[1].to_string(), [false, true]),
        ("0.0.0.0".to_owned(), [true, false]),
        ("::".to_owned(), [false, true]),
    ] {
        let web = Attached::add_with(daemon, "web", Kind::Tap, |call| mapped(call, &host_ip));
        let _server = Echo::start(&web.pod, TARGET);
        for (family, is_open) in Family::BOTH.into_iter().zip(families) {
            for protocol in Protocol::USUAL {
                match is_open {
                    true => answers(network.world(), protocol, family, &web.pod),
                    false => nobody_answers(network.world(), protocol, family),
                }
            }
        }
        web.delete();
    }
    let lost = Attached::add_with(daemon, "lost", Kind::Tap, |call| mapped(call, "198.51.100.77"));
    assert!(reported(&network, "198.51.100.77 answers nowhere"));
    lost.delete();
    assert!(!reported(&network, "198.51.100.77"));
    network.stop();
}

/// What upstream's test does ("validates that there is no conflict between pods with same hostPort but different hostIP and
/// protocol", `test/e2e/network/hostport.go`), in both families.
#[test]
fn pods_share_a_host_port_by_address_and_protocol_and_the_host_finds_each_at_localhost_too() {
    let network = started();
    let (daemon, host) = (network.daemon(), network.host());
    for (family, localhost) in Family::BOTH.into_iter().zip(["127.0.0.1", "::1"]) {
        let node = Network::node_address(family);
        let add = |name: &str, kind, host_ip: &str, protocol: &str| {
            let port = json!({"hostPort": HOST_PORT, "containerPort": TARGET, "protocol": protocol, "hostIP": host_ip});
            Attached::add_with(daemon, name, kind, |call| mappings(call, &[port]))
        };
        let pods = [
            add("one", Kind::Tap, localhost, "tcp"),
            add("two", Kind::AfXdp, &node.to_string(), "tcp"),
            add("three", Kind::Tap, &node.to_string(), "udp"),
        ];
        let _servers: Vec<Echo> = pods.iter().map(|pod| Echo::start(&pod.pod, TARGET)).collect();
        let at_localhost = SocketAddr::new(localhost.parse().unwrap(), HOST_PORT);
        answers(host, Protocol::Tcp, family, &pods[1].pod);
        answers(host, Protocol::Udp, family, &pods[2].pod);
        answers(network.world(), Protocol::Tcp, family, &pods[1].pod);
        // From the node's address, as upstream's test asks, and from localhost itself.
        for source in [node, at_localhost.ip()] {
            let answer = ask_as(host, source, Protocol::Tcp, at_localhost)
                .unwrap_or_else(|error| panic!("{source} → {at_localhost}: {error}"));
            assert_eq!((answer.name.as_str(), answer.client.ip()), ("one", node), "from {source}");
        }
        assert_eq!(exchange(host, at_localhost, 1 << 20).unwrap(), "one");
        assert_refused(host, Protocol::Udp, at_localhost);
        // The host's localhost is nobody else's, and its other ports stay its own.
        let _own = Echo::start(host, HOST_PORT + 1);
        let own = SocketAddr::new(at_localhost.ip(), HOST_PORT + 1);
        assert_eq!(ask(host, Protocol::Tcp, own).unwrap().name, host.name);
        pods[1].pod.netns().must(&["ip", "addr", "flush", "dev", "lo"]);
        pods[1].pod.netns().run(&["ip", "route", "flush", "table", "local", "dev", "lo"]);
        for to in [at_localhost, own] {
            ask(&pods[1].pod, Protocol::Tcp, to).expect_err("a pod does not reach the host's localhost");
        }
        pods.into_iter().for_each(Attached::delete);
        assert_refused(host, Protocol::Tcp, at_localhost);
    }
    // Without an address of its own a port is at localhost as well, as with the portmap plugin: over IPv4.
    let web = Attached::add_with(daemon, "web", Kind::Tap, |call| mapped(call, ""));
    let _server = Echo::start(&web.pod, TARGET);
    answers(host, Protocol::Tcp, Family::V4, &web.pod);
    for protocol in Protocol::USUAL {
        let answer = ask(host, protocol, SocketAddr::new([127, 0, 0, 1].into(), HOST_PORT)).unwrap();
        assert_eq!(answer.name, "web", "{protocol:?}");
    }
    web.delete();
    network.stop();
}

#[test]
fn a_port_of_the_node_has_one_owner_who_keeps_it_over_a_crash() {
    let mut network = Network::on_host(&[], |_| ());
    let tcp = json!({"hostPort": HOST_PORT, "containerPort": TARGET, "protocol": "tcp"});
    let udp = json!({"hostPort": HOST_PORT, "containerPort": TARGET, "protocol": "udp"});
    let first = Attached::add_with(network.daemon(), "first", Kind::AfXdp, |call| {
        mappings(call, std::slice::from_ref(&tcp))
    });
    let second = Attached::add_with(network.daemon(), "second", Kind::Tap, |call| {
        mappings(call, std::slice::from_ref(&udp))
    });
    let _servers = [&first, &second].map(|one| Echo::start(&one.pod, TARGET));
    // Neither the same again, nor in parts.
    let third = Attached::add(network.daemon(), "third", Kind::Tap);
    let call = third.call("ADD").variable("CNI_IFNAME", "net1").with(json!({"name": "more"}));
    for ports in [vec![tcp], vec![json!({"hostPort": 1, "containerPort": 1}), udp]] {
        assert_eq!(mappings(call.clone(), &ports).code(), 101, "{ports:?}");
    }
    let twice = [80, 81].map(|port| json!({"hostPort": 1, "containerPort": port}));
    assert_eq!(mappings(call, &twice).code(), 7);
    let all_answer = || {
        for family in Family::BOTH {
            answers(&third.pod, Protocol::Tcp, family, &first.pod);
            answers(&third.pod, Protocol::Udp, family, &second.pod);
        }
    };
    all_answer();
    network.daemon_mut().kill();
    network.daemon_mut().restart();
    all_answer();
    // A service's NodePort goes before, as with kube-proxy and the portmap plugin.
    let _server = Echo::start(&third.pod, TARGET);
    let spec = ServiceSpec::numbered("late", 10, 80, TARGET);
    network.apply(|manifests| {
        manifests.service_with(&spec, |service| expose(service, "NodePort", HOST_PORT));
        manifests.endpoints(&spec, Network::node_name(), &third.pod.addresses());
    });
    for protocol in Protocol::USUAL {
        answers(&second.pod, protocol, Family::V4, &third.pod);
    }
    assert!(reported(&network, "belongs to a service or another pod"));
    network.apply(|manifests| manifests.remove_service(&spec));
    all_answer();
    assert!(!reported(&network, "belongs to a service or another pod"));
    for one in [first, second, third] {
        one.delete();
    }
    network.stop();
}
