//! Several nodes, what is between them, and the world behind a router.
//!
//! ```text
//!   node-1 nic 192.0.2.1 ──── n1 ┐
//!   node-2 nic 192.0.2.2 ──── n2 ┴ br0 .254 ┐
//!                                           router ── w ── world 198.51.100.7
//!   with two subnets:   203.0.113.n ── br1 ─┘
//! ```
//! Bridges and router are one namespace, the fabric. Pods of node n are in 10.77.n.0/24 and fd00:77:0:n::/64.

mod node;
mod plan;
mod talk;

pub use node::{NIC, Node, VXLAN};
pub use plan::{Plan, Role, Way, vtep_mac};
pub use talk::{EDGES, assert_mtu, everything, hops, request, sizes};

use crate::manifest::{EndpointSpec, Manifests, ServiceSpec};
use crate::netns::Netns;
use crate::network::{Alone, eventually};
use crate::pod::{Family, Kind, Pod};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

/// The namespace of marker services, and their numbers: each is seen once.
const MARKERS: &str = "zz-markers";
static MARKER: AtomicU32 = AtomicU32::new(0);
/// How long a link or a table may take at the start.
const SOON: Duration = Duration::from_secs(30);

/// Nodes, pods and the world. Fields end in this order: guests, daemons, what is between, then the permission to be alone.
#[derive(Debug)]
pub struct Fabric {
    pods: Vec<Pod>,
    /// The node of each pod.
    homes: Vec<usize>,
    nodes: Vec<Node>,
    world: Pod,
    netns: Netns,
    manifests: Manifests,
    _room: TempDir,
    plan: Plan,
    _alone: Alone,
}

impl Fabric {
    /// Starts all nodes.
    pub fn start(plan: &Plan) -> Self {
        Self::start_with(plan, |_, _| ())
    }

    /// The same with a changed configuration; `change` is told the node's name.
    pub fn start_with(plan: &Plan, change: impl Fn(&str, &mut Value)) -> Self {
        let alone = Alone::take();
        let room = tempfile::Builder::new().prefix("mrt").tempdir().expect("a directory can be made");
        let manifests = Manifests::new(room.path().join("manifests"));
        let netns = fabric(plan);
        let count = u8::try_from(plan.roles.len()).expect("few nodes");
        let nodes: Vec<Node> = (1..=count).map(|number| Node::new(plan, number, &netns)).collect();
        for node in &nodes {
            manifests.write(&format!("node-{}.yaml", node.name), &[node.object(plan)]);
            for other in nodes.iter().filter(|other| other.number != node.number) {
                node.route_to(plan, other);
            }
        }
        let world = Pod::elsewhere("world", plan::WORLD_ADDRESSES.map(parsed));
        connect_world(&netns, &world);
        let plan = plan.clone();
        let mut fabric = Fabric {
            pods: Vec::new(),
            homes: Vec::new(),
            nodes,
            world,
            netns,
            manifests,
            _room: room,
            plan,
            _alone: alone,
        };
        for node in &mut fabric.nodes {
            if node.role() == Role::Millrace {
                node.start(&fabric.plan, &fabric.manifests, &change);
            }
        }
        fabric
    }

    /// Adds a pod to a node (0, 1, …) and waits until it is there; its place among all pods, which are called `a`, `b` and
    /// so on. On a kernel node the kind means nothing.
    pub fn add_pod(&mut self, node: usize, kind: Kind) -> usize {
        self.add_pod_with(node, kind, |_| ())
    }

    /// The same with a changed port.
    pub fn add_pod_with(&mut self, node: usize, kind: Kind, change: impl FnOnce(&mut Value)) -> usize {
        let at = u8::try_from(self.pods.len()).expect("few pods");
        let name = char::from(b'a' + at).to_string();
        let home = &self.nodes[node];
        let mut pod = Pod::new(&name, kind, 10 + at);
        pod.set_addresses(plan::in_ranges(home.number, 10 + at));
        let addresses: Vec<IpAddr> = self.families().iter().map(|family| pod.address(*family)).collect();
        self.manifests.pod(&name, &home.name, &addresses);
        match home.role() {
            Role::Kernel(way) => {
                home.attach(&pod, self.plan.mtu - if way == Way::Vxlan { self.overhead() } else { 0 });
            }
            Role::Millrace => {
                let mut port = pod.port(home.daemon().room());
                change(&mut port);
                home.daemon().add_port(&port);
                // Their MTU follows from the uplink's.
                pod.set_mtu(home.daemon().port(&name).mtu);
                pod.connect(home.daemon().room());
            }
        }
        self.pods.push(pod);
        self.homes.push(node);
        self.settle(at.into());
        usize::from(at)
    }

    /// Bytes that VXLAN puts before a packet.
    pub fn overhead(&self) -> u16 {
        if self.plan.has(Family::V4) { 50 } else { 70 }
    }

    /// Waits until a pod's link carries packets.
    fn settle(&self, at: usize) {
        let (pod, home) = (&self.pods[at], &self.nodes[self.homes[at]]);
        if home.role() != Role::Millrace {
            return;
        }
        eventually("the pod's link is up", SOON, || {
            let port = home.daemon().port(&pod.name);
            port.link == millrace_api::LinkState::Up
                && self.families().iter().all(|family| port.pod_ips.contains(&pod.address(*family)))
        });
        if self.plan.has(Family::V4) {
            eventually("the gateway answers", SOON, || {
                crate::traffic::ping(pod, crate::pod::GATEWAY_IPV4, 56)
            });
        }
        if self.plan.has(Family::V6) {
            let gateway = format!("{}%eth0", crate::pod::GATEWAY_IPV6);
            eventually("the gateway answers", SOON, || crate::traffic::ping(pod, &gateway, 56));
        }
    }

    /// The families that nodes and pods have.
    pub fn families(&self) -> &[Family] {
        &self.plan.families
    }

    /// A node by its place, from 0.
    pub fn node(&self, at: usize) -> &Node {
        &self.nodes[at]
    }

    /// The same, to end and start its daemon.
    pub fn node_mut(&mut self, at: usize) -> &mut Node {
        &mut self.nodes[at]
    }

    /// All nodes.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// A pod by its place, in the order in which they were added.
    pub fn pod(&self, at: usize) -> &Pod {
        &self.pods[at]
    }

    /// All pods.
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// The node of a pod.
    pub fn home(&self, pod: usize) -> &Node {
        &self.nodes[self.homes[pod]]
    }

    /// Somebody beyond the router.
    pub fn world(&self) -> &Pod {
        &self.world
    }

    /// Bridges and router. The end of node 1's NIC is `n1` here, the world's is `w`.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// The manifests that all daemons read.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Writes a node's object anew, changed.
    pub fn change_node(&self, at: usize, change: impl FnOnce(&mut Value)) {
        let mut object = self.nodes[at].object(&self.plan);
        change(&mut object);
        self.manifests.write(&format!("node-{}.yaml", self.nodes[at].name), &[object]);
    }

    /// Takes a node's object away.
    pub fn remove_node(&self, at: usize) {
        self.manifests.remove(&format!("node-{}.yaml", self.nodes[at].name));
    }

    /// The router knows where each node's pods are.
    pub fn route_pods(&self) {
        for node in &self.nodes {
            for (at, range) in plan::ranges(node.number).iter().enumerate() {
                if self.plan.has(Family::BOTH[at]) {
                    let hop = node.host.addresses()[at].to_string();
                    self.netns.must(&["ip", "route", "replace", range, "via", &hop]);
                }
            }
        }
    }

    /// Changes manifests and waits until all daemons have them in their tables.
    pub fn apply(&self, change: impl FnOnce(&Manifests)) {
        change(&self.manifests);
        // Files are read in the order of their names.
        let name = format!("marker-{}", MARKER.fetch_add(1, Ordering::Relaxed));
        let address = if self.plan.has(Family::V4) { "10.96.255.254" } else { "fd00:96::fffe" };
        self.manifests.write(
            "zz-marker.yaml",
            &[json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": MARKERS},
                "spec": {"clusterIP": address, "ports": [{"port": 9}]}})],
        );
        let path = millrace_api::path::service(MARKERS, &name);
        for node in self.nodes.iter().filter(|node| node.daemon.is_some()) {
            eventually("manifests in use", SOON, || node.daemon().client().get::<Value>(&path).is_ok());
        }
    }

    /// Pods as ready endpoints, each on its node.
    pub fn endpoints(&self, pods: &[usize]) -> Vec<EndpointSpec> {
        let each = |at: &usize| {
            let addresses = self.families().iter().map(|family| self.pods[*at].address(*family));
            addresses.map(|address| EndpointSpec::ready(address, &self.home(*at).name)).collect::<Vec<_>>()
        };
        pods.iter().flat_map(each).collect()
    }

    /// Writes a service, changed, with these pods as its endpoints, and waits until all daemons serve it.
    pub fn serve_with(&self, spec: &ServiceSpec, pods: &[usize], change: impl FnOnce(&mut Value)) {
        let endpoints = self.endpoints(pods);
        self.apply(|manifests| {
            manifests.service_with(spec, change);
            manifests.endpoints_as(spec, &endpoints);
        });
    }

    /// Ends all daemons and checks that they leave nothing.
    pub fn stop(mut self) {
        for node in &mut self.nodes {
            if let Some(daemon) = &mut node.daemon {
                daemon.stop();
            }
            node.daemon = None;
        }
        for (pod, home) in self.pods.iter().zip(&self.homes) {
            if self.nodes[*home].role() == Role::Millrace && pod.kind != Kind::Vhost {
                assert_eq!(pod.netns().interfaces(), ["lo"], "pod {} keeps an interface", pod.name);
            }
        }
    }
}

impl Drop for Fabric {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for node in &self.nodes {
                if let Some(daemon) = &node.daemon {
                    eprintln!("log of millraced on {}:\n{}", node.name, daemon.log());
                }
            }
        }
    }
}

/// Bridges, and a router between them.
fn fabric(plan: &Plan) -> Netns {
    let netns = Netns::new("fabric");
    node::forward(&netns);
    for subnet in 0..plan.subnets {
        let (bridge, mtu) = (format!("br{subnet}"), plan.mtu.to_string());
        netns.add_bridge(&bridge, &["mtu", &mtu]);
        netns.must(&["ip", "link", "set", &bridge, "up"]);
        for (at, address) in plan::host(subnet, plan::ROUTER).into_iter().enumerate() {
            netns.must(&["ip", "addr", "add", &format!("{address}/{}", plan::LENGTHS[at]), "dev", &bridge]);
        }
    }
    netns
}

fn connect_world(netns: &Netns, world: &Pod) {
    netns.must(&["ip", "link", "add", "w", "type", "veth", "peer", "eth0", "netns", world.netns().name()]);
    netns.must(&["ip", "link", "set", "w", "up"]);
    world.netns().must(&["ip", "link", "set", "eth0", "up"]);
    for (at, address) in world.addresses().into_iter().enumerate() {
        let (router, length) = (["198.51.100.254", "2001:db8:ffff::fe"][at], plan::LENGTHS[at]);
        netns.must(&["ip", "addr", "add", &format!("{router}/{length}"), "dev", "w"]);
        world.netns().must(&["ip", "addr", "add", &format!("{address}/{length}"), "dev", "eth0"]);
        world.netns().must(&["ip", "route", "add", "default", "via", router]);
    }
}

fn parsed(text: &str) -> IpAddr {
    text.parse().expect("an address")
}
