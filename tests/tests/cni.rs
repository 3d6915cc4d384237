//! The CNI plugin and the daemon: every verb, often, at once, broken off, without a daemon; and what is left then.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{CNI_NETWORK, CniCall, Netns, Network, attachments, eventually};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
const KINDS: [&str; 4] = ["tap", "veth", "af-xdp", "vhost-user"];
const SOON: Duration = Duration::from_secs(10);

fn started() -> Network {
    Network::for_plugin(|_| ())
}

/// What the machine is like in all that attachments touch.
#[derive(PartialEq, Eq, Debug)]
struct State {
    node: String,
    pods: Vec<String>,
    ports: Vec<String>,
    attachments: usize,
    files: Vec<PathBuf>,
    addresses_left: [Option<u64>; 2],
    buffers: u64,
}

impl State {
    fn of(network: &Network, pods: &[Netns]) -> Self {
        let daemon = network.daemon();
        let status = daemon.status();
        let directories = ["state/attachments", "state/deletions", "pods"];
        let files =
            directories.iter().flat_map(|name| fs::read_dir(daemon.room().join(name)).into_iter().flatten());
        State {
            node: shown(daemon.netns()),
            pods: pods.iter().map(shown).collect(),
            ports: daemon.ports().into_iter().map(|port| port.config.name.to_string()).collect(),
            attachments: attachments(daemon).len(),
            files: files.map(|entry| entry.unwrap().path()).collect(),
            addresses_left: [status.attachments.ipv4_left, status.attachments.ipv6_left],
            buffers: status.pools.iter().map(|pool| pool.in_use).sum(),
        }
    }
}

/// Interfaces, addresses and routes inside.
fn shown(netns: &Netns) -> String {
    let script =
        "ip -br link; ip -br address; ip -4 route show table all; ip -6 route show table all; ip neighbour";
    netns.must(&["sh", "-c", script])
}

fn assert_as_before(network: &Network, pods: &[Netns], before: &State) {
    // Workers give buffers back a moment later.
    let begin = Instant::now();
    while State::of(network, pods) != *before {
        if begin.elapsed() > SOON {
            assert_eq!(State::of(network, pods), *before, "{}", network.daemon().log());
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn pods(count: usize) -> Vec<Netns> {
    (0..count).map(|number| Netns::new(&format!("c{number}"))).collect()
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap().iter();
    ips.map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

fn pings(from: &Netns, to: &str) -> bool {
    from.run(&["ping", "-c1", "-W2", to]).success
}

#[test]
fn every_verb_works_in_every_version_for_every_kind() {
    let network = started();
    let daemon = network.daemon();
    let pods = pods(2);
    let before = State::of(&network, &pods);
    let other = CniCall::new(daemon, "ADD", &pods[1]).with(json!({"port": "tap"}));
    let other_addresses = addresses(&other.must());
    for kind in KINDS {
        for version in VERSIONS {
            let call =
                |verb| CniCall::new(daemon, verb, &pods[0]).version(version).with(json!({"port": kind}));
            let result = call("ADD").must();
            assert_eq!((&result["cniVersion"], addresses(&result).len()), (&json!(version), 2));
            if kind != "vhost-user" {
                let shown = pods[0].must(&["ip", "-br", "address", "show", "dev", "eth0"]);
                assert!(addresses(&result).iter().all(|address| shown.contains(address)), "{shown}");
                for address in &other_addresses {
                    eventually("the other pod answers", SOON, || pings(&pods[0], address));
                }
            }
            let check = call("CHECK").with(json!({"prevResult": result}));
            match version {
                "0.3.1" => assert_eq!(check.code(), 1),
                _ => assert_eq!(check.must(), Value::Null),
            }
            match version {
                "1.1.0" => assert_eq!(call("STATUS").must(), Value::Null),
                _ => assert_eq!(call("STATUS").code(), 1),
            }
            assert_eq!(call("ADD").must(), result, "the same again");
            let delete = call("DEL").with(json!({"prevResult": result}));
            delete.must();
            delete.must();
            CniCall::new(daemon, "DEL", &pods[0]).variable("CNI_NETNS", "").must();
            if version != "0.3.1" {
                assert_eq!(check.code(), 3);
            }
        }
    }
    CniCall::new(daemon, "DEL", &pods[1]).must();
    assert_as_before(&network, &pods, &before);
    network.stop();
}

#[test]
fn a_check_finds_what_is_not_as_it_was_made_and_a_deletion_takes_it_all_the_same() {
    let network = started();
    let pods = pods(1);
    let before = State::of(&network, &pods);
    let damages = [
        "ip address del $0/32 dev eth0",
        "ip address del $1/128 dev eth0",
        "ip route del default",
        "ip link set eth0 down",
        "ip link set eth0 name gone0",
        "ip link del eth0",
    ];
    for kind in &KINDS[..3] {
        for damage in damages {
            let call = |verb| CniCall::new(network.daemon(), verb, &pods[0]).with(json!({"port": kind}));
            let result = call("ADD").must();
            let check = call("CHECK").with(json!({"prevResult": result}));
            check.must();
            let [v4, v6] = [&addresses(&result)[0], &addresses(&result)[1]];
            pods[0].must(&["sh", "-c", damage, v4, v6]);
            assert_eq!(check.run().map_err(|error| error.code), Err(102), "{kind}: {damage}");
            call("DEL").must();
            assert_as_before(&network, &pods, &before);
        }
    }
    network.stop();
}

#[test]
fn twenty_calls_at_once_do_not_get_into_each_others_way() {
    let network = started();
    let daemon = network.daemon();
    let pods = pods(20);
    let before = State::of(&network, &pods);
    let call = |verb, at: usize| {
        CniCall::new(daemon, verb, &pods[at]).version(VERSIONS[at % 4]).with(json!({"port": KINDS[at % 4]}))
    };
    let all = |verb| -> Vec<Value> {
        thread::scope(|scope| {
            let calls: Vec<_> =
                (0..pods.len()).map(|at| scope.spawn(move || call(verb, at).must())).collect();
            calls.into_iter().map(|call| call.join().unwrap()).collect()
        })
    };
    for _ in 0..3 {
        let results = all("ADD");
        let given: BTreeSet<String> = results.iter().flat_map(addresses).collect();
        assert_eq!((given.len(), attachments(daemon).len()), (40, 20));
        for (at, result) in results.iter().enumerate().filter(|(at, _)| at % 4 != 3) {
            let next = &results[if at % 4 == 0 { at + 1 } else { at - 1 }];
            eventually("the neighbour answers", SOON, || pings(&pods[at], &addresses(next)[0]));
            assert!(pings(&pods[at], &addresses(next)[1]), "{result}");
        }
        all("DEL");
        assert_as_before(&network, &pods, &before);
    }
    // Additions and deletions of the same container: whoever is last, nothing is halfway.
    thread::scope(|scope| {
        for at in 0..pods.len() {
            let call = &call;
            scope.spawn(move || drop(call("ADD", at / 4).run()));
            scope.spawn(move || call("DEL", at / 4).must());
        }
    });
    all("DEL");
    assert_as_before(&network, &pods, &before);
    network.stop();
}

#[test]
fn a_plugin_that_is_killed_leaves_nothing_that_a_deletion_does_not_take() {
    let network = started();
    let pods = pods(1);
    let before = State::of(&network, &pods);
    for kind in KINDS {
        let call = |verb| CniCall::new(network.daemon(), verb, &pods[0]).with(json!({"port": kind}));
        for delay in (0..60).step_by(3) {
            let plugin = call("ADD").start();
            thread::sleep(Duration::from_millis(delay));
            plugin.kill();
            // A runtime deletes what it could not add; now and then that is killed, too, and repeated.
            let plugin = call("DEL").start();
            thread::sleep(Duration::from_millis(delay % 7));
            plugin.kill();
            call("DEL").must();
            assert_as_before(&network, &pods, &before);
        }
    }
    network.stop();
}

#[test]
fn a_daemon_that_is_killed_in_the_middle_makes_all_or_nothing() {
    let mut network = started();
    let pods = pods(4);
    let before = State::of(&network, &pods);
    for delay in [0, 2, 4, 6, 8, 10, 14, 20, 30, 50] {
        let call = |network: &Network, verb, at: usize| {
            CniCall::new(network.daemon(), verb, &pods[at])
                .with(json!({"port": KINDS[at % 4], "waitSeconds": 20}))
        };
        let plugins: Vec<_> = (0..pods.len()).map(|at| call(&network, "ADD", at).start()).collect();
        thread::sleep(Duration::from_millis(delay));
        network.daemon_mut().kill();
        network.daemon_mut().restart();
        // Each sends its request again.
        let results: Vec<Value> = plugins.into_iter().map(|plugin| plugin.wait().unwrap()).collect();
        let given: BTreeSet<String> = results.iter().flat_map(addresses).collect();
        assert_eq!((given.len(), attachments(network.daemon()).len()), (8, 4));
        for (at, result) in results.iter().enumerate() {
            call(&network, "CHECK", at).with(json!({"prevResult": result})).must();
        }
        eventually("pods reach each other", SOON, || pings(&pods[0], &addresses(&results[1])[0]));
        // Deletions, broken off in the same way.
        let plugins: Vec<_> = (0..pods.len()).map(|at| call(&network, "DEL", at).start()).collect();
        thread::sleep(Duration::from_millis(delay / 4));
        network.daemon_mut().kill();
        for plugin in plugins {
            plugin.wait().unwrap();
        }
        network.daemon_mut().restart();
        assert_as_before(&network, &pods, &before);
    }
    network.stop();
}

#[test]
fn deletions_that_meet_the_end_of_the_namespace_or_of_the_daemon_leave_nothing() {
    let mut network = started();
    let pods = pods(4);
    let before = State::of(&network, &pods);
    for kind in KINDS {
        for delay in [0, 2, 5, 10, 20] {
            let gone = Netns::new("gone");
            let call = |verb| CniCall::new(network.daemon(), verb, &gone).with(json!({"port": kind}));
            let (add, delete) = (call("ADD"), call("DEL"));
            add.must();
            let plugin = delete.start();
            thread::sleep(Duration::from_millis(delay));
            drop(gone);
            let _ = plugin.wait();
            delete.must();
            assert_as_before(&network, &pods, &before);
        }
    }
    for delay in [0, 2, 5, 10, 20] {
        let call = |network: &Network, verb, at: usize| {
            CniCall::new(network.daemon(), verb, &pods[at]).with(json!({"port": KINDS[at]}))
        };
        (0..pods.len()).for_each(|at| drop(call(&network, "ADD", at).must()));
        let plugins: Vec<_> = (0..pods.len()).map(|at| call(&network, "DEL", at).start()).collect();
        thread::sleep(Duration::from_millis(delay));
        network.daemon_mut().end();
        for plugin in plugins {
            plugin.wait().unwrap();
        }
        network.daemon_mut().restart();
        assert_as_before(&network, &pods, &before);
    }
    network.stop();
}

#[test]
fn a_daemon_that_is_ended_and_started_finds_its_containers_as_they_were() {
    let mut network = started();
    let pods = pods(6);
    let before = State::of(&network, &pods);
    let call = |network: &Network, verb, at: usize| {
        CniCall::new(network.daemon(), verb, &pods[at]).with(json!({"port": KINDS[at % 4]}))
    };
    let results: Vec<Value> = (0..pods.len()).map(|at| call(&network, "ADD", at).must()).collect();
    let there = attachments(network.daemon());
    for round in 0..4 {
        if round % 2 == 0 {
            network.daemon_mut().end()
        } else {
            network.daemon_mut().kill()
        }
        for (at, pod) in pods.iter().enumerate().filter(|(at, _)| at % 4 != 3) {
            let shown = pod.must(&["ip", "-br", "address", "show", "dev", "eth0"]);
            assert!(addresses(&results[at]).iter().all(|address| shown.contains(address)), "{shown}");
        }
        network.daemon_mut().restart();
        assert_eq!(attachments(network.daemon()), there);
        for (from, to) in [(0, 1), (1, 2), (2, 4), (4, 5), (5, 0)] {
            for address in addresses(&results[to]) {
                eventually("pods reach each other again", SOON, || pings(&pods[from], &address));
            }
        }
        for (at, result) in results.iter().enumerate() {
            call(&network, "CHECK", at).with(json!({"prevResult": result})).must();
            assert_eq!(call(&network, "ADD", at).must(), *result);
        }
    }
    for at in 0..pods.len() {
        call(&network, "DEL", at).must();
    }
    assert_as_before(&network, &pods, &before);
    network.stop();
}

#[test]
fn without_a_daemon_deletions_are_kept_and_everything_else_fails() {
    let mut network = started();
    let pods = pods(6);
    let before = State::of(&network, &pods);
    let call = |network: &Network, verb, at: usize| {
        CniCall::new(network.daemon(), verb, &pods[at]).with(json!({"port": KINDS[at % 4], "waitSeconds": 1}))
    };
    let results: Vec<Value> = (0..6).map(|at| call(&network, "ADD", at).must()).collect();
    network.daemon_mut().kill();
    let check = call(&network, "CHECK", 0).with(json!({"prevResult": results[0]}));
    assert_eq!(check.code(), 11);
    assert_eq!(call(&network, "STATUS", 0).code(), 51);
    assert_eq!(call(&network, "ADD", 0).code(), 11);
    let collect = call(&network, "GC", 0).with(json!({"cni.dev/valid-attachments": []}));
    assert_eq!(collect.code(), 11);
    // Twice, the second time with the namespace gone.
    for at in 0..4 {
        call(&network, "DEL", at).must();
        call(&network, "DEL", at).variable("CNI_NETNS", "").must();
    }
    let kept = fs::read_dir(network.daemon().room().join("state/deletions")).unwrap().count();
    assert_eq!(kept, 4);
    network.daemon_mut().restart();
    eventually("what was deleted is gone", SOON, || attachments(network.daemon()).len() == 2);
    assert!(pings(&pods[4], &addresses(&results[4])[0]));
    // A container of the same name at once after the restart keeps its interface.
    network.daemon_mut().kill();
    call(&network, "DEL", 4).must();
    network.daemon_mut().restart();
    call(&network, "ADD", 4).must();
    thread::sleep(Duration::from_millis(1500));
    assert!(attachments(network.daemon()).iter().any(|one| one.id.container_id.as_str() == pods[4].name()));
    for at in 4..6 {
        call(&network, "DEL", at).must();
    }
    assert_as_before(&network, &pods, &before);
    network.stop();
}

#[test]
fn what_the_runtime_does_not_list_is_garbage_and_so_is_what_lost_its_namespace() {
    let mut network = started();
    let mut pods = pods(7);
    let call = |network: &Network, verb, pod: &Netns, at: usize| {
        CniCall::new(network.daemon(), verb, pod).with(json!({"port": KINDS[at % 4]}))
    };
    let none = State::of(&network, &pods);
    for (at, pod) in pods.iter().enumerate() {
        call(&network, "ADD", pod, at).must();
    }
    let foreign =
        call(&network, "ADD", &pods[0], 0).variable("CNI_IFNAME", "net1").with(json!({"name": "other"}));
    foreign.must();
    let valid: Vec<_> =
        pods[3..].iter().map(|pod| json!({"containerID": pod.name(), "ifname": "eth0"})).collect();
    let collect = CniCall::new(network.daemon(), "GC", &pods[0]);
    collect.with(json!({"cni.dev/valid-attachments": valid})).must();
    let left = |network: &Network| attachments(network.daemon()).len();
    assert_eq!(left(&network), 5);
    assert!(attachments(network.daemon()).iter().any(|one| one.network != CNI_NETWORK));
    foreign.clone().variable("CNI_COMMAND", "DEL").must();

    // Two go with their namespaces: one while the daemon runs, one while it does not.
    let gone = pods.split_off(5);
    network.daemon_mut().kill();
    drop(gone);
    network.daemon_mut().restart();
    eventually("orphans are removed", SOON, || left(&network) == 2);
    for (at, pod) in pods.iter().enumerate() {
        call(&network, "DEL", pod, at).must();
    }
    let State { node, ports, attachments, files, addresses_left, buffers, .. } = State::of(&network, &pods);
    assert_eq!((node, ports, attachments), (none.node, none.ports, none.attachments));
    assert_eq!((files, addresses_left, buffers), (none.files, none.addresses_left, none.buffers));
    network.stop();
}

#[test]
fn a_container_has_interfaces_of_several_networks() {
    let mut network = started();
    let pods = pods(2);
    let before = State::of(&network, &pods);
    for [first, second] in
        [["tap", "af-xdp"], ["af-xdp", "tap"], ["tap", "vhost-user"], ["vhost-user", "af-xdp"]]
    {
        let call = |network: &Network, verb, interface, kind: &str| {
            let name = format!("network-of-{interface}");
            let config = json!({"port": kind, "name": name});
            CniCall::new(network.daemon(), verb, &pods[0]).variable("CNI_IFNAME", interface).with(config)
        };
        let other = CniCall::new(network.daemon(), "ADD", &pods[1]).must();
        let results = [
            call(&network, "ADD", "eth0", first).must(),
            call(&network, "ADD", "net1", second)
                .with(json!({"ipam": {"type": "millrace", "routes": [{"dst": "10.99.0.0/16"}]}}))
                .must(),
        ];
        let routes = pods[0].must(&["ip", "-4", "route"]);
        assert_eq!(routes.contains("default"), first != "vhost-user", "{routes}");
        assert_eq!(routes.contains("10.99.0.0/16 via"), second != "vhost-user", "{routes}");
        if first != "vhost-user" {
            for address in addresses(&other) {
                eventually("the other container answers", SOON, || pings(&pods[0], &address));
            }
        }
        // One goes, the other stays, also over a restart.
        call(&network, "DEL", "net1", second).must();
        network.daemon_mut().kill();
        network.daemon_mut().restart();
        let check = call(&network, "CHECK", "eth0", first).with(json!({"prevResult": results[0]}));
        check.must();
        assert_eq!(call(&network, "CHECK", "net1", second).with(json!({"prevResult": results[1]})).code(), 3);
        call(&network, "DEL", "eth0", first).must();
        CniCall::new(network.daemon(), "DEL", &pods[1]).must();
        assert_as_before(&network, &pods, &before);
    }
    network.stop();
}

#[test]
fn addresses_of_host_local_are_used_and_given_back() {
    let mut network = started();
    let pods = pods(3);
    let leases = network.daemon().room().join("leases");
    let ipam = json!({
        "type": "host-local", "dataDir": leases,
        "ranges": [[{"subnet": "10.77.128.0/24"}], [{"subnet": "fd00:77::8000/113"}]],
    });
    let call = |network: &Network, verb, at: usize| {
        let config = json!({"port": KINDS[at % 3], "ipam": ipam.clone(), "waitSeconds": 1});
        CniCall::new(network.daemon(), verb, &pods[at]).version("1.0.0").with(config)
    };
    let given = || -> BTreeSet<String> {
        let names = fs::read_dir(leases.join(CNI_NETWORK)).into_iter().flatten();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.starts_with("10.") || name.starts_with("fd00")).collect()
    };
    let before = State::of(&network, &pods);
    let results: Vec<Value> = (0..2).map(|at| call(&network, "ADD", at).must()).collect();
    assert_eq!(given(), results.iter().flat_map(addresses).collect());
    for address in addresses(&results[1]) {
        eventually("the other pod answers", SOON, || pings(&pods[0], &address));
    }
    call(&network, "CHECK", 0).with(json!({"prevResult": results[0]})).must();
    // What the daemon does not take goes back at once.
    network.daemon_mut().kill();
    assert_eq!(call(&network, "ADD", 2).code(), 11);
    assert_eq!(given().len(), 4);
    call(&network, "DEL", 1).must();
    assert_eq!(given().len(), 2);
    network.daemon_mut().restart();
    eventually("what was deleted is gone", SOON, || attachments(network.daemon()).len() == 1);
    call(&network, "DEL", 0).must();
    assert_eq!(given().len(), 0);
    assert_as_before(&network, &pods, &before);
    network.stop();
}

#[test]
fn what_cannot_be_added_leaves_nothing() {
    let network = started();
    let daemon = network.daemon();
    let pods = pods(2);
    let port = json!({"runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}});
    let ours = CniCall::new(daemon, "ADD", &pods[1]).with(port.clone()).must();
    // Its kernel says on its own what it has to say.
    eventually("the router answers", SOON, || pings(&pods[1], "169.254.1.1"));
    eventually("it has all its addresses", SOON, || shown(&pods[1]).contains("fe80::4d:"));
    let before = State::of(&network, &pods);
    let add = || CniCall::new(daemon, "ADD", &pods[0]);
    let garbage: [&[u8]; 5] = [b"", b"garbage", b"[]", b"{\"cniVersion\": 7}", &[0xff; 4096]];
    for bytes in garbage {
        assert!(matches!(add().input(bytes).code(), 4..=7), "{bytes:?}");
    }
    for (name, value) in [
        ("CNI_COMMAND", "FLY"),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../../x"),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a-name-that-is-too-long"),
        ("CNI_NETNS", ""),
        ("CNI_ARGS", "garbage"),
    ] {
        assert_eq!(add().variable(name, value).code(), 4, "{name}={value}");
    }
    let taken = format!("{}/32", addresses(&ours)[0]);
    for fields in [
        json!({"port": "dpdk"}),
        json!({"mtu": 70_000}),
        json!({"cniVersion": "9.9.9"}),
        json!({"ipMasq": true}),
        json!({"runtimeConfig": {"ips": ["192.168.7.7/32"]}}),
        json!({"runtimeConfig": {"ips": [taken]}}),
        json!({"runtimeConfig": {"mac": "01:00:00:00:00:01"}}),
        json!({"runtimeConfig": {"portMappings": [{"hostPort": 70_000, "containerPort": 1}]}}),
        json!({"ipam": {"type": "no-such-plugin"}}),
        port.clone(),
    ] {
        let error = add().with(fields.clone()).run().expect_err("it is refused");
        assert!(!error.text.is_empty(), "{fields}");
    }
    for netns in ["/run/netns/no-such-namespace", "/etc/passwd", "/proc/self/ns/mnt"] {
        add().variable("CNI_NETNS", netns).run().expect_err(netns);
    }
    let own = format!("/run/netns/{}", daemon.netns().name());
    for kind in KINDS {
        let error = add().with(json!({"port": kind})).variable("CNI_NETNS", &own).run().expect_err(&own);
        assert!(error.text.contains("the daemon's own network namespace"), "{error:?}");
    }
    assert_as_before(&network, &pods, &before);
    // An interface of somebody else's stays as it is.
    pods[0].must(&["ip", "link", "add", "eth0", "type", "veth", "peer", "peer0"]);
    let with_another = State::of(&network, &pods);
    for kind in &KINDS[..3] {
        assert_eq!(add().with(json!({"port": kind})).code(), 101, "{kind}");
        CniCall::new(daemon, "DEL", &pods[0]).must();
        assert_as_before(&network, &pods, &with_another);
    }
    // Another request for what is there already is none for the same.
    let again = CniCall::new(daemon, "ADD", &pods[1]);
    assert_eq!(again.with(port).with(json!({"mtu": 1400})).code(), 101);
    assert_as_before(&network, &pods, &with_another);
    CniCall::new(daemon, "DEL", &pods[1]).must();
    network.stop();
}

#[test]
fn a_hundred_lives_of_a_container_leave_neither_descriptors_nor_addresses() {
    let network = started();
    let daemon = network.daemon();
    let pods = pods(1);
    let before = State::of(&network, &pods);
    let mut seen = BTreeSet::new();
    let mut descriptors = 0;
    for round in 0..100 {
        let call = |verb| CniCall::new(daemon, verb, &pods[0]).with(json!({"port": KINDS[round % 4]}));
        // Just freed addresses are not given at once.
        assert!(addresses(&call("ADD").must()).into_iter().all(|address| seen.insert(address)));
        call("DEL").must();
        if round == 10 {
            descriptors = daemon.descriptors();
        }
    }
    assert!(daemon.descriptors() <= descriptors + 2, "{} after {descriptors}", daemon.descriptors());
    assert_as_before(&network, &pods, &before);
    network.stop();
}

/// How long additions take, up to as many pods as a node has. To be run alone:
/// `cargo test -p millrace-tests --test cni -- --ignored --nocapture latency`.
#[test]
#[ignore = "a measurement"]
fn latency_of_additions_up_to_250_pods() {
    let network = started();
    let daemon = network.daemon();
    let pods = pods(250);
    let before = State::of(&network, &pods);
    for kind in KINDS {
        for verb in ["ADD", "DEL"] {
            let times: Vec<Duration> = pods
                .iter()
                .map(|pod| {
                    let call = CniCall::new(daemon, verb, pod).with(json!({"port": kind}));
                    let begin = Instant::now();
                    call.must();
                    begin.elapsed()
                })
                .collect();
            let rank = |times: &[Duration], percent: usize| {
                let mut sorted = times.to_vec();
                sorted.sort();
                sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
            };
            let parts: Vec<_> = times.chunks(50).map(|part| rank(part, 50)).collect();
            eprintln!(
                "{kind} {verb}: p50 {:?}, p99 {:?}, most {:?}; p50 of each 50: {parts:?}",
                rank(&times, 50),
                rank(&times, 99),
                rank(&times, 100)
            );
        }
    }
    assert_as_before(&network, &pods, &before);
    network.stop();
}
