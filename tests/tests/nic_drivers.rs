//! Devices of other drivers in the place of a PCI device: `net_tap` and `net_virtio_user`.
//!
//! ```text
//!   neighbour br0 192.0.2.254 ─┬─ eth0 ── up0: the NIC that the kernel knew
//!                              └─ eth1 ══ the device ══ node ════ millrace0 192.0.2.1  host
//! ```
//! A PCI device is one thing with its interface. These are beside it, with a MAC address of their own, so the wire of the
//! one is put into the other once the NIC is taken.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Echo, Family, Kind, Netns, Network, Testpmd, eventually, exchange, ping};
use serde_json::json;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(30);
const PORT: u16 = 7007;

fn network(devargs: &str) -> Network {
    let network = Network::on_host(&[Kind::Tap], |config| {
        config["uplinks"] = json!([{ "interface": "up0", "kind": "dpdk", "dpdk": { "devargs": devargs } }]);
        config["masquerade"] = json!({"outgoing": true});
    });
    let neighbour = network.neighbour();
    // The neighbour's end becomes a bridge, to which the device's wire comes.
    neighbour.must(&["ethtool", "-K", "eth0", "tx", "off"]);
    neighbour.add_bridge("br0", &[]);
    for family in Family::BOTH {
        let length = if family == Family::V4 { 24 } else { 64 };
        let address = format!("{}/{length}", Network::neighbour_address(family));
        neighbour.must(&["ip", "addr", "del", &address, "dev", "eth0"]);
        neighbour.must(&["ip", "addr", "add", &address, "dev", "br0", "nodad"]);
    }
    neighbour.must(&["ip", "link", "set", "eth0", "master", "br0"]);
    neighbour.must(&["ip", "link", "set", "br0", "up"]);
    network
}

fn shown(host: &Netns, interface: &str) -> String {
    host.run(&["ip", "-o", "addr", "show", "dev", interface, "scope", "global"]).stdout
}

fn has_both(host: &Netns, interface: &str) -> bool {
    let shown = shown(host, interface);
    Family::BOTH.iter().all(|&family| shown.contains(&Network::node_address(family).to_string()))
}

/// The host speaks with the neighbour by the device.
fn speak(network: &Network, server: &Netns) {
    let host = network.host();
    for family in Family::BOTH {
        let neighbour = Network::neighbour_address(family).to_string();
        eventually("the host reaches its neighbour", SOON, || ping(host, &neighbour, 1400));
        let own = Network::node_address(family).to_string();
        let answers = server.run(&["ping", "-n", "-c1", "-W2", "-s1400", &own]);
        assert!(answers.success, "the neighbour reaches the host: {}", answers.stdout);
    }
}

/// Bytes in both directions, from the neighbour to a server of the host's.
fn carry(network: &Network) {
    let _server = Echo::start(network.host(), PORT);
    let neighbour =
        millrace_tests::Pod::own_host(network.neighbour(), Family::BOTH.map(Network::neighbour_address));
    for family in Family::BOTH {
        let to = std::net::SocketAddr::new(Network::node_address(family), PORT);
        exchange(&neighbour, to, 2 << 20).unwrap_or_else(|error| panic!("{family:?}: {error}"));
    }
}

/// Takes the NIC, speaks, and loses the daemon by a kill, and the second time in order. `plug` is called once the device is
/// there.
fn lives(network: &mut Network, rounds: u32, plug: impl Fn(&Network)) {
    let host = network.host().netns().borrowed();
    for round in 0..rounds {
        eventually("the host speaks by its leg", SOON, || has_both(&host, "millrace0"));
        assert!(shown(&host, "up0").is_empty());
        plug(network);
        speak(network, network.neighbour());
        // A port that was added by the API goes with the daemon.
        if round == 0 {
            for family in Family::BOTH {
                let to = Network::neighbour_address(family).to_string();
                eventually("the pod reaches the neighbour", SOON, || ping(network.pod(0), &to, 1400));
            }
        }
        carry(network);
        if round == 0 {
            network.daemon_mut().kill();
        } else {
            network.daemon_mut().end();
        }
        eventually("the NIC is the kernel's", SOON, || has_both(&host, "up0"));
        let neighbour = Network::neighbour_address(Family::V4).to_string();
        eventually("the host reaches its neighbour", SOON, || ping(network.host(), &neighbour, 56));
        network.daemon_mut().restart();
    }
}

#[test]
fn a_tap_takes_the_place_of_the_nic_and_the_host_has_it_back() {
    let mut network = network("net_tap0,iface=dtap0");
    let (host, neighbour) = (network.host().netns(), network.neighbour());
    // The wire's end at the device: a bridge of the two.
    neighbour.must(&["ip", "link", "add", "eth1", "type", "veth", "peer", "w1", "netns", host.name()]);
    neighbour.must(&["ethtool", "-K", "eth1", "tx", "off"]);
    neighbour.must(&["ip", "link", "set", "eth1", "master", "br0", "up"]);
    host.must(&["ip", "link", "add", "wire", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0"]);
    host.must(&["sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/wire/disable_ipv6"]);
    host.must(&["ip", "link", "set", "w1", "master", "wire", "up"]);
    host.must(&["ip", "link", "set", "wire", "up"]);
    lives(&mut network, 1, |network| {
        let host = network.host().netns();
        eventually("the device is there", SOON, || host.interfaces().iter().any(|name| name == "dtap0"));
        // A bridge keeps frames to its ports' own addresses, and this one has the NIC's.
        host.must(&["ip", "link", "set", "dtap0", "address", "02:00:00:00:00:99"]);
        host.must(&["ip", "link", "set", "dtap0", "master", "wire"]);
    });
    network.neighbour().must(&["ip", "link", "del", "eth1"]);
    network.host().netns().must(&["ip", "link", "del", "wire"]);
    network.stop();
}

#[test]
fn a_virtio_device_takes_the_place_of_the_nic_and_the_host_has_it_back() {
    let room = tempfile::Builder::new().prefix("mrt").tempdir().unwrap();
    let socket = room.path().join("nic.vhost").display().to_string();
    let mut network = network(&format!("net_virtio_user0,path={socket},queues=1,mac=02:00:00:00:00:77"));
    let neighbour = network.neighbour();
    let vdevs = [format!("net_vhost0,iface={socket},queues=1"), "net_tap0,iface=eth1".to_owned()];
    // The device is tried again when its other end is there.
    let wire = Testpmd::start(neighbour, &vdevs, &["--forward-mode=io", "--port-topology=paired"]);
    eventually("the wire is there", SOON, || neighbour.interfaces().iter().any(|name| name == "eth1"));
    neighbour.must(&["ip", "link", "set", "eth1", "master", "br0", "up"]);
    lives(&mut network, 2, |_| ());
    network.stop();
    drop(wire);
}
