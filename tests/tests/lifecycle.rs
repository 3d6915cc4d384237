//! Ports and daemons come and go, and nothing of them stays.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Echo, Family, Kind, Netns, Network, Testpmd, eventually, exchange, ping};
use serde_json::json;
use std::time::Duration;

const PORT: u16 = 7007;

#[test]
fn sigterm_removes_ports_sockets_and_hugepages() {
    // `stop` asserts all of it.
    Network::start(&Kind::ALL).stop();
    Network::start(&[]).stop();
}

#[test]
fn hundreds_of_ports_come_and_go_under_load_without_a_leak() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap]);
    let daemon = network.daemon();
    let _server = Echo::start(network.pod(1), PORT);
    let spare = Netns::new("spare");
    let port = |number: u32| {
        let name = format!("churn-{number}");
        let address = format!("10.77.9.{}", number % 250);
        match number % 3 {
            0 => {
                json!({"name": name, "kind": "tap", "netns": spare.name(), "interface": format!("t{number}"),
                "addresses": [address]})
            }
            1 => {
                json!({"name": name, "kind": "af-xdp", "netns": spare.name(), "interface": format!("x{number}"),
                "addresses": [address]})
            }
            _ => json!({"name": name, "kind": "vhost-user", "addresses": [address],
                "vhostUser": {"socket": daemon.room().join(format!("{name}.vhost"))}}),
        }
    };
    // Pools, caches and descriptors that are made once are not leaks: a first round comes before counting.
    for number in 0..6 {
        daemon.add_port(&port(number));
        daemon.remove_port(&format!("churn-{number}"));
    }
    let (descriptors, buffers) = (daemon.descriptors(), daemon.buffers_in_use());
    let to = network.pod(1).at(Family::V4, PORT);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| (0..40).map(|_| exchange(network.pod(0), to, 1 << 19)).collect::<Vec<_>>());
        for round in 0..20 {
            let numbers = round * 15..(round + 1) * 15;
            numbers.clone().for_each(|number| daemon.add_port(&port(number)));
            numbers.for_each(|number| daemon.remove_port(&format!("churn-{number}")));
        }
        for result in load.join().unwrap() {
            result.expect("traffic of others goes on");
        }
    });
    assert_eq!(daemon.ports().len(), 2);
    assert_eq!(spare.interfaces(), ["lo"]);
    eventually("descriptors back", Duration::from_secs(5), || daemon.descriptors() <= descriptors + 2);
    eventually("buffers back in their pools", Duration::from_secs(5), || {
        // Frames on their way and rings of the two pods vary by a burst or two.
        daemon.buffers_in_use() <= buffers + 256
    });
    network.stop();
}

#[test]
fn a_vhost_peer_that_crashes_and_returns_is_served_again() {
    let network = Network::start(&[Kind::Tap]);
    let daemon = network.daemon();
    let socket = daemon.room().join("guest.vhost");
    daemon.add_port(&json!({"name": "guest", "kind": "vhost-user", "mac": "02:4d:00:00:00:63",
        "addresses": ["10.77.0.99"], "vhostUser": {"socket": socket}}));
    let netns = Netns::new("guest");
    for round in 0..4 {
        // icmpecho answers pings by itself, without a kernel.
        let vdev = format!("net_virtio_user0,path={},mac=02:4d:00:00:00:63,queues=1", socket.display());
        let guest = Testpmd::start(&netns, &[vdev], &["--forward-mode=icmpecho"]);
        eventually(&format!("the guest of round {round} answers"), Duration::from_secs(20), || {
            ping(network.pod(0), "10.77.0.99", 56)
        });
        guest.kill();
        eventually("its link is down", Duration::from_secs(10), || {
            daemon.port("guest").link != millrace_api::LinkState::Up
        });
    }
    daemon.remove_port("guest");
    network.stop();
}

#[test]
fn a_pods_namespace_that_vanishes_does_no_harm() {
    let mut network = Network::start(&[Kind::Tap, Kind::AfXdp]);
    for kind in ["tap", "af-xdp"] {
        let doomed = Netns::new("doomed");
        network.daemon().add_port(
            &json!({"name": "doomed", "kind": kind, "netns": doomed.name(), "addresses": ["10.77.0.77"]}),
        );
        drop(doomed);
        assert!(ping(network.pod(0), &network.pod(1).address(Family::V4).to_string(), 56));
        network.daemon().remove_port("doomed");
    }
    let added = network.add_pod(Kind::Tap);
    network.settle();
    assert!(ping(network.pod(added), &network.pod(1).address(Family::V6).to_string(), 56));
    network.stop();
}

#[test]
fn two_workers_carry_the_same_traffic_as_one() {
    let network = Network::start_with(&[Kind::AfXdp, Kind::Tap, Kind::AfXdp, Kind::Tap], |config| {
        config["workers"] = json!({"count": 2});
    });
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for from in network.pods() {
        for to in network.pods().iter().filter(|to| to.name != from.name) {
            for family in Family::BOTH {
                exchange(from, to.at(family, PORT), 1 << 20).unwrap();
            }
        }
    }
    assert_eq!(network.daemon().status().workers, 2);
    network.stop();
}

#[test]
fn without_hugepages_everything_works_as_well() {
    let network = Network::start_with(&[Kind::AfXdp, Kind::Tap], |config| {
        config["memory"] = json!({"hugepages": "never"});
    });
    assert!(!network.daemon().status().hugepages);
    let _server = Echo::start(network.pod(1), PORT);
    for family in Family::BOTH {
        exchange(network.pod(0), network.pod(1).at(family, PORT), 4 << 20).unwrap();
    }
    network.stop();
}
