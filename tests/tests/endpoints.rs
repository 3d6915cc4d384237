//! Which endpoints take connections, and what becomes of connections when endpoints and services change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Conversation, Echo, EndpointSpec, Family, Kind, Network, Protocol, ServiceSpec, UdpClient, ask,
    assert_refused, assert_silent, count_answers, datagram, expose,
};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const KINDS: [Kind; 4] = [Kind::Veth, Kind::Tap, Kind::AfXdp, Kind::Veth];

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at_service(family: Family) -> SocketAddr {
    SocketAddr::new(Network::cluster_ip(&service(), family), PORT)
}

fn at_node(family: Family) -> SocketAddr {
    SocketAddr::new(Network::node_address(family), NODE_PORT)
}

fn servers(network: &Network) -> Vec<Echo> {
    network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect()
}

fn set(network: &Network, endpoints: &[EndpointSpec]) {
    network.apply(|manifests| manifests.endpoints_as(&service(), endpoints));
}

/// Endpoints of pods, each changed.
fn each(
    network: &Network,
    pods: &[usize],
    change: impl Fn(EndpointSpec) -> EndpointSpec,
) -> Vec<EndpointSpec> {
    network.endpoints(pods).into_iter().map(change).collect()
}

/// Who answers a pod, over both families and protocols alike.
fn who(network: &Network) -> Vec<String> {
    let ask = |family, protocol| -> Vec<String> {
        count_answers(network.pod(0), protocol, at_service(family), 24).into_keys().collect()
    };
    let all = ask(Family::V4, Protocol::Tcp);
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            // The kernel may give a UDP client the port of an earlier one, whose flow stays where it was: with some hundreds
            // of flows that are remembered, one of so many clients in every fourth round.
            let rounds = if protocol == Protocol::Udp { 6 } else { 1 };
            let mut rounds = (0..rounds).map(|_| ask(family, protocol));
            let names = rounds.find(|names| *names == all).unwrap_or_else(|| ask(family, protocol));
            assert!(all == names, "{protocol:?} {family:?}: {all:?} and {names:?}");
        }
    }
    all
}

#[test]
fn endpoints_that_are_about_to_end_serve_only_when_nobody_else_does() {
    let network = Network::start(&KINDS);
    let _servers = servers(&network);
    network.manifests().service(&service());
    let terminating = each(&network, &[1, 2], EndpointSpec::terminating);
    set(&network, &[terminating.clone(), network.endpoints(&[3])].concat());
    assert_eq!(who(&network), ["d"]);
    set(&network, &[&terminating[..], &each(&network, &[3], EndpointSpec::unready)].concat());
    assert_eq!(who(&network), ["b", "c"]);
    // Of those that end, only those count that still answer.
    set(
        &network,
        &[each(&network, &[1], EndpointSpec::terminating), each(&network, &[2, 3], EndpointSpec::dead)]
            .concat(),
    );
    assert_eq!(who(&network), ["b"]);
    set(&network, &each(&network, &[1, 2, 3], EndpointSpec::dead));
    for family in Family::BOTH {
        assert_refused(network.pod(0), Protocol::Tcp, at_service(family));
    }
    network.stop();
}

#[test]
fn here_and_there_endpoints_that_are_about_to_end_are_the_last_resort_of_local_policies_too() {
    let network = Network::with_world(&KINDS, Kind::AfXdp);
    let _servers = servers(&network);
    network.manifests().service_with(&service(), |service| {
        expose(service, "NodePort", NODE_PORT);
        service["spec"]["internalTrafficPolicy"] = json!("Local");
        service["spec"]["externalTrafficPolicy"] = json!("Local");
    });
    let away = each(&network, &[3], |endpoint| endpoint.on("elsewhere"));
    set(&network, &[&each(&network, &[1], EndpointSpec::terminating)[..], &away].concat());
    assert_eq!(who(&network), ["b"]);
    for family in Family::BOTH {
        let answers = count_answers(network.world(), Protocol::Tcp, at_node(family), 12);
        assert_eq!(answers.into_keys().collect::<Vec<_>>(), ["b"]);
        // From pods, a NodePort leads to the cluster's endpoints whatever the policy is.
        let answers = count_answers(network.pod(0), Protocol::Tcp, at_node(family), 12);
        assert_eq!(answers.into_keys().collect::<Vec<_>>(), ["d"]);
    }
    set(&network, &[&each(&network, &[1], EndpointSpec::dead)[..], &away].concat());
    for family in Family::BOTH {
        assert_silent(network.pod(0), None, Protocol::Tcp, at_service(family));
        assert_silent(network.world(), None, Protocol::Tcp, at_node(family));
    }
    network.stop();
}

#[test]
fn hints_keep_traffic_near_while_every_endpoint_has_them_and_one_is_near() {
    let network = Network::start(&KINDS);
    let _servers = servers(&network);
    network.manifests().service(&service());
    let hinted = |at: usize, kind: &str, name: &str| each(&network, &[at], |spec| spec.hinted(kind, &[name]));
    let zones =
        |names: [&str; 3]| (1..4).flat_map(|at| hinted(at, "forZones", names[at - 1])).collect::<Vec<_>>();
    set(&network, &zones(["zone-a", "zone-b", "zone-a"]));
    assert_eq!(who(&network), ["b", "d"]);
    // Nobody is near: everybody counts.
    set(&network, &zones(["zone-b", "zone-b", "zone-c"]));
    assert_eq!(who(&network), ["b", "c", "d"]);
    // One without a hint: everybody counts.
    set(
        &network,
        &[hinted(1, "forZones", "zone-a"), hinted(2, "forZones", "zone-b"), network.endpoints(&[3])].concat(),
    );
    assert_eq!(who(&network), ["b", "c", "d"]);
    // One for several zones.
    let both = each(&network, &[2], |endpoint| endpoint.hinted("forZones", &["zone-b", "zone-a"]));
    set(&network, &[hinted(1, "forZones", "zone-b"), both, hinted(3, "forZones", "zone-b")].concat());
    assert_eq!(who(&network), ["c"]);
    // A node is nearer than a zone.
    let us = Network::node_name();
    let nodes = |names: [&str; 3]| {
        let of = |at: usize| {
            each(&network, &[at], |spec| {
                spec.hinted("forNodes", &[names[at - 1]]).hinted("forZones", &["zone-a"])
            })
        };
        (1..4).flat_map(of).collect::<Vec<_>>()
    };
    set(&network, &nodes(["elsewhere", us, "elsewhere"]));
    assert_eq!(who(&network), ["c"]);
    set(&network, &nodes(["elsewhere", "elsewhere", "elsewhere"]));
    assert_eq!(who(&network), ["b", "c", "d"]);
    network.stop();
}

#[test]
fn hints_follow_the_node_into_another_zone() {
    let network = Network::start(&KINDS[..3]);
    let _servers = servers(&network);
    network.manifests().service(&service());
    let of = |at: usize, zone: &str| each(&network, &[at], |endpoint| endpoint.hinted("forZones", &[zone]));
    set(&network, &[of(1, "zone-a"), of(2, "zone-b")].concat());
    assert_eq!(who(&network), ["b"]);
    network.apply(|manifests| {
        manifests.node_with(Network::node_name(), |node| {
            node["metadata"]["labels"]["topology.kubernetes.io/zone"] = json!("zone-b");
        });
    });
    assert_eq!(who(&network), ["c"]);
    network.stop();
}

#[test]
fn the_slices_of_a_service_are_taken_together_and_doubles_count_once() {
    let network = Network::start(&KINDS);
    let _servers = servers(&network);
    let spec = service();
    network.manifests().service(&spec);
    let slice = |label: &str, family: Family, pods: &[usize]| {
        let endpoints = network.endpoints(pods);
        let wanted = if family == Family::V4 { "IPv4" } else { "IPv6" };
        let of_family = endpoints.iter().filter(|spec| spec.address.is_ipv4() == (family == Family::V4));
        spec.slice(label, wanted, of_family)
    };
    let write = |file: &str, pods: &[usize]| {
        let slices = Family::BOTH.map(|family| slice(&format!("{file}-{family:?}"), family, pods));
        network.apply(|manifests| manifests.write(&format!("{file}.yaml"), &slices));
    };
    write("first", &[1]);
    write("second", &[2, 1]);
    write("third", &[3, 1]);
    assert_eq!(who(&network), ["b", "c", "d"]);
    let answers = count_answers(network.pod(0), Protocol::Tcp, at_service(Family::V4), 90);
    // 30 each expected. If b counted three times, 54; above 48 is a chance of one in ten thousand.
    assert!(answers["b"] < 48, "{answers:?}");
    write("second", &[1]);
    assert_eq!(who(&network), ["b", "d"]);
    network.apply(|manifests| manifests.remove("first.yaml"));
    assert_eq!(who(&network), ["b", "d"]);
    // A slice of headless services has no say.
    let labelled = Family::BOTH.map(|family| {
        let mut labelled = slice(&format!("headless-{family:?}"), family, &[2]);
        labelled["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
        labelled
    });
    network.apply(|manifests| manifests.write("headless.yaml", &labelled));
    assert_eq!(who(&network), ["b", "d"]);
    network.stop();
}

#[test]
fn ports_are_matched_by_name_and_may_differ_from_slice_to_slice() {
    let network = Network::start(&KINDS[..3]);
    let old: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    let _new = Echo::start(network.pod(2), 9090);
    let spec = service();
    network.manifests().service(&spec);
    let ipv4 = |pods: &[usize], port: u16| {
        let endpoints = network.endpoints(pods);
        let mut slice =
            spec.slice(&format!("p{port}"), "IPv4", endpoints.iter().filter(|spec| spec.address.is_ipv4()));
        slice["ports"][0]["port"] = json!(port);
        slice
    };
    network.apply(|manifests| manifests.write("slices.yaml", &[ipv4(&[1], TARGET), ipv4(&[2], 9090)]));
    drop(old);
    let _new_too = Echo::start(network.pod(1), TARGET);
    let answers = count_answers(network.pod(0), Protocol::Tcp, at_service(Family::V4), 24);
    assert_eq!(answers.into_keys().collect::<Vec<_>>(), ["b", "c"]);
    // A port of another name is another port.
    let mut renamed = ipv4(&[1], TARGET);
    renamed["ports"][0]["name"] = json!("other");
    network.apply(|manifests| manifests.write("slices.yaml", &[renamed]));
    assert_refused(network.pod(0), Protocol::Tcp, at_service(Family::V4));
    assert_eq!(ask(network.pod(0), Protocol::Udp, at_service(Family::V4)).unwrap().name, "b");
    network.stop();
}

#[test]
fn a_single_port_needs_no_name_and_one_number_serves_several_protocols() {
    let network = Network::start(&KINDS[..2]);
    let _first = Echo::start(network.pod(1), TARGET);
    let _second = Echo::start(network.pod(1), 9090);
    let spec = service();
    let unnamed = |object: &mut Value| {
        let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut).unwrap();
        ports.truncate(1);
        ports[0].as_object_mut().unwrap().remove("name");
    };
    let slice = |name: Value| {
        let endpoints = network.endpoints(&[1]);
        let mut slice = spec.slice("one", "IPv4", endpoints.iter().filter(|spec| spec.address.is_ipv4()));
        slice["ports"] = json!([{"name": name, "protocol": "TCP", "port": TARGET}]);
        slice
    };
    for name in [Value::Null, json!("")] {
        network.apply(|manifests| {
            manifests.service_with(&spec, unnamed);
            manifests.write("slices.yaml", &[slice(name)]);
        });
        assert_eq!(ask(network.pod(0), Protocol::Tcp, at_service(Family::V4)).unwrap().name, "b");
        assert_refused(network.pod(0), Protocol::Udp, at_service(Family::V4));
    }
    // TCP and UDP of one number lead to ports of their own.
    network.apply(|manifests| {
        manifests.service(&spec);
        let endpoints = network.endpoints(&[1]);
        let mut slice = spec.slice("one", "IPv4", endpoints.iter().filter(|spec| spec.address.is_ipv4()));
        slice["ports"][1]["port"] = json!(9090);
        manifests.write("slices.yaml", &[slice]);
    });
    for protocol in Protocol::USUAL {
        assert_eq!(ask(network.pod(0), protocol, at_service(Family::V4)).unwrap().name, "b");
    }
    drop(_second);
    assert_eq!(ask(network.pod(0), Protocol::Tcp, at_service(Family::V4)).unwrap().name, "b");
    assert_refused(network.pod(0), Protocol::Udp, at_service(Family::V4));
    network.stop();
}

#[test]
fn ports_of_a_service_come_and_go() {
    let network = Network::start(&KINDS[..2]);
    let _servers = servers(&network);
    let mut spec = service();
    let other = |family| SocketAddr::new(at_service(family).ip(), 81);
    network.serve(&spec, &[1]);
    assert_refused(network.pod(0), Protocol::Tcp, other(Family::V4));
    let mut talk = Conversation::open(network.pod(0), at_service(Family::V6)).unwrap();
    spec.ports[0].1 = 81;
    network.apply(|manifests| manifests.service(&spec));
    for family in Family::BOTH {
        assert_eq!(ask(network.pod(0), Protocol::Tcp, other(family)).unwrap().name, "b");
        assert_refused(network.pod(0), Protocol::Tcp, at_service(family));
        assert_eq!(ask(network.pod(0), Protocol::Udp, at_service(family)).unwrap().name, "b");
    }
    talk.say("through a port that is no more").unwrap();
    network.stop();
}

#[test]
fn a_service_of_another_proxy_is_left_alone_from_the_moment_it_says_so() {
    let network = Network::with_world(&KINDS[..2], Kind::AfXdp);
    let _servers = servers(&network);
    network.set_endpoints(&service(), &[1]);
    let labelled = |labels: Value| {
        network.apply(|manifests| {
            manifests.service_with(&service(), |service| {
                expose(service, "NodePort", NODE_PORT);
                service["metadata"]["labels"] = labels;
            });
        });
    };
    labelled(json!({}));
    let mut talk = Conversation::open(network.pod(0), at_service(Family::V4)).unwrap();
    for _ in 0..2 {
        labelled(json!({"service.kubernetes.io/service-proxy-name": "another"}));
        for family in Family::BOTH {
            // Out into the world, where nobody has the address.
            assert_silent(network.pod(0), None, Protocol::Tcp, at_service(family));
            assert_refused(network.world(), Protocol::Tcp, at_node(family));
        }
        talk.say("I stay").unwrap();
        labelled(json!({}));
        for family in Family::BOTH {
            assert_eq!(ask(network.pod(0), Protocol::Tcp, at_service(family)).unwrap().name, "b");
            assert_eq!(ask(network.world(), Protocol::Tcp, at_node(family)).unwrap().name, "b");
        }
    }
    network.stop();
}

#[test]
fn a_service_that_becomes_headless_has_no_address_any_more() {
    let network = Network::with_world(&KINDS[..2], Kind::AfXdp);
    let _servers = servers(&network);
    network.serve(&service(), &[1]);
    assert_eq!(ask(network.pod(0), Protocol::Tcp, at_service(Family::V4)).unwrap().name, "b");
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| {
            service["spec"]["clusterIP"] = json!("None");
            service["spec"]["clusterIPs"] = json!(["None"]);
        });
    });
    assert_silent(network.pod(0), None, Protocol::Tcp, at_service(Family::V4));
    network.stop();
}

#[test]
fn a_udp_client_with_one_socket_is_served_as_soon_as_there_are_endpoints() {
    let mut network = Network::with_world(&KINDS, Kind::AfXdp);
    network.add_host();
    let _servers = servers(&network);
    network.manifests().service_with(&service(), |service| expose(service, "NodePort", NODE_PORT));
    set(&network, &[]);
    for family in Family::BOTH {
        let clients = [
            (network.pod(0), at_service(family)),
            (network.pod(0), at_node(family)),
            (network.world(), at_node(family)),
            (network.host(), at_service(family)),
        ]
        .map(|(from, to)| UdpClient::open(from, to).unwrap());
        set(&network, &[]);
        for client in &clients {
            let error = client.ask().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
        set(&network, &network.endpoints(&[1]));
        for client in &clients {
            assert_eq!(client.ask().unwrap().name, "b");
        }
        // Its endpoint goes: the next datagram is another's.
        set(&network, &network.endpoints(&[2]));
        for client in &clients {
            assert_eq!(client.ask().unwrap().name, "c");
        }
        set(&network, &[]);
        for client in &clients {
            assert_eq!(client.ask().unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
        set(&network, &network.endpoints(&[3]));
        for client in &clients {
            assert_eq!(client.ask().unwrap().name, "d");
        }
    }
    network.stop();
}

/// Upstream: "should be able to cleanup conntrack entries when UDP service target port changes for a NodePort service".
#[test]
fn a_udp_client_with_one_socket_follows_the_target_port_of_its_service() {
    let network = Network::with_world(&KINDS[..2], Kind::AfXdp);
    let (first, second) = (Echo::start(network.pod(1), TARGET), Echo::start(network.pod(1), TARGET + 1));
    let serve = |target| {
        let spec = ServiceSpec::numbered("web", 10, PORT, target);
        network.apply(|manifests| {
            manifests.service_with(&spec, |service| expose(service, "NodePort", NODE_PORT));
            manifests.endpoints_as(&spec, &network.endpoints(&[1]));
        });
    };
    serve(TARGET);
    let clients: Vec<UdpClient> = Family::BOTH
        .into_iter()
        .flat_map(|family| {
            [
                (network.pod(0), at_service(family)),
                (network.pod(0), at_node(family)),
                (network.world(), at_node(family)),
            ]
        })
        .map(|(from, to)| UdpClient::open(from, to).unwrap())
        .collect();
    clients.iter().for_each(|client| assert_eq!(client.ask().unwrap().name, "b"));
    serve(TARGET + 1);
    drop(first);
    clients.iter().for_each(|client| assert_eq!(client.ask().unwrap().name, "b"));
    drop(second);
    network.stop();
}

#[test]
fn a_udp_flow_from_before_the_service_was_there_follows_it_at_once() {
    let network = Network::with_world(&KINDS[..2], Kind::AfXdp);
    let _servers = servers(&network);
    for family in Family::BOTH {
        // Untranslated, the way to the address is out into the world.
        let client = UdpClient::open(network.pod(0), at_service(family)).unwrap();
        client.ask_within(Duration::from_millis(200)).unwrap_err();
        network.apply(|manifests| {
            manifests.service(&service());
            manifests.endpoints_as(&service(), &network.endpoints(&[1]));
        });
        assert_eq!(client.ask().unwrap().name, "b");
        network.apply(|manifests| manifests.remove_service(&service()));
    }
    network.stop();
}

#[test]
fn established_connections_stay_whatever_readiness_policy_and_topology_say() {
    let network = Network::with_world(&KINDS, Kind::AfXdp);
    let _servers = servers(&network);
    let expose_as = |change: &dyn Fn(&mut Value)| {
        network.apply(|manifests| {
            manifests.service_with(&service(), |service| {
                expose(service, "NodePort", NODE_PORT);
                change(service);
            });
        });
    };
    expose_as(&|_| ());
    set(&network, &network.endpoints(&[1]));
    let mut talks = Vec::new();
    let mut clients = Vec::new();
    for family in Family::BOTH {
        for (from, to) in [(network.pod(0), at_service(family)), (network.world(), at_node(family))] {
            talks.push(Conversation::open(from, to).unwrap());
            let client = UdpClient::open(from, to).unwrap();
            assert_eq!(client.ask().unwrap().name, "b");
            clients.push(client);
        }
    }
    let mut check = |when: &str, udp: bool| {
        for talk in &mut talks {
            assert_eq!(talk.peer, "b");
            talk.say(when).unwrap_or_else(|error| panic!("{when}, {}: {error}", talk.own_address()));
        }
        for client in clients.iter().filter(|_| udp) {
            assert_eq!(client.ask().unwrap().name, "b", "{when}");
        }
    };
    set(&network, &[network.endpoints(&[2]), each(&network, &[1], EndpointSpec::terminating)].concat());
    check("about to end", true);
    set(&network, &[network.endpoints(&[2]), each(&network, &[1], |spec| spec.on("elsewhere"))].concat());
    expose_as(&|service| {
        service["spec"]["internalTrafficPolicy"] = json!("Local");
        service["spec"]["externalTrafficPolicy"] = json!("Local");
    });
    check("on another node, and all policies local", true);
    expose_as(&|_| ());
    let hinted =
        |at: usize, zone: &str| each(&network, &[at], |endpoint| endpoint.hinted("forZones", &[zone]));
    set(&network, &[hinted(1, "zone-b"), hinted(2, "zone-a")].concat());
    check("in a zone far away", true);
    expose_as(&|service| service["spec"]["sessionAffinity"] = json!("ClientIP"));
    check("with affinity", true);
    set(&network, &[network.endpoints(&[2]), each(&network, &[1], EndpointSpec::unready)].concat());
    check("not ready", false);
    network.stop();
}

#[test]
fn a_connection_to_an_endpoint_that_vanished_is_left_alone() {
    let network = Network::start(&KINDS[..3]);
    let _servers = servers(&network);
    network.serve(&service(), &[1]);
    let mut talks: Vec<Conversation> = Family::BOTH
        .map(|family| Conversation::open(network.pod(0), at_service(family)).unwrap())
        .into_iter()
        .collect();
    network.set_endpoints(&service(), &[2]);
    for talk in &mut talks {
        talk.say("the last of my kind").unwrap();
    }
    network.set_endpoints(&service(), &[]);
    for talk in &mut talks {
        talk.say("and still").unwrap();
    }
    network.stop();
}

#[test]
fn a_connection_to_an_endpoint_that_vanished_is_reset_where_that_is_wanted() {
    let network = Network::with_world_and(&KINDS[..3], Kind::AfXdp, |config| {
        config["services"] = json!({"resetVanishedEndpoints": true});
    });
    let _servers = servers(&network);
    network.manifests().service_with(&service(), |service| expose(service, "NodePort", NODE_PORT));
    for family in Family::BOTH {
        for (from, to) in [(network.pod(0), at_service(family)), (network.world(), at_node(family))] {
            set(&network, &network.endpoints(&[1, 2]));
            let mut talks: Vec<Conversation> =
                (0..12).map(|_| Conversation::open(from, to).unwrap()).collect();
            set(
                &network,
                &[network.endpoints(&[1]), each(&network, &[2], EndpointSpec::terminating)].concat(),
            );
            for talk in &mut talks {
                talk.say("it only is about to end").unwrap();
            }
            set(&network, &network.endpoints(&[1]));
            for talk in &mut talks {
                let begin = Instant::now();
                let result = talk.say("and now?");
                if talk.peer == "b" {
                    result.unwrap();
                } else {
                    assert_eq!(result.unwrap_err().kind(), ErrorKind::ConnectionReset);
                    assert!(begin.elapsed() < Duration::from_millis(500), "{:?}", begin.elapsed());
                }
            }
        }
    }
    network.stop();
}

#[test]
fn a_deleted_service_takes_no_new_connection_and_the_old_ones_stay() {
    let network = Network::with_world(&KINDS[..2], Kind::AfXdp);
    let _servers = servers(&network);
    let serve = || {
        network.apply(|manifests| {
            manifests.service_with(&service(), |service| expose(service, "NodePort", NODE_PORT));
            manifests.endpoints_as(&service(), &network.endpoints(&[1]));
        });
    };
    serve();
    let mut talks = Vec::new();
    for family in Family::BOTH {
        talks.push(Conversation::open(network.pod(0), at_service(family)).unwrap());
        talks.push(Conversation::open(network.world(), at_node(family)).unwrap());
    }
    network.apply(|manifests| manifests.remove_service(&service()));
    for family in Family::BOTH {
        assert_silent(network.pod(0), None, Protocol::Tcp, at_service(family));
        assert_refused(network.world(), Protocol::Tcp, at_node(family));
    }
    for talk in &mut talks {
        talk.say("I was here before").unwrap();
    }
    serve();
    for talk in &mut talks {
        talk.say("and after").unwrap();
    }
    for family in Family::BOTH {
        assert_eq!(datagram(network.pod(0), at_service(family), 0).unwrap(), b"b");
        assert_eq!(ask(network.world(), Protocol::Tcp, at_node(family)).unwrap().name, "b");
    }
    network.stop();
}
