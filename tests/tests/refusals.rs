//! What must not pass, and how the sender hears of it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, Family, Kind, Network, ServiceSpec, ask_arp, datagram, eventually, ping, send_spoofed, who_answers,
};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const PORT: u16 = 80;

#[test]
fn a_service_without_endpoints_refuses_tcp_and_udp_at_once() {
    let network = Network::start(&Kind::ALL);
    let spec = ServiceSpec::numbered("empty", 20, PORT, 8080);
    network.serve(&spec, &[]);
    for pod in network.pods() {
        for family in Family::BOTH {
            let to = SocketAddr::new(Network::cluster_ip(&spec, family), PORT);
            let begin = Instant::now();
            let error = who_answers(pod, to).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "TCP {} {family:?}: {error}", pod.name);
            let error = datagram(pod, to, 10).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "UDP {} {family:?}: {error}", pod.name);
            assert!(begin.elapsed() < Duration::from_millis(900), "refusal took {:?}", begin.elapsed());
        }
    }
    network.stop();
}

#[test]
fn a_port_that_the_service_does_not_have_is_refused() {
    let network = Network::start(&[Kind::AfXdp, Kind::Tap]);
    let spec = ServiceSpec::numbered("web", 21, PORT, 8080);
    network.serve(&spec, &[1]);
    for family in Family::BOTH {
        let to = SocketAddr::new(Network::cluster_ip(&spec, family), 4444);
        let error = who_answers(network.pod(0), to).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{family:?}: {error}");
    }
    network.stop();
}

#[test]
fn packets_from_addresses_of_others_are_dropped_and_counted() {
    let network = Network::start(&Kind::ALL);
    let listener = network.pod(1).netns().within(|| std::net::UdpSocket::bind(("::", 4001)).unwrap());
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for pod in [network.pod(0), network.pod(2)] {
        for (source, family) in [("10.77.0.99", Family::V4), ("fd00:77::99", Family::V6)] {
            let before = network.daemon().status().dropped_frames;
            send_spoofed(pod, source, network.pod(1).address(family), 10, None);
            eventually("spoofed frames counted", Duration::from_secs(2), || {
                network.daemon().status().dropped_frames >= before + 10
            });
        }
        let (before, own) = (network.daemon().status().dropped_frames, pod.address(Family::V4).to_string());
        let to = network.pod(1).address(Family::V4);
        send_spoofed(pod, &own, to, 10, Some("02:00:00:00:00:99"));
        eventually("a foreign MAC address counted", Duration::from_secs(2), || {
            network.daemon().status().dropped_frames >= before + 10
        });
    }
    assert!(listener.recv(&mut [0; 64]).is_err(), "a spoofed packet arrived");
    // The same packet from the pod's own address arrives: the sender is no broken tool.
    let own = network.pod(0).address(Family::V4).to_string();
    send_spoofed(network.pod(0), &own, network.pod(1).address(Family::V4), 1, None);
    assert_eq!(listener.recv(&mut [0; 64]).expect("a sound packet arrives"), 7);
    network.stop();
}

#[test]
fn arp_and_neighbour_discovery_are_answered_for_the_gateway_alone() {
    let network = Network::start(&Kind::ALL);
    for pod in network.pods() {
        assert_eq!(ask_arp(pod, "169.254.1.1").as_deref(), Some("02:4d:52:00:00:01"), "pod {}", pod.name);
        pod.netns().must(&["ip", "neigh", "flush", "all"]);
        assert!(ping(pod, "fe80::4d:52ff:fe00:1%eth0", 56), "pod {}", pod.name);
        let neighbours = pod.netns().must(&["ip", "-6", "neigh"]);
        assert!(neighbours.contains("02:4d:52:00:00:01"), "{neighbours}");
    }
    // A pod's question about its neighbour does not reach the neighbour.
    let dump = network.pod(1).netns().run(&["ip", "neigh"]);
    assert!(!dump.stdout.contains("10.77.0.10 "), "{}", dump.stdout);
    network.stop();
}

#[test]
fn packets_that_are_too_big_for_the_way_out_are_reported_to_the_sender() {
    let network = Network::start(&[Kind::Tap, Kind::AfXdp]);
    let mut port = network.pod(1).port(network.daemon().room());
    network.daemon().remove_port("b");
    port["mtu"] = 1300.into();
    network.daemon().add_port(&port);
    network.settle();
    for (family, size) in [(Family::V4, "1372"), (Family::V6, "1352")] {
        let to = network.pod(1).address(family).to_string();
        let output = network.pod(0).netns().run(&["ping", "-n", "-c2", "-W2", "-Mdo", "-s", size, &to]);
        let said = format!("{}{}", output.stdout, output.stderr);
        assert!(!output.success, "{said}");
        assert!(said.contains("1300"), "the MTU is told: {said}");
    }
    // TCP finds the smaller MTU by itself.
    let _server = Echo::start(network.pod(1), PORT);
    for family in Family::BOTH {
        millrace_tests::exchange(network.pod(0), network.pod(1).at(family, PORT), 1 << 20).unwrap();
    }
    network.stop();
}

#[test]
fn an_address_that_nobody_has_is_unreachable() {
    let network = Network::start(&[Kind::Tap]);
    for to in ["10.77.3.3:80", "[fd00:77::333]:80"] {
        let error = who_answers(network.pod(0), to.parse().unwrap()).unwrap_err();
        let kinds = [ErrorKind::HostUnreachable, ErrorKind::NetworkUnreachable];
        assert!(kinds.contains(&error.kind()), "{to}: {error}");
    }
    network.stop();
}

#[test]
fn a_packet_whose_ttl_ends_here_is_reported_to_the_sender() {
    let network = Network::start(&[Kind::Tap, Kind::AfXdp]);
    for family in Family::BOTH {
        let to = network.pod(1).address(family).to_string();
        let output = network.pod(0).netns().run(&["ping", "-n", "-c1", "-W1", "-t1", &to]);
        let said = output.stdout.to_lowercase();
        assert!(said.contains("time to live exceeded") || said.contains("hop limit"), "{family:?}: {said}");
    }
    network.stop();
}
