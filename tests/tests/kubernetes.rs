//! A daemon that follows a Kubernetes API server.
//!
//! ```text
//!   API server (in the node's namespace) ──► node ══ client (TAP)
//!                                             ╠═════ first, second (AF_XDP): endpoints of demo/web
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{Status, Tables, path};
use millrace_apiserver::{ApiServer, Store};
use millrace_tests::{
    Attached, Conversation, Daemon, Echo, EndpointSpec, Family, Kind, Network, ServiceSpec, eventually,
    http_get, who_answers,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SERVER: &str = "127.0.0.1:6443";
const TARGET: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(15);

fn serve(daemon: &Daemon, store: &Arc<Store>) -> ApiServer {
    let store = Arc::clone(store);
    daemon.netns().within(move || ApiServer::start_with(SERVER.parse().unwrap(), store)).unwrap()
}

/// A server that the next instance of the daemon follows.
fn serve_next(daemon: &Daemon, store: &Arc<Store>) -> ApiServer {
    let kubeconfig = daemon.room().join("kubeconfig");
    let server = serve(daemon, store);
    std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    daemon.configure(|config| config["source"] = json!({"kubernetes": {"kubeconfig": kubeconfig}}));
    server
}

fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": Network::node_name()},
        "spec": {"podCIDRs": ["10.77.0.0/16", "fd00:77::/64"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
}

fn web() -> ServiceSpec {
    ServiceSpec::numbered("web", 20, 80, TARGET)
}

/// The service's endpoints are these pods.
fn lead(store: &Store, pods: &[&Attached]) {
    for (family, wanted) in [(Family::V4, "IPv4"), (Family::V6, "IPv6")] {
        let ready = |pod: &&Attached| EndpointSpec::ready(pod.pod.address(family), Network::node_name());
        let endpoints: Vec<EndpointSpec> = pods.iter().map(ready).collect();
        store.apply(web().slice(wanted, wanted, &endpoints));
    }
}

/// Who answers at the service's ClusterIP, of many tries.
fn answering(client: &Attached) -> BTreeSet<String> {
    let frontend = SocketAddr::new(web().cluster_ips[0], 80);
    (0..24).filter_map(|_| who_answers(&client.pod, frontend).ok()).collect()
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn status(daemon: &Daemon) -> Status {
    daemon.client().get(path::STATUS).unwrap()
}

fn readiness(daemon: &Daemon) -> Option<u16> {
    http_get(daemon.netns(), "http://127.0.0.1:9470/readyz").map(|answer| answer.status)
}

fn version(daemon: &Daemon) -> u64 {
    daemon.client().get::<Tables>(path::TABLES).unwrap().version
}

#[test]
fn a_node_follows_an_api_server_and_serves_on_while_that_is_away() {
    let mut network = Network::for_plugin(|_| ());
    let [client, first, second] = [("client", Kind::Tap), ("first", Kind::AfXdp), ("second", Kind::AfXdp)]
        .map(|(name, kind)| Attached::add(network.daemon(), name, kind));
    let _echoes = [&first, &second].map(|pod| Echo::start(&pod.pod, TARGET));
    let store = Arc::new(Store::default());
    store.apply(node());
    store.apply(web().object());
    lead(&store, &[&first]);

    // The next instance follows a server, which is not complete at first.
    let daemon = network.daemon_mut();
    daemon.end();
    let server = serve_next(daemon, &store);
    store.fail(|faults| {
        faults.refused.insert("endpointslices".to_owned(), 403);
    });
    daemon.respawn();
    let daemon = network.daemon();
    eventually("the refusal is told", PATIENCE, || {
        let status = daemon.client().get::<Status>(path::STATUS).ok();
        let error = status.and_then(|status| status.source.server).and_then(|server| server.last_error);
        error.is_some_and(|error| error.contains("endpointslices") && error.contains("may not read"))
    });
    assert!(!status(daemon).source.synced);
    assert_eq!(readiness(daemon), Some(503));
    assert!(store.patches().is_empty());
    store.fail(|faults| faults.refused.clear());
    network.daemon_mut().wait_ready();
    let daemon = network.daemon();
    eventually("ready", PATIENCE, || readiness(daemon) == Some(200));
    eventually("the cluster knows", PATIENCE, || !store.patches().is_empty());
    eventually("served", PATIENCE, || answering(&client) == names(&["first"]));
    let source = status(daemon).source;
    assert_eq!((source.kind.as_str(), source.place.as_str()), ("kubernetes", "http://127.0.0.1:6443"));
    assert!(source.server.unwrap().connected);

    // A policy is known, and everybody is told that it is not enforced.
    store.apply(json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "closed", "namespace": "demo"}, "spec": {"podSelector": {}}}));
    eventually("the policy is counted", PATIENCE, || status(daemon).policies_not_enforced == 1);
    assert!(daemon.cli(&["status"]).stdout.contains("1, NONE of them enforced"));
    assert_eq!(daemon.log().matches("demo/closed").count(), 1, "{}", daemon.log());
    let metrics = http_get(daemon.netns(), "http://127.0.0.1:9470/metrics").unwrap().body;
    assert!(metrics.contains("\nmillrace_network_policies_not_enforced{} 1"), "{metrics}");
    assert_eq!(answering(&client), names(&["first"]));

    // The server goes, and things change meanwhile.
    let frontend = SocketAddr::new(web().cluster_ips[0], 80);
    let mut talk = Conversation::open(&client.pod, frontend).unwrap();
    talk.say("before").unwrap();
    drop(server);
    eventually("the silence is told", PATIENCE, || {
        status(daemon).source.server.is_some_and(|server| !server.connected)
    });
    assert_eq!(answering(&client), names(&["first"]));
    talk.say("while it is away").unwrap();
    let metrics = http_get(daemon.netns(), "http://127.0.0.1:9470/metrics").unwrap().body;
    for sample in
        ["millrace_source_connected{} 0.0", "millrace_source_age_seconds{} ", "millrace_source_objects{"]
    {
        assert!(metrics.lines().any(|line| line.starts_with(sample)), "{sample}: {metrics}");
    }
    lead(&store, &[&first, &second]);
    store.compact();
    let before = version(daemon);
    let server = serve(daemon, &store);
    eventually("both serve", PATIENCE, || answering(&client) == names(&["first", "second"]));
    talk.say("after").unwrap();
    let published = version(daemon) - before;
    assert!((1..=2).contains(&published), "{published} publications for two slices that differ");

    // A change comes through at once.
    let begin = Instant::now();
    lead(&store, &[&second]);
    eventually("only one serves", Duration::from_secs(2), || answering(&client) == names(&["second"]));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop(server);
    for pod in [client, first, second] {
        pod.delete();
    }
    network.stop();
}

/// A cluster of 5,000 nodes with 150,000 pods, 10,000 services and 100,000 endpoints.
fn fill(store: &Store) {
    let address = |number: u32| std::net::Ipv4Addr::from_bits((11 << 24) + number).to_string();
    for number in 0..5_000 {
        store.apply(
            json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{number}")},
            "spec": {"podCIDRs": [format!("{}/24", address(number << 8))]},
            "status": {"addresses": [{"type": "InternalIP", "address": address((1 << 23) + number)}]}}),
        );
    }
    for number in 0..150_000_u32 {
        let node = number % 5_000;
        store.apply(json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("pod-{number}"), "namespace": "many", "labels": {"app": "many"}},
            "spec": {"nodeName": format!("node-{node}"), "containers": [{"name": "main", "image": "example.org/none"}]},
            "status": {"phase": "Running", "podIPs": [{"ip": address((node << 8) + number / 5_000 + 2)}]}}));
    }
    for number in 0..10_000_u32 {
        let name = format!("service-{number}");
        store.apply(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "many"},
            "spec": {"clusterIP": format!("10.96.{}.{}", 1 + number / 200, 1 + number % 200),
                "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        );
        let endpoint = |at: u32| {
            json!({"addresses": [address((((number * 10 + at) % 5_000) << 8) + 2)], "nodeName": "node-1",
            "conditions": {"ready": true}})
        };
        store.apply(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("{name}-a"), "namespace": "many", "labels": {"kubernetes.io/service-name": name}},
            "ports": [{"name": "http", "port": 8080}], "endpoints": (0..10).map(endpoint).collect::<Vec<_>>()}));
    }
}

/// Measures: how long a daemon takes to know a large cluster, what that costs, and how long a change then takes.
#[test]
#[ignore = "measures; run with --ignored --nocapture"]
fn a_large_cluster_is_known_and_followed() {
    let mut network = Network::for_plugin(|_| ());
    let store = Arc::new(Store::default());
    store.apply(node());
    fill(&store);
    let daemon = network.daemon_mut();
    daemon.end();
    let server = serve_next(daemon, &store);
    let begin = Instant::now();
    daemon.restart();
    let took = begin.elapsed();
    let status = status(daemon);
    let of_process = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/status", status.pid)).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned())).unwrap()
    };
    eprintln!(
        "{} objects and {} services known after {took:?}; resident {}",
        status.source.objects,
        status.services,
        of_process("VmRSS:")
    );
    assert_eq!(status.services, 10_000);
    let mut times = Vec::new();
    for round in 0..50_u16 {
        let before = version(daemon);
        let begin = Instant::now();
        let mut slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "service-7-a", "namespace": "many", "labels": {"kubernetes.io/service-name": "service-7"}},
            "ports": [{"name": "http", "port": 8080}]});
        slice["endpoints"] =
            json!([{"addresses": [format!("11.0.9.{}", 10 + round)], "conditions": {"ready": true}}]);
        store.apply(slice);
        while version(daemon) == before {
            assert!(begin.elapsed() < PATIENCE, "a change is published");
        }
        times.push(begin.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    times.sort();
    eprintln!(
        "from the server's change to published tables, as the API tells: median {:?}, longest {:?}",
        times[25], times[49]
    );
    drop(server);
    network.stop();
}
