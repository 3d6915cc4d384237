//! Containers of real runtimes, which ask the plugin, which asks the daemon.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Child, Container, Containerd, EndpointSpec, Family, Kind, Network, Podman, Runtime, ServiceSpec, Wanted,
    attachments, eventually, fetch, http_get, serve_files,
};
use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(15);
/// A port of the node that leads to a container.
const HOST_PORT: u16 = 8088;
/// Where a process of the host serves.
const HOST_SERVER: u16 = 7080;

/// What a runtime or the daemon could leave on the machine.
#[derive(PartialEq, Eq, Debug)]
struct Traces {
    namespaces: BTreeSet<String>,
    interfaces: BTreeSet<String>,
    routes: String,
    mounts: String,
    control_groups: Vec<String>,
    ports: Vec<String>,
    files: Vec<PathBuf>,
    addresses_left: [Option<u64>; 2],
}

impl Traces {
    fn of(network: &Network) -> Self {
        let daemon = network.daemon();
        let host = network.host().netns();
        let routes = ["-4", "-6"].map(|family| host.must(&["ip", family, "route", "show", "table", "all"]));
        let groups = millrace_tests::run("find", &["/sys/fs/cgroup", "-type", "d", "-name", "mrt*"]);
        let status = daemon.status().attachments;
        let names = fs::read_dir("/run/netns").unwrap();
        Traces {
            namespaces: names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
            interfaces: host.interfaces().into_iter().collect(),
            routes: routes.concat(),
            mounts: fs::read_to_string("/proc/self/mounts").unwrap(),
            control_groups: groups.stdout.lines().map(str::to_owned).collect(),
            ports: daemon.ports().into_iter().map(|port| port.config.name.to_string()).collect(),
            files: ["state/attachments", "state/deletions"]
                .iter()
                .flat_map(|directory| fs::read_dir(daemon.room().join(directory)).into_iter().flatten())
                .map(|entry| entry.unwrap().path())
                .collect(),
            addresses_left: [status.ipv4_left, status.ipv6_left],
        }
    }
}

fn reaches(runtime: &dyn Runtime, from: &Container, server: SocketAddr, whom: &str) {
    let begin = Instant::now();
    loop {
        match fetch(runtime, from, server) {
            Ok(answer) if answer == whom => return,
            other if begin.elapsed() > SOON => {
                panic!("{} gets http://{server}/ from {whom}: {other:?}", from.name)
            }
            _ => std::thread::sleep(Duration::from_millis(50)),
        }
    }
}

fn pings(runtime: &dyn Runtime, from: &Container, to: IpAddr) {
    let output = runtime.exec(from, &["ping", "-c", "1", "-W", "3", &to.to_string()]);
    assert!(output.success, "{} pings {to}: {}{}", from.name, output.stdout, output.stderr);
}

fn host_reaches(network: &Network, server: SocketAddr) -> Option<String> {
    let answer = http_get(network.host().netns(), &format!("http://{server}/"))?;
    (answer.status == 200).then(|| answer.body.trim().to_owned())
}

/// A server of the host's own.
fn serve_on_host(network: &Network) -> (tempfile::TempDir, Child) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("index.html"), "host\n").unwrap();
    let child = serve_files(network.host().netns(), directory.path(), HOST_SERVER);
    (directory, child)
}

fn everybody_reaches_everybody(network: &Network, runtime: &dyn Runtime, containers: &[Container]) {
    for family in Family::BOTH {
        for from in containers {
            for to in containers {
                pings(runtime, from, to.address(family));
                reaches(runtime, from, SocketAddr::new(to.address(family), 80), &to.name);
            }
            pings(runtime, from, Network::node_address(family));
            reaches(runtime, from, SocketAddr::new(Network::node_address(family), HOST_SERVER), "host");
            let answer = host_reaches(network, SocketAddr::new(from.address(family), 80));
            assert_eq!(answer.as_ref(), Some(&from.name), "from the host");
        }
    }
}

/// The service and the port of the node that lead to the first two of three.
fn services_reach_them(
    network: &Network,
    runtime: &dyn Runtime,
    containers: &[Container; 3],
    spec: &ServiceSpec,
) {
    let addresses = containers[..2].iter().flat_map(|one| Family::BOTH.map(|family| one.address(family)));
    let endpoints: Vec<_> =
        addresses.map(|address| EndpointSpec::ready(address, Network::node_name())).collect();
    network.apply(|manifests| {
        manifests.service(spec);
        manifests.endpoints_as(spec, &endpoints);
    });
    for family in Family::BOTH {
        let service = SocketAddr::new(Network::cluster_ip(spec, family), 80);
        let mut answers = BTreeSet::new();
        for _ in 0..60 {
            answers.insert(fetch(runtime, &containers[2], service).expect("the service answers"));
            if answers.len() == 2 {
                break;
            }
        }
        assert_eq!(answers, BTreeSet::from(["one".into(), "two".into()]));
        let answer = host_reaches(network, service).expect("the service answers the host");
        assert!(answers.contains(&answer), "{answer}");
        // A pod that asks its own service gets to itself, too.
        for _ in 0..5 {
            assert!(answers.contains(&fetch(runtime, &containers[0], service).unwrap()));
        }
        reaches(runtime, &containers[2], SocketAddr::new(Network::node_address(family), HOST_PORT), "one");
    }
}

/// The whole life of containers.
fn containers_live_on_the_network(network: &mut Network, runtime: &mut dyn Runtime) {
    let before = Traces::of(network);
    let host = serve_on_host(network);
    let wanted = [
        Wanted { name: "one", kind: Kind::Tap, host_port: Some(HOST_PORT) },
        Wanted { name: "two", kind: Kind::AfXdp, host_port: None },
        Wanted { name: "three", kind: Kind::Tap, host_port: None },
    ];
    let containers = wanted.map(|wanted| runtime.start(network, &wanted));
    for (container, wanted) in containers.iter().zip(&wanted) {
        assert_eq!(container.attachment.kind.name(), wanted.kind.name());
        let [v4, v6] = Family::BOTH.map(|family| container.address(family).to_string());
        assert!(v4.starts_with("10.77.") && v6.starts_with("fd00:77:"), "{v4} {v6}");
        let shown = runtime.exec(container, &["ip", "address", "show", "dev", "eth0"]).stdout;
        assert!(shown.contains(&v4) && shown.contains(&format!("{v6}/128")), "{shown}");
    }
    everybody_reaches_everybody(network, runtime, &containers);
    let spec = ServiceSpec::numbered("web", 20, 80, 80);
    services_reach_them(network, runtime, &containers, &spec);

    network.daemon_mut().kill();
    network.daemon_mut().restart();
    assert_eq!(attachments(network.daemon()).len(), 3, "{}", network.daemon().log());
    let second = SocketAddr::new(containers[1].address(Family::V4), 80);
    eventually("the network is back", SOON, || fetch(runtime, &containers[0], second).is_ok());
    everybody_reaches_everybody(network, runtime, &containers);
    services_reach_them(network, runtime, &containers, &spec);

    // One goes while the daemon is away.
    network.daemon_mut().kill();
    runtime.remove(network, &containers[1]);
    network.daemon_mut().restart();
    eventually("what went meanwhile is gone", SOON, || attachments(network.daemon()).len() == 2);
    pings(runtime, &containers[0], containers[2].address(Family::V4));
    for container in [&containers[0], &containers[2]] {
        runtime.remove(network, container);
    }
    network.apply(|manifests| manifests.remove_service(&spec));
    drop(host);
    assert_eq!(Traces::of(network), before);
}

fn started() -> Network {
    let network = Network::on_host(&[], |_| ());
    network.settle();
    eventually("the host's routes are set", SOON, || {
        network.host().netns().must(&["ip", "-6", "route"]).contains("fd00:77::/64")
    });
    network
}

/// What runs here, or nothing and the reason.
fn runs_here<T>(runtime: Result<T, String>) -> Option<T> {
    runtime.map_err(|reason| eprintln!("skipped: {reason}")).ok()
}

#[test]
fn containers_of_podman_live_on_the_network() {
    let mut network = started();
    let Some(mut podman) = runs_here(Podman::start(network.daemon())) else { return };
    containers_live_on_the_network(&mut network, &mut podman);
    drop(podman);
    network.stop();
}

#[test]
fn pods_of_containerd_live_on_the_network() {
    let mut network = started();
    let Some(mut containerd) = runs_here(Containerd::start(network.daemon())) else { return };
    containers_live_on_the_network(&mut network, &mut containerd);
    drop(containerd);
    network.stop();
}

#[test]
fn a_runtime_that_ends_with_containers_leaves_nothing() {
    let network = started();
    let before = Traces::of(&network);
    let wanted = Wanted { name: "lost", kind: Kind::Tap, host_port: None };
    if let Some(mut podman) = runs_here(Podman::start(network.daemon())) {
        podman.start(&network, &wanted);
        drop(podman);
        assert_eq!(Traces::of(&network), before);
    }
    if let Some(mut containerd) = runs_here(Containerd::start(network.daemon())) {
        containerd.start(&network, &wanted);
        drop(containerd);
        network.apply(|manifests| manifests.remove("pod-lost.yaml"));
        assert_eq!(Traces::of(&network), before);
    }
    network.stop();
}
