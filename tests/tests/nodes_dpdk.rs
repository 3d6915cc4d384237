//! A NIC that is Millrace's own, by DPDK: the host goes on by `millrace0`, and has its NIC back afterwards.
//!
//! `net_af_packet` stands for the driver of a PCI device: the kernel sees the frames of the interface as well, but has no
//! addresses on it while the daemon has the NIC.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Echo, Fabric, Family, Kind, NIC, Netns, Plan, Protocol, Role, ServiceSpec, Session, datagram, eventually,
    exchange, expose, ping, request, serve_sctp,
};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;

const PORT: u16 = 7007;
const SOON: Duration = Duration::from_secs(15);

fn started(mode: &str) -> Fabric {
    Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |name, config: &mut Value| {
        config["routing"] = json!({"mode": mode});
        if name == "node-1" {
            config["uplinks"] = json!([{"interface": NIC, "kind": "dpdk",
                "dpdk": {"devargs": format!("net_af_packet0,iface={NIC}")}}]);
        }
    })
}

/// Addresses with their interfaces, and routes to elsewhere than pods and services.
fn addresses(netns: &Netns) -> String {
    let shown = netns.must(&[
        "sh",
        "-c",
        "ip -br addr show scope global; ip route show default; ip -6 route show default",
    ]);
    shown.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n").collect()
}

/// Waits until the first node speaks through its leg.
fn taken(fabric: &Fabric) {
    let mut shown = String::new();
    for _ in 0..100 {
        shown = addresses(fabric.node(0).netns());
        if shown.matches("default via").count() == 2 && shown.matches("dev millrace0").count() == 2 {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    panic!("the NIC is not taken: {shown}");
}

#[test]
fn the_host_and_its_pods_go_by_a_nic_that_is_millraces() {
    for mode in ["native", "vxlan"] {
        let mut fabric = started(mode);
        for node in 0..2 {
            fabric.add_pod(node, Kind::Tap);
        }
        let (host, world) = (&fabric.node(0).host, fabric.world());
        taken(&fabric);
        let (a, b) = (fabric.pod(0), fabric.pod(1));
        let _servers: Vec<_> =
            [a, b, host, world].map(|place| (Echo::start(place, PORT), serve_sctp(place, PORT))).into();
        let _other = Echo::start(&fabric.node(1).host, PORT);
        let spec = ServiceSpec::numbered("far", 10, 80, PORT);
        fabric.serve_with(&spec, &[1], |service| expose(service, "NodePort", 30_080));
        for family in Family::BOTH {
            // The host with the world, the other node and pods.
            for (from, to) in [
                (world, host),
                (host, world),
                (host, &fabric.node(1).host),
                (host, b),
                (b, host),
                (a, host),
                (host, a),
            ] {
                request(from, to.at(family, PORT), &Protocol::USUAL, &to.name, from.address(family));
                exchange(from, to.at(family, PORT), 2 << 20)
                    .unwrap_or_else(|error| panic!("{mode} {} → {} {family:?}: {error}", from.name, to.name));
                assert!(ping(from, &to.address(family).to_string(), 1400));
            }
            for (from, to) in [(a, b), (b, a)] {
                request(from, to.at(family, PORT), &Protocol::ALL, &to.name, from.address(family));
                exchange(from, to.at(family, PORT), 4 << 20).unwrap();
                // In fragments. This driver has the kernel put them together, and drops what does not fit a frame then.
                let found = (0..3).find_map(|_| datagram(from, to.at(family, PORT), 1600).ok());
                assert!(found.is_some(), "{mode} {} → {} {family:?}: 1600 bytes", from.name, to.name);
            }
            request(a, world.at(family, PORT), &Protocol::ALL, "world", host.address(family));
            let node_port = SocketAddr::new(host.address(family), 30_080);
            request(world, node_port, &Protocol::ALL, "b", host.address(family));
            exchange(world, node_port, 2 << 20).unwrap();
        }
        fabric.stop();
    }
}

#[test]
fn the_kernel_has_its_nic_back_as_it_was_however_the_daemon_ends() {
    let mut fabric = Fabric::start_with(
        &Plan::bridge(&[Role::Millrace, Role::Kernel(millrace_tests::Way::Native)]),
        |_, config| {
            config["uplinks"] = json!([{"interface": NIC, "kind": "dpdk",
            "dpdk": {"devargs": format!("net_af_packet0,iface={NIC}")}}]);
        },
    );
    let netns_name = fabric.node(0).netns().name().to_owned();
    taken(&fabric);
    let _server = Echo::start(&fabric.node(0).host, PORT);
    let world = |fabric: &Fabric, family: Family| {
        request(
            fabric.world(),
            fabric.node(0).host.at(family, PORT),
            &Protocol::USUAL,
            "node-1",
            fabric.world().address(family),
        );
    };
    // A session lives through it: TCP sends again what is lost meanwhile.
    let session = Session::open(fabric.world(), fabric.node(0).host.at(Family::V4, PORT));
    for how in ["end", "kill"] {
        Family::BOTH.iter().for_each(|family| world(&fabric, *family));
        let daemon = fabric.node_mut(0).daemon_mut();
        if how == "end" {
            daemon.end();
        } else {
            daemon.kill();
        }
        eventually("the NIC has its addresses back", SOON, || {
            let shown = addresses(fabric.node(0).netns());
            shown.contains("192.0.2.1/24") && shown.contains(&format!("dev {NIC}"))
        });
        let shown = addresses(fabric.node(0).netns());
        assert!(
            shown.contains("2001:db8:1::1/64") && shown.matches("default via").count() == 2,
            "{how} in {netns_name}: {shown}"
        );
        eventually("the host is reached", SOON, || ping(fabric.world(), "192.0.2.1", 56));
        Family::BOTH.iter().for_each(|family| world(&fabric, *family));
        fabric.node_mut(0).daemon_mut().restart();
        taken(&fabric);
    }
    let told = session.close();
    assert!(told.answered > 50, "{told:?}");
    fabric.stop();
}
