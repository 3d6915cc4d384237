//! Segments that do not belong into their connection: they neither end it nor provoke a reset by coming out untranslated.
//!
//! Upstream's regression test of this sort is «should not be vulnerable to the invalid conntrack state bug».
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Conversation, Echo, Family, Kind, Network, Pod, ServiceSpec, Wire, expose};
use serde_json::json;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

/// A pod that serves and the service at its ClusterIP and NodePort. A connection that was reset would be forgotten
/// after a second.
fn start(backend: Kind, client: Kind) -> (Network, Echo) {
    let network = Network::with_world_and(&[client, backend], Kind::AfXdp, |config| {
        config["flowTable"] = json!({"timeouts": {"tcpClose": 1}});
    });
    let server = Echo::start(network.pod(1), TARGET);
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| expose(service, "NodePort", NODE_PORT));
        manifests.endpoints_as(&service(), &network.endpoints(&[1]));
    });
    (network, server)
}

/// Puts segments into a live connection, first at one end's wire and then at the other's.
fn disturb(client: &Pod, server: &Pod, to: SocketAddr) {
    let mut near = Wire::watch(client, to.port());
    let mut far = Wire::watch(server, TARGET);
    let mut talk = Conversation::open(client, to).unwrap();
    talk.set_patience(Duration::from_secs(1));
    for round in 0..3 {
        talk.say("a word to know the numbers by").unwrap();
        for (wire, whose) in [(&mut far, "server"), (&mut near, "client")] {
            let context = || format!("{to}, from the {whose}'s end, round {round}");
            wire.inject_segment();
            talk.say("after a segment").unwrap_or_else(|error| panic!("{}: {error}", context()));
            wire.inject_reset();
            talk.say("after a reset").unwrap_or_else(|error| panic!("{}: {error}", context()));
            wire.inject_ack();
            talk.say("after an acknowledgement").unwrap_or_else(|error| panic!("{}: {error}", context()));
        }
    }
    // Had the resets counted, the connection would be forgotten by now.
    std::thread::sleep(Duration::from_millis(1500));
    talk.say("and after a while").unwrap_or_else(|error| panic!("{to}, after a while: {error}"));
    for (wire, whose) in [(&mut near, "client"), (&mut far, "server")] {
        let seen = wire.seen();
        assert!(seen.segments > 20, "{to}: the {whose}'s wire is not seen: {seen:?}");
        assert_eq!(seen.resets, 0, "{to}: at the {whose}: {seen:?}");
        // Data outside of the window passes translated, as with Linux's nf_conntrack_tcp_be_liberal: the receiver
        // knows better.
        assert_eq!(seen.injected, 3, "{to}: at the {whose}: {seen:?}");
    }
}

#[test]
fn segments_outside_of_the_window_do_no_harm_to_a_connection_to_a_cluster_ip() {
    for (client, backend) in [(Kind::AfXdp, Kind::Tap), (Kind::Tap, Kind::AfXdp)] {
        let (network, _server) = start(backend, client);
        for family in Family::BOTH {
            let to = SocketAddr::new(Network::cluster_ip(&service(), family), PORT);
            disturb(network.pod(0), network.pod(1), to);
        }
        network.stop();
    }
}

#[test]
fn segments_outside_of_the_window_do_no_harm_to_a_connection_to_a_node_port() {
    let (network, _server) = start(Kind::Tap, Kind::Tap);
    for family in Family::BOTH {
        let to = SocketAddr::new(Network::node_address(family), NODE_PORT);
        disturb(network.world(), network.pod(1), to);
    }
    network.stop();
}
