//! Mistakes of people: each is answered with its reason, and none stops the rest.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{ClientError, ErrorCode, ObjectErrorList, Port, path};
use millrace_tests::{Daemon, Echo, Family, Kind, Network, ServiceSpec, eventually, who_answers};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

/// Starts a daemon that must refuse its configuration, and what it says.
fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let (success, log) = Daemon::spawn(&[], change).wait_end(Duration::from_secs(20));
    assert!(!success, "the daemon accepted it:\n{log}");
    log
}

#[test]
fn a_wrong_configuration_is_refused_with_field_and_value() {
    let log = refusal(|config| config["mtu"] = json!(70_000));
    assert!(log.contains("70000"), "{log}");
    let log = refusal(|config| config["worker"] = json!({"count": 1}));
    assert!(log.contains("worker"), "{log}");
    let log = refusal(|config| config["cluster"]["serviceCIDRs"] = json!(["10.77.1.0/24"]));
    assert!(log.contains("10.77.1.0/24"), "{log}");
    let log = refusal(|config| config["ports"] = json!([{"name": "x", "kind": "token-ring"}]));
    assert!(log.contains("token-ring"), "{log}");
    let log = refusal(|config| config["workers"] = json!({"cores": [4000]}));
    assert!(log.contains("4000"), "{log}");
}

#[test]
fn a_bad_manifest_is_reported_and_the_good_ones_are_served() {
    let network = Network::start(&[Kind::Tap, Kind::AfXdp]);
    let _server = Echo::start(network.pod(1), 8080);
    let manifests = network.manifests();
    manifests.write_raw("broken.yaml", "kind: [Service\n");
    manifests.write_raw("nonsense.yaml", "just a sentence\n");
    manifests.write_raw(
        "wrong.yaml",
        "apiVersion: v1\nkind: Service\nmetadata: {name: wrong, namespace: test}\n\
         spec: {clusterIP: 10.96.0.300, clusterIPs: [10.96.0.300], ports: [{port: 99999}]}\n",
    );
    let spec = ServiceSpec::numbered("web", 10, 80, 8080);
    network.serve(&spec, &[1]);
    let to = SocketAddr::new(Network::cluster_ip(&spec, Family::V4), 80);
    assert_eq!(who_answers(network.pod(0), to).unwrap(), "b");
    let errors: ObjectErrorList = network.daemon().client().get(path::OBJECT_ERRORS).unwrap();
    for file in ["broken.yaml", "wrong.yaml"] {
        let found = errors.errors.iter().find(|error| error.file.ends_with(file));
        let error = found.unwrap_or_else(|| panic!("{file} is not reported: {errors:?}"));
        assert!(!error.reason.is_empty());
    }
    for file in ["broken.yaml", "nonsense.yaml", "wrong.yaml"] {
        manifests.remove(file);
    }
    eventually("errors go with their files", Duration::from_secs(5), || {
        network.daemon().status().source.errors == 0
    });
    network.stop();
}

#[test]
fn wrong_ports_are_refused_by_the_api_with_a_reason() {
    let network = Network::start(&[Kind::Tap]);
    let client = network.daemon().client();
    let room = network.daemon().room().join("x.vhost");
    let missing =
        json!({"name": "x", "kind": "tap", "netns": "no-such-namespace", "addresses": ["10.77.0.50"]});
    let cases = [
        (
            json!({"name": "a", "kind": "vhost-user", "addresses": ["10.77.0.50"], "vhostUser": {"socket": room}}),
            ErrorCode::Conflict,
            "a",
        ),
        (
            json!({"name": "x", "kind": "vhost-user", "addresses": ["10.77.0.10"], "vhostUser": {"socket": room}}),
            ErrorCode::Conflict,
            "10.77.0.10",
        ),
        (
            json!({"name": "x", "kind": "vhost-user", "addresses": ["nowhere"], "vhostUser": {"socket": room}}),
            ErrorCode::Invalid,
            "nowhere",
        ),
        (json!({"name": "x"}), ErrorCode::Invalid, "kind"),
        (
            json!({"name": "x", "kind": "dpdk", "addresses": ["10.77.0.50"], "dpdk": {"devargs": "net_nonsense0"}}),
            ErrorCode::Failed,
            "net_nonsense0",
        ),
        (missing, ErrorCode::Failed, "no-such-namespace"),
    ];
    for (port, code, word) in cases {
        match client.post::<Port>(path::PORTS, &port) {
            Err(ClientError::Refused { refusal, .. }) => {
                assert_eq!(refusal.code, code, "{port}: {}", refusal.message);
                assert!(refusal.message.contains(word), "{port}: {}", refusal.message);
            }
            other => panic!("{port}: {other:?}"),
        }
    }
    match client.delete(&path::port("nobody")) {
        Err(ClientError::Refused { refusal, .. }) => assert_eq!(refusal.code, ErrorCode::NotFound),
        other => panic!("{other:?}"),
    }
    assert_eq!(network.daemon().ports().len(), 1);
    network.stop();
}

#[test]
fn the_command_tells_what_the_api_tells() {
    let network = Network::start(&[Kind::Tap, Kind::AfXdp]);
    let _server = Echo::start(network.pod(1), 8080);
    let spec = ServiceSpec::numbered("web", 10, 80, 8080);
    network.serve(&spec, &[1]);
    let to = SocketAddr::new(Network::cluster_ip(&spec, Family::V4), 80);
    who_answers(network.pod(0), to).unwrap();
    let daemon = network.daemon();
    assert_eq!(daemon.cli_json(&["status"])["node"], "test-node");
    assert_eq!(daemon.cli_json(&["port", "list"])["ports"].as_array().unwrap().len(), 2);
    assert_eq!(daemon.cli_json(&["service", "list"])["services"][0]["name"], "web");
    assert!(!daemon.cli_json(&["drops"])["drops"].as_array().unwrap().is_empty());
    assert_eq!(daemon.cli_json(&["worker", "list"])["workers"].as_array().unwrap().len(), 1);
    let flows = daemon.cli_json(&["flow", "list", "--proto", "tcp"]);
    assert!(flows["flows"].as_array().unwrap().iter().any(|flow| flow["backend"] == "10.77.0.11"), "{flows}");
    for args in [&["status"][..], &["port", "list"], &["service", "list"], &["flow", "list"], &["drops"]] {
        let output = daemon.cli(args);
        assert!(output.success && !output.stdout.is_empty(), "millrace {args:?}: {}", output.stderr);
    }
    let output = daemon.cli(&["port", "del", "nobody"]);
    assert!(!output.success && output.stderr.contains("nobody"), "{output:?}");
    network.stop();
}
