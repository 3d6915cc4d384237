//! Pods of several nodes whose packets cross the network in tunnels.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Capture, Conversation, Echo, Fabric, Family, Kind, Plan, Protocol, Role, assert_mtu, datagram,
    everything, exchange, hops, request, serve_sctp,
};
use serde_json::json;
use std::collections::BTreeSet;

const PORT: u16 = 7007;
const TWO: [Role; 2] = [Role::Millrace; 2];

fn served(fabric: &Fabric) -> Vec<impl Sized + use<>> {
    fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect()
}

/// The outer source port of each line of a capture.
fn source_ports(lines: &[String]) -> BTreeSet<u16> {
    let port = |line: &String| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let arrow = words.iter().position(|word| *word == ">").filter(|at| words[at + 1].contains(".4789"));
        let arrow = arrow.or_else(|| words.iter().rposition(|word| *word == ">"))?;
        words[arrow - 1].rsplit('.').next()?.parse().ok()
    };
    lines.iter().filter_map(port).collect()
}

#[test]
fn pods_reach_each_other_through_a_tunnel_on_one_bridge() {
    let mut fabric =
        Fabric::start_with(&Plan::bridge(&TWO), |_, config| config["routing"] = json!({"mode": "vxlan"}));
    let (a, b) = (fabric.add_pod(0, Kind::Veth), fabric.add_pod(1, Kind::AfXdp));
    let (a, b) = (fabric.pod(a), fabric.pod(b));
    let _servers = served(&fabric);
    let naked = Capture::start(fabric.netns(), "n1", "net 10.77.0.0/16 or net fd00:77::/48");
    for family in Family::BOTH {
        everything(a, b, family, PORT);
        everything(b, a, family, PORT);
        assert_eq!(hops(a, b.address(family)), 2);
        assert_mtu(a, b.address(family), 1450);
    }
    assert_eq!(naked.lines(), Vec::<String>::new(), "pods' packets are seen in tunnels only");
    // What a tunnel's outside looks like.
    let wire = Capture::start(fabric.netns(), "n2", "udp dst port 4789 and src host 192.0.2.1");
    let mut talks: Vec<Conversation> =
        (0..6).map(|_| Conversation::open(a, b.at(Family::V4, PORT)).unwrap()).collect();
    for _ in 0..3 {
        talks.iter_mut().for_each(|talk| talk.say("a word").unwrap());
    }
    let lines = wire.lines();
    assert!(lines.len() >= 18, "{lines:#?}");
    for line in &lines {
        assert!(line.contains("ttl 64") && line.contains("DF") && line.contains("vni 77"), "{line}");
    }
    let ports = source_ports(&lines);
    assert!((4..=6).contains(&ports.len()), "a flow has one source port, and others others: {ports:?}");
    fabric.stop();
}

#[test]
fn between_subnets_a_tunnel_is_chosen_and_on_one_subnet_none() {
    // Nodes 1 and 3 share a subnet.
    let mut fabric = Fabric::start(&Plan::routed(&[Role::Millrace; 3]));
    for node in 0..3 {
        fabric.add_pod(node, Kind::Veth);
    }
    let [a, b, c] = [0, 1, 2].map(|at| fabric.pod(at));
    let _servers = served(&fabric);
    let wire = Capture::start(fabric.netns(), "n1", "udp port 4789");
    for family in Family::BOTH {
        everything(a, c, family, PORT);
        assert_eq!(hops(a, c.address(family)), 2);
    }
    assert_eq!(wire.lines(), Vec::<String>::new(), "neighbours need no tunnel");
    let naked = Capture::start(fabric.netns(), "n2", "net 10.77.0.0/16 or net fd00:77::/48");
    for family in Family::BOTH {
        everything(a, b, family, PORT);
        everything(b, c, family, PORT);
        assert_eq!(hops(a, b.address(family)), 2, "the router between is not seen through a tunnel");
        assert_mtu(a, b.address(family), 1450);
    }
    assert_eq!(naked.lines(), Vec::<String>::new());
    fabric.stop();
}

#[test]
fn another_vni_port_and_checksum_are_used_where_configured() {
    let vxlan = json!({"vni": 1234, "port": 8472, "checksum": "on"});
    let mut fabric = Fabric::start_with(&Plan::bridge(&TWO), |_, config| {
        config["routing"] = json!({"mode": "vxlan", "vxlan": vxlan});
    });
    for node in 0..2 {
        fabric.add_pod(node, Kind::Tap);
    }
    let (a, b) = (fabric.pod(0), fabric.pod(1));
    let _servers = served(&fabric);
    let wire = Capture::start(fabric.netns(), "n2", "udp port 8472 and udp[6:2] != 0");
    for family in Family::BOTH {
        exchange(a, b.at(family, PORT), 1 << 20).unwrap();
        datagram(b, a.at(family, PORT), 20_000).unwrap();
    }
    let lines = wire.lines();
    assert!(lines.iter().any(|line| line.contains("instance 1234")), "{:?}", lines.first());
    assert!(!lines.iter().any(|line| line.contains("bad udp cksum")), "a wrong checksum");
    fabric.stop();
}

#[test]
fn nodes_and_remote_pods_reach_each_other_in_every_mode() {
    for mode in ["native", "vxlan"] {
        let mut fabric =
            Fabric::start_with(&Plan::bridge(&TWO), |_, config| config["routing"] = json!({"mode": mode}));
        let pod = fabric.add_pod(1, Kind::Tap);
        let (host, pod) = (&fabric.node(0).host, fabric.pod(pod));
        let _servers: Vec<_> =
            [host, pod].map(|place| (Echo::start(place, PORT), serve_sctp(place, PORT))).into();
        for family in Family::BOTH {
            for (from, to) in [(host, pod), (pod, host)] {
                request(from, to.at(family, PORT), &Protocol::ALL, &to.name, from.address(family));
                exchange(from, to.at(family, PORT), 2 << 20)
                    .unwrap_or_else(|error| panic!("{mode} {} → {} {family:?}: {error}", from.name, to.name));
                for length in [1, 1400, 1473, 9000] {
                    let found = (0..3).find_map(|_| datagram(from, to.at(family, PORT), length).ok());
                    assert!(found.is_some(), "{mode} {} → {} {family:?}: {length} bytes", from.name, to.name);
                }
            }
        }
        fabric.stop();
    }
}
