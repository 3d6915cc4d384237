//! Pods of all kinds with different MTUs.
//!
//! ```text
//!   a TAP 9000 ─┬─ b AF_XDP 1500
//!               ├─ c vhost-user 1400
//!               └─ d TAP 1280
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Echo, Family, Kind, Network, Pod, ServiceSpec, datagram, exchange, ping};
use std::net::SocketAddr;

const PORT: u16 = 7007;
const PODS: [(Kind, u16); 4] =
    [(Kind::Tap, 9000), (Kind::AfXdp, 1500), (Kind::Vhost, 1400), (Kind::Tap, 1280)];

fn network() -> Network {
    let mut network = Network::start(&[]);
    for (kind, mtu) in PODS {
        network.add_pod_of(kind, mtu);
    }
    network.settle();
    network
}

fn for_each_pair(network: &Network, mut work: impl FnMut(&Pod, &Pod, u16)) {
    for (from, &(_, out)) in network.pods().iter().zip(&PODS) {
        for (to, &(_, back)) in network.pods().iter().zip(&PODS).filter(|(to, _)| to.name != from.name) {
            work(from, to, out.min(back));
        }
    }
}

#[test]
fn every_interface_has_its_ports_mtu() {
    let network = network();
    for (pod, (_, mtu)) in network.pods().iter().zip(PODS) {
        let shown = pod.netns().must(&["cat", "/sys/class/net/eth0/mtu"]);
        assert_eq!(shown.trim(), mtu.to_string(), "pod {}", pod.name);
        assert_eq!(network.daemon().port(&pod.name).mtu, mtu);
    }
    network.stop();
}

#[test]
fn ipv4_packets_that_may_be_cut_arrive_whatever_the_mtu() {
    let network = network();
    for pod in network.pods() {
        // New sockets do not set "do not fragment".
        pod.netns().must(&["sysctl", "-qw", "net.ipv4.ip_no_pmtu_disc=1"]);
    }
    let spec = ServiceSpec::numbered("all", 10, 80, PORT);
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for_each_pair(&network, |from, to, _| {
        for length in [1252, 1253, 1372, 1373, 1473, 4000, 8972, 20_000, 60_000] {
            datagram(from, to.at(Family::V4, PORT), length)
                .unwrap_or_else(|error| panic!("{} → {}, {length} bytes: {error}", from.name, to.name));
        }
        let target = to.address(Family::V4).to_string();
        let echo = ["ping", "-n", "-c1", "-W2", "-Mdont", "-s4000", target.as_str()];
        assert!(from.netns().run(&echo).success, "ping {} → {}", from.name, to.name);
        exchange(from, to.at(Family::V4, PORT), 1 << 20).unwrap();
    });
    // Translated, too: all fragments to one endpoint, and those of its answer back.
    for to in 1..PODS.len() {
        network.serve(&spec, &[to]);
        let service = SocketAddr::new(Network::cluster_ip(&spec, Family::V4), 80);
        for length in [1400, 4000, 8972, 20_000] {
            datagram(network.pod(0), service, length).unwrap_or_else(|error| {
                panic!("service at {}, {length} bytes: {error}", network.pod(to).name)
            });
        }
    }
    assert_eq!(network.daemon().drops("too_big"), 0);
    network.stop();
}

#[test]
fn the_path_mtu_is_discovered_between_all_kinds_and_through_services() {
    let network = network();
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    let spec = ServiceSpec::numbered("one", 10, 80, PORT);
    network.serve(&spec, &[3]);
    for family in Family::BOTH {
        let service = SocketAddr::new(Network::cluster_ip(&spec, family), 80);
        // Learnt for the service's address, which is all that the sender knows.
        discovered(network.pod(0), service, 8900);
        assert_eq!(network.pod(0).known_mtu(service.ip()), Some(1280));
        exchange(network.pod(0), service, 1 << 20).unwrap();
        for_each_pair(&network, |from, to, mtu| {
            let target = to.at(family, PORT);
            let own = PODS.iter().zip(network.pods()).find(|(_, pod)| pod.name == from.name).unwrap().0.1;
            discovered(from, target, usize::from(own) - 48);
            if mtu < own {
                assert_eq!(from.known_mtu(target.ip()), Some(mtu), "{} → {}", from.name, to.name);
            }
            exchange(from, target, 1 << 20).unwrap();
            assert!(ping(from, &target.ip().to_string(), 56));
        });
    }
    assert!(network.daemon().drops("too_big") > 0);
    network.stop();
}

#[test]
fn an_endpoint_learns_the_path_mtu_of_a_client_behind_a_service() {
    let network = network();
    let _server = Echo::start(network.pod(0), PORT);
    let spec = ServiceSpec::numbered("big", 10, 80, PORT);
    network.serve(&spec, &[0]);
    for family in Family::BOTH {
        discovered(network.pod(3), SocketAddr::new(Network::cluster_ip(&spec, family), 80), 4000);
        assert_eq!(network.pod(0).known_mtu(network.pod(3).address(family)), Some(1280));
    }
    network.stop();
}

/// Large datagrams arrive once both ends know what the way takes; each learns from one that is lost. What is larger than
/// the sender's own MTU, it cuts itself, into fragments that may be cut again.
fn discovered(from: &Pod, to: SocketAddr, length: usize) {
    let sent = (0..4).find_map(|_| datagram(from, to, length).ok());
    assert!(sent.is_some(), "{} → {to}: {length} bytes are lost again and again", from.name);
}
