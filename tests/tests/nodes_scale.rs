//! Many nodes.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Echo, Fabric, Family, Kind, Plan, Protocol, Role, Session, ask, eventually};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PORT: u16 = 7007;
const NODES: u16 = 1000;

fn node(number: u16) -> Value {
    let (high, low) = (number >> 8, number & 255);
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("far-{number}")},
        "spec": {"podCIDRs": [format!("10.{}.{low}.0/24", 100 + high), format!("fd00:77:1:{number:x}::/64")]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": format!("10.200.{high}.{low}")},
            {"type": "InternalIP", "address": format!("2001:db8:aaaa::{number:x}")}]}})
}

fn resident(fabric: &Fabric) -> u64 {
    let pid = fabric.node(0).daemon().status().pid;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
    line.trim().split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_thousand_nodes_more_are_peers_soon_and_disturb_nobody() {
    let mut fabric = Fabric::start(&Plan::routed(&[Role::Millrace; 2]));
    for node in 0..2 {
        fabric.add_pod(node, Kind::Tap);
    }
    let _server = Echo::start(fabric.pod(1), PORT);
    let session = Session::open(fabric.pod(0), fabric.pod(1).at(Family::V4, PORT));
    let (before, since) = (resident(&fabric), Instant::now());
    let all: Vec<Value> = (0..NODES).map(node).collect();
    fabric.apply(|manifests| manifests.write("far.yaml", &all));
    let known = || fabric.node(0).daemon().cli(&["peer", "list"]).stdout.matches("far-").count();
    eventually("all are peers", Duration::from_secs(20), || known() >= usize::from(NODES));
    println!("{NODES} nodes: {:?}, {} KiB more", since.elapsed(), resident(&fabric).saturating_sub(before));
    // One more, among so many: within a second.
    let since = Instant::now();
    fabric.manifests().write("one.yaml", &[node(NODES)]);
    eventually("one more", Duration::from_secs(5), || known() > usize::from(NODES));
    println!("one more: {:?}", since.elapsed());
    assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
    assert!(ask(fabric.pod(0), Protocol::Udp, fabric.pod(1).at(Family::V6, PORT)).is_ok());
    fabric.apply(|manifests| manifests.remove("far.yaml"));
    let told = session.close();
    assert!(told.lost == 0 && told.answered > 50, "{told:?}");
    fabric.stop();
}
