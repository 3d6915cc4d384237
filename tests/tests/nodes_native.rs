//! Pods of several nodes whose packets cross the network as they are.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Capture, Echo, Fabric, Family, Kind, NIC, Plan, Role, assert_mtu, datagram, everything, exchange, hops,
    serve_sctp,
};
use serde_json::json;

const PORT: u16 = 7007;
const TWO: [Role; 2] = [Role::Millrace; 2];

#[test]
fn pods_of_three_nodes_on_one_bridge_reach_each_other_natively() {
    let mut fabric = Fabric::start(&Plan::bridge(&[Role::Millrace; 3]));
    for (node, kind) in [Kind::Veth, Kind::AfXdp, Kind::Veth].into_iter().enumerate() {
        fabric.add_pod(node, kind);
    }
    let _servers: Vec<_> =
        fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect();
    let wire = Capture::start(fabric.netns(), "n1", "udp port 4789");
    for (from, to) in [(0, 1), (1, 2), (2, 0)] {
        let (from, to) = (fabric.pod(from), fabric.pod(to));
        for family in Family::BOTH {
            everything(from, to, family, PORT);
            assert_eq!(hops(from, to.address(family)), 2, "one for each node");
        }
    }
    assert_eq!(wire.lines(), Vec::<String>::new(), "the nodes are neighbours: no tunnel is needed");
    for node in fabric.nodes() {
        let uplink = node.daemon().port(NIC);
        assert_eq!(uplink.mtu, 1500);
    }
    fabric.stop();
}

#[test]
fn pods_of_every_kind_reach_pods_of_another_node() {
    let mut fabric = Fabric::start(&Plan::bridge(&TWO));
    for kind in Kind::ALL {
        fabric.add_pod(0, kind);
    }
    let far = fabric.add_pod(1, Kind::Vhost);
    let _servers: Vec<_> = fabric.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for near in 0..far {
        for family in Family::BOTH {
            for (from, to) in [(near, far), (far, near)] {
                let (from, to) = (fabric.pod(from), fabric.pod(to));
                exchange(from, to.at(family, PORT), 2 << 20)
                    .unwrap_or_else(|error| panic!("{:?} → {:?} {family:?}: {error}", from.kind, to.kind));
                for length in [1, 1400, 9000] {
                    datagram(from, to.at(family, PORT), length).unwrap_or_else(|error| {
                        panic!("{:?} → {:?} {family:?}: {error}", from.kind, to.kind)
                    });
                }
            }
        }
    }
    fabric.stop();
}

#[test]
fn a_router_that_knows_the_pods_carries_them_natively() {
    let mut fabric =
        Fabric::start_with(&Plan::routed(&TWO), |_, config| config["routing"] = json!({"mode": "native"}));
    fabric.route_pods();
    for node in 0..2 {
        fabric.add_pod(node, Kind::Tap);
    }
    let (a, b) = (fabric.pod(0), fabric.pod(1));
    let _servers: Vec<_> =
        fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect();
    let wire = Capture::start(fabric.netns(), "n1", "udp port 4789");
    for family in Family::BOTH {
        everything(a, b, family, PORT);
        everything(b, a, family, PORT);
        assert_eq!(hops(a, b.address(family)), 3, "the nodes and the router");
        assert_mtu(a, b.address(family), 1500);
    }
    assert_eq!(wire.lines(), Vec::<String>::new());
    fabric.stop();
}

#[test]
fn nodes_of_one_family_do_without_the_other() {
    for family in Family::BOTH {
        for mode in ["native", "vxlan"] {
            let plan = Plan::bridge(&TWO).only(family);
            let mut fabric = Fabric::start_with(&plan, |_, config| config["routing"] = json!({"mode": mode}));
            for node in 0..2 {
                fabric.add_pod(node, Kind::Veth);
            }
            let (a, b) = (fabric.pod(0), fabric.pod(1));
            let _servers: Vec<_> =
                fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect();
            everything(a, b, family, PORT);
            let overhead = if mode == "vxlan" { fabric.overhead() } else { 0 };
            assert_mtu(b, a.address(family), 1500 - overhead);
            fabric.stop();
        }
    }
}
