//! Address management by another plugin: a shell script that writes down how it was called.
//!
//! It shows how the plugin calls another one. It does not show that `host-local` or any other real one is content.

use crate::daemon::{Daemon, Mood, parsed};
use crate::plugin::{Call, Place};
use millrace_api::{AddressSource, ErrorCode};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const SCRIPT: &str = r#"#!/bin/sh
directory=$(/usr/bin/dirname "$0")
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME $CNI_ARGS" >> "$directory/calls"
/bin/cat > "$directory/input"
echo "something for people" >&2
if [ -f "$directory/error" ]; then
    /bin/cat "$directory/error"
    exit 3
fi
if [ "$CNI_COMMAND" = ADD ]; then
    /bin/cat "$directory/result"
fi
"#;

/// A place with a plugin `addresses` that gives 10.77.0.5.
fn place() -> Place {
    let place = Place::new();
    let path = place.path("plugins/addresses");
    fs::write(&path, SCRIPT).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    gives(
        &place,
        json!({
            "cniVersion": "1.1.0",
            "ips": [{"address": "10.77.0.5/16", "gateway": "10.77.0.1"}],
            "routes": [{"dst": "0.0.0.0/0", "gw": "10.77.0.1"}, {"dst": "192.0.2.0/24", "mtu": 1300}],
            "dns": {"nameservers": ["10.77.0.10"]},
        }),
    );
    place
}

fn gives(place: &Place, result: Value) {
    fs::write(place.path("plugins/result"), result.to_string()).unwrap();
}

fn fails(place: &Place, output: &str) {
    fs::write(place.path("plugins/error"), output).unwrap();
}

/// The verbs that the other plugin was called with.
fn calls(place: &Place) -> Vec<String> {
    let calls = fs::read_to_string(place.path("plugins/calls")).unwrap_or_default();
    calls.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

fn call(place: &Place, verb: &str) -> Call {
    place.call(verb).with(json!({"ipam": {"type": "addresses", "more": 1}}))
}

#[test]
fn the_daemon_is_given_the_addresses_of_the_other_plugin() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    let result = call(&place, "ADD").variable("CNI_ARGS", "IgnoreUnknown=1").result();
    let request = daemon.request();
    let addresses = vec!["10.77.0.5".parse().unwrap()];
    assert_eq!(request.addresses, AddressSource::Given { addresses });
    assert_eq!(
        serde_json::to_value(request.routes).unwrap(),
        json!([{"destination": "0.0.0.0/0"}, {"destination": "192.0.2.0/24", "mtu": 1300}])
    );
    // The result tells what the container really has.
    let ip = json!({"interface": 0, "address": "10.77.0.5/32", "gateway": "169.254.1.1"});
    assert_eq!(result["ips"], json!([ip]));
    assert_eq!(result["dns"], json!({"nameservers": ["10.77.0.10"]}));
    let called = fs::read_to_string(place.path("plugins/calls")).unwrap();
    assert_eq!(called, "ADD c1 eth0 IgnoreUnknown=1\n");
    let input = parsed(&fs::read(place.path("plugins/input")).unwrap());
    assert_eq!((&input["name"], &input["ipam"]["more"]), (&json!("pods"), &json!(1)));
}

#[test]
fn every_verb_is_passed_on() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    let result = call(&place, "ADD").result();
    call(&place, "CHECK").with(json!({ "prevResult": result })).succeeds();
    call(&place, "STATUS").succeeds();
    let valid = json!([{"containerID": "c1", "ifname": "eth0"}]);
    call(&place, "GC").with(json!({ "cni.dev/valid-attachments": valid })).succeeds();
    call(&place, "DEL").succeeds();
    assert_eq!(calls(&place), ["ADD", "CHECK", "STATUS", "GC", "DEL"]);
    assert!(daemon.names().is_empty());
}

#[test]
fn addresses_go_back_when_the_daemon_refuses() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::RefusesAdditions(ErrorCode::Failed, "no"));
    let error = call(&place, "ADD").error();
    assert!(error.code == 100 && error.details == "no", "{error:?}");
    assert_eq!(calls(&place), ["ADD", "DEL"]);
}

#[test]
fn no_address_is_taken_while_the_daemon_is_down() {
    let place = place();
    assert_eq!(call(&place, "ADD").with(json!({"waitSeconds": 0})).code(), 11);
    assert!(calls(&place).is_empty());
}

#[test]
fn addresses_that_are_none_go_back() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    gives(&place, json!({"ips": []}));
    let error = call(&place, "ADD").error();
    assert!(error.code == 7 && error.details.contains("no address"), "{error:?}");
    gives(&place, json!({"ips": [{"address": "somewhere"}]}));
    let error = call(&place, "ADD").error();
    assert!(error.code == 7 && error.details.contains("`somewhere`"), "{error:?}");
    assert_eq!(calls(&place), ["ADD", "DEL", "ADD", "DEL"]);
    assert!(daemon.names().is_empty());
}

#[test]
fn an_existing_attachment_keeps_its_addresses() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    call(&place, "ADD").result();
    assert_eq!(call(&place, "ADD").code(), 101);
    assert_eq!(calls(&place), ["ADD"]);
    assert_eq!(daemon.names(), ["c1/eth0"]);
}

#[test]
fn a_failure_of_the_other_plugin_is_passed_on_and_undone() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    fails(&place, r#"{"cniVersion": "1.1.0", "code": 11, "msg": "locked", "details": "by somebody"}"#);
    let error = call(&place, "ADD").error();
    assert_eq!((error.code, error.details.as_str()), (11, "by somebody"));
    assert!(error.msg.contains("addresses") && error.msg.contains("locked"), "{error:?}");
    assert_eq!(calls(&place), ["ADD", "DEL"]);
    fails(&place, "Segmentation fault");
    let error = call(&place, "ADD").error();
    assert!(error.code == 103 && error.details.contains("exit status: 3"), "{error:?}");
    assert!(daemon.names().is_empty());
}

#[test]
fn a_deletion_does_its_own_part_when_the_other_plugin_fails() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    call(&place, "ADD").result();
    fails(&place, r#"{"code": 5, "msg": "disk full"}"#);
    assert_eq!(call(&place, "DEL").code(), 5);
    assert!(daemon.names().is_empty());
    assert_eq!(calls(&place), ["ADD", "DEL"]);
    // And the other way round.
    fs::remove_file(place.path("plugins/error")).unwrap();
    daemon.mood(Mood::Refuses(ErrorCode::Failed, "no"));
    assert_eq!(call(&place, "DEL").code(), 100);
    assert_eq!(calls(&place), ["ADD", "DEL", "DEL"]);
    daemon.stop();
    call(&place, "DEL").succeeds();
    assert_eq!(calls(&place), ["ADD", "DEL", "DEL", "DEL"]);
    assert_eq!(place.kept(), ["c1:eth0.json"]);
}

#[test]
fn a_plugin_that_cannot_be_found_is_named() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    let missing = json!({"ipam": {"type": "host-local"}});
    let error = place.call("ADD").with(missing.clone()).error();
    assert!(error.code == 7 && error.details.contains("host-local"), "{error:?}");
    let error = call(&place, "ADD").without("CNI_PATH").error();
    assert!(error.code == 4 && error.msg.contains("CNI_PATH"), "{error:?}");
    assert!(daemon.names().is_empty());
    // The daemon's part of a deletion does not depend on it.
    place.call("ADD").result();
    assert_eq!(place.call("DEL").with(missing).code(), 7);
    assert!(daemon.names().is_empty());
}

#[test]
fn an_address_plugin_that_has_its_address_no_more_fails_the_check() {
    let place = place();
    let _daemon = Daemon::start(&place.socket());
    let result = call(&place, "ADD").result();
    fails(&place, r#"{"code": 101, "msg": "no lease"}"#);
    let check = call(&place, "CHECK").with(json!({ "prevResult": result }));
    assert!(check.error().msg.contains("no lease"));
    assert!(call(&place, "STATUS").error().msg.contains("no lease"));
}

#[test]
fn all_that_fails_is_told() {
    let place = place();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::Refuses(ErrorCode::Failed, "the interface is busy"));
    fails(&place, r#"{"code": 5, "msg": "disk full"}"#);
    let error = call(&place, "DEL").error();
    assert_eq!(error.code, 100);
    assert!(error.details.contains("busy") && error.details.contains("disk full"), "{error:?}");
}
