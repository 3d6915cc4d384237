//! An uplink on a NIC with several queues: all of them are served, by however many workers, and their number may change.
//!
//! ```text
//!   world ── router ── n1 ════ nic, 4 queues ── node-1, 3 workers ── pod a
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, Fabric, Family, Kind, NIC, Plan, Pod, Role, UdpClient, eventually, exchange, ping,
};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 7007;
const SOON: Duration = Duration::from_secs(10);

fn started(change: impl Fn(&mut serde_json::Value)) -> Fabric {
    let plan = Plan::bridge(&[Role::Millrace]).queues(4);
    let fabric = Fabric::start_with(&plan, |_, config| {
        config["workers"] = json!({"count": 3});
        change(config);
    });
    // A veth that merges packets counts them by queue, also where no XDP program is. It takes those that have their checksums.
    fabric.netns().must(&["ethtool", "-K", "n1", "tx", "off"]);
    fabric.node(0).netns().must(&["ethtool", "-K", NIC, "gro", "on"]);
    fabric
}

fn queues(fabric: &Fabric) -> u16 {
    fabric.node(0).daemon().port(NIC).config.queues.get()
}

/// How many packets have come on each queue.
fn seen(fabric: &Fabric) -> Vec<u64> {
    let shown = fabric.node(0).netns().must(&["ethtool", "-S", NIC]);
    let of_queue = |at: usize| {
        let name = format!("rx_queue_{at}_xdp_packets:");
        let line = shown.lines().find_map(|line| line.trim().strip_prefix(&name)?.trim().parse().ok());
        line.unwrap_or(0)
    };
    (0..4).map(of_queue).collect()
}

/// So many clients that every queue has some; each is answered.
fn crowd(from: &Pod, to: SocketAddr) {
    for _ in 0..64 {
        let client = UdpClient::open(from, to).unwrap();
        let answered = (0..3).any(|_| client.ask_within(Duration::from_secs(1)).is_ok());
        assert!(answered, "a client is not answered by {to}");
    }
}

fn assert_all_served(fabric: &Fabric, count: usize) {
    let (pod, world) = (fabric.pod(0), fabric.world());
    let before = seen(fabric);
    for family in Family::BOTH {
        crowd(world, pod.at(family, PORT));
        exchange(world, pod.at(family, PORT), 2 << 20).unwrap();
        exchange(pod, world.at(family, PORT), 2 << 20).unwrap();
    }
    let after = seen(fabric);
    let by: Vec<u64> =
        before.iter().zip(&after).map(|(before, after)| after.saturating_sub(*before)).collect();
    assert!(by[..count].iter().all(|packets| *packets > 20), "packets by queue: {by:?}");
}

#[test]
fn frames_on_every_queue_arrive_without_a_word_in_the_configuration() {
    frames_on_every_queue_arrive(|_| ());
}

#[test]
fn frames_on_every_queue_arrive_by_xdp() {
    frames_on_every_queue_arrive(|config| config["uplinks"][0]["afXdp"] = json!({"mode": "native"}));
}

fn frames_on_every_queue_arrive(change: impl Fn(&mut serde_json::Value)) {
    let mut fabric = started(change);
    fabric.add_pod(0, Kind::Tap);
    fabric.route_pods();
    let _servers = [Echo::start(fabric.pod(0), PORT), Echo::start(fabric.world(), PORT)];
    assert_eq!(queues(&fabric), 4);
    let workers = fabric.node(0).daemon().cli_json(&["worker", "list"]);
    let polled = |worker: &serde_json::Value| {
        let queues = worker["queues"].as_array().unwrap().iter();
        queues.filter(|queue| queue.as_str().unwrap().starts_with(&format!("{NIC}:"))).count()
    };
    let by: Vec<usize> = workers["workers"].as_array().unwrap().iter().map(polled).collect();
    assert_eq!((by.len(), by.iter().sum::<usize>()), (3, 4), "{workers}");
    assert!(by.iter().all(|count| *count > 0), "{by:?}");
    assert_all_served(&fabric, 4);
    fabric.stop();
}

/// Gives the NIC, and its peer, so many queues while no daemon runs. A kernel takes no queue away that somebody has a socket on.
fn restart_with(fabric: &mut Fabric, count: &str, change: impl FnOnce(&mut serde_json::Value)) {
    fabric.node_mut(0).daemon_mut().end();
    // A veth with XDP receives on at least as many queues as its peer sends on.
    fabric.netns().must(&["ethtool", "-L", "n1", "tx", count]);
    fabric.node(0).netns().must(&["ethtool", "-L", NIC, "rx", count]);
    fabric.node(0).daemon().configure(change);
    let pod = fabric.pod(0).port(fabric.node(0).daemon().room());
    fabric.node_mut(0).daemon_mut().restart();
    fabric.node(0).daemon().add_port(&pod);
    eventually("the world is reached", SOON, || {
        ping(fabric.pod(0), &fabric.world().address(Family::V4).to_string(), 56)
    });
}

#[test]
fn a_nic_that_is_given_more_queues_is_served_on_all_of_them() {
    let mut fabric = started(|_| ());
    fabric.add_pod(0, Kind::Tap);
    fabric.route_pods();
    restart_with(&mut fabric, "2", |_| ());
    let _servers = [Echo::start(fabric.pod(0), PORT), Echo::start(fabric.world(), PORT)];
    assert_eq!(queues(&fabric), 2);
    assert_all_served(&fabric, 2);
    fabric.node(0).netns().must(&["ethtool", "-L", NIC, "rx", "4"]);
    fabric.netns().must(&["ethtool", "-L", "n1", "tx", "4"]);
    eventually("four queues", SOON, || queues(&fabric) == 4);
    assert_all_served(&fabric, 4);
    fabric.stop();
}

#[test]
fn another_number_than_the_configured_one_is_named_and_what_to_do() {
    let mut fabric = started(|_| ());
    fabric.add_pod(0, Kind::Tap);
    fabric.route_pods();
    restart_with(&mut fabric, "2", |config| config["uplinks"] = json!([{"interface": NIC, "queues": 2}]));
    let _servers = [Echo::start(fabric.pod(0), PORT), Echo::start(fabric.world(), PORT)];
    assert_all_served(&fabric, 2);
    fabric.node(0).netns().must(&["ethtool", "-L", NIC, "rx", "4"]);
    let errors = || fabric.node(0).daemon().cli_json(&["errors"]).to_string();
    eventually("the problem is told", SOON, || {
        errors().contains("it receives on 4 queues now, 2 are configured")
    });
    assert_all_served(&fabric, 2);
    fabric.node(0).netns().must(&["ethtool", "-L", NIC, "rx", "2"]);
    eventually("the problem is gone", SOON, || !errors().contains("are configured"));
    fabric.stop();
}
