//! In a network namespace of the test's own, with a veth in the place of a NIC and a TAP as the leg.

use super::*;
use crate::uplink::kernel::Socket;
use nix::sched::{CloneFlags, unshare};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn run(line: &str) -> String {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(arguments[0]).args(&arguments[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

struct Host {
    state: TempDir,
    nic: Nic,
}

impl Host {
    /// A host with a NIC that is configured in many ways. `None`, and a line, where that is not allowed.
    fn new() -> Option<Self> {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: needs the right to make network namespaces");
            return None;
        }
        run("ip link add eth1 address 02:00:00:00:00:11 mtu 1400 type veth peer far");
        run("ip link set far up");
        run("ip link set eth1 up");
        for line in [
            "addr add 192.0.2.1/24 brd + dev eth1",
            "addr add 192.0.2.7/24 dev eth1",
            "addr add 198.51.100.1/24 dev eth1 noprefixroute valid_lft 3000 preferred_lft 2000",
            "addr add 2001:db8::1/64 dev eth1 nodad metric 99",
            "route add default via 192.0.2.254 proto static src 192.0.2.7",
            "route add 10.1.0.0/16 nexthop via 192.0.2.5 weight 3 nexthop via 192.0.2.6",
            "route add 10.2.0.0/16 via 10.99.0.1 dev eth1 onlink mtu 1300 advmss 1200 metric 5",
            "route add 10.3.0.0/16 dev eth1 scope link table 300",
            "-6 route add default via 2001:db8::ff metric 3",
            "-6 route add 2001:db8:7::/48 via fe80::7 dev eth1",
        ] {
            run(&format!("ip {line}"));
        }
        let host = Host {
            state: tempfile::tempdir().unwrap(),
            nic: Nic {
                interface: "eth1".parse().unwrap(),
                leg: "millrace0".parse().unwrap(),
                mac: MacAddr([2, 0, 0, 0, 0, 0x11]),
            },
        };
        host.add_leg();
        Some(host)
    }

    fn add_leg(&self) {
        run("ip tuntap add mode tap name millrace0");
        run("ip link set millrace0 up");
    }

    fn takeover(&self) -> Takeover {
        Takeover::new(self.state.path())
    }

    /// As it was taken by an instance that is no more.
    fn taken(&self) {
        let mut takeover = self.takeover();
        takeover.prepare(&self.nic, "net_af_packet0,iface=eth1").unwrap();
        takeover.take(&self.nic).unwrap();
    }

    fn records(&self) -> usize {
        std::fs::read_dir(self.state.path().join("taken"))
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().file_name() != "lock")
            .count()
    }
}

/// Addresses and routes of an interface, as people see them; without times, states and what IPv6 has on every interface.
fn config(interface: &str) -> Vec<String> {
    let shown = [
        format!("ip -o addr show dev {interface} scope global"),
        format!("ip route show table all dev {interface} type unicast"),
        format!("ip -6 route show table all dev {interface} type unicast"),
        "ip route show 10.1.0.0/16".to_owned(),
    ];
    let mut lines: Vec<String> =
        shown.iter().flat_map(|line| run(line).lines().map(tidy).collect::<Vec<_>>()).collect();
    lines.retain(|line| !line.starts_with("fe80::/64") && !line.is_empty());
    lines
}

fn tidy(line: &str) -> String {
    let line = line.replace('\\', " ").replace("linkdown", "").replace("nodad", "").replace(" dynamic", "");
    // Number, name and label of the interface, and seconds.
    let words = line.split_whitespace().filter(|word| {
        !word.ends_with("sec") && !matches!(*word, "eth1" | "millrace0") && !word.ends_with(':')
    });
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn what_the_nic_had_is_on_the_leg_and_then_on_the_nic_again_as_it_was() {
    let Some(host) = Host::new() else { return };
    let before = config("eth1");
    assert!(before.len() >= 12, "{before:#?}");
    let mut takeover = host.takeover();
    takeover.prepare(&host.nic, "net_af_packet0,iface=eth1").unwrap();
    assert_eq!(config("eth1"), before, "nothing has moved yet");
    takeover.take(&host.nic).unwrap();
    assert_eq!(config("millrace0"), before);
    let left: Vec<String> = config("eth1")
        .into_iter()
        .filter(|line| !line.starts_with("10.1.0.0") && !line.starts_with("nexthop"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
    let leg = run("ip link show millrace0");
    assert!(leg.contains("02:00:00:00:00:11") && leg.contains("mtu 1400"), "{leg}");

    takeover.give_back(&host.nic).unwrap();
    assert_eq!(config("eth1"), before);
    assert!(!config("millrace0").iter().any(|line| line.starts_with("inet 192.0.2")));
    assert_eq!(host.records(), 0);
    takeover.give_back(&host.nic).unwrap();
    assert_eq!(config("eth1"), before);
}

#[test]
fn whatever_the_point_of_a_crash_the_next_instance_gives_everything_back() {
    let Some(host) = Host::new() else { return };
    let before = config("eth1");
    host.takeover().prepare(&host.nic, "net_af_packet0,iface=eth1").unwrap();
    assert_eq!(host.takeover().give_back_leftovers().unwrap(), ["eth1"]);
    assert_eq!(config("eth1"), before);

    host.taken();
    run("ip link del millrace0");
    assert!(!config("eth1").iter().any(|line| line.contains("192.0.2")));
    assert_eq!(host.takeover().give_back_leftovers().unwrap(), ["eth1"]);
    assert_eq!(config("eth1"), before);

    // In the midst of it: some is here and some is there.
    host.add_leg();
    host.taken();
    run("ip addr add 192.0.2.1/24 brd + dev eth1");
    assert_eq!(host.takeover().give_back_leftovers().unwrap(), ["eth1"]);
    assert_eq!(config("eth1"), before);
    assert!(host.takeover().give_back_leftovers().unwrap().is_empty());
}

#[test]
fn what_was_changed_at_the_leg_is_changed_at_the_nic_when_it_is_back() {
    let Some(host) = Host::new() else { return };
    host.taken();
    run("ip addr add 203.0.113.9/24 dev millrace0");
    run("ip route del 10.3.0.0/16 table 300");
    run("ip route add 10.4.0.0/16 via 203.0.113.1");
    run("ip route add 10.244.0.0/16 dev millrace0 proto 77");
    host.takeover().give_back_leftovers().unwrap();
    let now = config("eth1").join("\n");
    for (text, is_there) in [
        ("203.0.113.9/24", true),
        ("10.4.0.0/16 via 203.0.113.1", true),
        ("10.3.0.0", false),
        ("10.244.0.0", false),
    ] {
        assert_eq!(now.contains(text), is_there, "{text}: {now}");
    }
}

#[test]
fn a_nic_that_came_back_with_another_number_gets_what_it_had() {
    let Some(host) = Host::new() else { return };
    let before = config("eth1");
    host.taken();
    run("ip link del millrace0");
    run("ip link del eth1");
    let error = host.takeover().give_back_leftovers().unwrap_err();
    assert!(error.to_string().contains("eth1"), "{error}");
    run("ip link add eth1 address 02:00:00:00:00:11 mtu 1400 type veth peer far");
    run("ip link set far up");
    host.takeover().give_back_leftovers().unwrap();
    assert_eq!(config("eth1"), before);
}

#[test]
fn the_kernel_hears_nothing_by_a_nic_that_is_taken_and_all_once_it_is_back() {
    let Some(_host) = Host::new() else { return };
    let far = format!("mrto{}", std::process::id());
    run(&format!("ip netns add {far}"));
    run(&format!("ip link set far netns {far}"));
    run(&format!("ip netns exec {far} ip addr add 192.0.2.254/24 dev far"));
    run(&format!("ip netns exec {far} ip link set far up"));
    let ping = || {
        let arguments = ["netns", "exec", &far, "ping", "-c1", "-W1", "192.0.2.1"];
        Command::new("ip").args(arguments).output().unwrap().status.success()
    };
    let heard_at_first = ping();
    let mut socket = Socket::open(0).unwrap();
    let index = moving::find(&mut socket, "eth1").unwrap().unwrap().index;
    hush::hush(&mut socket, index).unwrap();
    hush::hush(&mut socket, index).unwrap();
    let heard_when_hushed = ping();
    hush::unhush(&mut socket, index).unwrap();
    hush::unhush(&mut socket, index).unwrap();
    let heard_again = ping();
    run(&format!("ip netns del {far}"));
    assert_eq!((heard_at_first, heard_when_hushed, heard_again), (true, false, true));
}

/// A daemon that has moved everything and gets no further, and the watchdog that it has started: both are this test's own program,
/// started again with these variables.
const HANGING: &str = "MILLRACE_TEST_HANGING_STATE";
const WATCHED: &str = "MILLRACE_TEST_WATCHED_STATE";
const TOKEN: &str = "MILLRACE_TEST_WATCHED_TOKEN";

#[test]
fn a_daemon_that_hangs_after_it_has_moved_everything_is_ended_and_the_nic_is_as_it_was() {
    if let Some(state) = std::env::var_os(WATCHED) {
        let token = std::env::var(TOKEN).unwrap();
        return watchdog::watch_for(Path::new(&state), &token, Duration::from_secs(2)).unwrap();
    }
    if let Some(state) = std::env::var_os(HANGING) {
        return hang(Path::new(&state));
    }
    let Some(host) = Host::new() else { return };
    let before = config("eth1");
    let began = Instant::now();
    let mut daemon = this_test().env(HANGING, host.state.path()).spawn().unwrap();
    let mut moved = false;
    while daemon.try_wait().unwrap().is_none() {
        moved |= config("millrace0") == before;
        assert!(began.elapsed() < Duration::from_secs(20), "it hangs on");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(moved, "it got as far");
    while config("eth1") != before {
        assert!(began.elapsed() < Duration::from_secs(20), "{:#?}", config("eth1"));
        std::thread::sleep(Duration::from_millis(20));
    }
    while host.records() != 0 {
        assert!(began.elapsed() < Duration::from_secs(20), "the record stays");
    }
}

/// This program, to run the test above and no other. A child is in the namespace of the thread that starts it.
fn this_test() -> Command {
    let name = std::thread::current().name().unwrap().to_owned();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([name.as_str(), "--exact", "--test-threads=1"]).stdout(std::process::Stdio::null());
    command
}

fn hang(state: &Path) {
    let nic = Nic {
        interface: "eth1".parse().unwrap(),
        leg: "millrace0".parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, 0x11]),
    };
    let script = state.join("watchdog");
    let arguments: Vec<_> = this_test().get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let (program, rest) = (std::env::current_exe().unwrap(), arguments.join(" "));
    let text =
        format!("#!/bin/sh\nexec env {WATCHED}=\"$2\" {TOKEN}=\"$3\" '{}' {rest}\n", program.display());
    std::fs::write(&script, text).unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, executable).unwrap();
    let mut takeover = Takeover::new(state);
    takeover.guard_with(script.into());
    takeover.prepare(&nic, "net_af_packet0,iface=eth1").unwrap();
    takeover.hand_over(&nic).unwrap();
    std::thread::sleep(Duration::from_secs(60));
}

#[test]
fn a_record_of_another_namespace_means_nothing() {
    let Some(host) = Host::new() else { return };
    host.taken();
    let records = record::Records::new(host.state.path());
    assert!(records.read("eth1").unwrap().is_some());
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    assert!(records.read("eth1").unwrap().is_none());
    assert!(host.takeover().give_back_leftovers().unwrap().is_empty());
    assert_eq!(host.records(), 0);
}

#[test]
fn a_record_that_is_garbage_is_an_error_that_names_the_file() {
    let state = tempfile::tempdir().unwrap();
    std::fs::create_dir(state.path().join("taken")).unwrap();
    std::fs::write(state.path().join("taken/eth1.json"), "{]").unwrap();
    let error = Takeover::new(state.path()).give_back_leftovers().unwrap_err();
    assert!(error.to_string().contains("taken/eth1.json"), "{error}");
}
