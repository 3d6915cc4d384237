//! A daemon that has begun to take a NIC and hangs: the watchdog ends it, and the host has its NIC.
//!
//! ```text
//!   neighbour 192.0.2.254 ──── up0 ════ node
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Family, Kind, Netns, Network, eventually, ping};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(15);
/// A daemon may take 20 seconds to come up. The rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(25);

fn network() -> Network {
    Network::on_host(&[Kind::AfXdp], |config| config["uplinks"] = uplinks("net_af_packet0,iface=up0"))
}

fn uplinks(devargs: &str) -> serde_json::Value {
    json!([{ "interface": "up0", "kind": "dpdk", "dpdk": { "devargs": devargs } }])
}

/// Addresses and routes of the host's, with their interfaces.
fn config(host: &Netns) -> String {
    let script = "ip -o -br addr show scope global | grep -v ^millrace0.*169.254; ip route show default; \
                  ip -6 route show default";
    host.must(&["sh", "-c", script]).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn has_nic(host: &Netns) -> bool {
    let shown = config(host);
    let addresses =
        Family::BOTH.iter().all(|&family| shown.contains(&Network::node_address(family).to_string()));
    addresses && shown.matches("dev up0").count() == 2 && !shown.contains("dev millrace0")
}

/// Where it is written down what the NIC had.
fn record(network: &Network) -> PathBuf {
    network.daemon().room().join("state/taken/up0.json")
}

fn reaches_its_neighbour(network: &Network) {
    for family in Family::BOTH {
        let address = Network::neighbour_address(family).to_string();
        eventually("the host reaches its neighbour", SOON, || ping(network.host(), &address, 56));
    }
}

/// Waits until the daemon was ended, and checks that it was by the watchdog and in time, and that nothing is left.
fn ended_in_time(network: &mut Network, began: Instant) {
    while !network.daemon_mut().has_ended() {
        assert!(began.elapsed() < BOUND, "the daemon hangs on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(began.elapsed() > Duration::from_secs(15), "it has the time to come up");
    eventually("the NIC is the kernel's", Duration::from_secs(2), || has_nic(network.host().netns()));
    eventually("nothing is recorded any more", Duration::from_secs(2), || !record(network).exists());
    reaches_its_neighbour(network);
}

fn comes_up(network: &mut Network) {
    network.daemon_mut().restart();
    eventually("the host speaks by its leg", SOON, || {
        config(network.host().netns()).contains("dev millrace0")
    });
    reaches_its_neighbour(network);
}

/// Starts the daemon and stops it as soon as it has written down that it takes the NIC; the moment. Again if it was faster.
fn stopped_at_start(network: &mut Network) -> Instant {
    for _ in 0..20 {
        network.daemon_mut().respawn();
        let (began, file) = (Instant::now(), record(network));
        while !file.exists() {
            assert!(began.elapsed() < SOON, "no NIC is taken: {}", network.daemon().log());
            std::thread::sleep(Duration::from_micros(100));
        }
        let daemon = Pid::from_raw(network.daemon().pid().cast_signed());
        kill(daemon, Signal::SIGSTOP).unwrap();
        if has_nic(network.host().netns()) {
            return Instant::now();
        }
        kill(daemon, Signal::SIGCONT).unwrap();
        network.daemon_mut().wait_ready();
        network.daemon_mut().end();
    }
    panic!("it is never stopped in time");
}

#[test]
fn a_daemon_that_is_stopped_while_it_takes_the_nic_is_ended_and_the_host_has_its_nic() {
    let mut network = network();
    comes_up_at_first(&network);
    network.daemon_mut().kill();
    eventually("the NIC is the kernel's", SOON, || has_nic(network.host().netns()));
    let began = stopped_at_start(&mut network);
    ended_in_time(&mut network, began);
    comes_up(&mut network);
    network.stop();
}

#[test]
fn a_device_that_never_opens_costs_the_daemon_and_not_the_host_its_nic() {
    let mut network = network();
    comes_up_at_first(&network);
    network.daemon_mut().kill();
    eventually("the NIC is the kernel's", SOON, || has_nic(network.host().netns()));
    // Whoever opens a pipe without a writer waits for one.
    let pipe = network.daemon().room().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    let devargs = format!("net_pcap0,rx_pcap={},tx_iface=lo", pipe.display());
    network.daemon().configure(|config| config["uplinks"] = uplinks(&devargs));
    network.daemon_mut().respawn();
    eventually("the NIC is being taken", SOON, || record(&network).exists());
    let began = Instant::now();
    reaches_its_neighbour(&network);
    ended_in_time(&mut network, began);
    network.daemon().configure(|config| config["uplinks"] = uplinks("net_af_packet0,iface=up0"));
    comes_up(&mut network);
    network.stop();
}

fn comes_up_at_first(network: &Network) {
    network.neighbour().must(&["ethtool", "-K", "eth0", "tx", "off"]);
    eventually("the host speaks by its leg", SOON, || {
        config(network.host().netns()).contains("dev millrace0")
    });
}
