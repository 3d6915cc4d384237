//! Links, neighbours and nodes that go, come back and change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Attached, Echo, Fabric, Family, Kind, NIC, Pings, Plan, Pod, Protocol, Role, Session, ask, eventually,
    ping,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const PORT: u16 = 7007;
/// How long a change may take.
const SECOND: Duration = Duration::from_secs(1);

/// Three nodes with a pod each, `a`, `b` and `c`, which all serve.
fn three(mode: &str) -> (Fabric, Vec<Echo>) {
    let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 3]), |_, config: &mut Value| {
        config["routing"] = json!({"mode": mode});
    });
    for node in 0..3 {
        fabric.add_pod(node, Kind::Veth);
    }
    let servers = fabric.pods().iter().map(|pod| Echo::start(pod, PORT)).collect();
    for from in fabric.pods() {
        for to in fabric.pods().iter().filter(|to| to.name != from.name) {
            Family::BOTH
                .iter()
                .for_each(|family| assert!(ask(from, Protocol::Tcp, to.at(*family, PORT)).is_ok()));
        }
    }
    (fabric, servers)
}

/// Waits until pings pass; the time from `since` is a second at most.
fn converged(what: &str, since: Instant, from: &Pod, to: &Pod) {
    converged_within(SECOND, what, since, from, to);
}

fn converged_within(limit: Duration, what: &str, since: Instant, from: &Pod, to: &Pod) {
    for family in Family::BOTH {
        let address = to.address(family).to_string();
        eventually(what, Duration::from_secs(10), || {
            from.netns().run(&["ping", "-n", "-c1", "-W0.1", &address]).success
        });
    }
    let took = since.elapsed();
    println!("{what}: {took:?}");
    assert!(took < limit, "{what}: after {took:?}");
}

/// What pods of unaffected nodes have between them while something happens.
struct Bystanders(Vec<Session>, Pings);

impl Bystanders {
    fn watch(a: &Pod, b: &Pod) -> Self {
        let sessions = Family::BOTH.map(|family| Session::open(a, b.at(family, PORT)));
        Bystanders(sessions.into(), Pings::start(b, a.address(Family::V4)))
    }

    fn assert_undisturbed(self, what: &str) {
        // What came of it may take its time to be seen.
        std::thread::sleep(Duration::from_millis(300));
        for session in self.0 {
            let told = session.close();
            assert!(told.answered > 20 && told.lost == 0, "{what}: {told:?}");
        }
        let told = self.1.stop();
        assert!(told.answered > 5 && told.lost == 0, "{what}: {told:?}");
    }
}

#[test]
fn a_link_that_goes_and_comes_back_disturbs_nobody_else() {
    for mode in ["native", "vxlan"] {
        let (fabric, _servers) = three(mode);
        let [a, b, c] = [0, 1, 2].map(|at| fabric.pod(at));
        let watched = Bystanders::watch(a, b);
        let session = Session::open(a, c.at(Family::V4, PORT));
        fabric.netns().must(&["ip", "link", "set", "n3", "down"]);
        eventually("the uplink is down", SECOND, || {
            fabric.node(2).daemon().port(NIC).link != millrace_api::LinkState::Up
        });
        assert!(!ping(a, &c.address(Family::V4).to_string(), 56));
        fabric.netns().must(&["ip", "link", "set", "n3", "up"]);
        converged("the link is back", Instant::now(), a, c);
        // By hand on the node itself: the kernel forgets routes then, and IPv6 addresses.
        let netns = fabric.node(2).netns();
        netns.must(&["ip", "link", "set", NIC, "down"]);
        std::thread::sleep(Duration::from_millis(300));
        netns.must(&["sh", "-c", &format!("ip link set {NIC} up && ip addr replace {}/64 dev {NIC} && ip route replace default via 192.0.2.254 && ip route replace default via 2001:db8:1::fe", fabric.node(2).at(Family::V6))]);
        converged("the link is up again", Instant::now(), a, c);
        assert!(session.close().answered > 0, "the session has survived");
        watched.assert_undisturbed("link down and up");
        fabric.stop();
    }
}

#[test]
fn a_node_that_goes_and_comes_back_disturbs_nobody_else() {
    for mode in ["native", "vxlan"] {
        let (mut fabric, _servers) = three(mode);
        let container = Attached::add(fabric.node(2).daemon(), "d", Kind::Veth);
        let _server = Echo::start(&container.pod, PORT);
        let watched = Bystanders::watch(fabric.pod(0), fabric.pod(1));
        let session = Session::open(fabric.pod(0), container.pod.at(Family::V6, PORT));
        // Its daemon is killed and starts again: containers are adopted where they stay.
        fabric.node_mut(2).daemon_mut().kill();
        assert!(!ping(fabric.pod(0), &container.pod.address(Family::V4).to_string(), 56));
        fabric.node_mut(2).daemon_mut().restart();
        // The pod's kernel forgets its router while the interface has no carrier, and asks for it once a second.
        converged_within(2 * SECOND, "the node is back", Instant::now(), fabric.pod(0), &container.pod);
        assert!(session.close().answered > 0, "connections over the node that was gone live on");
        // Its object goes: pods there are not known any more, and come back with it.
        fabric.apply(|_| fabric.remove_node(2));
        assert!(!ping(fabric.pod(0), &fabric.pod(2).address(Family::V4).to_string(), 56));
        let since = Instant::now();
        fabric.change_node(2, |_| ());
        eventually("the node is a peer", SECOND, || {
            let peers = fabric.node(0).daemon().cli_json(&["peer", "list"]);
            peers.to_string().contains("node-3")
        });
        println!("a node is a peer after {:?}", since.elapsed());
        converged("the node's object is back", since, fabric.pod(0), &container.pod);
        container.delete();
        watched.assert_undisturbed("node gone and back");
        fabric.stop();
    }
}

#[test]
fn a_node_that_changes_its_address_is_found_within_a_second() {
    for mode in ["native", "vxlan"] {
        let (fabric, _servers) = three(mode);
        let [a, b, c] = [0, 1, 2].map(|at| fabric.pod(at));
        let watched = Bystanders::watch(a, b);
        let netns = fabric.node(2).netns();
        for (new, length, old) in [("192.0.2.33", 24, Family::V4), ("2001:db8:1::33", 64, Family::V6)] {
            netns.must(&["ip", "addr", "del", &format!("{}/{length}", fabric.node(2).at(old)), "dev", NIC]);
            netns.must(&["ip", "addr", "add", &format!("{new}/{length}"), "dev", NIC]);
        }
        netns.must(&["ip", "route", "replace", "default", "via", "192.0.2.254"]);
        let since = Instant::now();
        fabric.change_node(2, |node| {
            node["status"]["addresses"] = json!([
                {"type": "InternalIP", "address": "192.0.2.33"},
                {"type": "InternalIP", "address": "2001:db8:1::33"}]);
        });
        converged("the node's new address is used", since, a, c);
        converged("the node's new address is used, the other way", since, c, a);
        watched.assert_undisturbed("address changed");
        fabric.stop();
    }
}

#[test]
fn a_neighbour_with_another_mac_address_is_followed() {
    let (fabric, _servers) = three("native");
    let [a, b, c] = [0, 1, 2].map(|at| fabric.pod(at));
    let watched = Bystanders::watch(a, b);
    let netns = fabric.node(2).netns();
    // The kernel announces it by gratuitous ARP and an unsolicited advertisement.
    netns.must(&[
        "sysctl",
        "-qw",
        &format!("net.ipv4.conf.{NIC}.arp_notify=1"),
        &format!("net.ipv6.conf.{NIC}.ndisc_notify=1"),
    ]);
    netns.must(&["ip", "link", "set", NIC, "address", "02:aa:bb:cc:dd:ee"]);
    let since = Instant::now();
    converged("another MAC address", since, a, c);
    watched.assert_undisturbed("MAC address changed");
    fabric.stop();
}

#[test]
fn routes_of_the_kernel_are_followed_while_they_change() {
    let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |_, config| {
        config["masquerade"] = json!({"outgoing": false});
    });
    fabric.add_pod(0, Kind::Tap);
    fabric.route_pods();
    let pod = fabric.pod(0);
    let _server = Echo::start(fabric.world(), PORT);
    let node = fabric.node(0).netns();
    // Another network, by another way than the default one.
    fabric.world().add_address("203.0.113.7".parse().unwrap());
    fabric.netns().must(&["ip", "route", "add", "203.0.113.7", "via", "198.51.100.7"]);
    node.must(&["ip", "route", "del", "default"]);
    let to = "203.0.113.7:7007".parse().unwrap();
    eventually("no way", SECOND, || ask(pod, Protocol::Tcp, to).is_err());
    node.must(&["ip", "route", "add", "203.0.113.0/24", "via", "192.0.2.254"]);
    eventually("a static route", SECOND, || ask(pod, Protocol::Tcp, to).is_ok());
    assert!(ask(pod, Protocol::Tcp, fabric.world().at(Family::V4, PORT)).is_err());
    node.must(&["ip", "route", "add", "default", "via", "192.0.2.254"]);
    eventually("a default route", SECOND, || {
        ask(pod, Protocol::Tcp, fabric.world().at(Family::V4, PORT)).is_ok()
    });
    node.must(&["ip", "route", "del", "203.0.113.0/24"]);
    eventually("the default route holds for it, too", SECOND, || ask(pod, Protocol::Tcp, to).is_ok());
    fabric.stop();
}
