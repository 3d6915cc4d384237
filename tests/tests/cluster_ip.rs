//! Services at their ClusterIP: reached from every kind of port, spread, and steady while endpoints change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Conversation, Echo, Family, Kind, Network, ServiceSpec, ask_sctp, datagram, eventually, exchange,
    serve_sctp, who_answers,
};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const KINDS: [Kind; 4] = [Kind::AfXdp, Kind::Tap, Kind::AfXdp, Kind::Tap];

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at(spec: &ServiceSpec, family: Family) -> SocketAddr {
    SocketAddr::new(Network::cluster_ip(spec, family), PORT)
}

#[test]
fn a_service_answers_clients_on_every_kind_of_port_from_backends_on_every_kind() {
    let network = Network::start(&Kind::ALL);
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    let spec = service();
    for backend in 0..3 {
        network.serve(&spec, &[backend]);
        for client in (0..3).filter(|client| *client != backend) {
            for family in Family::BOTH {
                let (from, to) = (network.pod(client), at(&spec, family));
                let context =
                    || format!("{} → service at {} {family:?}", from.name, network.pod(backend).name);
                let name =
                    exchange(from, to, 1 << 20).unwrap_or_else(|error| panic!("{}: {error}", context()));
                assert_eq!(name, network.pod(backend).name, "{}", context());
                let name = datagram(from, to, 0).unwrap_or_else(|error| panic!("UDP {}: {error}", context()));
                assert_eq!(name, network.pod(backend).name.as_bytes());
                datagram(from, to, 1400).unwrap_or_else(|error| panic!("UDP {}: {error}", context()));
            }
        }
    }
    network.stop();
}

#[test]
fn sctp_is_translated_with_its_crc_right() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap]);
    let _server = serve_sctp(network.pod(1), TARGET);
    let spec = service();
    network.serve(&spec, &[1]);
    for family in Family::BOTH {
        eventually("an SCTP answer from the service", Duration::from_secs(10), || {
            ask_sctp(network.pod(0), Network::cluster_ip(&spec, family), PORT).as_deref() == Some("b")
        });
    }
    network.stop();
}

#[test]
fn new_connections_are_spread_over_all_backends() {
    let network = Network::start(&KINDS);
    let _servers: Vec<Echo> = network.pods()[1..].iter().map(|pod| Echo::start(pod, TARGET)).collect();
    let spec = service();
    network.serve(&spec, &[1, 2, 3]);
    for family in Family::BOTH {
        let mut answers = BTreeMap::<String, u32>::new();
        for _ in 0..90 {
            *answers.entry(who_answers(network.pod(0), at(&spec, family)).unwrap()).or_default() += 1;
        }
        assert_eq!(answers.len(), 3, "{answers:?}");
        // 30 each expected; below 12 would be a chance of one in a hundred thousand.
        assert!(answers.values().all(|count| *count >= 12), "{answers:?}");
    }
    network.stop();
}

#[test]
fn open_connections_keep_their_backend_while_others_come_and_go() {
    let network = Network::start(&KINDS);
    let _servers: Vec<Echo> = network.pods()[1..].iter().map(|pod| Echo::start(pod, TARGET)).collect();
    let spec = service();
    network.serve(&spec, &[1]);
    for family in Family::BOTH {
        let mut open: Vec<Conversation> =
            (0..8).map(|_| Conversation::open(network.pod(0), at(&spec, family)).unwrap()).collect();
        for backends in [&[1, 2][..], &[1, 2, 3], &[1, 3], &[1]] {
            network.set_endpoints(&spec, backends);
            for talk in &mut open {
                assert_eq!(talk.peer, "b");
                talk.say("still there?").unwrap();
            }
        }
    }
    network.stop();
}

#[test]
fn removing_a_backend_fails_no_request_on_the_others() {
    let network = Network::start(&KINDS);
    let _servers: Vec<Echo> = network.pods()[1..].iter().map(|pod| Echo::start(pod, TARGET)).collect();
    let spec = service();
    network.serve(&spec, &[1, 2, 3]);
    let to = at(&spec, Family::V4);
    let mut after = BTreeMap::<String, u32>::new();
    // Requests run all the time; the removed backend's server stays alive, so that none may fail at all.
    std::thread::scope(|scope| {
        let requests =
            scope.spawn(|| (0..300).map(|_| exchange(network.pod(0), to, 2000)).collect::<Vec<_>>());
        std::thread::sleep(Duration::from_millis(150));
        network.set_endpoints(&spec, &[1, 2]);
        for result in requests.join().unwrap() {
            result.expect("every request succeeds");
        }
    });
    for _ in 0..60 {
        *after.entry(who_answers(network.pod(0), to).unwrap()).or_default() += 1;
    }
    assert_eq!(after.keys().collect::<Vec<_>>(), ["b", "c"], "{after:?}");
    network.stop();
}

#[test]
fn a_pod_reaches_itself_through_its_service_or_is_told_at_once() {
    let network = Network::start(&[Kind::Tap, Kind::Tap]);
    let _server = Echo::start(network.pod(0), TARGET);
    let spec = service();
    network.serve(&spec, &[0]);
    let name = who_answers(network.pod(0), at(&spec, Family::V4)).expect("the hairpin works");
    assert_eq!(name, "a");
    network.stop();
}
