//! Nodes of Millrace's beside nodes whose packets the kernel alone carries.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Capture, Echo, Fabric, Family, Kind, NIC, Plan, Protocol, Role, VXLAN, Way, everything, exchange,
    request, serve_sctp, vtep_mac,
};
use serde_json::json;

const PORT: u16 = 7007;

/// Packets with more than so many bytes are super-frames.
fn has_large(lines: &[String]) -> bool {
    let length = |line: &str| line.split("length ").nth(1)?.split([':', ' ']).next()?.parse::<u32>().ok();
    lines.iter().filter_map(|line| length(line)).any(|length| length > 3000)
}

fn checked(plan: &Plan, way: Way) {
    let mode = if way == Way::Vxlan { "vxlan" } else { "native" };
    let mut fabric = Fabric::start_with(plan, |_, config| config["routing"] = json!({"mode": mode}));
    if way == Way::Native {
        fabric.route_pods();
    }
    let (ours, theirs) = (fabric.add_pod(0, Kind::Veth), fabric.add_pod(1, Kind::Tap));
    let second = fabric.add_pod(0, Kind::AfXdp);
    let [ours, theirs, second] = [ours, theirs, second].map(|at| fabric.pod(at));
    let _servers: Vec<_> =
        fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect();
    let wire = Capture::start(fabric.node(1).netns(), NIC, "greater 3000");
    for family in Family::BOTH {
        everything(ours, theirs, family, PORT);
        everything(theirs, ours, family, PORT);
        exchange(second, theirs.at(family, PORT), 4 << 20).unwrap();
    }
    let lines = wire.lines();
    assert!(has_large(&lines), "{way:?}: the kernel sends super-frames, which the wire cuts");
    // The kernel counts what it finds wrong.
    let counted =
        theirs.netns().must(&["nstat", "-asz", "TcpInCsumErrors", "UdpInCsumErrors", "Udp6InCsumErrors"]);
    for line in counted.lines().filter(|line| line.contains("CsumErrors")) {
        assert_eq!(line.split_whitespace().nth(1), Some("0"), "{line}");
    }
    // The kernel node itself, and ours.
    let (our_host, their_host) = (&fabric.node(0).host, &fabric.node(1).host);
    let _hosts = [Echo::start(our_host, PORT), Echo::start(their_host, PORT)];
    for family in Family::BOTH {
        request(ours, their_host.at(family, PORT), &Protocol::USUAL, &their_host.name, ours.address(family));
        request(our_host, theirs.at(family, PORT), &Protocol::USUAL, &theirs.name, our_host.address(family));
        request(theirs, our_host.at(family, PORT), &Protocol::USUAL, &our_host.name, theirs.address(family));
    }
    fabric.stop();
}

#[test]
fn a_kernel_node_with_plain_routes_is_a_peer() {
    checked(&Plan::bridge(&[Role::Millrace, Role::Kernel(Way::Native)]), Way::Native);
}

#[test]
fn a_kernel_node_with_plain_routes_behind_a_router_is_a_peer() {
    checked(&Plan::routed(&[Role::Millrace, Role::Kernel(Way::Native)]), Way::Native);
}

#[test]
fn a_kernel_node_with_a_vxlan_device_is_a_peer() {
    checked(&Plan::bridge(&[Role::Millrace, Role::Kernel(Way::Vxlan)]), Way::Vxlan);
}

#[test]
fn a_kernel_node_with_a_vxlan_device_over_ipv6_is_a_peer() {
    let plan = Plan::bridge(&[Role::Millrace, Role::Kernel(Way::Vxlan)]).only(Family::V6);
    let mut fabric = Fabric::start_with(&plan, |_, config| config["routing"] = json!({"mode": "vxlan"}));
    let (ours, theirs) = (fabric.add_pod(0, Kind::Veth), fabric.add_pod(1, Kind::Tap));
    let (ours, theirs) = (fabric.pod(ours), fabric.pod(theirs));
    let _servers: Vec<_> =
        fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect();
    everything(ours, theirs, Family::V6, PORT);
    everything(theirs, ours, Family::V6, PORT);
    fabric.stop();
}

#[test]
fn a_vxlan_device_with_a_mac_address_of_its_own_is_told_by_an_annotation() {
    let plan = Plan::routed(&[Role::Millrace, Role::Kernel(Way::Vxlan)]);
    let mut fabric = Fabric::start(&plan);
    fabric.node(1).netns().must(&["ip", "link", "set", VXLAN, "address", "02:11:22:33:44:55"]);
    // A changed MAC address takes the device's neighbours along.
    let own = vtep_mac(fabric.node(0).at(Family::V4));
    for hop in ["10.77.1.0", "fd00:77:0:1::"] {
        let lladdr = ["lladdr", &own, "dev", VXLAN, "nud", "permanent"];
        fabric.node(1).netns().must(&[&["ip", "neigh", "replace", hop][..], &lladdr].concat());
    }
    let (ours, theirs) = (fabric.add_pod(0, Kind::Veth), fabric.add_pod(1, Kind::Tap));
    fabric.apply(|_| {
        fabric.change_node(1, |node| {
            node["metadata"]["annotations"] = json!({"millrace.io/vtep-mac": "02:11:22:33:44:55"});
        });
    });
    let (ours, theirs) = (fabric.pod(ours), fabric.pod(theirs));
    let _server = Echo::start(theirs, PORT);
    for family in Family::BOTH {
        request(ours, theirs.at(family, PORT), &Protocol::USUAL, &theirs.name, ours.address(family));
        exchange(ours, theirs.at(family, PORT), 1 << 20).unwrap();
    }
    fabric.stop();
}
