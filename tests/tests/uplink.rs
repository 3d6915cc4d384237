//! What passes between the world and this node besides plain requests: other nodes' pods, liars, crowds, errors.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Conversation, Echo, Family, Kind, Network, Protocol, ServiceSpec, UdpClient, ask, ask_as, assert_silent,
    eventually, exchange, expose, ping, send_spoofed,
};
use serde_json::json;
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;

fn service() -> ServiceSpec {
    ServiceSpec::numbered("web", 10, PORT, TARGET)
}

fn at_node(family: Family) -> SocketAddr {
    SocketAddr::new(Network::node_address(family), NODE_PORT)
}

fn at_service(family: Family) -> SocketAddr {
    SocketAddr::new(Network::cluster_ip(&service(), family), PORT)
}

fn serve(network: &Network, pods: &[usize], policy: &str) {
    network.apply(|manifests| {
        manifests.service_with(&service(), |service| {
            expose(service, "NodePort", NODE_PORT);
            service["spec"]["externalTrafficPolicy"] = json!(policy);
        });
        manifests.endpoints_as(&service(), &network.endpoints(pods));
    });
}

#[test]
fn a_pod_of_another_node_is_inside_at_a_cluster_ip_and_outside_at_a_node_port() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::AfXdp);
    let _server = Echo::start(network.pod(0), TARGET);
    let remote: [IpAddr; 2] = ["10.77.200.5".parse().unwrap(), "fd00:77::c8:5".parse().unwrap()];
    remote.iter().for_each(|address| network.world().add_address(*address));
    for policy in ["Cluster", "Local"] {
        serve(&network, &[0], policy);
        for (family, remote) in Family::BOTH.into_iter().zip(remote) {
            for protocol in Protocol::USUAL {
                let seen = |to| ask_as(network.world(), remote, protocol, to).unwrap().client.ip();
                assert_eq!(seen(at_service(family)), remote);
                assert_eq!(seen(network.pod(0).at(family, TARGET)), remote);
                let at_node_port = if policy == "Local" { remote } else { Network::node_address(family) };
                assert_eq!(seen(at_node(family)), at_node_port, "{policy}");
                // The world itself at a ClusterIP is masqueraded: its replies have to come back here.
                let own = network.world().address(family);
                let answer = ask_as(network.world(), own, protocol, at_service(family)).unwrap();
                assert_eq!(answer.client.ip(), Network::node_address(family));
            }
        }
    }
    // With the Local policy and no endpoint here, pods of other nodes hear as little as the world.
    let away = network.endpoints(&[0]).into_iter().map(|endpoint| endpoint.on("elsewhere"));
    network.apply(|manifests| manifests.endpoints_as(&service(), &away.collect::<Vec<_>>()));
    for (family, remote) in Family::BOTH.into_iter().zip(remote) {
        assert_silent(network.world(), Some(remote), Protocol::Tcp, at_node(family));
        assert_eq!(ask_as(network.world(), remote, Protocol::Tcp, at_service(family)).unwrap().name, "a");
    }
    network.stop();
}

#[test]
fn nobody_in_the_world_speaks_for_the_node_or_its_pods() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap], Kind::Tap);
    let listener = network.pod(1).netns().within(|| std::net::UdpSocket::bind(("::", 4001)).unwrap());
    listener.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    for family in Family::BOTH {
        for source in [network.pod(0).address(family), Network::node_address(family)] {
            let before = network.daemon().status().dropped_frames;
            send_spoofed(network.world(), &source.to_string(), network.pod(1).address(family), 10, None);
            eventually("spoofed frames counted", Duration::from_secs(2), || {
                network.daemon().status().dropped_frames >= before + 10
            });
        }
    }
    assert!(listener.recv(&mut [0; 64]).is_err(), "a spoofed packet arrived");
    for family in Family::BOTH {
        let own = network.world().address(family).to_string();
        send_spoofed(network.world(), &own, network.pod(1).address(family), 1, None);
        listener.recv(&mut [0; 64]).expect("a sound packet arrives");
    }
    network.stop();
}

#[test]
fn two_workers_give_a_crowd_of_clients_source_ports_of_their_own() {
    let network = Network::with_world_and(&[Kind::AfXdp, Kind::Tap, Kind::AfXdp], Kind::AfXdp, |config| {
        config["workers"] = json!({"count": 2});
    });
    let _servers: Vec<Echo> = network.pods().iter().map(|pod| Echo::start(pod, TARGET)).collect();
    serve(&network, &[0, 1, 2], "Cluster");
    for family in Family::BOTH {
        let mut talks: Vec<Conversation> =
            (0..90).map(|_| Conversation::open(network.world(), at_node(family)).unwrap()).collect();
        let sources: BTreeSet<_> = talks.iter().map(|talk| (talk.peer.clone(), talk.seen)).collect();
        assert_eq!(sources.len(), talks.len());
        for talk in &mut talks {
            talk.say("mine alone").unwrap();
        }
        for pod in network.pods() {
            exchange(pod, at_node(family), 1 << 20).unwrap();
        }
        exchange(network.world(), at_node(family), 4 << 20).unwrap();
    }
    network.stop();
}

#[test]
fn when_all_source_ports_are_taken_others_wait_until_one_is_free() {
    let network = Network::with_world_and(&[Kind::Tap], Kind::AfXdp, |config| {
        config["services"] = json!({"masqueradePorts": "40000-40255"});
        config["flowTable"] = json!({"timeouts": {"udpUnreplied": 4, "udpStream": 4}});
    });
    let _server = Echo::start(network.pod(0), TARGET);
    serve(&network, &[0], "Cluster");
    let open = || UdpClient::open(network.world(), at_node(Family::V4)).unwrap();
    let patience = Duration::from_millis(50);
    let mut ports = BTreeSet::new();
    let mut failed = 0;
    // All are open at once: a kernel gives the port of a socket that was closed to another.
    let clients: Vec<UdpClient> = (0..270).map(|_| open()).collect();
    for client in &clients {
        match client.ask_within(patience) {
            Ok(answer) => assert!(ports.insert(answer.client.port()), "{} twice", answer.client),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock, "in silence: the client tries again");
                failed += 1;
            }
        }
    }
    assert!(ports.iter().all(|port| (40_000..=40_255).contains(port)), "{ports:?}");
    assert!((250..=256).contains(&ports.len()), "{} of 256 ports used", ports.len());
    assert!(network.daemon().drops("no_source_port") >= failed);
    assert!(failed >= 270 - 256);
    // Another family, another protocol: other ports.
    assert!(ask(network.world(), Protocol::Udp, at_node(Family::V6)).is_ok());
    assert!(ask(network.world(), Protocol::Tcp, at_node(Family::V4)).is_ok());
    eventually("ports of flows that are over", Duration::from_secs(10), || {
        open().ask_within(patience).is_ok()
    });
    network.stop();
}

#[test]
fn a_smaller_mtu_behind_a_node_port_is_found_by_clients_of_the_world() {
    let network = Network::with_world(&[Kind::Tap], Kind::AfXdp);
    let mut port = network.pod(0).port(network.daemon().room());
    network.daemon().remove_port("a");
    port["mtu"] = 1300.into();
    network.daemon().add_port(&port);
    network.settle();
    let _server = Echo::start(network.pod(0), TARGET);
    for policy in ["Cluster", "Local"] {
        serve(&network, &[0], policy);
        for family in Family::BOTH {
            for to in [at_node(family), at_service(family)] {
                exchange(network.world(), to, 1 << 20)
                    .unwrap_or_else(|error| panic!("{policy} {to}: {error}"));
            }
        }
    }
    network.stop();
}

#[test]
fn the_node_answers_pings_of_the_world_and_keeps_hops() {
    let network = Network::with_world(&[Kind::Tap], Kind::AfXdp);
    for family in Family::BOTH {
        assert!(ping(network.world(), &Network::node_address(family).to_string(), 56));
        assert!(ping(network.world(), &network.pod(0).address(family).to_string(), 1400));
        let to = network.pod(0).address(family).to_string();
        let output = network.world().netns().run(&["ping", "-n", "-c1", "-W1", "-t1", &to]);
        let said = output.stdout.to_lowercase();
        assert!(said.contains("time to live exceeded") || said.contains("hop limit"), "{family:?}: {said}");
    }
    network.stop();
}

#[test]
fn a_pod_that_probes_its_link_local_address_keeps_it_beside_a_default_route() {
    let network = Network::with_world(&[Kind::AfXdp, Kind::Tap, Kind::Vhost], Kind::AfXdp);
    for pod in network.pods() {
        pod.netns().must(&[
            "sysctl",
            "-qw",
            "net.ipv6.conf.eth0.accept_dad=1",
            "net.ipv6.conf.all.accept_dad=1",
        ]);
        pod.netns().must(&["ip", "addr", "add", "fe80::99/64", "dev", "eth0"]);
        let mut shown = String::new();
        eventually("the probe is over", Duration::from_secs(5), || {
            shown = pod.netns().must(&["ip", "-6", "addr", "show", "dev", "eth0"]);
            !shown.contains("tentative") || shown.contains("dadfailed")
        });
        assert!(!shown.contains("dadfailed"), "{:?}: {shown}", pod.kind);
    }
    network.stop();
}
