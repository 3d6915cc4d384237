//! The fabric itself, with kernels on all nodes: what goes wrong here is no matter of Millrace's.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Capture, Echo, Fabric, Family, Kind, Pings, Plan, Protocol, Role, Session, Way, assert_mtu, everything,
    hops, request, serve_sctp,
};

const PORT: u16 = 7007;

#[test]
fn kernels_reach_each_other_over_bridge_router_and_tunnel() {
    for (plan, way) in [
        (Plan::bridge as fn(&[Role]) -> Plan, Way::Native),
        (Plan::bridge, Way::Vxlan),
        (Plan::routed, Way::Vxlan),
    ] {
        let mut fabric = Fabric::start(&plan(&[Role::Kernel(way); 2]));
        for node in 0..2 {
            fabric.add_pod(node, Kind::Tap);
        }
        let (a, b) = (fabric.pod(0), fabric.pod(1));
        let _servers: Vec<_> =
            fabric.pods().iter().map(|pod| (Echo::start(pod, PORT), serve_sctp(pod, PORT))).collect();
        let _world = Echo::start(fabric.world(), PORT);
        let near = fabric.node(0).name.clone();
        let wire = Capture::start(fabric.netns(), "n1", "udp port 4789");
        for family in Family::BOTH {
            everything(a, b, family, PORT);
            assert_mtu(a, b.address(family), if way == Way::Vxlan { 1450 } else { 1500 });
            assert_eq!(hops(a, b.address(family)), 2);
            let host = &fabric.node(1).host;
            request(host, fabric.world().at(family, PORT), &Protocol::USUAL, "world", host.address(family));
        }
        assert_eq!(wire.lines().is_empty(), way == Way::Native, "{near}");
        let session = Session::open(a, b.at(Family::V4, PORT));
        let pings = Pings::start(b, a.address(Family::V6));
        std::thread::sleep(std::time::Duration::from_millis(300));
        let (session, pings) = (session.close(), pings.stop());
        assert!(session.answered > 50 && session.lost == 0, "{session:?}");
        assert!(pings.answered > 10 && pings.lost == 0, "{pings:?}");
        fabric.stop();
    }
}
