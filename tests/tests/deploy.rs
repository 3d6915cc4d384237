//! Millrace in containers as a cluster runs it: by the DaemonSet of `config/deploy`, of containerd, with no more rights and
//! mounts than that says, against an API server that it finds as any pod does.
//!
//! ```text
//!   containerd ── init container: the plugin                     neighbour ── eth0 ┐ (af-xdp)
//!      │     └─── container: the daemon ── API server (TLS, token)               node
//!      └── pods: first, second ═════════════ their interfaces by the plugin ═══════╛
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{Status, path};
use millrace_apiserver::{ApiServer, Authority, Store};
use millrace_tests::{
    Conversation, Deployed, Deployment, Echo, Family, Kind, Netns, Network, Pings, Pod, Session, eventually,
    http_get, ping, who_answers,
};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long pods may be without each other while the daemon is replaced.
const GAP: Duration = Duration::from_secs(8);
const TARGET: u16 = 8080;
/// The kernel's numbers of CHOWN (0), DAC_OVERRIDE (1), FOWNER (3), NET_ADMIN (12), NET_RAW (13), IPC_LOCK (14), SYS_ADMIN (21)
/// and SYS_NICE (23), as bits.
const RIGHTS: &str = "0000000000a0700b";
const CNI_CONF: &str = "/etc/cni/net.d/10-millrace.conflist";

fn documents(file: &str) -> Vec<Value> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/deploy").join(file);
    serde_saphyr::from_multiple(&std::fs::read_to_string(file).unwrap()).unwrap()
}

/// The overlay for a NIC that is shared with the kernel; it alone says something of the configuration.
fn deployment(authority: &Authority, server: &ApiServer) -> Deployment {
    let config = &documents("overlays/af-xdp/config.yaml")[0]["data"];
    Deployment {
        daemon_set: documents("base/daemonset.yaml").remove(0),
        config: serde_json::from_value::<BTreeMap<String, String>>(config.clone()).unwrap(),
        credentials: [authority.pem(), "token".to_owned()],
        server: server.address(),
    }
}

/// The node's namespace, with its NIC, and its neighbour's.
fn node() -> [Netns; 2] {
    let [node, neighbour] = ["node", "neighbour"].map(Netns::new);
    node.must(&["ip", "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", neighbour.name()]);
    for (netns, last) in [(&node, "1"), (&neighbour, "254")] {
        netns.must(&["ip", "link", "set", "eth0", "up"]);
        netns.must(&["ip", "addr", "add", &format!("192.0.2.{last}/24"), "dev", "eth0"]);
        netns.must(&["ip", "addr", "add", &format!("2001:db8::{last}/64"), "dev", "eth0"]);
    }
    // What a wire cannot carry must not come out of it.
    neighbour.must(&["ethtool", "-K", "eth0", "tx", "off"]);
    node.must(&["ip", "route", "add", "default", "via", "192.0.2.254"]);
    neighbour.must(&["ip", "route", "add", "10.244.0.0/16", "via", "192.0.2.1"]);
    [node, neighbour]
}

/// A pod's object, as it is when the kubelet has its sandbox made.
fn pod(name: &str, kind: Kind) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "test", "annotations": {"millrace.io/port": kind.name()}},
        "spec": {"nodeName": Network::node_name(), "containers": [{"name": "main", "image": "none"}]},
        "status": {"phase": "Pending"}})
}

struct Cluster {
    node: Netns,
    neighbour: Netns,
    store: Arc<Store>,
    _server: ApiServer,
}

impl Cluster {
    /// A cluster of one node, and what that is to run.
    fn start() -> (Self, Deployment) {
        let [node, neighbour] = node();
        let store = Arc::new(Store::default());
        store.apply(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": Network::node_name()},
            "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:244:1::/64"]},
            "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}],
                "conditions": [{"type": "NetworkUnavailable", "status": "True"}]}}));
        let authority = Authority::try_new().unwrap();
        store.know(|known| known.tokens = Some(BTreeSet::from(["token".to_owned()])));
        let (served, by) = (Arc::clone(&store), authority);
        let (server, authority) = node.within(move || {
            let server = ApiServer::start_tls("127.0.0.1:6443".parse().unwrap(), served, &by).unwrap();
            (server, by)
        });
        let deployment = deployment(&authority, &server);
        (Cluster { node, neighbour, store, _server: server }, deployment)
    }

    /// Has the service lead to this pod; where it is.
    fn lead_to(&self, pod: &Pod) -> SocketAddr {
        self.store.apply(
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "demo"},
            "spec": {"clusterIP": "10.96.0.20", "ports": [{"port": 80, "targetPort": TARGET}]}}),
        );
        self.store.apply(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "web-1", "namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}},
            "ports": [{"name": "", "port": TARGET}],
            "endpoints": [{"addresses": [pod.address(Family::V4)], "nodeName": Network::node_name(),
                "conditions": {"ready": true}}]}));
        "10.96.0.20:80".parse().unwrap()
    }

    fn readiness(&self) -> Option<u16> {
        http_get(&self.node, "http://127.0.0.1:9470/readyz").map(|answer| answer.status)
    }

    fn condition(&self) -> Value {
        self.store.get("Node", Network::node_name()).unwrap()["status"]["conditions"][0]["status"].clone()
    }
}

fn runs(deployed: &Deployed) {
    deployed.wait_ready().unwrap_or_else(|log| panic!("the daemon has ended:\n{log}"));
}

#[test]
fn a_node_lives_with_the_daemonset_and_nothing_more() {
    let (cluster, deployment) = Cluster::start();
    let mut deployed = match Deployed::new(&cluster.node, deployment) {
        Ok(deployed) => deployed,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    // Nothing is promised before the daemon serves.
    assert!(!deployed.host_path(CNI_CONF).exists());
    deployed.run_daemon().unwrap();
    runs(&deployed);
    assert!(deployed.host_path("/opt/cni/bin/millrace-cni").exists());
    eventually("the runtime is told", PATIENCE, || deployed.host_path(CNI_CONF).exists());
    eventually("ready", PATIENCE, || cluster.readiness() == Some(200));
    eventually("the cluster is told", PATIENCE, || cluster.condition() == "False");
    let status: Status = deployed.client().get(path::STATUS).unwrap();
    assert_eq!((status.source.errors, status.uplinks_up), (0, 1), "{}", deployed.log());
    let reserved = cluster.node.must(&["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]);
    assert_eq!(reserved.trim(), "49152-65535", "{}", deployed.log());

    let process = deployed.process();
    let rights = ["CapEff", "CapBnd", "Seccomp"].map(|name| process[name].as_str());
    assert_eq!(rights, [RIGHTS, RIGHTS, "2"], "those of the DaemonSet, and a filter");

    // Pods of both kinds, with each other, the node, the neighbour and services.
    for (name, kind) in [("first", Kind::Tap), ("second", Kind::AfXdp), ("third", Kind::Tap)] {
        cluster.store.apply(pod(name, kind));
    }
    let mut first = Err(String::new());
    eventually("containerd knows the network", PATIENCE, || {
        first = deployed.add_pod("first", Kind::Tap);
        first.is_ok()
    });
    let (first, second) = (first.unwrap(), deployed.add_pod("second", Kind::AfXdp).unwrap());
    let _echo = Echo::start(&first, TARGET);
    let service = cluster.lead_to(&first);
    eventually("the service answers", PATIENCE, || {
        who_answers(&second, service).is_ok_and(|name| name == "first")
    });
    for family in Family::BOTH {
        assert!(ping(&second, &first.address(family).to_string(), 1_400), "{family:?}");
    }
    assert!(ping(&second, "192.0.2.1", 56) && ping(&second, "192.0.2.254", 56));
    let from_outside = cluster.neighbour.run(&["ping", "-c1", "-W3", &first.address(Family::V4).to_string()]);
    assert!(from_outside.success, "{}", from_outside.stdout);

    // A rolling update: a new pod of the daemon after the old one. What is open stays open.
    let session = Session::open(&second, service);
    let mut talk = Conversation::open(&second, service).unwrap();
    talk.say("before").unwrap();
    let pings = Pings::start(&second, first.address(Family::V4));
    let begin = Instant::now();
    assert_eq!(deployed.end_daemon(), 0, "{}", deployed.log());
    assert!(deployed.host_path(CNI_CONF).exists());
    deployed.run_daemon().unwrap();
    runs(&deployed);
    eventually("ready again", PATIENCE, || cluster.readiness() == Some(200));
    let took = begin.elapsed();
    talk.say("after").unwrap();
    let (session, pings) = (session.close(), pings.stop());
    eprintln!(
        "replaced within {took:?}; the session waited {:?}, {} pings were lost",
        session.longest, pings.lost
    );
    assert!(session.longest < GAP, "{:?}", session.longest);
    let kept = "hugepages=true file=\"/dev/hugepages/millrace/run-millrace-millrace.sock.";
    assert_eq!(deployed.log().matches(kept).count(), 2, "{}", deployed.log());
    let third = deployed.add_pod("third", Kind::Tap).unwrap();
    assert!(ping(&third, &first.address(Family::V4).to_string(), 56));
    assert_eq!(cluster.store.patches().len(), 1, "the condition was right already");

    // Another token: the daemon takes it from the file.
    deployed.set_token("other");
    cluster.store.know(|known| known.tokens = Some(BTreeSet::from(["other".to_owned()])));
    cluster.store.cut();
    let _fourth = Echo::start(&third, TARGET);
    cluster.lead_to(&third);
    eventually("it follows on", PATIENCE, || who_answers(&second, service).is_ok_and(|name| name == "third"));

    // The end: pods go, then the promise, then the daemon.
    for name in ["first", "second", "third"] {
        deployed.remove_pod(name).unwrap();
    }
    assert!(deployed.client().attachments().unwrap().attachments.is_empty());
    assert_eq!(deployed.end_daemon(), 0, "{}", deployed.log());
    let command = ["/usr/bin/millraced", "--uninstall", "--config", "/etc/millrace/millrace.yaml"];
    assert_eq!(deployed.run_once(&command), 0, "{}", deployed.log());
    assert!(!deployed.host_path(CNI_CONF).exists());
    let reserved = cluster.node.must(&["cat", "/proc/sys/net/ipv4/ip_local_reserved_ports"]);
    assert_eq!((reserved.trim(), cluster.node.interfaces().len()), ("", 2));
}

/// What goes wrong in the life of a node: a daemon that starts, pods of all kinds, another daemon.
fn complaints(deployed: &mut Deployed) -> Vec<String> {
    let mut complaints = Vec::new();
    let begin = deployed.log().len();
    let outcome = deployed.run_daemon().and_then(|()| deployed.wait_ready());
    complaints.extend(outcome.as_ref().err().cloned());
    if outcome.is_ok() {
        for (name, kind) in [("first", Kind::Tap), ("second", Kind::AfXdp), ("third", Kind::Vhost)] {
            let added = retried(|| deployed.add_pod(name, kind).map(drop));
            complaints.extend(added.err().map(|error| format!("{name}: {error}")));
        }
        deployed.end_daemon();
        let outcome = deployed.run_daemon().and_then(|()| deployed.wait_ready());
        complaints.extend(outcome.err());
        for name in deployed.pods() {
            complaints.extend(deployed.remove_pod(&name).err());
        }
    }
    deployed.end_daemon();
    let log = deployed.log();
    let said = log.get(begin..).unwrap_or_default().lines();
    let said = said.filter(|line| line.contains(" WARN ") || line.contains(" ERROR "));
    // DPDK misses hugepages of 1 GiB on any machine that has none.
    complaints.extend(said.filter(|line| !line.contains("No free 1048576 kB hugepages")).map(str::to_owned));
    complaints
}

/// The runtime may not know of the network yet.
fn retried(mut call: impl FnMut() -> Result<(), String>) -> Result<(), String> {
    let begin = Instant::now();
    loop {
        match call() {
            Err(error) if error.contains("cni plugin not initialized") && begin.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(50));
            }
            outcome => return outcome,
        }
    }
}

#[test]
fn every_capability_of_the_daemonset_is_needed_and_no_other_is() {
    let (cluster, deployment) = Cluster::start();
    let mut deployed = match Deployed::new(&cluster.node, deployment) {
        Ok(deployed) => deployed,
        Err(reason) => return eprintln!("skipped: {reason}"),
    };
    for (name, kind) in [("first", Kind::Tap), ("second", Kind::AfXdp), ("third", Kind::Vhost)] {
        let mut pod = pod(name, kind);
        pod["metadata"]["annotations"]["millrace.io/vhost-user-uid"] = json!("107");
        cluster.store.apply(pod);
    }
    assert_eq!(complaints(&mut deployed), Vec::<String>::new());
    let all = deployed.template()["containers"][0]["securityContext"]["capabilities"]["add"].clone();
    let all = all.as_array().unwrap().clone();
    assert!(all.len() > 5, "{all:?}");
    for dropped in &all {
        let others: Vec<&Value> = all.iter().filter(|other| *other != dropped).collect();
        deployed.template()["containers"][0]["securityContext"]["capabilities"]["add"] = json!(others);
        let complaints = complaints(&mut deployed);
        eprintln!("without {dropped}: {complaints:#?}");
        assert!(!complaints.is_empty(), "{dropped} is not missed");
    }
}
