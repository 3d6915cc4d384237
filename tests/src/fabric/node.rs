//! One node of a fabric.

use super::plan::{self, Plan, Role, Way};
use crate::daemon::{Daemon, Seat};
use crate::manifest::Manifests;
use crate::netns::Netns;
use crate::pod::{Family, Pod};
use serde_json::{Value, json};
use std::net::IpAddr;

/// The NIC of each node.
pub const NIC: &str = "nic";
/// The gateway of a kernel node's pods.
const GATEWAYS: [&str; 2] = ["169.254.1.1", "fe80::1"];
/// The kernel's VXLAN device.
pub const VXLAN: &str = "vxlan0";

/// A node: a network namespace with a NIC, and somebody who carries packets of its pods.
#[derive(Debug)]
pub struct Node {
    /// Its name in the cluster.
    pub name: String,
    /// The place of the node's own processes.
    pub host: Pod,
    pub(super) daemon: Option<Daemon>,
    pub(super) number: u8,
    role: Role,
    netns: Netns,
}

impl Node {
    /// The node with its NIC, whose other end is `n1`, `n2` and so on in the fabric. No daemon runs yet.
    pub(super) fn new(plan: &Plan, number: u8, fabric: &Netns) -> Self {
        let role = plan.roles[usize::from(number) - 1];
        let name = format!("node-{number}");
        let netns = Netns::new(&name);
        let host = Pod::host_called(&name, &netns, plan::host(plan.subnet(number - 1), number));
        let node = Node { name, host, daemon: None, number, role, netns };
        node.plug(plan, fabric);
        node.address(plan);
        node
    }

    fn plug(&self, plan: &Plan, fabric: &Netns) {
        let far = format!("n{}", self.number);
        let (mtu, queues) = (plan.mtu.to_string(), plan.queues.to_string());
        let queued = ["numtxqueues", &queues, "numrxqueues", &queues];
        let add =
            [&["ip", "link", "add", &far, "mtu", &mtu], &queued[..], &["type", "veth", "peer", NIC]].concat();
        fabric.must(&[&add[..], &["mtu", &mtu], &queued[..], &["netns", self.netns.name()]].concat());
        let bridge = format!("br{}", plan.subnet(self.number - 1));
        fabric.must(&["ip", "link", "set", &far, "master", &bridge, "up"]);
        self.netns.must(&["ip", "link", "set", NIC, "up"]);
    }

    /// Addresses and default routes; of a kernel node also what makes it a router.
    fn address(&self, plan: &Plan) {
        let router = plan::host(plan.subnet(self.number - 1), plan::ROUTER);
        for (at, family) in Family::BOTH.into_iter().enumerate() {
            if plan.has(family) {
                let own = format!("{}/{}", self.host.address(family), plan::LENGTHS[at]);
                self.netns.must(&["ip", "addr", "add", &own, "dev", NIC]);
                self.netns.must(&["ip", "route", "add", "default", "via", &router[at].to_string()]);
            }
        }
        if let Role::Kernel(_) = self.role {
            forward(&self.netns);
        }
    }

    /// Starts its daemon.
    pub(super) fn start(&mut self, plan: &Plan, manifests: &Manifests, change: &dyn Fn(&str, &mut Value)) {
        let seat = Seat {
            room: Seat::room(),
            netns: self.netns.borrowed(),
            node: self.name.clone(),
            manifests: Manifests::new(manifests.directory().to_path_buf()),
        };
        let vhost_user = seat.room.path().join("pods");
        let ranges: Vec<&str> = Family::BOTH
            .iter()
            .zip(plan::POD_RANGES)
            .filter(|(family, _)| plan.has(**family))
            .map(|(_, range)| range)
            .collect();
        let mut daemon = Daemon::spawn_at(seat, |config| {
            config["cluster"]["podCIDRs"] = json!(ranges);
            config["uplinks"] = json!([{"interface": NIC}]);
            // What a daemon needs, as many share two cores.
            config["memory"] = json!({"mebibytes": 192});
            config["cni"] = json!({"vhostUserDirectory": vhost_user});
            change(&self.name, config);
        });
        daemon.wait_ready();
        self.daemon = Some(daemon);
    }

    /// Its daemon.
    pub fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().expect("a daemon runs on this node")
    }

    /// Its daemon, to be ended and started.
    pub fn daemon_mut(&mut self) -> &mut Daemon {
        self.daemon.as_mut().expect("a daemon runs on this node")
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Who carries its packets.
    pub fn role(&self) -> Role {
        self.role
    }

    /// The node's own address.
    pub fn at(&self, family: Family) -> IpAddr {
        self.host.address(family)
    }

    /// The MAC address of its NIC.
    pub fn mac(&self) -> String {
        self.netns.must(&["cat", &format!("/sys/class/net/{NIC}/address")]).trim().to_owned()
    }

    /// Its object.
    pub(super) fn object(&self, plan: &Plan) -> Value {
        let wanted = |at: &usize| plan.has(Family::BOTH[*at]);
        let ranges = plan::ranges(self.number);
        let ranges: Vec<&String> = (0..2).filter(wanted).map(|at| &ranges[at]).collect();
        let addresses: Vec<Value> = (0..2)
            .filter(wanted)
            .map(|at| json!({"type": "InternalIP", "address": self.host.addresses()[at]}))
            .collect();
        json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": self.name, "labels": {"topology.kubernetes.io/zone": "zone-a"}},
            "spec": {"podCIDR": ranges[0], "podCIDRs": ranges},
            "status": {"addresses": addresses}})
    }

    /// A kernel node's routes to another node's pods.
    pub(super) fn route_to(&self, plan: &Plan, other: &Node) {
        match self.role {
            Role::Millrace => (),
            Role::Kernel(Way::Native) => self.route_natively(plan, other),
            Role::Kernel(Way::Vxlan) => self.route_through_tunnel(plan, other),
        }
    }

    fn route_natively(&self, plan: &Plan, other: &Node) {
        let is_near = plan.subnet(self.number - 1) == plan.subnet(other.number - 1);
        let router = plan::host(plan.subnet(self.number - 1), plan::ROUTER);
        for (at, range) in plan::ranges(other.number).iter().enumerate() {
            if plan.has(Family::BOTH[at]) {
                let hop = if is_near { other.host.addresses()[at] } else { router[at] };
                self.netns.must(&["ip", "route", "replace", range, "via", &hop.to_string()]);
            }
        }
    }

    fn route_through_tunnel(&self, plan: &Plan, other: &Node) {
        let family = plan.families[0];
        if !self.netns.interfaces().iter().any(|name| name == VXLAN) {
            let own = self.at(family);
            let device =
                ["ip", "link", "add", VXLAN, "address", &plan::vtep_mac(own), "type", "vxlan", "id", "77"];
            let local = own.to_string();
            self.netns.must(
                &[&device[..], &["dstport", "4789", "nolearning", "local", &local, "dev", NIC]].concat(),
            );
            self.netns.must(&["ip", "link", "set", VXLAN, "up"]);
        }
        let mac = plan::vtep_mac(other.at(family));
        self.netns.must(&[
            "bridge",
            "fdb",
            "append",
            &mac,
            "dev",
            VXLAN,
            "dst",
            &other.at(family).to_string(),
        ]);
        let inside = plan::in_ranges(other.number, 0);
        for (at, range) in plan::ranges(other.number).iter().enumerate() {
            if plan.has(Family::BOTH[at]) {
                let hop = inside[at].to_string();
                self.netns.must(&[
                    "ip",
                    "neigh",
                    "replace",
                    &hop,
                    "lladdr",
                    &mac,
                    "dev",
                    VXLAN,
                    "nud",
                    "permanent",
                ]);
                self.netns.must(&["ip", "route", "replace", range, "via", &hop, "dev", VXLAN, "onlink"]);
            }
        }
    }

    /// Gives a kernel node's pod its interface.
    pub(super) fn attach(&self, pod: &Pod, mtu: u16) {
        let (near, mtu) = (format!("p-{}", pod.name), mtu.to_string());
        let (namespace, netns) = (pod.netns().name(), &self.netns);
        netns.must(&[
            "ip", "link", "add", &near, "mtu", &mtu, "type", "veth", "peer", "eth0", "mtu", &mtu, "netns",
            namespace,
        ]);
        netns.must(&["ip", "link", "set", &near, "up"]);
        pod.netns().must(&["ip", "link", "set", "eth0", "up"]);
        for (at, gateway) in GATEWAYS.iter().enumerate() {
            let length = [32, 128][at];
            let own = format!("{}/{length}", pod.addresses()[at]);
            netns.must(&["ip", "addr", "add", &format!("{gateway}/{}", [32, 64][at]), "dev", &near]);
            netns.must(&["ip", "route", "add", &own, "dev", &near]);
            pod.netns().must(&["ip", "addr", "add", &own, "dev", "eth0"]);
            pod.netns().must(&["ip", "route", "add", "default", "via", gateway, "dev", "eth0", "onlink"]);
        }
    }
}

/// Makes a namespace a router of both families.
pub(super) fn forward(netns: &Netns) {
    netns.must(&[
        "sysctl",
        "-qw",
        "net.ipv4.ip_forward=1",
        "net.ipv6.conf.all.forwarding=1",
        "net.ipv4.conf.all.rp_filter=0",
        "net.ipv4.conf.default.rp_filter=0",
        // As many errors as there are reasons for them.
        "net.ipv4.icmp_ratelimit=0",
        "net.ipv6.icmp.ratelimit=0",
    ]);
}
