//! A cluster of the size that people ask about: 10,000 services with 10 endpoints each.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Conversation, Echo, Kind, Network, Protocol, ask, eventually};
use serde_json::{Value, json};
use std::fmt::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const SERVICES: u32 = 10_000;
const PER_FILE: u32 = 500;
const ENDPOINTS: u32 = 10;
const TARGET: u16 = 8080;

fn address(number: u32) -> String {
    format!("10.96.{}.{}", number / 250, number % 250 + 1)
}

/// Where all endpoints are; one pod plays them.
const ENDPOINT_RANGE: &str = "10.80.0.0/12";

/// Endpoints of the range, ten of each service's own.
fn many(number: u32) -> Vec<String> {
    let (high, middle, low) = (80 + number / 1000, number % 1000 / 8, number % 8 * 16);
    (0..ENDPOINTS).map(|at| format!("10.{high}.{middle}.{}", low + at)).collect()
}

/// A service and its slice.
fn objects(number: u32, endpoints: &[String]) -> [Value; 2] {
    let name = format!("s{number}");
    let endpoint =
        |ip: &String| json!({"addresses": [ip], "nodeName": "test-node", "conditions": {"ready": true}});
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "test"},
            "spec": {"clusterIP": address(number), "ports": [{"port": 80, "targetPort": TARGET}]}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "namespace": "test", "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "", "port": TARGET}],
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>()}),
    ]
}

fn file(number: u32, endpoints: impl Fn(u32) -> Vec<String>) -> (String, String) {
    let mut text = String::new();
    let services = number * PER_FILE..(number + 1) * PER_FILE;
    for object in services.flat_map(|number| objects(number, &endpoints(number))) {
        writeln!(text, "{object}\n---").unwrap();
    }
    (format!("many-{number:02}.yaml"), text)
}

#[test]
fn ten_thousand_services_are_taken_in_and_changed_while_connections_go_on() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap, Kind::AfXdp]);
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    let mut port = network.pod(1).port(network.daemon().room());
    network.daemon().remove_port("b");
    port["addresses"] = json!([ENDPOINT_RANGE]);
    network.daemon().add_port(&port);
    network.settle();
    network.pod(1).netns().must(&["ip", "route", "add", "local", ENDPOINT_RANGE, "dev", "lo"]);
    let c = |_| vec![network.pod(2).addresses()[0].to_string()];
    let begin = Instant::now();
    network.apply(|manifests| {
        for number in 0..SERVICES / PER_FILE {
            let (name, text) = file(number, many);
            manifests.write_raw(&name, &text);
        }
    });
    let taken = begin.elapsed();
    eprintln!("{SERVICES} services with {ENDPOINTS} endpoints: {taken:?} from the files to the tables");
    let to = |number: u32| SocketAddr::new(address(number).parse().unwrap(), 80);
    for number in (0..SERVICES).step_by(997).chain([SERVICES - 1]) {
        assert_eq!(ask(network.pod(0), Protocol::Tcp, to(number)).unwrap().name, "b", "service {number}");
    }
    let mut talk = Conversation::open(network.pod(0), to(42)).unwrap();
    // One endpoint of one service moves, in a file of its own and in one of many services.
    network.apply(|manifests| manifests.write("many-00-one.yaml", &objects(SERVICES, &many(SERVICES))));
    let begin = Instant::now();
    network.manifests().write("many-00-one.yaml", &objects(SERVICES, &c(0)));
    eventually("the new endpoint", Duration::from_secs(5), || {
        ask(network.pod(0), Protocol::Tcp, to(SERVICES)).unwrap().name == "c"
    });
    let small = begin.elapsed();
    let begin = Instant::now();
    let (name, text) = file(3, c);
    network.manifests().write_raw(&name, &text);
    eventually("500 new endpoints", Duration::from_secs(5), || {
        ask(network.pod(0), Protocol::Tcp, to(4 * PER_FILE - 1)).unwrap().name == "c"
    });
    let large = begin.elapsed();
    eprintln!("one endpoint of a small file: {small:?}; 500 endpoints of one file: {large:?}");
    assert!(small < Duration::from_millis(500), "{small:?} for one endpoint");
    assert_eq!(ask(network.pod(0), Protocol::Tcp, to(5 * PER_FILE)).unwrap().name, "b");
    talk.say("ten thousand services later").unwrap();
    network.apply(|manifests| {
        for number in 0..SERVICES / PER_FILE {
            manifests.remove(&format!("many-{number:02}.yaml"));
        }
    });
    talk.say("and when they are gone").unwrap();
    network.stop();
}
