//! What `millrace trace` and `millrace service show` say is what packets meet.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, EndpointSpec, Family, Kind, Network, Pod, Protocol, ServiceSpec, UdpClient, ask, assert_refused,
    assert_silent, count_answers, expose,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const BALANCER: [&str; 2] = ["203.0.113.90", "2001:db8:e::90"];
const KINDS: [Kind; 4] = [Kind::AfXdp, Kind::Tap, Kind::AfXdp, Kind::Tap];

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn frontends(family: Family) -> [SocketAddr; 3] {
    [
        SocketAddr::new(Network::cluster_ip(&service(), family), PORT),
        SocketAddr::new(Network::node_address(family), NODE_PORT),
        SocketAddr::new(BALANCER[usize::from(family == Family::V6)].parse().unwrap(), PORT),
    ]
}

fn start() -> (Network, Vec<Echo>) {
    let network = Network::with_world(&KINDS, Kind::AfXdp);
    let servers = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    (network, servers)
}

fn serve(network: &Network, endpoints: &[EndpointSpec], change: impl FnOnce(&mut Value)) {
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| {
            expose(service, "LoadBalancer", NODE_PORT);
            service["status"] = json!({"loadBalancer": {"ingress": BALANCER.map(|ip| json!({"ip": ip}))}});
            change(service);
        });
        manifests.endpoints_as(&service(), endpoints);
    });
}

/// What a packet would meet.
fn trace(network: &Network, from: &Pod, source: SocketAddr, protocol: Protocol, to: SocketAddr) -> Value {
    let (port, proto) = (format!("port:{}", from.name), format!("{protocol:?}").to_lowercase());
    let (to, source_port, source) = (to.to_string(), source.port().to_string(), source.ip().to_string());
    network.daemon().cli_json(&[
        "trace",
        "--from",
        &port,
        "--to",
        &to,
        "--proto",
        &proto,
        "--source-port",
        &source_port,
        "--source",
        &source,
    ])
}

fn outcome(network: &Network, from: &Pod, protocol: Protocol, to: SocketAddr) -> String {
    let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
    let trace = trace(network, from, from.at(family, 41_000), protocol, to);
    trace["verdict"]["outcome"].as_str().unwrap_or_else(|| panic!("{trace}")).to_owned()
}

fn assert_same(network: &Network, from: &Pod, protocol: Protocol, to: SocketAddr, expected: &str) {
    assert_eq!(outcome(network, from, protocol, to), expected, "{protocol:?} {} → {to}", from.name);
    match expected {
        "sent" => drop(ask(from, protocol, to).unwrap()),
        "reset" | "icmp" => assert_refused(from, protocol, to),
        "dropped" => assert_silent(from, None, protocol, to),
        other => panic!("{other}"),
    }
}

#[test]
fn a_trace_names_the_endpoint_and_the_source_that_the_packet_gets() {
    let (network, _servers) = start();
    serve(&network, &network.endpoints(&[0, 1, 2, 3]), |_| ());
    for family in Family::BOTH {
        for to in frontends(family) {
            for from in [network.pod(0), network.world()] {
                for _ in 0..6 {
                    let client = UdpClient::open(from, to).unwrap();
                    let told = trace(&network, from, client.own_address(), Protocol::Udp, to);
                    let leaves = &told["verdict"]["leavesAs"];
                    let answer = client.ask().unwrap();
                    let pod = network.pods().iter().find(|pod| pod.name == answer.name).unwrap();
                    assert_eq!(leaves["destination"], json!(pod.address(family)), "{told}");
                    assert_eq!(leaves["destinationPort"], json!(TARGET), "{told}");
                    assert_eq!(leaves["source"], json!(answer.client.ip()), "{told}");
                    assert_eq!(told["verdict"]["port"], json!(pod.name), "{told}");
                    // The flow exists now: it goes on as it began.
                    let told = trace(&network, from, client.own_address(), Protocol::Udp, to);
                    let leaves = &told["verdict"]["leavesAs"];
                    assert_eq!(leaves["destination"], json!(pod.address(family)), "{told}");
                    assert_eq!(leaves["sourcePort"], json!(answer.client.port()), "{told}");
                }
            }
        }
    }
    network.stop();
}

#[test]
fn a_trace_knows_of_refusals_and_silence() {
    let (network, _servers) = start();
    let (pod, world) = (network.pod(0), network.world());
    let away =
        || network.endpoints(&[1]).into_iter().map(|endpoint| endpoint.on("elsewhere")).collect::<Vec<_>>();
    let refusal = |protocol| if protocol == Protocol::Tcp { "reset" } else { "icmp" };
    for family in Family::BOTH {
        let [cluster, node_port, balancer] = frontends(family);
        for protocol in Protocol::USUAL {
            serve(&network, &[], |_| ());
            for to in frontends(family) {
                assert_same(&network, pod, protocol, to, refusal(protocol));
                assert_same(&network, world, protocol, to, refusal(protocol));
            }
            assert_same(&network, pod, protocol, SocketAddr::new(cluster.ip(), 4444), refusal(protocol));
            serve(&network, &away(), |service| {
                service["spec"]["externalTrafficPolicy"] = json!("Local");
                service["spec"]["internalTrafficPolicy"] = json!("Local");
            });
            for (from, to, expected) in [
                (pod, cluster, "dropped"),
                (pod, node_port, "sent"),
                (pod, balancer, "sent"),
                (world, node_port, "dropped"),
                (world, balancer, "dropped"),
            ] {
                assert_same(&network, from, protocol, to, expected);
            }
            serve(&network, &network.endpoints(&[1]), |service| {
                service["spec"]["loadBalancerSourceRanges"] = json!(["192.0.2.200/32", "2001:db8:5::/64"]);
            });
            for (from, to, expected) in [
                (pod, balancer, "dropped"),
                (world, balancer, "dropped"),
                (world, node_port, "sent"),
                (world, cluster, "sent"),
                (pod, cluster, "sent"),
            ] {
                assert_same(&network, from, protocol, to, expected);
            }
        }
    }
    network.stop();
}

#[test]
fn a_trace_follows_session_affinity() {
    let (network, _servers) = start();
    serve(&network, &network.endpoints(&[1, 2, 3]), |service| {
        service["spec"]["sessionAffinity"] = json!("ClientIP")
    });
    for family in Family::BOTH {
        let to = frontends(family)[0];
        let home = ask(network.pod(0), Protocol::Tcp, to).unwrap().name;
        for port in 41_000..41_010 {
            let told = trace(&network, network.pod(0), network.pod(0).at(family, port), Protocol::Tcp, to);
            assert_eq!(told["verdict"]["port"], json!(home), "{told}");
        }
    }
    network.stop();
}

/// Endpoints, and whom of them nobody meets for which reason.
type Situation<'a> = (Vec<EndpointSpec>, &'a [(&'a str, &'a str)]);

/// The endpoints of TCP that a service is shown with, by the pods' names, and why the others are not used.
fn shown(network: &Network) -> (BTreeSet<String>, Vec<(String, String)>) {
    let service = network.daemon().cli_json(&["service", "show", "test/web"]);
    let port = service["ports"].as_array().unwrap().iter().find(|port| port["name"] == "tcp").unwrap();
    let mut usable = BTreeSet::new();
    let mut others = Vec::new();
    for endpoint in port["endpoints"].as_array().unwrap() {
        let pod = network
            .pods()
            .iter()
            .find(|pod| pod.addresses().iter().any(|ip| endpoint["address"] == json!(ip)));
        let name = pod.unwrap_or_else(|| panic!("{endpoint}")).name.clone();
        match endpoint["usable"].as_bool().unwrap() {
            true => drop(usable.insert(name)),
            false => others.push((name, endpoint.to_string())),
        }
    }
    (usable, others)
}

#[test]
fn a_service_is_shown_with_the_endpoints_that_answer_and_why_others_do_not() {
    let (network, _servers) = start();
    let each = |pods: &[usize], change: fn(EndpointSpec) -> EndpointSpec| {
        network.endpoints(pods).into_iter().map(change).collect::<Vec<_>>()
    };
    let hinted = |at: usize, zone: &str| {
        network.endpoints(&[at]).into_iter().map(|spec| spec.hinted("forZones", &[zone])).collect::<Vec<_>>()
    };
    let situations: [Situation<'_>; 4] = [
        (network.endpoints(&[1, 2, 3]), &[]),
        (
            [
                network.endpoints(&[1]),
                each(&[2], EndpointSpec::terminating),
                each(&[3], EndpointSpec::unready),
            ]
            .concat(),
            &[("c", "Terminating"), ("d", "NotReady")],
        ),
        (
            [each(&[1, 2], EndpointSpec::terminating), each(&[3], EndpointSpec::dead)].concat(),
            &[("d", "NotServing")],
        ),
        (
            [hinted(1, "zone-b"), hinted(2, "zone-a"), hinted(3, "zone-b")].concat(),
            &[("b", "Zone"), ("d", "Zone")],
        ),
    ];
    for (endpoints, others) in situations {
        serve(&network, &endpoints, |_| ());
        let (usable, excluded) = shown(&network);
        for family in Family::BOTH {
            let answers = count_answers(network.pod(0), Protocol::Tcp, frontends(family)[0], 40);
            assert_eq!(answers.into_keys().collect::<BTreeSet<_>>(), usable);
        }
        for (name, reason) in others {
            let found = excluded.iter().filter(|(found, _)| found == name);
            let told: Vec<_> = found.map(|(_, endpoint)| endpoint).collect();
            assert!(
                !told.is_empty() && told.iter().all(|told| told.contains(reason)),
                "{name} {reason}: {told:?}"
            );
        }
        assert_eq!(excluded.len(), others.len() * 2, "both families: {excluded:?}");
    }
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| {
            service["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "another"});
        });
    });
    let told = network.daemon().cli_json(&["service", "show", "test/web"]);
    assert!(told["notServed"]["text"].is_string(), "{told}");
    network.stop();
}
