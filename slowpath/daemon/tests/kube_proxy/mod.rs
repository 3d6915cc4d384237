//! What kube-proxy tells over HTTP, and load balancers ask.

use crate::daemon::{Daemon, Place, eventually, namespaces_possible};
use millrace_api::{ObjectErrorList, path};
use serde_json::{Value, json};
use std::net::TcpListener;
use std::process::Command;

/// An answer over HTTP.
struct Answer {
    status: u16,
    headers: String,
    body: Value,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| {
            line.split_once(": ").filter(|(found, _)| found.eq_ignore_ascii_case(name)).is_some()
        };
        self.headers.lines().find(|line| of(line)).and_then(|line| Some(line.split_once(": ")?.1))
    }
}

/// Asks from the daemon's namespace; nothing if nobody listens.
fn ask(place: &Place, at: &str) -> Option<Answer> {
    let url = format!("http://{at}");
    let curl = ["netns", "exec", &place.pod("host"), "curl", "-s", "-g", "-i", "--max-time", "10", &url];
    let output = Command::new("ip").args(curl).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (headers, body) = text.split_once("\r\n\r\n")?;
    Some(Answer {
        status: headers.split(' ').nth(1).unwrap().parse().unwrap(),
        headers: headers.to_owned(),
        body: serde_json::from_str(body).unwrap_or_default(),
    })
}

fn status(place: &Place, at: &str) -> Option<u16> {
    ask(place, at).map(|answer| answer.status)
}

/// In one step: an empty file in between would be an object that goes and comes back.
fn write(place: &Place, name: &str, object: &Value) {
    std::fs::write(place.path(name), object.to_string()).unwrap();
    std::fs::rename(place.path(name), place.path("manifests").join(name)).unwrap();
}

fn remove(place: &Place, name: &str) {
    std::fs::remove_file(place.path("manifests").join(name)).unwrap();
}

fn node(place: &Place, spec: &Value) {
    let node = json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": "node" }, "spec": spec });
    write(place, "node.json", &node);
}

fn service(place: &Place, health_port: u16) {
    let spec = json!({
        "type": "LoadBalancer", "clusterIP": "10.96.0.1", "externalTrafficPolicy": "Local",
        "healthCheckNodePort": health_port, "ports": [{ "port": 80, "nodePort": 30_080 }],
    });
    let metadata = json!({ "name": "web", "namespace": "shop" });
    let service = json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec });
    write(place, "service.json", &service);
}

/// Endpoints by address, node and whether they are ready.
fn slice(place: &Place, changed: &str, endpoints: &[(&str, &str, bool)]) {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(address, node, ready)| {
            let conditions = json!({ "ready": ready, "serving": true, "terminating": !ready });
            json!({ "addresses": [address], "nodeName": node, "conditions": conditions })
        })
        .collect();
    let metadata = json!({
        "name": "web-1", "namespace": "shop", "labels": { "kubernetes.io/service-name": "web" },
        "annotations": { "endpoints.kubernetes.io/last-change-trigger-time": changed },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": "IPv4", "ports": [{ "port": 8080 }], "endpoints": endpoints,
    });
    write(place, "slice.json", &slice);
}

/// Listens in the daemon's namespace.
fn occupy(place: &Place, address: &str) -> TcpListener {
    let (namespace, address) = (format!("/run/netns/{}", place.pod("host")), address.to_owned());
    // A thread of its own: the namespace is the thread's.
    std::thread::spawn(move || {
        let namespace = std::fs::File::open(namespace).unwrap();
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        TcpListener::bind(address).unwrap()
    })
    .join()
    .unwrap()
}

#[test]
fn healthz_says_that_the_node_goes_and_livez_does_not() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let mut daemon = Daemon::start(&place);
    let (healthz, livez) = ("127.0.0.1:10256/healthz", "[::1]:10256/livez");
    eventually("health is served", || status(&place, healthz) == Some(200));
    let answer = ask(&place, healthz).unwrap();
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    assert_eq!((&answer.body["nodeEligible"], &answer.body["healthy"]), (&json!(true), &json!(true)));
    assert_eq!(answer.body["status"]["IPv6"]["healthy"], true);
    assert_eq!(answer.body["lastUpdated"], answer.body["currentTime"]);
    assert_eq!(status(&place, "127.0.0.1:10256/other"), Some(404));

    let leaving = json!({ "taints": [{ "key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule" }] });
    node(&place, &leaving);
    eventually("the node goes", || status(&place, healthz) == Some(503));
    let answer = ask(&place, healthz).unwrap();
    assert_eq!((&answer.body["nodeEligible"], &answer.body["healthy"]), (&json!(false), &json!(true)));
    let answer = ask(&place, livez).unwrap();
    assert_eq!((answer.status, answer.body.get("nodeEligible")), (200, None));

    node(&place, &json!({}));
    eventually("the node stays after all", || status(&place, healthz) == Some(200));
    remove(&place, "node.json");
    eventually("the node is deleted", || status(&place, healthz) == Some(503));

    let metrics = daemon.get("/metrics");
    assert!(metrics.contains("kubeproxy_proxy_livez_total{code=\"200\"} 1.0"), "{metrics}");
    assert!(!metrics.contains("kubeproxy_proxy_healthz_total{code=\"503\"} 0"), "{metrics}");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn a_kube_proxy_that_still_runs_is_a_warning_and_its_address_is_taken_over() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let kube_proxy = occupy(&place, "0.0.0.0:10256");
    let mut daemon = Daemon::start(&place);
    eventually("it is told", || daemon.log().contains("services.healthAddress"));
    assert!(daemon.log().contains("0.0.0.0:10256"), "{}", daemon.log());
    drop(kube_proxy);
    eventually("the address is taken over", || status(&place, "127.0.0.1:10256/livez") == Some(200));
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

/// Upstream's test "should check kube-proxy urls" (`test/e2e/network/networking.go`) asks for the mode.
#[test]
fn mode_and_metrics_are_told_where_kube_proxy_does() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let mut daemon = Daemon::start(&place);
    eventually("the mode is told", || status(&place, "127.0.0.1:10249/proxyMode") == Some(200));
    for path in ["metrics", "healthz"] {
        assert_eq!(status(&place, &format!("127.0.0.1:10249/{path}")), Some(200), "{path}");
    }
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn no_health_address_is_no_server() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("services: { healthAddress: none, statusAddress: none }\n");
    let mut daemon = Daemon::start(&place);
    for path in ["10256/healthz", "10249/proxyMode"] {
        assert_eq!(status(&place, &format!("127.0.0.1:{path}")), None, "{path}");
    }
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn a_load_balancer_hears_whether_its_service_has_endpoints_here() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let mut daemon = Daemon::start(&place);
    service(&place, 31_000);
    eventually("nobody is here", || status(&place, "127.0.0.1:31000") == Some(503));
    slice(&place, "", &[("10.0.0.1", "node", true), ("10.0.0.2", "node", true), ("10.0.0.3", "other", true)]);
    eventually("endpoints are here", || status(&place, "127.0.0.1:31000/healthz") == Some(200));
    let answer = ask(&place, "[::1]:31000/whatever").unwrap();
    let service_name = json!({ "namespace": "shop", "name": "web" });
    let expected = json!({ "service": service_name, "localEndpoints": 2, "serviceProxyHealthy": true });
    assert_eq!((answer.status, &answer.body), (200, &expected));
    assert_eq!(answer.header("x-load-balancing-endpoint-weight"), Some("2"));
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));

    slice(&place, "", &[("10.0.0.1", "node", false), ("10.0.0.3", "other", true)]);
    eventually("the last one here ends", || status(&place, "127.0.0.1:31000") == Some(503));
    let answer = ask(&place, "127.0.0.1:31000").unwrap();
    assert_eq!(answer.header("x-load-balancing-endpoint-weight"), Some("0"));

    service(&place, 31_001);
    eventually("the port moves", || status(&place, "127.0.0.1:31001") == Some(503));
    assert_eq!(status(&place, "127.0.0.1:31000"), None);
    remove(&place, "service.json");
    eventually("the service goes", || status(&place, "127.0.0.1:31001").is_none());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn a_health_check_whose_port_is_taken_is_reported_and_comes_when_it_can() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let mut daemon = Daemon::start(&place);
    let client = daemon.client();
    let errors = || client.get::<ObjectErrorList>(path::OBJECT_ERRORS).unwrap().errors;
    let other = occupy(&place, "127.0.0.1:31000");
    service(&place, 31_000);
    eventually("it is reported", || !errors().is_empty());
    let error = errors().remove(0);
    assert_eq!(error.object.as_deref(), Some("Service shop/web"));
    assert!(error.reason.contains("31000") && error.reason.contains("in use"), "{error:?}");
    drop(other);
    eventually("it is answered", || status(&place, "127.0.0.1:31000") == Some(503));
    eventually("the report goes", || errors().is_empty());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn health_checks_are_answered_at_the_selected_addresses_only() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("services: { nodePortAddresses: [192.0.2.0/24, '2001:db8::/64'] }\n");
    let mut daemon = Daemon::start(&place);
    let client = daemon.client();
    service(&place, 31_000);
    let errors = || client.get::<ObjectErrorList>(path::OBJECT_ERRORS).unwrap().errors;
    eventually("there is none", || {
        errors().iter().any(|error| error.reason.contains("192.0.2.0/24, 2001:db8::/64"))
    });
    place.exec(&["ip", "address", "add", "192.0.2.7/24", "dev", "lo"]);
    place.exec(&["ip", "address", "add", "2001:db8::7/64", "dev", "lo", "nodad"]);
    eventually("both answer", || {
        status(&place, "192.0.2.7:31000") == Some(503) && status(&place, "[2001:db8::7]:31000") == Some(503)
    });
    assert_eq!(status(&place, "127.0.0.1:31000"), None);
    assert_eq!(status(&place, "[::1]:31000"), None);
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn the_metrics_have_the_names_that_dashboards_know() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    slice(&place, "2020-01-01T00:00:00Z", &[("10.0.0.1", "other", true)]);
    let mut daemon = Daemon::start(&place);
    let programmed = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}";
    assert!(daemon.get("/metrics").contains(&format!("{programmed} 0\n")), "a change before the start");

    service(&place, 31_000);
    slice(&place, place.exec(&["date", "-u", "+%FT%T.%NZ"]).trim(), &[("10.0.0.2", "other", true)]);
    eventually("the change is measured", || daemon.get("/metrics").contains(&format!("{programmed} 1\n")));
    slice(&place, "yesterday", &[("10.0.0.3", "other", true)]);
    let missing = "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy";
    let total = "kubeproxy_sync_proxy_rules_endpoint_changes_total{} 3.0";
    eventually("all three changes are in", || daemon.get("/metrics").contains(total));
    let metrics = daemon.get("/metrics");
    for expected in [
        "# TYPE kubeproxy_sync_proxy_rules_duration_seconds histogram",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"0.001\"}",
        "kubeproxy_sync_proxy_rules_duration_seconds_bucket{le=\"+Inf\"}",
        "kubeproxy_network_programming_duration_seconds_bucket{le=\"0.25\",ip_family=\"IPv4\"} 1\n",
        "kubeproxy_sync_proxy_rules_last_timestamp_seconds{} 1",
        "kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{} 1",
        "kubeproxy_sync_proxy_rules_endpoint_changes_pending{} 0",
        "kubeproxy_sync_proxy_rules_service_changes_total{} 1.0",
        "kubeproxy_sync_proxy_rules_service_changes_pending{} 0",
        "kubeproxy_proxy_healthz_total{code=\"503\"} 0.0",
        &format!("{missing}=\"external\"}} 1.0"),
        &format!("{missing}=\"internal\"}} 0.0"),
    ] {
        assert!(metrics.contains(expected), "no {expected} in {metrics}");
    }
    assert!(metrics.contains(&format!("{programmed} 1\n")), "a bad time is no time");
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}
