//! A daemon that follows a Kubernetes API server.
//!
//! ```text
//!   API server (in the node's namespace) ──► node ══ client (TAP)
//!                                             ╠═════ first, second (AF_XDP): endpoints of demo/web
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{Status, Tables, path};
use millrace_apiserver::Store;
use millrace_tests::{
    Attached, Conversation, Daemon, Echo, EndpointSpec, Family, Kind, Metrics, Network, ServiceSpec,
    eventually, http_get, own_node, serve, serve_next, who_answers,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const TARGET: u16 = 8080;
const PATIENCE: Duration = Duration::from_secs(15);

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
    store.apply(own_node());
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

    // A change comes through at once, and how fast it did is told.
    let observed = || {
        Metrics::of(daemon.netns())
            .histogram("millrace_programming_duration_seconds", "kind=\"EndpointSlice\"")
    };
    let before = observed();
    let begin = Instant::now();
    lead(&store, &[&second]);
    eventually("only one serves", Duration::from_secs(2), || answering(&client) == names(&["second"]));
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    let changed = observed().since(&before);
    assert_eq!(changed.count(), 2, "a slice of each family");
    assert!(changed.mean() < Duration::from_millis(100), "{:?}", changed.mean());
    drop(server);
    for pod in [client, first, second] {
        pod.delete();
    }
    network.stop();
}
