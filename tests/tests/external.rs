//! Services at external IPs and at addresses of load balancers, and services that change their type.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Conversation, Echo, Family, Kind, Network, Protocol, ServiceSpec, ask, ask_as, assert_refused,
    assert_silent, exchange, expose, serve_sctp,
};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const EXTERNAL: [&str; 2] = ["203.0.113.80", "2001:db8:e::80"];
const BALANCER: [&str; 2] = ["203.0.113.90", "2001:db8:e::90"];

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at(addresses: [&str; 2], family: Family) -> SocketAddr {
    SocketAddr::new(addresses[usize::from(family == Family::V6)].parse().unwrap(), PORT)
}

fn at_node(family: Family) -> SocketAddr {
    SocketAddr::new(Network::node_address(family), NODE_PORT)
}

fn at_service(family: Family) -> SocketAddr {
    SocketAddr::new(Network::cluster_ip(&service(), family), PORT)
}

fn balanced(service: &mut Value) {
    expose(service, "LoadBalancer", NODE_PORT);
    service["status"] =
        json!({"loadBalancer": {"ingress": BALANCER.map(|ip| json!({"ip": ip, "ipMode": "VIP"}))}});
}

fn change(network: &Network, change: impl FnOnce(&mut Value)) {
    network.apply(|manifests| manifests.service_with(&service(), change));
}

#[test]
fn external_ips_answer_the_world_and_pods_by_every_protocol() {
    let network = Network::with_world(&Kind::ALL, Kind::AfXdp);
    let pod = network.pod(1);
    let (_usual, _sctp) = (Echo::start(pod, TARGET), serve_sctp(pod, TARGET));
    network.set_endpoints(&service(), &[1]);
    change(&network, |service| service["spec"]["externalIPs"] = json!(EXTERNAL));
    for family in Family::BOTH {
        for protocol in Protocol::ALL {
            let answer = ask(network.world(), protocol, at(EXTERNAL, family)).unwrap();
            assert_eq!((answer.name.as_str(), answer.client.ip()), ("b", Network::node_address(family)));
            let answer = ask(network.pod(0), protocol, at(EXTERNAL, family)).unwrap();
            assert_eq!((answer.name.as_str(), answer.client.ip()), ("b", network.pod(0).address(family)));
        }
        for from in [network.world(), network.pod(0), network.pod(2)] {
            exchange(from, at(EXTERNAL, family), 1 << 20).unwrap();
        }
    }
    change(&network, |service| {
        service["spec"]["externalIPs"] = json!(EXTERNAL);
        service["spec"]["externalTrafficPolicy"] = json!("Local");
    });
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            let answer = ask(network.world(), protocol, at(EXTERNAL, family)).unwrap();
            assert_eq!(answer.client.ip(), network.world().address(family));
        }
    }
    network.stop();
}

#[test]
fn other_ports_of_an_external_ip_go_where_its_owner_is() {
    let network = Network::with_world(&[Kind::Tap], Kind::AfXdp);
    let _server = Echo::start(network.pod(0), TARGET);
    network.set_endpoints(&service(), &[0]);
    change(&network, |service| service["spec"]["externalIPs"] = json!(EXTERNAL));
    EXTERNAL.iter().for_each(|ip| network.world().add_address(ip.parse().unwrap()));
    let _owner = Echo::start(network.world(), 4444);
    for family in Family::BOTH {
        let other = SocketAddr::new(at(EXTERNAL, family).ip(), 4444);
        assert_eq!(ask(network.pod(0), Protocol::Tcp, other).unwrap().name, "world");
    }
    network.stop();
}

#[test]
fn load_balancer_addresses_answer_here_unless_their_traffic_passes_a_proxy_first() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    let _server = Echo::start(network.pod(1), TARGET);
    network.set_endpoints(&service(), &[1]);
    for mode in [json!("VIP"), Value::Null] {
        change(&network, |service| {
            balanced(service);
            for ingress in service["status"]["loadBalancer"]["ingress"].as_array_mut().unwrap() {
                ingress["ipMode"] = mode.clone();
            }
        });
        for family in Family::BOTH {
            for protocol in Protocol::USUAL {
                assert_eq!(ask(network.world(), protocol, at(BALANCER, family)).unwrap().name, "b");
                assert_eq!(ask(network.pod(0), protocol, at(BALANCER, family)).unwrap().name, "b");
                assert_eq!(ask(network.world(), protocol, at_node(family)).unwrap().name, "b");
            }
        }
    }
    change(&network, |service| {
        balanced(service);
        for ingress in service["status"]["loadBalancer"]["ingress"].as_array_mut().unwrap() {
            ingress["ipMode"] = json!("Proxy");
        }
    });
    // The load balancer itself is out there.
    BALANCER.iter().for_each(|ip| network.world().add_address(ip.parse().unwrap()));
    let _balancer = Echo::start(network.world(), PORT);
    for family in Family::BOTH {
        assert_eq!(ask(network.pod(0), Protocol::Tcp, at(BALANCER, family)).unwrap().name, "world");
        assert_eq!(ask(network.world(), Protocol::Tcp, at_node(family)).unwrap().name, "b");
    }
    network.stop();
}

#[test]
fn source_ranges_admit_whom_they_name_at_load_balancer_addresses_alone() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::Tap);
    let _server = Echo::start(network.pod(1), TARGET);
    network.set_endpoints(&service(), &[1]);
    let friend: [IpAddr; 2] = ["198.51.100.8".parse().unwrap(), "2001:db8:ffff::8".parse().unwrap()];
    friend.iter().for_each(|address| network.world().add_address(*address));
    let ranges = |ranges: Value| {
        change(&network, |service| {
            balanced(service);
            service["spec"]["loadBalancerSourceRanges"] = ranges;
        });
    };
    // Upstream has always taken spaces around a range.
    ranges(json!([" 198.51.100.8/32", "2001:db8:ffff::8/128 ", "10.77.0.10/32", "192.0.2.128/25"]));
    for (family, friend) in Family::BOTH.into_iter().zip(friend) {
        let stranger = network.world().address(family);
        for protocol in Protocol::USUAL {
            let answer = ask_as(network.world(), friend, protocol, at(BALANCER, family)).unwrap();
            assert_eq!(answer.name, "b");
            assert_silent(network.world(), Some(stranger), protocol, at(BALANCER, family));
            for free in [at_node(family), at_service(family)] {
                assert_eq!(ask_as(network.world(), stranger, protocol, free).unwrap().name, "b", "{free}");
            }
        }
    }
    // Pods are no exception: one family of this one is named.
    assert_eq!(ask(network.pod(0), Protocol::Tcp, at(BALANCER, Family::V4)).unwrap().name, "b");
    assert_silent(network.pod(0), None, Protocol::Tcp, at(BALANCER, Family::V6));
    assert_silent(network.pod(1), None, Protocol::Udp, at(BALANCER, Family::V4));
    // Everyone is everyone, whatever else is named.
    ranges(json!(["192.0.2.200/32", "0.0.0.0/0", " ::/0 "]));
    for family in Family::BOTH {
        for from in [network.world(), network.pod(0)] {
            assert_eq!(ask(from, Protocol::Tcp, at(BALANCER, family)).unwrap().name, "b");
        }
    }
    network.stop();
}

#[test]
fn a_range_that_shuts_a_client_out_holds_for_its_next_connection() {
    let network = Network::with_world(&[Kind::AfXdp], Kind::Tap);
    let _server = Echo::start(network.pod(0), TARGET);
    network.set_endpoints(&service(), &[0]);
    change(&network, balanced);
    let mut talk = Conversation::open(network.world(), at(BALANCER, Family::V4)).unwrap();
    change(&network, |service| {
        balanced(service);
        service["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.200/32"]);
    });
    assert_silent(network.world(), None, Protocol::Tcp, at(BALANCER, Family::V4));
    talk.say("I was here before").unwrap();
    network.stop();
}

#[test]
fn a_service_that_changes_its_type_comes_and_goes_where_the_type_says_and_connections_stay() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    let _server = Echo::start(network.pod(1), TARGET);
    network.set_endpoints(&service(), &[1]);
    let mut talks = Vec::new();
    let open = |talks: &mut Vec<Conversation>, from, to| {
        let talk = Conversation::open(from, to).unwrap();
        assert_eq!(talk.peer, "b");
        talks.push(talk);
    };
    let speak = |talks: &mut Vec<Conversation>, when: &str| {
        for talk in talks {
            talk.say("still there?")
                .unwrap_or_else(|error| panic!("{when}, {:?}: {error}", talk.own_address()));
        }
    };

    change(&network, |_| ());
    for family in Family::BOTH {
        open(&mut talks, network.pod(0), at_service(family));
        assert_refused(network.world(), Protocol::Tcp, at_node(family));
    }
    change(&network, |service| expose(service, "NodePort", NODE_PORT));
    speak(&mut talks, "as NodePort");
    for family in Family::BOTH {
        open(&mut talks, network.pod(0), at_service(family));
        open(&mut talks, network.world(), at_node(family));
    }
    change(&network, balanced);
    speak(&mut talks, "as LoadBalancer");
    for family in Family::BOTH {
        open(&mut talks, network.world(), at_node(family));
        open(&mut talks, network.world(), at(BALANCER, family));
        open(&mut talks, network.pod(0), at(BALANCER, family));
    }
    // A new NodePort for the old one.
    change(&network, |service| {
        balanced(service);
        expose(service, "LoadBalancer", NODE_PORT + 1);
    });
    speak(&mut talks, "with another NodePort");
    for family in Family::BOTH {
        assert_refused(network.world(), Protocol::Tcp, at_node(family));
        let moved = SocketAddr::new(Network::node_address(family), NODE_PORT + 1);
        open(&mut talks, network.world(), moved);
    }
    change(&network, |_| ());
    speak(&mut talks, "as ClusterIP again");
    for family in Family::BOTH {
        open(&mut talks, network.pod(0), at_service(family));
        assert_refused(network.world(), Protocol::Tcp, at_node(family));
        // The way to the address is out into the world again, where nobody has it.
        assert_silent(network.pod(0), None, Protocol::Udp, at(BALANCER, family));
    }
    change(&network, |service| {
        service["spec"] = json!({"type": "ExternalName", "externalName": "elsewhere.example.org"});
    });
    speak(&mut talks, "as ExternalName");
    for family in Family::BOTH {
        assert_silent(network.pod(0), None, Protocol::Udp, at_service(family));
    }
    change(&network, |_| ());
    speak(&mut talks, "back again");
    for family in Family::BOTH {
        open(&mut talks, network.pod(0), at_service(family));
    }
    network.stop();
}
