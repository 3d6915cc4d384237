//! Together with plugins of the CNI project, which read and write by its Go library: `host-local` gives addresses,
//! `bandwidth` takes our result as the next in a chain.
//!
//! They are looked for in `MILLRACE_CNI_PLUGINS` and where distributions put them (Debian: `containernetworking-plugins`).
//! Without them these tests say so and pass.

use crate::daemon::{Daemon, Mood, parsed};
use crate::plugin::{Call, Place, text};
use millrace_api::{AddressSource, ErrorCode};
use serde_json::{Value, json};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The versions that the oldest release that is still about speaks, too.
const VERSIONS: [&str; 3] = ["0.3.1", "0.4.0", "1.0.0"];

fn reference(plugin: &str) -> Option<PathBuf> {
    let places = [
        std::env::var("MILLRACE_CNI_PLUGINS").unwrap_or_default(),
        "/usr/lib/cni".into(),
        "/opt/cni/bin".into(),
    ];
    let found = places.iter().map(|place| PathBuf::from(place).join(plugin)).find(|path| path.is_file());
    if found.is_none() {
        eprintln!("not tested: there is no {plugin} in {}", places.join(" "));
    }
    found
}

fn call(place: &Place, plugin: &Path, verb: &str) -> Call {
    let ipam = json!({
        "type": "host-local", "dataDir": place.path("leases"),
        "ranges": [[{"subnet": "10.66.0.0/24"}], [{"subnet": "fd66::/64"}]],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
    });
    let directory = text(plugin.parent().unwrap()).to_owned();
    place.call(verb).version("1.0.0").with(json!({ "ipam": ipam })).variable("CNI_PATH", &directory)
}

/// The addresses that `host-local` has given.
fn leases(place: &Place) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(place.path("leases/pods")) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut leases: Vec<_> =
        names.filter(|name| name.starts_with("10.") || name.starts_with("fd66")).collect();
    leases.sort();
    leases
}

#[test]
fn host_local_gives_checks_and_takes_back() {
    let Some(plugin) = reference("host-local") else { return };
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    for (number, version) in (2..).zip(VERSIONS) {
        let result = call(&place, &plugin, "ADD").version(version).result();
        let given = [format!("10.66.0.{number}"), format!("fd66::{number}")];
        assert_eq!(leases(&place), given);
        let addresses = given.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(daemon.request().addresses, AddressSource::Given { addresses });
        assert_eq!(result["ips"][1]["address"], format!("fd66::{number}/128"));
        if version != "0.3.1" {
            let check = call(&place, &plugin, "CHECK").version(version);
            check.with(json!({ "prevResult": result })).succeeds();
        }
        let deletion = call(&place, &plugin, "DEL").version(version);
        deletion.clone().with(json!({ "prevResult": result })).succeeds();
        deletion.variable("CNI_NETNS", "").succeeds();
        assert!(leases(&place).is_empty() && daemon.names().is_empty());
    }
}

#[test]
fn host_local_gets_its_addresses_back_when_the_daemon_refuses() {
    let Some(plugin) = reference("host-local") else { return };
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::RefusesAdditions(ErrorCode::Failed, "no"));
    assert_eq!(call(&place, &plugin, "ADD").code(), 100);
    assert!(leases(&place).is_empty());
    // A range that is used up, and the message of the plugin itself.
    daemon.mood(Mood::Helpful);
    let small = json!({"type": "host-local", "dataDir": place.path("leases"), "subnet": "10.66.1.0/30"});
    let add = |container| call(&place, &plugin, "ADD").with(json!({ "ipam": small })).container(container);
    add("c1").result();
    let error = add("c2").error();
    assert!(error.msg.contains("host-local") && error.msg.contains("no IP addresses available"), "{error:?}");
    assert_eq!(daemon.names(), ["c1/eth0"]);
}

#[test]
fn host_local_takes_the_address_that_the_runtime_asks_for() {
    let Some(plugin) = reference("host-local") else { return };
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    call(&place, &plugin, "ADD").with(json!({"runtimeConfig": {"ips": ["10.66.0.99/24"]}})).result();
    assert_eq!(leases(&place)[0], "10.66.0.99");
    assert_eq!(daemon.attachments()[0].addresses[0], "10.66.0.99".parse::<std::net::IpAddr>().unwrap());
}

/// Runs a chained plugin of the CNI project behind us; it has nothing to do but to read and write our result.
fn passed_through(plugin: &Path, version: &str, result: &Value) -> Value {
    let config = json!({"cniVersion": version, "name": "pods", "type": "bandwidth", "prevResult": result});
    let variables = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "c1"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/none"),
        ("CNI_PATH", "/nonexistent"),
    ];
    let mut child =
        Command::new(plugin).envs(variables).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    parsed(&output.stdout)
}

#[test]
fn the_go_library_reads_our_results_without_losing_anything() {
    let Some(plugin) = reference("bandwidth") else { return };
    let place = Place::new();
    let _daemon = Daemon::start(&place.socket());
    for version in VERSIONS {
        let dns = json!({"nameservers": ["10.0.0.10"], "domain": "d", "search": ["s"], "options": ["o"]});
        let add = place.call("ADD").container(&format!("c{version}")).version(version);
        let result = add.with(json!({ "dns": dns })).result();
        assert_eq!(passed_through(&plugin, version, &result), result);
    }
}
