//! AF_XDP pods and uplinks with MTUs above what one chunk of the packet memory holds. Needs Linux 6.6.
//!
//! ```text
//!   a AF_XDP 9000 ─┬─ b AF_XDP 9000        pods ── node-1 ══ bridge, 9000 ══ node-2 ── pods
//!                  ├─ c AF_XDP 1500                 └──────── VXLAN, 8950 ────────┘
//!                  └─ d TAP 9000
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Attached, Echo, Fabric, Family, Kind, NIC, Network, Plan, Pod, Role, ServiceSpec, assert_mtu, datagram,
    eventually, exchange,
};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 7007;
const TWO: [Role; 2] = [Role::Millrace; 2];
/// Payloads of datagrams around the edges of chunks (1792 bytes of a frame in each), of MTUs, and of what has to be cut.
const LENGTHS: [usize; 16] =
    [0, 1, 1472, 1473, 1732, 1750, 1751, 3542, 3543, 5334, 7126, 8900, 8922, 8972, 8973, 30_000];

/// Packets of up to `mtu` bytes pass whole, larger ones do not; TCP both ways and datagrams of all lengths arrive.
fn carries(from: &Pod, to: &Pod, family: Family, mtu: u16) {
    let at = to.at(family, PORT);
    assert_mtu(from, at.ip(), mtu);
    exchange(from, at, 8 << 20).unwrap_or_else(|error| panic!("{} → {} {at}: {error}", from.name, to.name));
    for length in LENGTHS {
        // The first one too long may be the one that finds out the path's MTU.
        let found = (0..4).find_map(|_| datagram(from, at, length).ok());
        assert!(found.is_some(), "{} → {} {at}: {length} bytes are lost", from.name, to.name);
    }
}

fn servers(pods: &[Pod]) -> Vec<Echo> {
    pods.iter().map(|pod| Echo::start(pod, PORT)).collect()
}

#[test]
fn pods_of_one_node_with_long_and_short_packets_reach_each_other() {
    const PODS: [(Kind, u16); 4] =
        [(Kind::AfXdp, 9000), (Kind::AfXdp, 9000), (Kind::AfXdp, 1500), (Kind::Tap, 9000)];
    let mut network = Network::start(&[]);
    for (kind, mtu) in PODS {
        network.add_pod_of(kind, mtu);
    }
    network.settle();
    let _servers = servers(network.pods());
    for family in Family::BOTH {
        for (from, (_, out)) in network.pods().iter().zip(PODS) {
            for (to, (_, back)) in network.pods().iter().zip(PODS).filter(|(to, _)| to.name != from.name) {
                let mtu = out.min(back);
                carries(from, to, family, mtu);
                if mtu < out {
                    assert_eq!(from.known_mtu(to.address(family)), Some(mtu), "{} → {}", from.name, to.name);
                }
            }
        }
    }
    let spec = ServiceSpec::numbered("one", 10, 80, PORT);
    for endpoint in [1, 2, 3] {
        network.serve(&spec, &[endpoint]);
        for family in Family::BOTH {
            let service = SocketAddr::new(Network::cluster_ip(&spec, family), 80);
            exchange(network.pod(0), service, 4 << 20).unwrap();
            assert!((0..4).any(|_| datagram(network.pod(0), service, 8900).is_ok()), "{endpoint} {family:?}");
        }
    }
    assert_eq!(network.daemon().drops("rx_malformed"), 0);
    network.stop();
}

#[test]
fn pods_of_two_nodes_have_what_the_uplinks_leave_them() {
    for (mode, mtu) in [("vxlan", 8950), ("native", 9000)] {
        let plan = Plan::bridge(&TWO).mtu(9000);
        let mut fabric = Fabric::start_with(&plan, |_, config| config["routing"] = json!({"mode": mode}));
        for node in 0..2 {
            fabric.add_pod(node, Kind::AfXdp);
        }
        fabric.add_pod_with(1, Kind::AfXdp, |port| port["mtu"] = json!(1500));
        fabric.add_pod(1, Kind::Tap);
        let _servers = servers(fabric.pods());
        let pod = |at| fabric.pod(at);
        assert_eq!([0, 1, 2, 3].map(|at| pod(at).mtu()), [mtu, mtu, 1500, mtu], "{mode}");
        for family in Family::BOTH {
            for (from, to, mtu) in
                [(0, 1, mtu), (1, 0, mtu), (0, 2, 1500), (2, 0, 1500), (0, 3, mtu), (3, 0, mtu)]
            {
                carries(pod(from), pod(to), family, mtu);
            }
            assert_eq!(pod(0).known_mtu(pod(2).address(family)), Some(1500), "{mode} {family:?}");
        }
        for node in fabric.nodes() {
            let details = node.daemon().port(NIC).details;
            assert_eq!(details.get("largest-mtu").map(String::as_str), Some("30446"), "{details:?}");
            assert_eq!(node.daemon().drops("rx_malformed"), 0, "{mode}");
        }
        fabric.stop();
    }
}

#[test]
fn an_uplink_whose_mtu_grows_takes_what_it_allows() {
    let mut fabric = Fabric::start_with(&Plan::bridge(&TWO), |_, config| {
        config["routing"] = json!({"mode": "native"});
        config["mtu"] = json!(9000);
    });
    for node in 0..2 {
        fabric.add_pod(node, Kind::AfXdp);
    }
    let _servers = servers(fabric.pods());
    let (a, b) = (fabric.pod(0), fabric.pod(1));
    for family in Family::BOTH {
        carries(a, b, family, 1500);
    }
    for (number, node) in fabric.nodes().iter().enumerate() {
        fabric.netns().must(&["ip", "link", "set", &format!("n{}", number + 1), "mtu", "9000"]);
        node.netns().must(&["ip", "link", "set", NIC, "mtu", "9000"]);
    }
    fabric.netns().must(&["ip", "link", "set", "br0", "mtu", "9000"]);
    eventually("the uplinks know", Duration::from_secs(5), || {
        fabric.nodes().iter().all(|node| node.daemon().port(NIC).mtu == 9000)
    });
    for pod in [a, b] {
        for family in ["-4", "-6"] {
            pod.netns().must(&["ip", family, "route", "flush", "cache"]);
        }
    }
    for family in Family::BOTH {
        carries(a, b, family, 9000);
        carries(b, a, family, 9000);
    }
    fabric.stop();
}

#[test]
fn containers_keep_long_packets_over_the_end_of_the_daemon() {
    let mut network = Network::for_plugin(|config| config["mtu"] = json!(9000));
    let pods = ["a", "b"].map(|name| Attached::add(network.daemon(), name, Kind::AfXdp));
    let [a, b] = [&pods[0].pod, &pods[1].pod];
    assert_eq!(a.mtu(), 9000);
    let _server = Echo::start(b, PORT);
    for family in Family::BOTH {
        carries(a, b, family, 9000);
    }
    network.daemon_mut().kill();
    network.daemon_mut().respawn();
    network.daemon_mut().wait_ready();
    for family in Family::BOTH {
        eventually("packets pass again", Duration::from_secs(10), || {
            datagram(a, b.at(family, PORT), 100).is_ok()
        });
        carries(a, b, family, 9000);
    }
    pods.into_iter().for_each(Attached::delete);
    network.stop();
}
