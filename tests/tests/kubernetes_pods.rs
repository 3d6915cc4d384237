//! Pods of an API server and their containers, which come in any order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_apiserver::{ApiServer, Store};
use millrace_tests::{CniCall, Daemon, Netns, Network, attachments, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

const SERVER: &str = "127.0.0.1:6443";
const SOON: Duration = Duration::from_secs(15);
const RANGES: [&str; 2] = ["10.77.0.0/16", "fd00:77::/64"];

fn serve(daemon: &Daemon, store: &Arc<Store>) -> ApiServer {
    let store = Arc::clone(store);
    daemon.netns().within(move || ApiServer::start_with(SERVER.parse().unwrap(), store)).unwrap()
}

/// A daemon that follows a server, without ranges of its own.
fn started(store: &Arc<Store>) -> (Network, ApiServer) {
    let mut network = Network::for_plugin(|_| ());
    let daemon = network.daemon_mut();
    daemon.end();
    let (kubeconfig, server) = (daemon.room().join("kubeconfig"), serve(daemon, store));
    std::fs::write(&kubeconfig, server.kubeconfig()).unwrap();
    daemon.configure(|config| {
        config["source"] = json!({"kubernetes": {"kubeconfig": kubeconfig}});
        config["cni"].as_object_mut().unwrap().remove("podCIDRs");
    });
    daemon.respawn();
    network.daemon_mut().wait_ready();
    (network, server)
}

fn node(ranges: &[&str]) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": Network::node_name()},
        "spec": {"podCIDRs": ranges},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})
}

fn pod(name: &str, uid: &str, kind: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": "demo", "name": name, "uid": uid, "annotations": {"millrace.io/port": kind}},
        "spec": {"nodeName": Network::node_name(), "containers": []}, "status": {"phase": "Pending"}})
}

fn of_pod(call: CniCall, name: &str, uid: &str) -> CniCall {
    let args = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={name};K8S_POD_UID={uid}");
    call.variable("CNI_ARGS", &args)
}

/// The kind of port that a container has.
fn kind_of(daemon: &Daemon, container: &str) -> String {
    let known = attachments(daemon).into_iter().find(|one| one.id.container_id.as_str() == container);
    known.unwrap().kind.to_string()
}

#[test]
fn a_range_that_comes_after_the_daemon_is_given_from_as_soon_as_it_is_there() {
    let store = Arc::new(Store::default());
    let (network, _server) = started(&store);
    let (daemon, container) = (network.daemon(), Netns::new("late"));
    let call = |verb| CniCall::new(daemon, verb, &container);
    // Not even the node is there; then it is, and has no range yet.
    for _ in 0..2 {
        assert_eq!(call("STATUS").code(), 50);
        call("ADD").code();
        call("DEL").must();
        store.apply(node(&[]));
    }
    assert!(attachments(daemon).is_empty());
    store.apply(node(&RANGES));
    eventually("addresses can be given", SOON, || call("STATUS").run().is_ok());
    let result = call("ADD").must();
    let given: Vec<&str> =
        result["ips"].as_array().unwrap().iter().map(|ip| ip["address"].as_str().unwrap()).collect();
    assert!(given[0].starts_with("10.77.") && given[1].starts_with("fd00:77:"), "{given:?}");
    call("DEL").must();
    network.stop();
}

#[test]
fn a_container_whose_pod_is_told_of_later_gets_what_its_annotations_say() {
    let store = Arc::new(Store::default());
    store.apply(node(&RANGES));
    let (network, _server) = started(&store);
    let (daemon, container) = (network.daemon(), Netns::new("early"));
    // An earlier pod of the same name says nothing about this one.
    store.apply(pod("web", "1", "tap"));
    thread::sleep(Duration::from_millis(200));
    let add = of_pod(CniCall::new(daemon, "ADD", &container), "web", "2");
    let adding = thread::spawn(move || add.must());
    thread::sleep(Duration::from_millis(300));
    store.apply(pod("web", "2", "af-xdp"));
    adding.join().unwrap();
    assert_eq!(kind_of(daemon, container.name()), "af-xdp");
    of_pod(CniCall::new(daemon, "DEL", &container), "web", "2").must();
    // A static pod has another UID in the API than for the kubelet.
    let mut mirror = pod("static", "3", "af-xdp");
    mirror["metadata"]["annotations"]["kubernetes.io/config.mirror"] = json!("static-3");
    store.apply(mirror);
    thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    of_pod(CniCall::new(daemon, "ADD", &container), "static", "static-3").must();
    assert!(begin.elapsed() < Duration::from_millis(900), "{:?}", begin.elapsed());
    assert_eq!(kind_of(daemon, container.name()), "af-xdp");
    of_pod(CniCall::new(daemon, "DEL", &container), "static", "static-3").must();
    // One of which nobody ever tells waits for a second and no longer.
    let begin = Instant::now();
    of_pod(CniCall::new(daemon, "ADD", &container), "unknown", "4").must();
    assert!((1..3).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
    assert_eq!(kind_of(daemon, container.name()), "veth", "the kind of this kernel");
    of_pod(CniCall::new(daemon, "DEL", &container), "unknown", "4").must();
    network.stop();
}
