use crate::daemon::{Daemon, Mood};
use crate::plugin::{Place, text};
use millrace_api::{AddressSource, ErrorCode};
use serde_json::json;
use std::thread;
use std::time::{Duration, Instant};

#[test]
fn every_version_gets_a_result_of_its_form() {
    let place = Place::new();
    let _daemon = Daemon::start(&place.socket());
    for (number, version) in (1..).zip(["0.3.1", "0.4.0", "1.0.0", "1.1.0"]) {
        let result = place.call("ADD").version(version).container(&format!("c{number}")).result();
        let mut interface =
            json!({"name": "eth0", "mac": "02:4d:00:00:00:01", "sandbox": place.path("netns")});
        let mut ips = [
            json!({"interface": 0, "address": format!("10.9.0.{number}/32"), "gateway": "169.254.1.1"}),
            json!({"interface": 0, "address": format!("fd09::{number}/128"), "gateway": "fe80::1"}),
        ];
        match version {
            "1.1.0" => interface["mtu"] = json!(1500),
            "1.0.0" => {}
            _ => (ips[0]["version"], ips[1]["version"]) = (json!("4"), json!("6")),
        }
        let expected = json!({
            "cniVersion": version, "interfaces": [interface], "ips": ips,
            "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}], "dns": {},
        });
        assert_eq!(result, expected);
    }
}

#[test]
fn the_daemon_is_told_all_that_was_asked_for() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let result = place
        .call("ADD")
        .variable("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web;K8S_POD_UID=u-1;X=y")
        .with(json!({
            "port": "af-xdp", "mtu": 1400, "dns": {"nameservers": ["10.0.0.10"]},
            "ipam": {"type": "millrace", "routes": [{"dst": "10.0.0.0/8"}]},
            "runtimeConfig": {
                "portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
                "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 500_000},
                "ips": ["10.9.0.77/24"], "mac": "02:00:00:00:00:77",
            },
        }))
        .result();
    assert_eq!(
        serde_json::to_value(daemon.request()).unwrap(),
        json!({
            "containerId": "c1", "ifName": "eth0", "netns": place.path("netns"), "network": "pods",
            "pod": {"namespace": "shop", "name": "web", "uid": "u-1"},
            "kind": "af-xdp", "mac": "02:00:00:00:00:77", "mtu": 1400,
            "addresses": {"source": "own", "requested": ["10.9.0.77"]},
            "routes": [{"destination": "10.0.0.0/8"}],
            "bandwidth": {"ingressRate": 1_000_000, "ingressBurst": 500_000},
            "hostPorts": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}],
        })
    );
    assert_eq!(result["interfaces"][0]["mtu"], 1400);
    assert_eq!(result["dns"], json!({"nameservers": ["10.0.0.10"]}));
}

#[test]
fn a_second_interface_joins_the_result_of_the_first() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let first = place.call("ADD").result();
    let second = place
        .call("ADD")
        .variable("CNI_IFNAME", "net1")
        .with(json!({"name": "side", "prevResult": first}))
        .result();
    assert_eq!(second["interfaces"][0], first["interfaces"][0]);
    assert_eq!(second["interfaces"][1]["name"], "net1");
    assert_eq!(second["ips"][2]["interface"], 1);
    assert_eq!(daemon.names(), ["c1/eth0", "c1/net1"]);
    // A chain that has made this very interface before us has not left us any.
    let again = place.call("ADD").container("c2").with(json!({"prevResult": first}));
    assert_eq!(again.code(), 101);
    assert_eq!(daemon.attachments().len(), 2);
}

#[test]
fn the_same_addition_again_gets_the_same_result() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    assert_eq!(place.call("ADD").result(), place.call("ADD").result());
    let error = place.call("ADD").with(json!({"mtu": 1400})).error();
    assert_eq!(error.code, 101);
    assert!(error.details.contains("another eth0"), "{error:?}");
    // What is in the way is not ours to remove.
    assert_eq!(daemon.names(), ["c1/eth0"]);
    assert!(daemon.asked().iter().all(|request| !request.starts_with("DELETE")));
}

#[test]
fn a_daemon_that_is_just_starting_is_waited_for() {
    let place = Place::new();
    let socket = place.socket();
    let starts = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        Daemon::start(&socket)
    });
    place.call("ADD").result();
    assert_eq!(starts.join().unwrap().names(), ["c1/eth0"]);
}

#[test]
fn a_daemon_that_does_not_come_is_waited_for_within_a_bound() {
    let place = Place::new();
    let start = Instant::now();
    let error = place.call("ADD").with(json!({"waitSeconds": 1})).error();
    assert_eq!(error.code, 11);
    assert!(error.details.contains(text(&place.socket())), "{error:?}");
    let took = start.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_secs(3), "{took:?}");
    // Nothing was asked for, so nothing is to be undone.
    assert!(place.kept().is_empty());
}

#[test]
fn an_addition_goes_on_when_the_daemon_restarts_in_the_middle() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::BreaksOff(2));
    place.call("ADD").result();
    assert_eq!(daemon.asked(), ["POST /v1/attachments"; 3]);
    assert_eq!(daemon.names(), ["c1/eth0"]);
}

#[test]
fn an_addition_without_an_answer_is_undone() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::BreaksOff(u32::MAX));
    assert_eq!(place.call("ADD").with(json!({"waitSeconds": 1})).code(), 11);
    // The daemon breaks off at the deletion, too: nobody knows whether it was done.
    assert_eq!(daemon.asked().last().unwrap(), "DELETE /v1/attachments/c1/eth0");
    assert!(daemon.names().is_empty());
    assert_eq!(place.kept(), ["c1:eth0.json"]);
}

#[test]
fn refusals_become_codes() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    for (refusal, code) in [
        (ErrorCode::Invalid, 7),
        (ErrorCode::Conflict, 101),
        (ErrorCode::Unavailable, 11),
        (ErrorCode::Failed, 100),
        (ErrorCode::Unknown, 100),
    ] {
        daemon.mood(Mood::Refuses(refusal, "no address is left in 10.9.0.0/24"));
        let error = place.call("ADD").with(json!({"waitSeconds": 0})).error();
        assert_eq!(error.code, code);
        assert!(error.details.contains("10.9.0.0/24"), "{error:?}");
    }
    assert!(daemon.asked().iter().all(|request| request.starts_with("POST")));
    assert!(place.kept().is_empty());
}

#[test]
fn a_kept_deletion_does_not_hit_the_next_attachment() {
    let place = Place::new();
    place.call("DEL").succeeds();
    assert_eq!(place.kept(), ["c1:eth0.json"]);
    let daemon = Daemon::start(&place.socket());
    place.call("ADD").result();
    assert_eq!(daemon.asked(), ["DELETE /v1/attachments/c1/eth0", "POST /v1/attachments"]);
    assert!(place.kept().is_empty());
}

#[test]
fn a_killed_addition_is_cleaned_up_by_the_deletion() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::Slow(Duration::from_millis(400)));
    let mut child = place.call("ADD").start();
    while daemon.names().is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    daemon.mood(Mood::Helpful);
    place.call("DEL").succeeds();
    assert!(daemon.names().is_empty() && place.kept().is_empty());
}

#[test]
fn wrong_calls_reach_nobody() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let call = place.call("ADD");
    for (wrong, code) in [
        (call.clone().without("CNI_COMMAND"), 4),
        (call.clone().variable("CNI_COMMAND", "REMOVE"), 4),
        (call.clone().without("CNI_CONTAINERID"), 4),
        (call.clone().without("CNI_NETNS"), 4),
        (call.clone().without("CNI_IFNAME"), 4),
        (call.clone().container("a/../b"), 4),
        (call.clone().variable("CNI_IFNAME", "an interface"), 4),
        (call.clone().variable("CNI_NETNS", "/proc/self/ns/net"), 4),
        (call.clone().variable("CNI_ARGS", "FOO=BAR"), 4),
        (call.clone().input(b""), 6),
        (call.clone().input(b"\0\xff garbage"), 6),
        (call.clone().input(br#"{"cniVersion": "1.1.0""#), 6),
        (call.clone().version("0.2.0"), 1),
        (call.clone().version("1.2.0"), 1),
        (call.clone().with(json!({"name": null})), 7),
        (call.clone().with(json!({"mtu": 100})), 7),
        (call.clone().with(json!({"port": "dpdk"})), 7),
        (call.clone().with(json!({"prevResult": 5})), 7),
        (call.clone().with(json!({"ipMasq": true})), 2),
    ] {
        assert_eq!(wrong.code(), code);
    }
    assert!(daemon.asked().is_empty());
}

#[test]
fn addresses_come_from_the_daemon_unless_somebody_asks_for_some() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    place.call("ADD").result();
    assert_eq!(daemon.request().addresses, AddressSource::Own { requested: vec![] });
    assert_eq!((daemon.request().routes, daemon.request().kind), (None, None));
}
