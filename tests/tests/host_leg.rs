//! The host's own processes and pods, by the interface that the daemon makes for them.
//!
//! ```text
//!   neighbour 192.0.2.254 ──── up0 192.0.2.1  host  millrace0 ════ node ═══ pods 10.77.0.0/16
//!                                                                      └ services 10.96.0.0/16
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{ObjectErrorList, path};
use millrace_tests::{
    Echo, EndpointSpec, Family, Kind, Netns, Network, Protocol, ServiceSpec, ask, assert_refused, datagram,
    eventually, exchange, expose, ping, ping_sizes, serve_sctp,
};
use serde_json::json;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

const PORT: u16 = 7007;
const NODE_PORT: u16 = 30_080;
const SOON: Duration = Duration::from_secs(15);

fn started(kinds: &[Kind]) -> Network {
    let network = Network::on_host(kinds, |_| ());
    // As strict as a host can be about where packets come from.
    network.host().netns().must(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1"]);
    network.settle();
    led(&network, "10.77.0.0/16");
    network
}

/// The routes that the daemon has set, of both families, one a line.
fn routes(network: &Network) -> String {
    let netns = network.host().netns();
    let [v4, v6] = ["-4", "-6"].map(|family| netns.must(&["ip", family, "route", "show", "proto", "77"]));
    format!("{v4}{v6}")
}

fn led(network: &Network, range: &str) {
    eventually("the route is set", SOON, || routes(network).contains(range));
}

fn errors(network: &Network) -> Vec<String> {
    let list: ObjectErrorList = network.daemon().client().get(path::OBJECT_ERRORS).unwrap();
    list.errors.into_iter().map(|error| error.reason).collect()
}

/// Everything of the host that is no business of the daemon's.
fn snapshot(netns: &Netns) -> String {
    let parts: [&[&str]; 6] = [
        &["ip", "-br", "link"],
        &["ip", "-o", "addr"],
        &["ip", "-4", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["ip", "rule"],
        &["sysctl", "-a", "-r", r"^net\.ipv[46]\.(conf\.(all|default|up0|lo)|ip_forward)"],
    ];
    // Life times count down.
    let shown = parts.map(|part| netns.must(part)).concat();
    shown.lines().map(|line| line.split(" valid_lft").next().unwrap().to_owned() + "\n").collect()
}

#[test]
fn the_host_and_pods_of_every_kind_reach_each_other_by_every_protocol() {
    let network = started(&Kind::ALL);
    let host = network.host();
    let _servers: Vec<Echo> = network.pods().iter().chain([host]).map(|pod| Echo::start(pod, PORT)).collect();
    let _sctp: Vec<_> = network.pods().iter().map(|pod| serve_sctp(pod, PORT)).collect();
    for pod in network.pods() {
        for family in Family::BOTH {
            for (from, to) in [(host, pod), (pod, host)] {
                for protocol in Protocol::USUAL {
                    let answer = ask(from, protocol, to.at(family, PORT))
                        .unwrap_or_else(|error| panic!("{} → {} {protocol:?}: {error}", from.name, to.name));
                    assert_eq!((answer.name.as_str(), answer.client.ip()), (&*to.name, from.address(family)));
                }
                ping_sizes(from, to.address(family));
                exchange(from, to.at(family, PORT), 8 << 20).unwrap();
                for length in [0, 1, 1452, 1473, 9000, 32_000] {
                    datagram(from, to.at(family, PORT), length).unwrap();
                }
            }
            let answer = ask(host, Protocol::Sctp, pod.at(family, PORT)).unwrap();
            assert_eq!(answer.client.ip(), host.address(family));
            // Errors find back, both ways.
            assert_refused(host, Protocol::Udp, pod.at(family, PORT + 1));
            assert_refused(pod, Protocol::Udp, host.at(family, PORT + 1));
            assert_refused(host, Protocol::Tcp, pod.at(family, PORT + 1));
        }
    }
    // An address in a pod range that nobody has is refused at once, by the pods' router.
    let lost = ask(host, Protocol::Tcp, "10.77.200.1:7".parse().unwrap()).unwrap_err();
    assert_eq!(lost.kind(), std::io::ErrorKind::HostUnreachable, "{lost}");
    network.stop();
}

#[test]
fn the_host_reaches_services_at_pods_and_at_itself() {
    let network = started(&[Kind::AfXdp, Kind::Tap, Kind::Vhost]);
    let host = network.host();
    let _servers: Vec<Echo> = network.pods().iter().chain([host]).map(|pod| Echo::start(pod, PORT)).collect();
    let spec = ServiceSpec::numbered("web", 10, 80, PORT);
    let services = Family::BOTH.map(|family| SocketAddr::new(Network::cluster_ip(&spec, family), 80));
    for at in 0..3 {
        network.serve(&spec, &[at]);
        for (family, service) in Family::BOTH.into_iter().zip(services) {
            for protocol in Protocol::USUAL {
                let answer = ask(host, protocol, service).unwrap();
                assert_eq!(
                    (answer.name.as_str(), answer.client.ip()),
                    (&*network.pod(at).name, host.address(family))
                );
            }
            exchange(host, service, 4 << 20).unwrap();
            datagram(host, service, 20_000).unwrap();
        }
    }
    // The API server is one of these: a service whose endpoint is a process of the host.
    let endpoints: Vec<_> = host
        .addresses()
        .into_iter()
        .map(|address| EndpointSpec::ready(address, Network::node_name()))
        .collect();
    network.apply(|manifests| manifests.endpoints_as(&spec, &endpoints));
    for (family, service) in Family::BOTH.into_iter().zip(services) {
        for protocol in Protocol::USUAL {
            for from in network.pods() {
                let answer = ask(from, protocol, service).unwrap();
                assert_eq!((answer.name.as_str(), answer.client.ip()), (&*host.name, from.address(family)));
            }
            let answer = ask(host, protocol, service)
                .unwrap_or_else(|error| panic!("the host to itself, {family:?} {protocol:?}: {error}"));
            assert_eq!(answer.name, host.name);
        }
        exchange(host, service, 1 << 20).unwrap();
    }
    network.set_endpoints(&spec, &[]);
    services.iter().for_each(|service| assert_refused(host, Protocol::Tcp, *service));
    network.stop();
}

/// A kernel keeps what is sent to its own addresses; whoever asks a NodePort there shall notice nothing of it.
#[test]
fn the_host_reaches_node_ports_at_its_own_addresses() {
    let mut network = started(&[Kind::AfXdp, Kind::Tap, Kind::Vhost]);
    let _servers: Vec<Echo> =
        network.pods().iter().chain([network.host()]).map(|pod| Echo::start(pod, PORT)).collect();
    let _sctp: Vec<_> = network.pods().iter().map(|pod| serve_sctp(pod, PORT)).collect();
    let spec = ServiceSpec::numbered("web", 10, 80, PORT);
    let at = |family| SocketAddr::new(Network::node_address(family), NODE_PORT);
    let serve = |network: &Network, endpoints: &[EndpointSpec]| {
        network.apply(|manifests| {
            manifests.service_with(&spec, |service| expose(service, "NodePort", NODE_PORT));
            manifests.endpoints_as(&spec, endpoints);
        });
    };
    for pod in 0..3 {
        serve(&network, &network.endpoints(&[pod]));
        let host = network.host();
        for family in Family::BOTH {
            for protocol in Protocol::ALL {
                let answer = ask(host, protocol, at(family))
                    .unwrap_or_else(|error| panic!("{protocol:?} {family:?} to pod {pod}: {error}"));
                assert_eq!(
                    (answer.name.as_str(), answer.client.ip()),
                    (&*network.pod(pod).name, host.address(family))
                );
            }
            exchange(host, at(family), 4 << 20).unwrap();
            // On its way to itself the host cuts nothing until it is told what fits, and over IPv6 it does not listen.
            let lengths: &[usize] =
                if family == Family::V4 { &[0, 1, 1400, 1473, 9000, 40_000] } else { &[0, 1, 1400] };
            for &length in lengths {
                let found = (0..4).find_map(|_| datagram(host, at(family), length).ok());
                assert!(found.is_some(), "{family:?}: {length} bytes to pod {pod}");
            }
        }
    }
    let host = network.host();
    // What is no service's stays the host's.
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            assert_eq!(ask(host, protocol, host.at(family, PORT)).unwrap().client.ip(), host.address(family));
        }
    }
    // A process of the host as the endpoint of the host's own NodePort.
    let own: Vec<_> = host
        .addresses()
        .into_iter()
        .map(|address| EndpointSpec::ready(address, Network::node_name()))
        .collect();
    serve(&network, &own);
    for family in Family::BOTH {
        for protocol in Protocol::USUAL {
            assert_eq!(ask(host, protocol, at(family)).unwrap().name, host.name, "{protocol:?} {family:?}");
        }
    }
    serve(&network, &[]);
    for family in Family::BOTH {
        Protocol::USUAL.iter().for_each(|protocol| assert_refused(network.host(), *protocol, at(family)));
    }
    // Without the daemon the kernel itself says that nobody listens; the pods are not there again with the next one.
    serve(&network, &own);
    network.daemon_mut().kill();
    assert_refused(network.host(), Protocol::Tcp, at(Family::V4));
    network.daemon_mut().restart();
    eventually("the NodePort is served again", SOON, || {
        let host = network.host();
        let is_served = |family: &Family| {
            ask(host, Protocol::Tcp, at(*family)).is_ok_and(|answer| answer.name == host.name)
        };
        Family::BOTH.iter().all(is_served)
    });
    network.apply(|manifests| manifests.remove_service(&spec));
    for family in Family::BOTH {
        Protocol::USUAL.iter().for_each(|protocol| assert_refused(network.host(), *protocol, at(family)));
    }
    assert!(errors(&network).is_empty(), "{:?}", errors(&network));
    network.stop();
}

#[test]
fn the_path_mtu_holds_for_the_host_too() {
    let mut network = Network::on_host(&[], |_| ());
    let small = network.add_pod_of(Kind::Tap, 1280);
    network.settle();
    led(&network, "10.77.0.0/16");
    let (host, pod) = (network.host(), network.pod(small));
    let _servers = [Echo::start(pod, PORT), Echo::start(host, PORT)];
    for family in Family::BOTH {
        for (from, to) in [(host, pod), (pod, host)] {
            // What fits the sender's own MTU must not be cut; larger ones it cuts itself.
            let sent = (0..4).find_map(|_| datagram(from, to.at(family, PORT), 1440).ok());
            assert!(sent.is_some(), "{} → {}", from.name, to.name);
            exchange(from, to.at(family, PORT), 1 << 20).unwrap();
        }
        let known = host.netns().must(&["ip", "route", "get", &pod.address(family).to_string()]);
        assert!(known.contains("mtu 1280"), "{known}");
    }
    network.stop();
}

#[test]
fn the_leg_follows_the_nodes_addresses() {
    let network = started(&[Kind::Tap, Kind::AfXdp]);
    let (host, pod) = (network.host(), network.pod(0));
    let _server = Echo::start(host, PORT);
    let others: [IpAddr; 2] = ["192.0.2.77".parse().unwrap(), "2001:db8::77".parse().unwrap()];
    let node = |addresses: Vec<IpAddr>| {
        network.apply(|manifests| {
            manifests.node_with(Network::node_name(), |node| {
                let entry = |address| json!({"type": "InternalIP", "address": address});
                node["status"]["addresses"] = addresses.iter().map(entry).collect();
            });
        });
    };
    for other in others {
        let prefix = format!("{other}/{}", if other.is_ipv4() { 24 } else { 64 });
        host.netns().must(&["ip", "addr", "add", &prefix, "dev", "up0"]);
    }
    node(others.into());
    eventually("routes from the other address", SOON, || {
        others.iter().all(|other| routes(&network).contains(&format!("src {other}")))
    });
    for (family, other) in Family::BOTH.into_iter().zip(others) {
        let answer = ask(pod, Protocol::Tcp, SocketAddr::new(other, PORT)).unwrap();
        assert_eq!(answer.name, host.name);
        assert!(ping(host, &pod.address(family).to_string(), 56));
    }
    // The kernel takes an address away, and with it the routes from it.
    node(host.addresses().into());
    host.netns().must(&["ip", "addr", "del", "192.0.2.77/24", "dev", "up0"]);
    eventually("routes from the first address again", SOON, || {
        host.addresses().iter().all(|own| routes(&network).contains(&format!("src {own}")))
    });
    host.netns().must(&["ip", "route", "flush", "proto", "77"]);
    led(&network, "10.77.0.0/16");
    // Without a Node, what the host sends from by default.
    network.apply(|manifests| manifests.remove("node.yaml"));
    eventually("the host is reached all the same", SOON, || {
        ask(pod, Protocol::Tcp, host.at(Family::V4, PORT)).is_ok_and(|answer| answer.name == host.name)
    });
    network.stop();
}

#[test]
fn a_range_that_the_host_has_a_route_to_is_left_to_it_and_reported() {
    let network = started(&[Kind::Tap]);
    let host = network.host();
    host.netns().must(&["ip", "route", "add", "10.200.1.0/24", "via", "192.0.2.254"]);
    host.netns().must(&["ip", "route", "add", "fd00:88::/32", "via", "2001:db8::254"]);
    let other = |ranges: &[&str]| {
        let object = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "other"},
            "spec": {"podCIDRs": ranges}, "status": {}});
        network.apply(|manifests| manifests.write("other-node.yaml", &[object]));
    };
    other(&["10.200.0.0/16", "fd00:88:1::/64"]);
    eventually("both are reported", SOON, || errors(&network).len() == 2);
    let told = errors(&network).join("\n");
    for word in ["10.200.1.0/24", "10.200.0.0/16", "fd00:88::/32", "fd00:88:1::/64"] {
        assert!(told.contains(word), "{told}");
    }
    assert!(!routes(&network).contains("10.200"), "{}", routes(&network));
    assert!(ping(host, &network.pod(0).address(Family::V4).to_string(), 56), "the others are led as before");
    host.netns().must(&["ip", "route", "del", "10.200.1.0/24"]);
    led(&network, "10.200.0.0/16");
    other(&["10.201.0.0/16"]);
    led(&network, "10.201.0.0/16");
    eventually("the error is gone", SOON, || errors(&network).is_empty());
    assert!(!routes(&network).contains("10.200"), "{}", routes(&network));
    network.stop();
}

#[test]
fn nothing_of_it_stays_after_the_end_and_after_a_crash_and_the_host_notices_nothing() {
    let mut network = Network::on_host(&[Kind::Tap], |_| ());
    network.settle();
    led(&network, "fd00:96::/64");
    let (host, neighbour) =
        (network.host().netns().name().to_owned(), Network::neighbour_address(Family::V4));
    let pinging = std::thread::spawn(move || {
        let count = "400";
        let args =
            ["netns", "exec", &host, "ping", "-n", "-i0.02", "-W1", "-c", count, &neighbour.to_string()]
                .map(str::to_owned);
        millrace_tests::run("ip", &args.each_ref().map(String::as_str))
    });
    let with_leg = snapshot(network.host().netns());
    network.daemon_mut().kill();
    let bare = snapshot(network.host().netns());
    assert_eq!(network.host().netns().interfaces(), ["lo", "up0"]);
    assert!(routes(&network).is_empty());
    network.daemon_mut().restart();
    led(&network, "fd00:96::/64");
    let again = snapshot(network.host().netns());
    // Numbers of interfaces apart, and link-local addresses made from their MAC addresses not.
    let without_ours = |text: &str| {
        text.lines().filter(|line| !line.contains("millrace0")).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(without_ours(&with_leg), without_ours(&bare));
    assert_eq!(without_ours(&again), without_ours(&bare));
    network.daemon_mut().stop();
    assert_eq!(snapshot(network.host().netns()), bare);
    let pinged = pinging.join().unwrap();
    assert!(pinged.stdout.contains(" 0% packet loss"), "{}", pinged.stdout);
}

#[test]
fn there_is_none_where_it_is_not_wanted() {
    let network = Network::on_host(&[Kind::Tap], |config| config["hostLeg"] = json!("none"));
    std::thread::sleep(Duration::from_millis(2500));
    assert_eq!(network.host().netns().interfaces(), ["lo", "up0"]);
    // The node answers for itself, as the pods' router.
    assert!(ping(network.pod(0), &Network::node_address(Family::V4).to_string(), 56));
}
