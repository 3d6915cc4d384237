//! `GC`, `STATUS` and `VERSION`: the node as a whole.

use crate::daemon::{Daemon, full};
use crate::plugin::Place;
use millrace_api::AttachmentStatus;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn garbage_is_what_the_runtime_does_not_list() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    for container in ["c1", "c2", "c3"] {
        place.call("ADD").container(container).result();
    }
    place.call("ADD").container("c4").with(json!({"name": "other"})).result();
    let valid = json!([{"containerID": "c2", "ifname": "eth0"}, {"containerID": "c9", "ifname": "eth0"}]);
    // A runtime gives no container here.
    let gc = place.call("GC").without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS");
    gc.clone().with(json!({ "cni.dev/valid-attachments": valid })).succeeds();
    assert_eq!(daemon.names(), ["c2/eth0", "c4/eth0"]);
    gc.with(json!({"cni.dev/valid-attachments": []})).succeeds();
    assert_eq!(daemon.names(), ["c4/eth0"]);
}

#[test]
fn without_a_list_nothing_is_garbage() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    place.call("ADD").result();
    assert_eq!(place.call("GC").code(), 7);
    assert_eq!(place.call("GC").with(json!({"cni.dev/valid-attachments": [5]})).code(), 7);
    let old = place.call("GC").version("1.0.0").with(json!({"cni.dev/valid-attachments": []}));
    assert_eq!(old.code(), 1);
    assert_eq!(daemon.names(), ["c1/eth0"]);
}

#[test]
fn garbage_waits_for_the_daemon_within_a_bound() {
    let place = Place::new();
    let gc = place.call("GC").with(json!({"cni.dev/valid-attachments": [], "waitSeconds": 0}));
    assert_eq!(gc.code(), 11);
}

#[test]
fn the_status_is_that_of_the_daemon() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let status = place.call("STATUS").without("CNI_CONTAINERID").without("CNI_IFNAME").without("CNI_NETNS");
    status.succeeds();
    daemon.status(full());
    let error = status.error();
    assert!(error.code == 50 && error.details.contains("no IPv4 address is left"), "{error:?}");
    let reason = Some("no pod ranges are known yet".to_owned());
    daemon.status(AttachmentStatus { reason, ..AttachmentStatus::default() });
    let error = status.error();
    assert!(error.code == 50 && error.details == "no pod ranges are known yet", "{error:?}");
    assert_eq!(status.clone().version("1.0.0").code(), 1);
    daemon.stop();
    // Whoever asks wants to know it now.
    let start = Instant::now();
    assert_eq!(status.code(), 51);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn versions_are_told_without_a_daemon() {
    let place = Place::new();
    let version = place.call("VERSION").without("CNI_CONTAINERID");
    let supported = json!(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]);
    let asked = version.clone().input(br#"{"cniVersion": "1.0.0"}"#).result();
    assert_eq!(asked, json!({"cniVersion": "1.0.0", "supportedVersions": supported}));
    let asked = version.clone().input(b"").result();
    assert_eq!(asked, json!({"cniVersion": "1.1.0", "supportedVersions": supported}));
    assert_eq!(version.input(b"garbage").code(), 6);
}

#[test]
fn the_sample_configuration_works_as_a_runtime_derives_it() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/deploy/10-millrace.conflist");
    let list: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let mut config = list["plugins"][0].clone();
    let capabilities = config.as_object_mut().unwrap().remove("capabilities").unwrap();
    let offered = json!({
        "portMappings": [{"HostPort": 8080, "ContainerPort": 80, "Protocol": "tcp", "HostIP": ""}],
        "bandwidth": {"IngressRate": 1_000_000, "IngressBurst": 1_000_000, "EgressRate": 0, "EgressBurst": 0},
        "ips": ["10.9.0.9"],
        "mac": "02:00:00:00:00:09",
    });
    assert_eq!(
        capabilities.as_object().unwrap().keys().collect::<Vec<_>>(),
        offered.as_object().unwrap().keys().collect::<Vec<_>>()
    );
    for version in list["cniVersions"].as_array().unwrap() {
        let place = Place::new();
        let daemon = Daemon::start(&place.socket());
        let call = |verb| {
            place
                .call(verb)
                .with(config.clone())
                .with(json!({"cniVersion": version, "name": list["name"], "runtimeConfig": offered}))
        };
        assert_eq!(call("ADD").result()["interfaces"][0]["mac"], "02:00:00:00:00:09");
        assert_eq!(daemon.request().host_ports.len(), 1);
        assert!(daemon.request().bandwidth.is_some());
        call("DEL").succeeds();
        assert!(daemon.names().is_empty());
    }
}
