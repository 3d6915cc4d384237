//! Services at the node's own addresses, for clients of the world beyond the cluster.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Conversation, Echo, EndpointSpec, Family, Kind, Network, Protocol, ServiceSpec, ask, assert_refused,
    assert_silent, count_answers, datagram, exchange, expose, serve_sctp,
};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
/// The default of `services.masqueradePorts`.
const MASQUERADE: RangeInclusive<u16> = 49_152..=65_535;

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at_node(family: Family) -> SocketAddr {
    SocketAddr::new(Network::node_address(family), NODE_PORT)
}

/// The service at its NodePort, with these endpoints and this external policy.
fn serve(network: &Network, policy: &str, endpoints: &[EndpointSpec]) -> ServiceSpec {
    let spec = service();
    network.apply(|manifests| {
        manifests.service_with(&spec, |service| {
            expose(service, "NodePort", NODE_PORT);
            service["spec"]["externalTrafficPolicy"] = json!(policy);
        });
        manifests.endpoints_as(&spec, endpoints);
    });
    spec
}

#[test]
fn the_world_reaches_a_service_by_every_protocol_and_the_backend_sees_the_node() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    for backend in 0..2 {
        let pod = network.pod(backend);
        let (_usual, _sctp) = (Echo::start(pod, TARGET), serve_sctp(pod, TARGET));
        serve(&network, "Cluster", &network.endpoints(&[backend]));
        for family in Family::BOTH {
            for protocol in Protocol::ALL {
                let answer = ask(network.world(), protocol, at_node(family))
                    .unwrap_or_else(|error| panic!("{protocol:?} {family:?}: {error}"));
                assert_eq!(answer.name, pod.name);
                assert_eq!(answer.client.ip(), Network::node_address(family), "{protocol:?}");
                assert!(MASQUERADE.contains(&answer.client.port()), "{protocol:?}: {}", answer.client);
                // A pod keeps its address; its replies come by this node anyway.
                let client = network.pod(1 - backend);
                let answer = ask(client, protocol, at_node(family)).unwrap();
                assert_eq!(answer.client.ip(), client.address(family), "{protocol:?}");
            }
        }
    }
    network.stop();
}

#[test]
fn whole_streams_and_datagrams_pass_between_every_kind_of_world_and_every_kind_of_pod() {
    for world in Kind::ALL {
        let network = Network::with_world(&Kind::ALL, world);
        let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
        for (backend, pod) in network.pods().iter().enumerate() {
            serve(&network, "Cluster", &network.endpoints(&[backend]));
            for family in Family::BOTH {
                let context =
                    |error| -> String { panic!("{world:?} → {:?} {family:?}: {error}", pod.kind) };
                let name = exchange(network.world(), at_node(family), 1 << 20).unwrap_or_else(context);
                assert_eq!(name, pod.name);
                for length in [1, 1400, 4000] {
                    datagram(network.world(), at_node(family), length)
                        .unwrap_or_else(|error| context(error).into_bytes());
                }
            }
        }
        network.stop();
    }
}

#[test]
fn with_the_local_policy_the_backend_sees_the_client_itself() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::Tap);
    let pod = network.pod(0);
    let (_usual, _sctp) = (Echo::start(pod, TARGET), serve_sctp(pod, TARGET));
    // Another node's endpoint is never chosen for the world; nobody is there.
    let away =
        ["10.78.0.9", "fd00:78::9"].map(|text| EndpointSpec::ready(text.parse().unwrap(), "elsewhere"));
    serve(&network, "Local", &[&network.endpoints(&[0])[..], &away].concat());
    for family in Family::BOTH {
        for protocol in Protocol::ALL {
            let times = if protocol == Protocol::Sctp { 2 } else { 12 };
            for _ in 0..times {
                let answer = ask(network.world(), protocol, at_node(family)).unwrap();
                assert_eq!(answer.client.ip(), network.world().address(family), "{protocol:?}");
            }
        }
        let mut talk = Conversation::open(network.world(), at_node(family)).unwrap();
        assert_eq!(talk.seen, talk.own_address(), "the port is kept as well");
        talk.say("as I am").unwrap();
    }
    network.stop();
}

#[test]
fn with_the_local_policy_and_no_endpoint_here_the_world_hears_nothing_and_pods_are_served() {
    let mut network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    network.add_host();
    let _server = Echo::start(network.pod(1), TARGET);
    let away: Vec<_> = network.endpoints(&[1]).into_iter().map(|endpoint| endpoint.on("elsewhere")).collect();
    let spec = serve(&network, "Local", &away);
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            assert_silent(network.world(), None, protocol, at_node(family));
            let answer = ask(network.pod(0), protocol, at_node(family)).unwrap();
            assert_eq!((answer.name.as_str(), answer.client.ip()), ("b", network.pod(0).address(family)));
            // The policy is one of external traffic; a ClusterIP knows nothing of it.
            let inside = SocketAddr::new(Network::cluster_ip(&spec, family), PORT);
            assert_eq!(ask(network.host(), protocol, inside).unwrap().name, "b");
            assert_eq!(ask(network.world(), protocol, inside).unwrap().name, "b");
        }
    }
    network.stop();
}

#[test]
fn with_the_internal_policy_local_pods_hear_nothing_and_the_world_is_served() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    let _server = Echo::start(network.pod(1), TARGET);
    let spec = service();
    let serve = |endpoints: &[EndpointSpec]| {
        network.apply(|manifests| {
            manifests.service_with(&spec, |service| {
                expose(service, "NodePort", NODE_PORT);
                service["spec"]["internalTrafficPolicy"] = json!("Local");
            });
            manifests.endpoints_as(&spec, endpoints);
        });
    };
    let at_service = |family| SocketAddr::new(Network::cluster_ip(&spec, family), PORT);
    let away = |endpoint: EndpointSpec| endpoint.on("elsewhere");
    serve(&network.endpoints(&[1]).into_iter().map(away).collect::<Vec<_>>());
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            assert_silent(network.pod(0), None, protocol, at_service(family));
            assert_eq!(ask(network.pod(0), protocol, at_node(family)).unwrap().name, "b");
            assert_eq!(ask(network.world(), protocol, at_node(family)).unwrap().name, "b");
        }
    }
    let both = network.endpoints(&[1]).into_iter().chain(network.endpoints(&[0]).into_iter().map(away));
    serve(&both.collect::<Vec<_>>());
    for family in Family::BOTH {
        let answers = count_answers(network.pod(0), Protocol::Tcp, at_service(family), 20);
        assert_eq!(answers.keys().collect::<Vec<_>>(), ["b"], "{answers:?}");
    }
    network.stop();
}

#[test]
fn without_an_endpoint_anywhere_everybody_is_refused_at_once() {
    for policy in ["Cluster", "Local"] {
        let network = Network::with_world(&Kind::ALL, Kind::AfXdp);
        serve(&network, policy, &[]);
        for family in Family::BOTH {
            for protocol in Protocol::ALL {
                assert_refused(network.world(), protocol, at_node(family));
                assert_refused(network.pod(0), protocol, at_node(family));
            }
            assert_refused(network.pod(2), Protocol::Tcp, at_node(family));
        }
        // Endpoints that do not answer are as good as none.
        let unready = network.endpoints(&[1]).into_iter().map(EndpointSpec::unready);
        serve(&network, policy, &unready.collect::<Vec<_>>());
        for family in Family::BOTH {
            assert_refused(network.world(), Protocol::Tcp, at_node(family));
        }
        network.stop();
    }
}

#[test]
fn other_ports_of_the_node_are_the_nodes_own_business() {
    let mut network = Network::with_world(&[Kind::Tap], Kind::AfXdp);
    let _server = Echo::start(network.pod(0), TARGET);
    serve(&network, "Cluster", &network.endpoints(&[0]));
    let other = |family| SocketAddr::new(Network::node_address(family), 2222);
    // Nobody plays the node yet: Millrace itself refuses for it.
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            assert_refused(network.world(), protocol, other(family));
            assert_refused(network.pod(0), protocol, other(family));
        }
    }
    network.add_host();
    let _ssh = Echo::start(network.host(), 2222);
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            for from in [network.world(), network.pod(0)] {
                let answer = ask(from, protocol, other(family)).unwrap();
                let expected = ("host".to_owned(), from.address(family));
                assert_eq!((answer.name, answer.client.ip()), expected);
                assert_eq!(ask(from, protocol, at_node(family)).unwrap().name, "a", "the NodePort stays");
            }
        }
        exchange(network.world(), other(family), 1 << 20).unwrap();
    }
    network.stop();
}

#[test]
fn node_ports_answer_only_at_the_addresses_that_were_chosen() {
    let chosen: [IpAddr; 2] = ["203.0.113.1".parse().unwrap(), "2001:db8:f::1".parse().unwrap()];
    let network = Network::with_world_and(&[Kind::Tap], Kind::AfXdp, |config| {
        config["services"] = json!({"nodePortAddresses": ["203.0.113.0/24", "2001:db8:f::/64"]});
    });
    let _server = Echo::start(network.pod(0), TARGET);
    network.apply(|manifests| {
        manifests.node_with(Network::node_name(), |node| {
            let addresses = node["status"]["addresses"].as_array_mut().unwrap();
            addresses.extend(chosen.map(|ip| json!({"type": "ExternalIP", "address": ip})));
        });
    });
    serve(&network, "Cluster", &network.endpoints(&[0]));
    for (family, address) in Family::BOTH.into_iter().zip(chosen) {
        for protocol in Protocol::USUAL {
            let answer = ask(network.world(), protocol, SocketAddr::new(address, NODE_PORT)).unwrap();
            assert_eq!(answer.name, "a");
            assert_eq!(answer.client.ip(), Network::node_address(family), "the primary address masquerades");
            assert_refused(network.world(), protocol, at_node(family));
        }
    }
    network.stop();
}

#[test]
fn many_clients_of_the_world_get_source_ports_of_their_own() {
    let network = Network::with_world(&[Kind::AfXdp], Kind::Tap);
    let _server = Echo::start(network.pod(0), TARGET);
    serve(&network, "Cluster", &network.endpoints(&[0]));
    for family in Family::BOTH {
        let mut talks: Vec<Conversation> =
            (0..60).map(|_| Conversation::open(network.world(), at_node(family)).unwrap()).collect();
        let ports: std::collections::BTreeSet<u16> = talks.iter().map(|talk| talk.seen.port()).collect();
        assert_eq!(ports.len(), talks.len(), "a port is used twice");
        assert!(ports.iter().all(|port| MASQUERADE.contains(port)), "{ports:?}");
        for talk in &mut talks {
            talk.say("mine alone").unwrap();
        }
    }
    network.stop();
}

#[test]
fn a_masqueraded_client_is_told_of_a_port_that_its_backend_does_not_serve() {
    let network = Network::with_world(&[Kind::AfXdp], Kind::Tap);
    serve(&network, "Cluster", &network.endpoints(&[0]));
    // Nobody listens in the pod: its kernel's RST and ICMP errors come back through the translation.
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            assert_refused(network.world(), protocol, at_node(family));
        }
    }
    network.stop();
}
