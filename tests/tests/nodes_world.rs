//! Pods of several nodes and the world beyond the cluster.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Capture, Conversation, Echo, Fabric, Family, Kind, Plan, Pod, Protocol, Role, ask, assert_refused,
    datagram, exchange, ping, request, serve_sctp,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::ops::RangeInclusive;

const PORT: u16 = 7007;
const TWO: [Role; 2] = [Role::Millrace; 2];
/// The default of `services.masqueradePorts`.
const MASQUERADE: RangeInclusive<u16> = 49_152..=65_535;

fn started(change: impl Fn(&str, &mut Value)) -> Fabric {
    let mut fabric = Fabric::start_with(&Plan::bridge(&TWO), change);
    for (node, kind) in [(0, Kind::Veth), (0, Kind::AfXdp), (1, Kind::Tap)] {
        fabric.add_pod(node, kind);
    }
    fabric
}

#[test]
fn pods_reach_the_world_by_every_protocol_as_their_node() {
    for mode in ["auto", "vxlan"] {
        let fabric = started(|_, config| config["routing"] = json!({"mode": mode}));
        let world = fabric.world();
        let _servers = (Echo::start(world, PORT), serve_sctp(world, PORT));
        let naked = Capture::start(fabric.netns(), "w", "net 10.77.0.0/16 or net fd00:77::/48");
        for (at, pod) in fabric.pods().iter().enumerate() {
            for family in Family::BOTH {
                let node = fabric.home(at).at(family);
                for protocol in Protocol::ALL {
                    let answer = ask(pod, protocol, world.at(family, PORT)).unwrap_or_else(|error| {
                        panic!("{} → world, {protocol:?} {family:?}: {error}", pod.name)
                    });
                    assert_eq!((answer.name.as_str(), answer.client.ip()), ("world", node), "{protocol:?}");
                    assert!(MASQUERADE.contains(&answer.client.port()), "{}", answer.client);
                }
                exchange(pod, world.at(family, PORT), 4 << 20)
                    .unwrap_or_else(|error| panic!("{} → world {family:?}: {error}", pod.name));
                for length in [1, 1422, 1423, 1450, 1452, 1472, 1473, 4000, 20_000] {
                    let found = (0..3).find_map(|_| datagram(pod, world.at(family, PORT), length).ok());
                    assert!(found.is_some(), "{} → world {family:?}: {length} bytes", pod.name);
                }
                for size in [56, 1400, 4000] {
                    assert!(
                        ping(pod, &world.address(family).to_string(), size),
                        "{} {family:?} {size}",
                        pod.name
                    );
                }
            }
        }
        assert_eq!(naked.lines(), Vec::<String>::new(), "no pod's own address is seen in the world");
        fabric.stop();
    }
}

#[test]
fn a_crowd_of_connections_and_pings_are_told_apart() {
    let fabric = started(|_, _| ());
    let world = fabric.world();
    let _server = Echo::start(world, PORT);
    for family in Family::BOTH {
        let mut talks: Vec<Conversation> = (0..60)
            .map(|at| Conversation::open(fabric.pod(at % 2), world.at(family, PORT)).unwrap())
            .collect();
        let sources: BTreeSet<_> = talks.iter().map(|talk| talk.seen).collect();
        assert_eq!(sources.len(), talks.len(), "each has a source port of its own");
        talks.iter_mut().for_each(|talk| talk.say("mine alone").unwrap());
        // Pings of two pods at once, with identifiers that may be the same.
        let at = world.address(family).to_string();
        let outputs = std::thread::scope(|scope| {
            let ping = |pod: &'static str, at: usize, to: String| {
                let netns = fabric.pod(at).netns();
                let _ = pod;
                netns.run(&["ping", "-n", "-e", "7", "-c10", "-i0.02", "-W1", &to])
            };
            let handles = [0, 1].map(|pod| {
                let to = at.clone();
                scope.spawn(move || ping("", pod, to))
            });
            handles.map(|handle| handle.join().unwrap())
        });
        for output in outputs {
            assert!(output.stdout.contains(" 10 received"), "{}", output.stdout);
        }
    }
    fabric.stop();
}

#[test]
fn errors_of_the_world_find_the_pod() {
    let fabric = started(|_, _| ());
    let world = fabric.world();
    for pod in fabric.pods() {
        for family in Family::BOTH {
            assert_refused(pod, Protocol::Udp, world.at(family, PORT));
            assert_refused(pod, Protocol::Tcp, world.at(family, PORT));
            // A router's word: nobody has the address.
            let at = world.address(family).to_string();
            let output = pod.netns().run(&["ping", "-n", "-c1", "-W1", "-t2", &at]);
            let said = output.stdout.to_lowercase();
            let exceeded = said.contains("time to live exceeded") || said.contains("hop limit");
            assert!(exceeded, "{} {family:?}: {said}", pod.name);
        }
    }
    fabric.netns().must(&["ip", "route", "add", "unreachable", "198.18.0.0/16"]);
    let lost = ask(fabric.pod(0), Protocol::Tcp, "198.18.0.1:7".parse().unwrap()).unwrap_err();
    assert_eq!(lost.kind(), std::io::ErrorKind::HostUnreachable, "{lost}");
    fabric.stop();
}

#[test]
fn exceptions_and_other_sources_keep_their_addresses() {
    let range = ["198.51.100.0/24", "2001:db8:ffff::/64"];
    for masquerade in
        [json!({"exceptions": range}), json!({"outgoing": false}), json!({"sources": ["10.99.0.0/16"]})]
    {
        let fabric = started(|_, config| config["masquerade"] = masquerade.clone());
        fabric.route_pods();
        let world = fabric.world();
        let _servers = (Echo::start(world, PORT), serve_sctp(world, PORT));
        let _pods: Vec<_> = fabric.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
        for pod in fabric.pods() {
            for family in Family::BOTH {
                request(pod, world.at(family, PORT), &Protocol::ALL, "world", pod.address(family));
                assert!(ping(pod, &world.address(family).to_string(), 56));
                exchange(pod, world.at(family, PORT), 1 << 20).unwrap();
                // The other way, too: nobody hides.
                request(world, pod.at(family, PORT), &Protocol::USUAL, &pod.name, world.address(family));
            }
        }
        fabric.stop();
    }
}

#[test]
fn who_is_no_peer_sends_nothing_into_the_tunnel() {
    let fabric = started(|_, config| config["routing"] = json!({"mode": "vxlan"}));
    let listener = fabric.pod(0).netns().within(|| std::net::UdpSocket::bind(("0.0.0.0", 4001)).unwrap());
    listener.set_read_timeout(Some(std::time::Duration::from_millis(300))).unwrap();
    let node = fabric.node(0).at(Family::V4).to_string();
    let target = fabric.pod(0).address(Family::V4).to_string();
    let source = fabric.pod(2).address(Family::V4).to_string();
    let own = millrace_tests::vtep_mac(fabric.node(0).at(Family::V4));
    let send = |from: &Pod, vni: &str, mac: &str| {
        let script = format!("{}/raw/tunnel.py", env!("CARGO_MANIFEST_DIR"));
        from.netns().must(&["python3", &script, &node, "4789", vni, mac, &source, &target, "5"]);
    };
    send(fabric.world(), "77", &own);
    assert!(listener.recv(&mut [0; 64]).is_err(), "the world is no peer");
    let peer = &fabric.node(1).host;
    send(peer, "78", &own);
    assert!(listener.recv(&mut [0; 64]).is_err(), "another VNI");
    send(peer, "77", "02:56:01:02:03:04");
    assert!(listener.recv(&mut [0; 64]).is_err(), "another's frame");
    send(peer, "77", &own);
    listener.recv(&mut [0; 64]).expect("a peer is heard");
    fabric.stop();
}
