//! A daemon with its pods.

use crate::daemon::{Daemon, HOST_UPLINK, NODE};
use crate::manifest::{EndpointSpec, Manifests, NODE_ADDRESSES, ServiceSpec};
use crate::netns::Netns;
use crate::pod::{Family, Kind, Place, Pod};
use crate::traffic::ping;
use nix::fcntl::{Flock, FlockArg};
use serde_json::{Value, json};
use std::fs::File;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Two daemons and their pods on two cores would measure each other: one network at a time.
static ALONE: Mutex<()> = Mutex::new(());
/// Where the world's client is.
const WORLD_ADDRESSES: [&str; 2] = ["198.51.100.7", "2001:db8:ffff::7"];
/// Where the host's neighbour is.
const NEIGHBOUR_ADDRESSES: [&str; 2] = ["192.0.2.254", "2001:db8::254"];
/// The namespace of marker services, and their numbers: each is seen once.
const MARKERS: &str = "zz-markers";
static MARKER: AtomicU32 = AtomicU32::new(0);
/// The same between test programs.
const LOCK: &str = "/run/lock/millrace-tests";

/// A node with pods. Fields end in this order: guests, daemon, then the permission to be alone.
#[derive(Debug)]
pub struct Network {
    pods: Vec<Pod>,
    world: Option<Pod>,
    host: Option<Pod>,
    neighbour: Option<Netns>,
    daemon: Option<Daemon>,
    _alone: Alone,
}

/// The permission to have a network: nobody else has one.
#[derive(Debug)]
pub(crate) struct Alone {
    _program: MutexGuard<'static, ()>,
    _machine: Flock<File>,
}

impl Alone {
    /// Waits for it.
    pub(crate) fn take() -> Self {
        let program = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        Alone { _program: program, _machine: machine() }
    }
}

impl Network {
    /// A daemon with a pod of each kind named, called `a`, `b`, `c` and so on.
    pub fn start(kinds: &[Kind]) -> Self {
        Self::start_with(kinds, |_| ())
    }

    /// The same with a changed configuration.
    pub fn start_with(kinds: &[Kind], change: impl FnOnce(&mut Value)) -> Self {
        let alone = Alone::take();
        let mut network = Network {
            pods: Vec::new(),
            world: None,
            host: None,
            neighbour: None,
            daemon: Some(Daemon::start(&[], change)),
            _alone: alone,
        };
        for kind in kinds {
            network.add_pod(*kind);
        }
        network.settle();
        network
    }

    /// A daemon for the pods of the CNI plugin.
    pub fn for_plugin(change: impl FnOnce(&mut Value)) -> Self {
        Self::start_with(&[], |config| {
            own_vhost_user_directory(config);
            change(config);
        })
    }

    /// Adds a pod, by its manifest and the admin API.
    pub fn add_pod(&mut self, kind: Kind) -> usize {
        self.add_pod_with(kind, |_| ())
    }

    /// The same with an MTU of its own.
    pub fn add_pod_of(&mut self, kind: Kind, mtu: u16) -> usize {
        self.add_pod_with(kind, |pod| pod.set_mtu(mtu))
    }

    fn add_pod_with(&mut self, kind: Kind, change: impl FnOnce(&mut Pod)) -> usize {
        let at = u8::try_from(self.pods.len()).expect("few pods");
        let name = char::from(b'a' + at).to_string();
        let mut pod = Pod::new(&name, kind, 10 + at);
        change(&mut pod);
        self.manifests().pod(&name, NODE, &pod.addresses());
        let pod = self.attach(pod);
        self.pods.push(pod);
        self.pods.len() - 1
    }

    /// A daemon with pods, and a port to the world.
    pub fn with_world(kinds: &[Kind], world: Kind) -> Self {
        Self::with_world_and(kinds, world, |_| ())
    }

    /// The same with a changed configuration.
    pub fn with_world_and(kinds: &[Kind], world: Kind, change: impl FnOnce(&mut Value)) -> Self {
        let mut network = Self::start_with(kinds, change);
        network.add_world(world);
        network
    }

    /// Adds the port to the world: it owns the default routes. A client is behind it.
    pub fn add_world(&mut self, kind: Kind) {
        let world = Pod::at_place("world", kind, 200, Place::World, WORLD_ADDRESSES.map(parsed));
        self.world = Some(self.attach(world));
        self.settle();
    }

    /// Adds the port to the node's own network namespace, which is played by one more.
    pub fn add_host(&mut self) {
        let host = Pod::at_place("host", Kind::Tap, 201, Place::Host, NODE_ADDRESSES.map(parsed));
        self.host = Some(self.attach(host));
        self.settle();
    }

    /// A daemon with pods and the host's own leg. The host has the node's addresses on an interface to another namespace,
    /// the neighbour, which is its default route.
    pub fn on_host(kinds: &[Kind], change: impl FnOnce(&mut Value)) -> Self {
        let mut network = Self::start_with(kinds, |config| {
            if let Some(config) = config.as_object_mut() {
                config.remove("hostLeg");
            }
            own_vhost_user_directory(config);
            change(config);
        });
        let (host, neighbour) = (network.daemon().netns().borrowed(), Netns::new("neighbour"));
        let pair = format!("ip link add eth0 type veth peer {HOST_UPLINK} netns {}", host.name());
        neighbour.must(&["sh", "-c", &pair]);
        neighbour.must(&["ip", "link", "set", "eth0", "up"]);
        host.must(&["ip", "link", "set", HOST_UPLINK, "up"]);
        for (own, other, length) in
            [(NODE_ADDRESSES[0], NEIGHBOUR_ADDRESSES[0], 24), (NODE_ADDRESSES[1], NEIGHBOUR_ADDRESSES[1], 64)]
        {
            neighbour.must(&["ip", "addr", "add", &format!("{other}/{length}"), "dev", "eth0"]);
            host.must(&["ip", "addr", "add", &format!("{own}/{length}"), "dev", HOST_UPLINK]);
            host.must(&["ip", "route", "add", "default", "via", other]);
        }
        network.host = Some(Pod::own_host(&host, NODE_ADDRESSES.map(parsed)));
        network.neighbour = Some(neighbour);
        network
    }

    /// The namespace beside the host's.
    pub fn neighbour(&self) -> &Netns {
        self.neighbour.as_ref().expect("this network has a neighbour")
    }

    /// The neighbour's address.
    pub fn neighbour_address(family: Family) -> IpAddr {
        parsed(NEIGHBOUR_ADDRESSES[usize::from(family == Family::V6)])
    }

    fn attach(&self, mut pod: Pod) -> Pod {
        let daemon = self.daemon();
        daemon.add_port(&pod.port(daemon.room()));
        pod.connect(daemon.room());
        pod
    }

    /// Waits until every pod's link is up and its addresses lead to it.
    pub fn settle(&self) {
        eventually("links of all pods up", Duration::from_secs(30), || {
            let ports = self.daemon().ports();
            self.places().all(|pod| {
                let port = ports.iter().find(|port| port.config.name.as_str() == pod.name);
                port.is_some_and(|port| {
                    let pod_ips = |port: &millrace_api::Port| {
                        pod.addresses().iter().all(|address| port.pod_ips.contains(address))
                    };
                    port.link == millrace_api::LinkState::Up && (port.config.pod.is_none() || pod_ips(port))
                })
            })
        });
        // A TAP's or veth's far end may take some time to have its carrier.
        for pod in self.places() {
            let ipv6 = format!("{}%{}", crate::pod::GATEWAY_IPV6, pod.interface());
            for gateway in [crate::pod::GATEWAY_IPV4.to_owned(), ipv6] {
                eventually("the gateway answers", Duration::from_secs(10), || ping(pod, &gateway, 56));
            }
        }
    }

    /// The daemon, to be ended and started.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("it runs until the end")
    }

    /// The daemon.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("it runs until the end")
    }

    /// A pod by its place in the list of kinds.
    pub fn pod(&self, at: usize) -> &Pod {
        &self.pods[at]
    }

    /// All pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The world beyond the cluster; [`add_world`](Network::add_world) comes first.
    pub fn world(&self) -> &Pod {
        self.world.as_ref().expect("this network has a world")
    }

    /// The node's own network namespace; [`add_host`](Network::add_host) comes first.
    pub fn host(&self) -> &Pod {
        self.host.as_ref().expect("this network has a host")
    }

    fn places(&self) -> impl Iterator<Item = &Pod> {
        self.pods.iter().chain(&self.world).chain(&self.host)
    }

    /// The node's own address.
    pub fn node_address(family: Family) -> IpAddr {
        parsed(NODE_ADDRESSES[usize::from(family == Family::V6)])
    }

    /// The name of the node.
    pub fn node_name() -> &'static str {
        NODE
    }

    /// Pods as ready endpoints of this node, both families.
    pub fn endpoints(&self, pods: &[usize]) -> Vec<EndpointSpec> {
        let addresses = pods.iter().flat_map(|at| self.pods[*at].addresses());
        addresses.map(|address| EndpointSpec::ready(address, NODE)).collect()
    }

    /// Changes manifests and waits until the daemon has them all in its tables.
    pub fn apply(&self, change: impl FnOnce(&Manifests)) {
        change(self.manifests());
        // Files are read in the order of their names.
        let name = format!("marker-{}", MARKER.fetch_add(1, Ordering::Relaxed));
        self.manifests().write(
            "zz-marker.yaml",
            &[json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": MARKERS},
                "spec": {"clusterIP": "10.96.255.254", "ports": [{"port": 9}]}})],
        );
        let path = millrace_api::path::service(MARKERS, &name);
        eventually("manifests in use", Duration::from_secs(20), || {
            self.daemon().client().get::<Value>(&path).is_ok()
        });
    }

    /// The manifests.
    pub fn manifests(&self) -> &Manifests {
        self.daemon().manifests()
    }

    /// Writes a service with these pods as its endpoints and waits until the daemon serves it.
    pub fn serve(&self, spec: &ServiceSpec, pods: &[usize]) {
        self.manifests().service(spec);
        self.set_endpoints(spec, pods);
    }

    /// Replaces the endpoints of a service and waits until the daemon uses them.
    pub fn set_endpoints(&self, spec: &ServiceSpec, pods: &[usize]) {
        self.apply(|manifests| manifests.endpoints_as(spec, &self.endpoints(pods)));
    }

    /// Ends everything and checks that the daemon leaves nothing, in the pods neither.
    pub fn stop(mut self) {
        let mut daemon = self.daemon.take().expect("it runs until the end");
        // With peers still connected: nobody says goodbye before a node is switched off.
        daemon.stop();
        for pod in self.places() {
            if pod.kind != Kind::Vhost && pod.interface() == "eth0" {
                assert_eq!(pod.netns().interfaces(), ["lo"], "pod {} keeps an interface", pod.name);
            }
        }
    }

    /// Address of the service in a family.
    pub fn cluster_ip(spec: &ServiceSpec, family: Family) -> IpAddr {
        let wanted = |address: &&IpAddr| address.is_ipv4() == (family == Family::V4);
        *spec.cluster_ips.iter().find(wanted).expect("a dual-stack service")
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Some(daemon) = &self.daemon
        {
            eprintln!("log of millraced:\n{}", daemon.log());
        }
    }
}

/// Has the daemon make the directories of vhost-user attachments in its own.
fn own_vhost_user_directory(config: &mut Value) {
    let socket = config["api"]["socket"].as_str().expect("the daemon has a socket");
    config["cni"]["vhostUserDirectory"] = json!(socket.replace("api.sock", "pods"));
}

fn parsed(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The machine, when nobody else tests on it.
fn machine() -> Flock<File> {
    let file = File::create(LOCK).expect("a lock can be made; the tests need root");
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error).expect("a lock can be waited for")
}

/// Waits until `condition` holds; panics with `what` after `limit`.
pub fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
