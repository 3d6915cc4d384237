//! In network namespaces of their own, which go with the test.

use super::*;
use millrace_config::InterfaceName;
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use nix::sched::{CloneFlags, unshare};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

/// A named namespace, removed at the end of the test whatever its outcome.
pub(crate) struct Pod(pub(crate) String);

impl Pod {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("mrctl{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        run("ip", &["netns", "add", &name]);
        Pod(name)
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> String {
        run("ip", &[&["netns", "exec", self.0.as_str()], arguments].concat())
    }

    fn namespace(&self) -> Namespace {
        Namespace::open(&self.0.parse().unwrap()).unwrap()
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Gives this test's thread, and the threads and programs that it starts, a network of its own as the "host".
/// False, and a line, where that is not allowed.
pub(crate) fn own_host() -> bool {
    let granted = unshare(CloneFlags::CLONE_NEWNET).is_ok();
    if !granted {
        eprintln!("skipped: needs the right to make network namespaces");
    }
    granted
}

fn interface() -> Interface {
    Interface {
        name: "eth0".parse().unwrap(),
        mac: MacAddr([2, 0, 0, 0, 0, 7]),
        mtu: 1400,
        addresses: ["10.7.0.7/32", "fd00:7::7/128", "10.77.0.0/24"].map(|net| net.parse().unwrap()).to_vec(),
        gateway_v4: "169.254.1.1".parse().unwrap(),
        gateway_v6: "fe80::4d:52ff:fe00:1".parse().unwrap(),
        routes: Routes::Default,
        queues: 1,
    }
}

/// Both steps, without offloads.
fn make_veth(
    host_end: &InterfaceName,
    owner: &str,
    pod: &Pod,
    interface: &Interface,
) -> Result<Vec<millrace_api::Route>, LinkError> {
    create_veth(host_end, owner, &pod.namespace(), interface)?;
    dress_veth(host_end, &pod.namespace(), interface, false)
}

fn host_end() -> InterfaceName {
    host_end_name(Path::new("/var/lib/millrace"), PortId(7)).unwrap()
}

pub(crate) fn links() -> String {
    run("ip", &["-br", "link"])
}

#[test]
fn a_veth_pair_gives_the_pod_its_interface_and_is_removed_without_trace() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    let before = (links(), pod.run(&["ip", "-br", "link"]));
    make_veth(&host_end(), "pod-7", &pod, &interface()).unwrap();

    let addresses = pod.run(&["ip", "addr", "show", "eth0"]);
    for expected in ["02:00:00:00:00:07", "mtu 1400", "10.7.0.7/32", "fd00:7::7/128", "LOWER_UP"] {
        assert!(addresses.contains(expected), "no {expected} in {addresses}");
    }
    assert!(!addresses.contains("10.77.0.0"), "a prefix is routed, not put on the interface");
    let own = addresses.lines().find(|line| line.contains("fd00:7::7")).unwrap();
    assert!(!own.contains("tentative"), "no duplicate address detection: {own}");
    let routes = pod.run(&["ip", "route"]);
    assert!(routes.contains("default via 169.254.1.1 dev eth0"), "{routes}");
    assert!(routes.contains("169.254.1.1 dev eth0"), "{routes}");
    let routes = pod.run(&["ip", "-6", "route"]);
    assert!(routes.contains("default via fe80::4d:52ff:fe00:1 dev eth0"), "{routes}");
    assert!(run("ip", &["link", "show", host_end().as_str()]).contains("alias millrace:pod-7"));

    remove_veth(&host_end()).unwrap();
    assert_eq!((links(), pod.run(&["ip", "-br", "link"])), before);
    remove_veth(&host_end()).unwrap();
}

#[test]
fn no_offload_that_a_raw_frame_cannot_carry_is_left_on() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    make_veth(&host_end(), "pod-7", &pod, &interface()).unwrap();
    let features = pod.run(&["ethtool", "-k", "eth0"]);
    for feature in [
        "tx-checksumming",
        "tx-checksum-sctp",
        "tcp-segmentation-offload",
        "generic-segmentation-offload",
        "generic-receive-offload",
        "tx-udp-segmentation",
        "rx-vlan-offload",
        "tx-vlan-offload",
    ] {
        let line = features.lines().find(|line| line.trim().starts_with(&format!("{feature}:"))).unwrap();
        assert!(line.contains("off"), "{line}");
    }
}

#[test]
fn a_veth_that_is_to_keep_its_offloads_is_dressed_without_a_change_to_them() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    create_veth(&host_end(), "pod-7", &pod.namespace(), &interface()).unwrap();
    let before = pod.run(&["ethtool", "-k", "eth0"]);
    assert!(before.contains("tx-tcp-segmentation: on") && before.contains("tx-checksumming: on"), "{before}");
    dress_veth(&host_end(), &pod.namespace(), &interface(), true).unwrap();
    assert_eq!(pod.run(&["ethtool", "-k", "eth0"]), before);
    assert!(pod.run(&["ip", "addr", "show", "eth0"]).contains("10.7.0.7/32"));
    assert!(
        !run("ip", &["addr", "show", host_end().as_str()]).contains("inet"),
        "the kernel has no IP on it"
    );
}

#[test]
fn a_name_that_the_pod_has_already_is_refused_and_leaves_nothing() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    pod.run(&["ip", "tuntap", "add", "mode", "tap", "name", "eth0"]);
    let before = (links(), pod.run(&["ip", "-br", "link"]));
    let error = make_veth(&host_end(), "pod-7", &pod, &interface()).unwrap_err();
    assert!(error.to_string().contains("creating the interface"), "{error}");
    assert_eq!((links(), pod.run(&["ip", "-br", "link"])), before);
}

#[test]
fn a_pair_that_could_not_be_dressed_is_removed() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    let before = (links(), pod.run(&["ip", "-br", "link"]));
    let multicast = Interface { addresses: vec!["ff02::1/128".parse().unwrap()], ..interface() };
    let error = make_veth(&host_end(), "pod-7", &pod, &multicast).unwrap_err();
    assert!(error.to_string().contains("ff02::1/128"), "{error}");
    remove_veth(&host_end()).unwrap();
    assert_eq!((links(), pod.run(&["ip", "-br", "link"])), before);
}

#[test]
fn a_pair_whose_maker_was_ended_before_it_was_named_is_removed() {
    if !own_host() {
        return;
    }
    let before = links();
    run("ip", &["link", "add", host_end().as_str(), "type", "veth", "peer", "name", "half-made"]);
    remove_veth(&host_end()).unwrap();
    assert_eq!(links(), before);
}

#[test]
fn a_pair_whose_namespace_is_gone_is_removed_all_the_same() {
    if !own_host() {
        return;
    }
    let before = links();
    let pod = Pod::new();
    make_veth(&host_end(), "pod-7", &pod, &interface()).unwrap();
    drop(pod);
    remove_veth(&host_end()).unwrap();
    assert_eq!(links(), before);
}

#[test]
fn an_interface_of_somebody_else_is_never_removed() {
    if !own_host() {
        return;
    }
    run("ip", &["tuntap", "add", "mode", "tap", "name", host_end().as_str()]);
    remove_veth(&host_end()).unwrap();
    assert!(links().contains(host_end().as_str()));
}

#[test]
fn a_tap_is_moved_renamed_and_shaped() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    run("ip", &["tuntap", "add", "mode", "tap", "name", "mrtap7"]);
    move_tap("mrtap7", Some(&pod.namespace()), &interface()).unwrap();
    assert!(!links().contains("mrtap7"));
    let addresses = pod.run(&["ip", "addr", "show", "eth0"]);
    for expected in ["02:00:00:00:00:07", "mtu 1400", "10.7.0.7/32", "fd00:7::7/128"] {
        assert!(addresses.contains(expected), "no {expected} in {addresses}");
    }
}

#[test]
fn a_tap_that_was_made_in_the_pod_is_dressed_compared_and_removed_by_its_owner_only() {
    if !own_host() {
        return;
    }
    let (pod, name) = (Pod::new(), interface().name);
    pod.run(&["ip", "tuntap", "add", "mode", "tap", "name", "eth0"]);
    assert!(!is_made_here(Some(&pod.namespace()), &name, "c-7").unwrap());
    let routes = dress_tap(&pod.namespace(), "c-7", &interface()).unwrap();
    let destinations: Vec<String> = routes.iter().map(|route| route.destination.to_string()).collect();
    assert_eq!(destinations, ["0.0.0.0/0", "::/0"]);
    assert_eq!(routes[0].gateway, Some("169.254.1.1".parse().unwrap()));
    assert!(is_made_here(Some(&pod.namespace()), &name, "c-7").unwrap());
    let compared = || compare(&pod.namespace(), &interface(), &routes).unwrap();
    assert_eq!(compared(), []);
    // The last address of a family takes the family's routes with it.
    pod.run(&["ip", "addr", "del", "10.7.0.7/32", "dev", "eth0"]);
    pod.run(&["ip", "-6", "route", "del", "default"]);
    pod.run(&["ip", "link", "set", "eth0", "mtu", "1390"]);
    let said: Vec<String> = compared().iter().map(ToString::to_string).collect();
    let address = "it lacks the address 10.7.0.7/32";
    let routes_gone = ["the route to 0.0.0.0/0 is gone", "the route to ::/0 is gone"];
    assert_eq!(said, ["its MTU is 1390", address, routes_gone[0], routes_gone[1]]);
    pod.run(&["ip", "link", "set", "eth0", "down"]);
    assert!(compared().contains(&Difference::Down));

    remove_tap(&pod.namespace(), &name, "c-8").unwrap();
    assert!(pod.run(&["ip", "-br", "link"]).contains("eth0"), "it belongs to another");
    remove_tap(&pod.namespace(), &name, "c-7").unwrap();
    assert!(!pod.run(&["ip", "-br", "link"]).contains("eth0"));
    remove_tap(&pod.namespace(), &name, "c-7").unwrap();
    assert!(is_namespace(&Path::new("/run/netns").join(&pod.0)) && !is_namespace(Path::new("/run")));
}

#[test]
fn routes_have_the_metrics_that_were_asked_for_and_families_without_an_address_have_none() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    pod.run(&["ip", "tuntap", "add", "mode", "tap", "name", "eth0"]);
    let route = millrace_api::Route {
        mtu: Some(1300),
        advmss: Some(1200),
        priority: Some(7),
        table: Some(300),
        ..millrace_api::Route::to("10.96.0.0/16".parse().unwrap())
    };
    let other = millrace_api::Route::to("fd96::/112".parse().unwrap());
    let wanted = Interface {
        addresses: vec!["10.7.0.7/32".parse().unwrap()],
        routes: Routes::Of(vec![route, other]),
        ..interface()
    };
    let set = dress_tap(&pod.namespace(), "c-7", &wanted).unwrap();
    assert_eq!(set.len(), 1);
    assert_eq!(compare(&pod.namespace(), &wanted, &set).unwrap(), []);
    let shown = pod.run(&["ip", "route", "show", "table", "300"]);
    for expected in ["10.96.0.0/16 via 169.254.1.1", "metric 7", "mtu 1300", "advmss 1200"] {
        assert!(shown.contains(expected), "no {expected} in {shown}");
    }
    assert!(!pod.run(&["ip", "route"]).contains("default"));
}

#[test]
fn the_second_interface_of_a_pod_leaves_its_default_route_alone() {
    if !own_host() {
        return;
    }
    let pod = Pod::new();
    make_veth(&host_end(), "pod-7", &pod, &interface()).unwrap();
    let before = pod.run(&["ip", "route"]);
    let second = Interface {
        name: "net1".parse().unwrap(),
        addresses: vec!["10.8.0.8/32".parse().unwrap(), "fd00:8::8/128".parse().unwrap()],
        ..interface()
    };
    let name = host_end_name(Path::new("/var/lib/millrace"), PortId(8)).unwrap();
    make_veth(&name, "pod-7-net1", &pod, &second).unwrap();
    assert_eq!(pod.run(&["ip", "route"]), before);
}

#[test]
fn a_namespace_that_does_not_exist_is_named_in_the_error() {
    let error = Namespace::open(&"mr-no-such-pod".parse().unwrap()).unwrap_err();
    assert!(error.to_string().contains("mr-no-such-pod"), "{error}");
}

#[test]
fn host_ends_fit_the_kernel_and_differ_by_port_and_by_state_directory() {
    let name = |directory: &str, port| host_end_name(Path::new(directory), PortId(port)).unwrap();
    assert!(name("/var/lib/millrace", u16::MAX - 1).as_str().len() <= 15);
    assert_ne!(name("/a", 1), name("/a", 2));
    assert_ne!(name("/a", 1), name("/b", 1));
}

#[test]
fn what_a_killed_daemon_left_is_removed_by_the_next() {
    if !own_host() {
        return;
    }
    let state = tempfile::tempdir().unwrap();
    let socket = state.path().join("vhost.sock");
    let before = links();
    let pod = Pod::new();
    let mut record = Record::open(state.path()).unwrap();
    record.add(Leftover::Veth(host_end().to_string())).unwrap();
    record.add(Leftover::Socket(socket.clone())).unwrap();
    make_veth(&host_end(), "pod-7", &pod, &interface()).unwrap();
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    drop(record);

    let mut record = Record::open(state.path()).unwrap();
    assert_eq!(record.entries().count(), 2);
    assert!(record.clear().unwrap().is_empty());
    assert_eq!(links(), before);
    assert!(!socket.exists());
    assert_eq!(Record::open(state.path()).unwrap().entries().count(), 0);
}

#[test]
fn a_record_that_is_garbage_is_an_error_that_names_the_file() {
    let state = tempfile::tempdir().unwrap();
    std::fs::write(state.path().join("leftovers.json"), "{]").unwrap();
    let error = Record::open(state.path()).unwrap_err();
    assert!(error.to_string().contains("leftovers.json"), "{error}");
}
