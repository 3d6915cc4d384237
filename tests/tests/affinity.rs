//! Session affinity: clients that stay with their endpoint.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, Family, Kind, Network, Protocol, ServiceSpec, ask, ask_as, count_answers, expose,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const BACKENDS: [usize; 3] = [1, 2, 3];
const KINDS: [Kind; 4] = [Kind::AfXdp, Kind::Tap, Kind::AfXdp, Kind::Tap];

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at_node(family: Family) -> SocketAddr {
    SocketAddr::new(Network::node_address(family), NODE_PORT)
}

fn at_service(family: Family) -> SocketAddr {
    SocketAddr::new(Network::cluster_ip(&service(), family), PORT)
}

/// A service of type NodePort with affinity of so many seconds, or without.
fn serve(network: &Network, seconds: Option<u32>) {
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| {
            expose(service, "NodePort", NODE_PORT);
            if let Some(seconds) = seconds {
                service["spec"]["sessionAffinity"] = json!("ClientIP");
                service["spec"]["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
            }
        });
    });
}

fn start() -> (Network, Vec<Echo>) {
    let network = Network::with_world(&KINDS, Kind::AfXdp);
    let servers = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    network.set_endpoints(&service(), &BACKENDS);
    (network, servers)
}

/// Twenty more addresses of the world.
fn crowd(network: &Network, family: Family) -> Vec<IpAddr> {
    let of = |number: u8| match family {
        Family::V4 => format!("198.51.100.{number}").parse().unwrap(),
        Family::V6 => format!("2001:db8:ffff::{number}").parse().unwrap(),
    };
    let addresses: Vec<IpAddr> = (100..120).map(of).collect();
    addresses.iter().for_each(|address| network.world().add_address(*address));
    addresses
}

/// Who answers a client's questions; all by one endpoint.
fn home(network: &Network, client: IpAddr, protocol: Protocol, to: SocketAddr) -> String {
    let names: BTreeSet<String> =
        (0..8).map(|_| ask_as(network.world(), client, protocol, to).unwrap().name).collect();
    assert_eq!(names.len(), 1, "{client} → {to}: {names:?}");
    names.into_iter().next().unwrap()
}

#[test]
fn a_client_stays_with_its_endpoint_and_clients_are_spread() {
    let (network, _servers) = start();
    serve(&network, Some(600));
    for family in Family::BOTH {
        let crowd = crowd(&network, family);
        for to in [at_node(family), at_service(family)] {
            for protocol in Protocol::USUAL {
                let homes: BTreeSet<String> =
                    crowd.iter().map(|client| home(&network, *client, protocol, to)).collect();
                // Twenty clients that all miss one of three endpoints: one chance in thousand.
                assert!(homes.len() >= 2, "{to} {protocol:?}: all at {homes:?}");
            }
        }
        // A pod is a client like others.
        for protocol in Protocol::USUAL {
            let answers = count_answers(network.pod(0), protocol, at_service(family), 12);
            assert_eq!(answers.len(), 1, "{protocol:?} {answers:?}");
        }
    }
    network.stop();
}

#[test]
fn a_client_has_one_home_for_all_frontends_of_a_service_port() {
    let (network, _servers) = start();
    serve(&network, Some(600));
    for family in Family::BOTH {
        for client in crowd(&network, family).into_iter().take(6) {
            let here = home(&network, client, Protocol::Tcp, at_service(family));
            assert_eq!(home(&network, client, Protocol::Tcp, at_node(family)), here, "{client}");
        }
    }
    network.stop();
}

#[test]
fn affinity_is_switched_on_and_off_at_run_time() {
    let (network, _servers) = start();
    for family in Family::BOTH {
        for (seconds, homes) in [(None, 3), (Some(600), 1), (None, 3), (Some(600), 1)] {
            serve(&network, seconds);
            for (from, to) in [(network.pod(0), at_service(family)), (network.world(), at_node(family))] {
                let answers = count_answers(from, Protocol::Tcp, to, 40);
                assert_eq!(answers.len(), homes, "{seconds:?}: {answers:?}");
            }
        }
    }
    network.stop();
}

#[test]
fn an_affinity_ends_when_its_time_is_over_and_new_connections_prolong_it() {
    let (network, _servers) = start();
    serve(&network, Some(2));
    let to = at_service(Family::V4);
    let client = network.pod(0);
    let first = ask(client, Protocol::Tcp, to).unwrap().name;
    // Longer than the timeout altogether, but never so long between two connections.
    for _ in 0..7 {
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(ask(client, Protocol::Tcp, to).unwrap().name, first);
    }
    let mut homes = BTreeSet::from([first]);
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(3100));
        homes.insert(ask(client, Protocol::Tcp, to).unwrap().name);
        if homes.len() > 1 {
            break;
        }
    }
    assert!(homes.len() > 1, "twelve times the same of three by chance: {homes:?}");
    network.stop();
}

#[test]
fn a_client_whose_endpoint_goes_gets_another_and_stays_there() {
    let (network, _servers) = start();
    serve(&network, Some(600));
    for family in Family::BOTH {
        for (from, to) in [(network.pod(0), at_service(family)), (network.world(), at_node(family))] {
            for protocol in Protocol::USUAL {
                network.apply(|manifests| manifests.endpoints_as(&service(), &network.endpoints(&BACKENDS)));
                let first = ask(from, protocol, to).unwrap().name;
                let left = BACKENDS.into_iter().filter(|at| network.pod(*at).name != first);
                let left: Vec<usize> = left.collect();
                network.apply(|manifests| manifests.endpoints_as(&service(), &network.endpoints(&left)));
                let answers = count_answers(from, protocol, to, 10);
                assert_eq!(answers.len(), 1, "{answers:?}");
                let second = answers.into_keys().next().unwrap();
                assert_ne!(second, first);
                network.apply(|manifests| manifests.endpoints_as(&service(), &network.endpoints(&BACKENDS)));
                let answers = count_answers(from, protocol, to, 10);
                assert_eq!(answers.into_keys().collect::<Vec<_>>(), [second], "the first is forgotten");
            }
        }
    }
    network.stop();
}

#[test]
fn an_endpoint_that_is_about_to_end_keeps_no_client() {
    let (network, _servers) = start();
    serve(&network, Some(600));
    let to = at_service(Family::V4);
    let first = ask(network.pod(0), Protocol::Tcp, to).unwrap().name;
    let leaving = network.pods().iter().find(|pod| pod.name == first).unwrap().addresses();
    network.apply(|manifests| {
        let endpoints = network.endpoints(&BACKENDS).into_iter().map(|endpoint| {
            let is_leaving = leaving.contains(&endpoint.address);
            if is_leaving { endpoint.terminating() } else { endpoint }
        });
        manifests.endpoints_as(&service(), &endpoints.collect::<Vec<_>>());
    });
    let answers = count_answers(network.pod(0), Protocol::Tcp, to, 10);
    assert_eq!(answers.len(), 1, "{answers:?}");
    assert!(!answers.contains_key(&first));
    network.stop();
}
