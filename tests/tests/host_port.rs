//! Ports of the node that lead to one pod.
//!
//! ```text
//!   world 198.51.100.7 ════ uplink  node 192.0.2.1, 2001:db8::1  ═══ web :8080, other
//!                                 host ── millrace0 ══╝
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{ObjectErrorList, path};
use millrace_tests::{
    Attached, CniCall, Echo, Family, Kind, Network, Pod, Protocol, ServiceSpec, ask, datagram, eventually,
    exchange, expose, ping, serve_sctp,
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
            for from in [network.world(), &other.pod, &web.pod] {
                for protocol in Protocol::ALL {
                    answers(from, protocol, family, &web.pod);
                }
                assert_eq!(exchange(from, at_node(family), 1 << 20).unwrap(), "web");
                for length in [1, 1400, 4000] {
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
