//! Connections that the kernel carries past the workers: they see few of the packets, and all else is as ever.
//!
//! ```text
//!   node-1: a, c (veth)    node-2: b (veth)
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{Flow, FlowList, WorkerList};
use millrace_tests::{
    Conversation, Daemon, Echo, Fabric, Family, Kind, Load, Plan, Role, ServiceSpec, UdpClient, datagram,
    eventually, exchange,
};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const BULK: u16 = 5201;
const SOON: Duration = Duration::from_secs(5);
/// Bytes that are exchanged, to and fro.
const MUCH: usize = 128 << 20;

/// Two nodes with pods.
fn fabric(mode: &str) -> Fabric {
    let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |_, config| {
        config["routing"] = json!({"mode": mode});
    });
    for node in [0, 1, 0] {
        fabric.add_pod(node, Kind::Veth);
    }
    fabric
}

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at_service(family: Family) -> SocketAddr {
    SocketAddr::new(service().cluster_ips[usize::from(family == Family::V6)], PORT)
}

/// Frames that workers have received.
fn seen(daemon: &Daemon) -> u64 {
    let workers: WorkerList = daemon.client().get("/v1/workers").unwrap();
    workers.workers.iter().map(|worker| worker.counters["frames"]).sum()
}

/// Frames and bytes that a pod has sent, in the port's counters.
fn sent(daemon: &Daemon, pod: &str) -> (u64, u64) {
    let port = daemon.port(pod);
    (port.counts.rx_frames, port.counts.rx_bytes)
}

#[test]
fn workers_see_little_of_much_between_pods_of_one_node_and_of_two() {
    for mode in ["native", "vxlan"] {
        let fabric = fabric(mode);
        let _servers: Vec<_> = fabric.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
        fabric.serve_with(&service(), &[1], |_| ());
        for family in Family::BOTH {
            let (b, c) = (fabric.pod(1).at(family, TARGET), fabric.pod(2).at(family, TARGET));
            for (what, to) in [("other node", b), ("same node", c), ("service", at_service(family))] {
                let daemon = fabric.node(0).daemon();
                let (seen_before, sent_before) = (seen(daemon), sent(daemon, "a"));
                exchange(fabric.pod(0), to, MUCH).unwrap();
                let (seen, (frames, bytes)) = (seen(daemon) - seen_before, sent(daemon, "a"));
                let (frames, bytes) = (frames - sent_before.0, bytes - sent_before.1);
                assert!(bytes >= MUCH as u64, "{mode} {what}: {bytes} bytes are counted");
                assert!(seen < frames / 2, "{mode} {what}: {seen} seen, of {frames} from the pod alone");
            }
        }
        fabric.stop();
    }
}

#[test]
fn a_connection_outlives_its_endpoints_service_and_its_end_is_seen() {
    let fabric = fabric("vxlan");
    let _servers: Vec<_> = fabric.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    for family in Family::BOTH {
        fabric.serve_with(&service(), &[1], |_| ());
        let mut talk = Conversation::open(fabric.pod(0), at_service(family)).unwrap();
        (0..100).for_each(|_| talk.say("a word").unwrap());
        fabric.serve_with(&service(), &[2], |_| ());
        (0..100).for_each(|_| talk.say("a word").unwrap());
        let own = talk.own_address();
        let states = || {
            let list: FlowList = fabric.node(0).daemon().client().get("/v1/flows").unwrap();
            let is_own = |flow: &Flow| SocketAddr::new(flow.source, flow.source_port) == own;
            let of_talk = list.flows.into_iter().filter(is_own);
            of_talk.map(|flow| flow.state).collect::<Vec<_>>()
        };
        assert_eq!(states(), ["established"]);
        drop(talk);
        eventually("the connection is over", SOON, || states().iter().all(|state| state == "time-wait"));
    }
    fabric.stop();
}

#[test]
fn datagrams_follow_their_service_at_once() {
    let fabric = fabric("native");
    let _servers: Vec<_> = fabric.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    for family in Family::BOTH {
        fabric.serve_with(&service(), &[1], |_| ());
        let client = UdpClient::open(fabric.pod(0), at_service(family)).unwrap();
        for server in [2, 1, 2] {
            fabric.serve_with(&service(), &[server], |_| ());
            let name = &fabric.pod(server).name;
            (0..64).for_each(|_| assert_eq!(&client.ask().unwrap().name, name));
        }
        for length in [1, 1472, 9000, 40_000] {
            (0..16).for_each(|_| {
                datagram(fabric.pod(0), fabric.pod(2).at(family, TARGET), length).unwrap();
            });
        }
    }
    fabric.stop();
}

/// The lease of what was carried does not outlive what it was made from.
#[test]
fn what_has_no_way_any_more_stops_and_goes_on_when_it_has() {
    for mode in ["native", "vxlan"] {
        let fabric = fabric(mode);
        for family in Family::BOTH {
            let load = [Load::tcp(fabric.pod(0), fabric.pod(1), family, BULK)];
            let rate = |time| Load::rates(&load, Duration::from_millis(time))[0];
            assert!(rate(300) > 1e7, "{mode} {family:?}");
            fabric.remove_node(1);
            eventually("nothing arrives", SOON, || rate(200) == 0.0);
            fabric.change_node(1, |_| ());
            eventually("it goes on", SOON * 4, || rate(200) > 1e7);
        }
        fabric.stop();
    }
}

#[test]
fn workers_see_everything_if_they_are_to() {
    let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |_, config| {
        config["shortcuts"] = json!(false);
    });
    for node in [0, 1] {
        fabric.add_pod(node, Kind::Veth);
    }
    let _server = Echo::start(fabric.pod(1), TARGET);
    let daemon = fabric.node(0).daemon();
    let (seen_before, (before, _)) = (seen(daemon), sent(daemon, "a"));
    exchange(fabric.pod(0), fabric.pod(1).at(Family::V4, TARGET), MUCH / 16).unwrap();
    let (frames, _) = sent(daemon, "a");
    assert!(seen(daemon) - seen_before >= frames - before);
    fabric.stop();
}
