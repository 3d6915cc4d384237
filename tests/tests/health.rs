//! What load balancers, people and dashboards are told of the node's health as a service proxy.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    EndpointSpec, Family, HttpAnswer, Kind, Network, ServiceSpec, eventually, expose, http_get,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const CHECK_PORT: u16 = 32_100;
const SOON: Duration = Duration::from_secs(5);

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

/// A node whose own leg into the pods' network is in the daemon's namespace, so that its servers are reached.
fn start(kinds: &[Kind]) -> Network {
    let network = Network::with_world(kinds, Kind::AfXdp);
    let daemon = network.daemon();
    daemon.add_port(&json!({"name": "host", "kind": "tap", "interface": "host0", "role": "host",
        "addresses": Family::BOTH.map(Network::node_address)}));
    for (family, gateway) in Family::BOTH.into_iter().zip(["169.254.1.1", "fe80::4d:52ff:fe00:1"]) {
        // The host has its addresses from elsewhere.
        let address = Network::node_address(family).to_string();
        daemon.netns().must(&["ip", "addr", "add", &address, "dev", "lo"]);
        daemon.netns().must(&["ip", "route", "add", "default", "via", gateway, "dev", "host0", "onlink"]);
    }
    network
}

fn get(network: &Network, family: Family, port: u16, path: &str) -> Option<HttpAnswer> {
    let at = SocketAddr::new(Network::node_address(family), port);
    http_get(network.world().netns(), &format!("http://{at}{path}"))
}

fn balanced(service: &mut Value) {
    expose(service, "LoadBalancer", NODE_PORT);
    service["spec"]["externalTrafficPolicy"] = json!("Local");
    service["spec"]["healthCheckNodePort"] = json!(CHECK_PORT);
}

/// Waits for the answer of the health check: it is given by another thread than the one that compiles tables.
fn await_check(network: &Network, family: Family, status: u16, endpoints: usize) -> HttpAnswer {
    let mut last = None;
    eventually(&format!("{status} and {endpoints} endpoints"), SOON, || {
        last = get(network, family, CHECK_PORT, "/");
        last.as_ref().is_some_and(|answer| {
            answer.status == status && answer.json()["localEndpoints"].as_u64() == Some(endpoints as u64)
        })
    });
    last.unwrap()
}

#[test]
fn a_load_balancer_is_told_whether_the_node_has_endpoints() {
    let network = start(&[Kind::AfXdp, Kind::Tap]);
    let set =
        |endpoints: &[EndpointSpec]| network.apply(|manifests| manifests.endpoints_as(&service(), endpoints));
    network.apply(|manifests| manifests.service_with(&service(), balanced));
    set(&network.endpoints(&[0, 1]));
    for family in Family::BOTH {
        let answer = await_check(&network, family, 200, 2);
        let expected = json!({"service": {"namespace": "test", "name": "web"}, "localEndpoints": 2,
            "serviceProxyHealthy": true});
        assert_eq!(answer.json(), expected);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        assert_eq!(answer.header("x-load-balancing-endpoint-weight"), Some("2"));
        assert_eq!(get(&network, family, CHECK_PORT, "/any/path").unwrap().status, 200);
    }
    // Who is about to end takes no new clients, though it is the last resort of those that come.
    let ends = network.endpoints(&[1]).into_iter().map(EndpointSpec::terminating);
    set(&network.endpoints(&[0]).into_iter().chain(ends.clone()).collect::<Vec<_>>());
    await_check(&network, Family::V4, 200, 1);
    set(&ends.clone().collect::<Vec<_>>());
    let answer = await_check(&network, Family::V6, 503, 0);
    assert_eq!(answer.header("x-load-balancing-endpoint-weight"), Some("0"));
    set(&network.endpoints(&[0]).into_iter().map(|endpoint| endpoint.on("elsewhere")).collect::<Vec<_>>());
    await_check(&network, Family::V4, 503, 0);
    set(&network.endpoints(&[1]));
    await_check(&network, Family::V4, 200, 1);
    network.stop();
}

#[test]
fn health_checks_come_and_go_with_their_services() {
    let network = start(&[Kind::Tap]);
    network.set_endpoints(&service(), &[0]);
    let closed = |port: u16| {
        eventually("no health check", SOON, || {
            Family::BOTH.iter().all(|family| get(&network, *family, port, "/").is_none())
        });
    };
    let change = |change: &dyn Fn(&mut Value)| {
        network.apply(|manifests| {
            manifests.service_with(&service(), |service| {
                balanced(service);
                change(service);
            })
        });
    };
    change(&|_| ());
    await_check(&network, Family::V4, 200, 1);
    change(&|service| service["spec"]["healthCheckNodePort"] = json!(CHECK_PORT + 1));
    closed(CHECK_PORT);
    eventually("the new port", SOON, || get(&network, Family::V6, CHECK_PORT + 1, "/").is_some());
    change(&|service| service["spec"]["externalTrafficPolicy"] = json!("Cluster"));
    closed(CHECK_PORT);
    change(&|service| expose(service, "NodePort", NODE_PORT));
    closed(CHECK_PORT);
    change(&|_| ());
    await_check(&network, Family::V6, 200, 1);
    // A second one, and the first is deleted.
    let other = ServiceSpec::numbered("other", 11, PORT, TARGET);
    network.apply(|manifests| {
        manifests.service_with(&other, |service| {
            expose(service, "LoadBalancer", NODE_PORT + 1);
            service["spec"]["externalTrafficPolicy"] = json!("Local");
            service["spec"]["healthCheckNodePort"] = json!(CHECK_PORT + 2);
        });
        manifests.endpoints(&other, "elsewhere", &network.pod(0).addresses());
    });
    eventually("the other's answer", SOON, || {
        get(&network, Family::V4, CHECK_PORT + 2, "/").is_some_and(|answer| answer.status == 503)
    });
    network.apply(|manifests| manifests.remove_service(&service()));
    closed(CHECK_PORT);
    assert!(get(&network, Family::V4, CHECK_PORT + 2, "/").is_some());
    network.stop();
}

#[test]
fn a_health_check_whose_port_is_taken_is_reported_and_opened_later() {
    let network = start(&[Kind::Tap]);
    let squatter =
        network.daemon().netns().within(|| std::net::TcpListener::bind(("::", CHECK_PORT)).unwrap());
    network.set_endpoints(&service(), &[0]);
    network.apply(|manifests| manifests.service_with(&service(), balanced));
    let errors = || network.daemon().cli(&["errors"]).stdout;
    eventually("the port is reported", SOON, || errors().contains(&CHECK_PORT.to_string()));
    drop(squatter);
    eventually("the port is opened later", Duration::from_secs(15), || {
        get(&network, Family::V4, CHECK_PORT, "/").is_some_and(|answer| answer.status == 200)
    });
    eventually("nothing is wrong any more", SOON, || !errors().contains(&CHECK_PORT.to_string()));
    network.stop();
}

#[test]
fn the_nodes_health_is_told_where_kube_proxy_tells_it() {
    let network = start(&[]);
    let statuses =
        || ["/healthz", "/livez"].map(|path| get(&network, Family::V4, 10_256, path).unwrap().status);
    assert_eq!(statuses(), [200, 200]);
    let answer = get(&network, Family::V6, 10_256, "/healthz").unwrap();
    assert_eq!(answer.json()["nodeEligible"], json!(true));
    assert!(answer.json()["lastUpdated"].is_string() && answer.json()["currentTime"].is_string());
    let node = |change: &dyn Fn(&mut Value)| {
        network.apply(|manifests| manifests.node_with(Network::node_name(), |node| change(node)));
    };
    let leaving: [&dyn Fn(&mut Value); 2] = [
        &|node| {
            node["spec"]["taints"] =
                json!([{"key": "ToBeDeletedByClusterAutoscaler", "value": "1", "effect": "NoSchedule"}]);
        },
        &|node| node["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z"),
    ];
    for leave in leaving {
        node(leave);
        eventually("the node is about to go", SOON, || statuses() == [503, 200]);
        assert_eq!(
            get(&network, Family::V4, 10_256, "/healthz").unwrap().json()["nodeEligible"],
            json!(false)
        );
        node(&|_| ());
        eventually("the node stays", SOON, || statuses() == [200, 200]);
    }
    // Other taints are no farewell.
    node(&|node| node["spec"]["taints"] = json!([{"key": "example.org/slow", "effect": "NoSchedule"}]));
    assert_eq!(statuses(), [200, 200]);
    network.stop();
}

#[test]
fn dashboards_of_kube_proxy_find_their_metrics() {
    let network = start(&[Kind::Tap]);
    let metrics = || http_get(network.daemon().netns(), "http://127.0.0.1:9470/metrics").unwrap().body;
    let value = |line: &str| {
        let text = metrics();
        let found = text.lines().find_map(|found| found.strip_prefix(line)?.trim().parse::<f64>().ok());
        found.unwrap_or_else(|| panic!("no {line} in\n{text}"))
    };
    let programming = "kubeproxy_network_programming_duration_seconds_count{ip_family=\"IPv4\"}";
    let before = value(programming);
    network.apply(|manifests| {
        manifests.service(&service());
        let now = network.world().netns().must(&["date", "-u", "+%FT%T.%NZ"]);
        let endpoints = network.endpoints(&[0]);
        let mut slice =
            service().slice("one", "IPv4", endpoints.iter().filter(|spec| spec.address.is_ipv4()));
        slice["metadata"]["annotations"] =
            json!({"endpoints.kubernetes.io/last-change-trigger-time": now.trim()});
        manifests.write("slices.yaml", &[slice]);
    });
    eventually("the worker uses it", SOON, || value(programming) > before);
    let sum = value("kubeproxy_network_programming_duration_seconds_sum{ip_family=\"IPv4\"}");
    assert!((0.0..2.0).contains(&sum), "{sum} s from the file to the workers");
    assert!(value("kubeproxy_sync_proxy_rules_duration_seconds_count{}") > 0.0);
    assert!(value("kubeproxy_sync_proxy_rules_last_timestamp_seconds{}") > 1.7e9);
    // Endpoints elsewhere only, and a policy that wants them here.
    let without =
        "kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family=\"IPv4\",traffic_policy=\"internal\"}";
    assert_eq!(value(without), 0.0);
    network.apply(|manifests| {
        manifests.remove("slices.yaml");
        manifests
            .service_with(&service(), |service| service["spec"]["internalTrafficPolicy"] = json!("Local"));
        manifests.endpoints(&service(), "elsewhere", &network.pod(0).addresses());
    });
    assert_eq!(value(without), 3.0, "one for each port of the service");
    get(&network, Family::V4, 10_256, "/healthz").unwrap();
    assert!(value("kubeproxy_proxy_healthz_total{code=\"200\"}") >= 1.0);
    network.stop();
}

#[test]
fn the_nodes_health_is_told_nowhere_where_that_is_not_wanted() {
    let network = Network::start_with(&[Kind::Tap], |config| {
        config["services"] = json!({"healthAddress": "none"});
    });
    assert!(http_get(network.daemon().netns(), "http://127.0.0.1:10256/healthz").is_none());
    assert!(http_get(network.daemon().netns(), "http://127.0.0.1:9470/metrics").is_some());
    network.stop();
}
