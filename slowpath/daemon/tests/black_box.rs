//! The program from outside: how it starts, answers garbage, and ends.
//!
//! Every test has network namespaces of its own, which go with it.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says what went wrong by panicking")]

mod attachments;
mod daemon;
mod explain;
mod kube_proxy;
mod reserved_ports;

use daemon::{Daemon, Place, namespaces_possible};
use millrace_api::{LinkState, ObjectErrorList, Port, PortConfig, PortList, Status, path};
use serde_json::{Value, json};

fn port(config: Value) -> PortConfig {
    serde_json::from_value(config).unwrap()
}

#[test]
fn it_starts_serves_and_ends_without_a_trace() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let before = place.links();
    let mut daemon = Daemon::start(&place);
    let client = daemon.client();
    let status = client.get::<Status>(path::STATUS).unwrap();
    assert!(status.source.synced && status.workers == 1 && !status.hugepages);

    place.add_pod("pod");
    for (name, kind, interface) in [("a", "af-xdp", "eth0"), ("b", "tap", "eth1")] {
        let config = json!({ "name": name, "kind": kind, "netns": place.pod("pod"), "interface": interface,
            "addresses": [format!("10.1.0.{}", name.as_bytes()[0])] });
        let added = client.post::<Port>(path::PORTS, &port(config)).unwrap();
        assert_eq!(added.link, LinkState::Up, "{name}");
    }
    let socket = place.path("vhost.sock");
    let config = json!({ "name": "c", "kind": "vhost-user", "addresses": ["10.1.0.9"], "vhostUser": { "socket": socket } });
    client.post::<Port>(path::PORTS, &port(config)).unwrap();
    assert!(socket.exists());
    let metrics = daemon.get("/metrics");
    for expected in
        ["millrace_port_up{port=\"a\",kind=\"af-xdp\"} 1", "millrace_pool_buffers{pool=\"ports\"}", "# EOF"]
    {
        assert!(metrics.contains(expected), "no {expected} in {metrics}");
    }
    assert!(daemon.get("/healthz").ends_with("ok") && daemon.get("/readyz").ends_with("ok"));

    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_eq!(place.links(), before);
    assert!(!place.in_pod("pod").contains("eth"));
    assert!(!socket.exists() && !place.path("api.sock").exists());
    assert_eq!(std::fs::read_to_string(place.path("state/leftovers.json")).unwrap(), "[]");
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_the_next() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let before = place.links();
    place.add_pod("pod");
    let mut daemon = Daemon::start(&place);
    let config = json!({ "name": "a", "kind": "af-xdp", "netns": place.pod("pod"), "addresses": ["10.1.0.1"], "interface": "eth0" });
    daemon.client().post::<Port>(path::PORTS, &port(config.clone())).unwrap();
    daemon.kill();
    assert_ne!(place.links(), before, "a veth pair outlives its maker");

    let mut daemon = Daemon::start(&place);
    assert_eq!(place.links(), before);
    daemon.client().post::<Port>(path::PORTS, &port(config)).unwrap();
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
    assert_eq!(place.links(), before);
}

#[test]
fn a_configured_port_that_fails_is_reported_and_comes_with_its_namespace() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let ports = format!(
        "ports:\n  - {{ name: late, kind: tap, netns: {}, addresses: [10.1.0.1] }}\n  - {{ name: now, kind: dpdk, addresses: [10.1.0.2], dpdk: {{ devargs: net_null0 }} }}\n",
        place.pod("late")
    );
    place.configure(&ports);
    let mut daemon = Daemon::start(&place);
    let client = daemon.client();
    let names = || {
        client
            .get::<PortList>(path::PORTS)
            .unwrap()
            .ports
            .into_iter()
            .map(|port| port.config.name.to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(), ["now"]);
    let errors = client.get::<ObjectErrorList>(path::OBJECT_ERRORS).unwrap().errors;
    assert_eq!(errors[0].object.as_deref(), Some("port late"));
    assert!(errors[0].reason.contains(&place.pod("late")), "{errors:?}");

    place.add_pod("late");
    daemon::eventually("the port comes", || names() == ["late", "now"]);
    assert!(client.get::<ObjectErrorList>(path::OBJECT_ERRORS).unwrap().errors.is_empty());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}

#[test]
fn a_second_daemon_is_refused_and_harms_nobody() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let mut daemon = Daemon::start(&place);
    let (status, message) = place.run_to_the_end();
    assert_eq!(status, Some(1));
    assert!(message.contains("in use by another millraced"), "{message}");
    daemon.client().get::<Status>(path::STATUS).unwrap();
    assert_eq!(daemon.terminate(), Some(0));
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_one_line_and_status_2() {
    for (config, part) in [
        ("workers: { count: 0 }\n", "workers"),
        ("workers: { cores: [60000] }\n", "60000"),
        ("gateway: { mac: ff:ff:ff:ff:ff:ff }\n", "gateway.mac"),
        ("ports: [{ name: a, kind: carrier-pigeon }]\n", "ports[0].kind"),
        ("colour: red\n", "colour"),
        ("\u{0}{[", "millrace.yaml"),
    ] {
        let place = Place::bare(config);
        let (status, message) = place.run_to_the_end();
        assert_eq!(status, Some(2), "{config}: {message}");
        assert!(message.contains(part), "{config}: {message}");
        assert_eq!(message.lines().filter(|line| line.starts_with("millraced:")).count(), 1, "{message}");
        assert!(!place.path("api.sock").exists());
    }
}

#[test]
fn what_the_machine_refuses_is_said_with_its_value_and_status_1() {
    let place = Place::new("");
    for (config, part) in [
        ("metrics: { address: 192.0.2.1:9470 }\n".to_owned(), "192.0.2.1:9470".to_owned()),
        ("api: { socket: /proc/no.sock }\n".to_owned(), "/proc/no.sock".to_owned()),
        ("stateDirectory: /proc/no\n".to_owned(), "/proc/no".to_owned()),
        ("source: { directory: /no/such/manifests }\n".to_owned(), "/no/such/manifests".to_owned()),
    ] {
        place.replace(&config);
        let (status, message) = place.run_to_the_end();
        assert_eq!(status, Some(1), "{config}: {message}");
        assert!(message.contains(&part), "{config}: {message}");
    }
}

#[test]
fn garbage_at_the_api_is_refused_in_json_and_the_daemon_lives_on() {
    if !namespaces_possible() {
        return;
    }
    let place = Place::new("");
    let mut daemon = Daemon::start(&place);
    let huge = format!("{{\"name\": \"{}\"}}", "x".repeat(100_000));
    let valid = json!({ "name": "a", "kind": "tap", "netns": "mr-no-such-pod", "addresses": ["10.1.0.1"] })
        .to_string();
    for (method, path, body, status, code) in [
        ("GET", "/v1/nothing", "", 404, "not-found"),
        ("GET", "/", "", 404, "not-found"),
        ("PUT", "/v1/ports", "{}", 405, "method-not-allowed"),
        ("POST", "/v1/ports", "", 400, "invalid"),
        ("POST", "/v1/ports", "{\"name\": 7}", 400, "invalid"),
        ("POST", "/v1/ports", "[[[[[[", 400, "invalid"),
        ("POST", "/v1/ports", &huge, 413, "too-large"),
        ("POST", "/v1/ports", &valid, 500, "failed"),
        ("GET", "/v1/ports/none", "", 404, "not-found"),
        ("DELETE", "/v1/ports/none", "", 404, "not-found"),
        ("DELETE", "/v1/ports/%00%ff", "", 400, "invalid"),
        ("DELETE", "/v1/ports/%00", "", 404, "not-found"),
        ("GET", "/v1/services/no/where", "", 404, "not-found"),
        ("GET", "/v1/flows?port=70000", "", 400, "invalid"),
        ("GET", "/v1/flows?colour=red", "", 400, "invalid"),
    ] {
        let length = body.len();
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: m\r\nconnection: close\r\ncontent-length: {length}");
        let answer = daemon.raw(format!("{head}\r\n\r\n{body}").as_bytes(), false);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{method} {path}: {answer}");
        let body: Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).expect(&answer);
        assert_eq!(body["error"]["code"], code, "{method} {path}: {answer}");
        assert!(!body["error"]["message"].as_str().unwrap().is_empty());
    }
    for garbage in [
        &b"\x00\xff\x16\x03\x01"[..],
        b"GET",
        b"POST /v1/ports HTTP/1.1\r\ncontent-length: 99999999999\r\n\r\n",
        &[b'A'; 200_000],
    ] {
        daemon.raw(garbage, true);
    }
    assert!(daemon.client().get::<PortList>(path::PORTS).unwrap().ports.is_empty());
    assert_eq!(daemon.terminate(), Some(0), "{}", daemon.log());
}
