//! vhost-user peers while the daemon is killed, or ended, and started again.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Attached, Card, Echo, Family, Guest, Kind, Network, Pod, datagram, eventually, exchange, ping, ping_sizes,
};
use serde_json::json;
use std::time::Duration;

const PORT: u16 = 7007;
const PATIENCE: Duration = Duration::from_secs(20);

/// Ends the daemon in one of both ways, and starts it again.
fn restart(network: &mut Network, killed: bool) {
    match killed {
        true => network.daemon_mut().kill(),
        false => network.daemon_mut().end(),
    }
    network.daemon_mut().restart();
}

fn answers(from: &Pod, to: &Pod, when: &str) {
    for family in Family::BOTH {
        let target = to.address(family).to_string();
        eventually(&format!("{} answers {} {when}", to.name, from.name), PATIENCE, || {
            ping(from, &target, 56)
        });
    }
}

fn over_restarts_with(card: Card) {
    let mut network = Network::for_plugin(|_| ());
    let near = Attached::add(network.daemon(), "near", Kind::Tap);
    let vm = Attached::add_idle(network.daemon(), "vm", Kind::Vhost, |call| call);
    let [ipv4, ipv6] = vm.pod.addresses();
    let mut guest = Guest::boot(&vm.socket(), vm.pod.mac(), ipv4, ipv6, card);
    answers(&near.pod, &vm.pod, "at first");
    guest.must("httpd -p 80 -h /www; dd if=/dev/urandom of=/www/big bs=1M count=2 2>/dev/null");
    let wanted = guest.must("sha256sum < /www/big");
    for killed in [true, false, true] {
        restart(&mut network, killed);
        answers(&near.pod, &vm.pod, "after the restart");
        for host in [ipv4.to_string(), format!("[{ipv6}]")] {
            let fetch = format!("curl -sf -m60 http://{host}/big | sha256sum");
            assert_eq!(near.pod.netns().must(&["sh", "-c", &fetch]).trim(), wanted.trim());
        }
        ping_sizes(&near.pod, ipv4);
        let gateway = "ping -c1 -W5 169.254.1.1";
        guest.must(gateway);
    }
    drop(guest);
    vm.delete();
    near.delete();
    network.stop();
}

#[test]
fn a_guest_keeps_its_network_over_restarts_of_the_daemon() {
    over_restarts_with(Card { packed: false, offloads: true });
}

#[test]
fn a_guest_that_would_take_packed_rings_and_has_no_offloads_keeps_its_network_over_restarts_of_the_daemon() {
    over_restarts_with(Card { packed: true, offloads: false });
}

#[test]
fn an_application_that_listens_keeps_its_network_over_restarts_of_the_daemon() {
    let mut network = Network::for_plugin(|config| {
        let socket = config["api"]["socket"].as_str().unwrap().replace("api.sock", "app.vhost");
        config["ports"] = json!([{"name": "app", "kind": "vhost-user", "mac": "02:4d:00:00:00:0a",
            "addresses": ["10.77.9.1", "fd00:77::9:1"], "vhostUser": {"socket": socket, "mode": "client"}}]);
    });
    let near = Attached::add(network.daemon(), "near", Kind::Tap);
    let socket = network.daemon().room().join("app.vhost");
    let app = Pod::listening("app", &socket, "02:4d:00:00:00:0a", ["10.77.9.1", "fd00:77::9:1"]);
    talk_over_restarts(&mut network, &near.pod, &app);
    drop(app);
    near.delete();
    // The application's own socket.
    let _ = std::fs::remove_file(&socket);
    network.stop();
}

/// DPDK's virtio-user connects once: an application that does not listen is to be started again itself.
#[test]
fn an_application_that_connects_has_its_network_again_when_it_is_started_again() {
    let mut network = Network::for_plugin(|_| ());
    let near = Attached::add(network.daemon(), "near", Kind::Tap);
    let mut app = Attached::add(network.daemon(), "app", Kind::Vhost);
    answers(&near.pod, &app.pod, "at first");
    for killed in [true, false] {
        restart(&mut network, killed);
        app.carry();
        answers(&near.pod, &app.pod, "after the restart");
    }
    app.delete();
    near.delete();
    network.stop();
}

fn talk_over_restarts(network: &mut Network, near: &Pod, app: &Pod) {
    answers(near, app, "at first");
    let _servers = [Echo::start(app, PORT), Echo::start(near, PORT)];
    for killed in [true, false, true] {
        restart(network, killed);
        answers(near, app, "after the restart");
        for (from, to) in [(near, app), (app, near)] {
            for family in Family::BOTH {
                assert_eq!(exchange(from, to.at(family, PORT), 1 << 20).unwrap(), to.name);
                datagram(from, to.at(family, PORT), 1400).unwrap();
            }
        }
    }
}
