//! Routes of the host's that refuse hold for its pods as for itself.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Fabric, Family, Kind, Plan, Pod, Role, eventually, ping};
use std::time::Duration;

const SOON: Duration = Duration::from_secs(5);

/// The world, and the range that it is in.
const RANGES: [&str; 2] = ["198.51.100.0/24", "2001:db8:ffff::/64"];

/// What a ping says that is not answered.
fn said(from: &Pod, to: &str) -> String {
    from.netns().run(&["ping", "-n", "-c1", "-W1", to]).stdout
}

#[test]
fn pods_meet_a_blackhole_an_unreachable_and_a_prohibited_range_as_the_host_does() {
    let mut fabric = Fabric::start(&Plan::bridge(&[Role::Millrace]));
    fabric.add_pod(0, Kind::Tap);
    let (pod, world, host) = (fabric.pod(0), fabric.world(), fabric.node(0).netns());
    let drops = |reason: &str| fabric.node(0).daemon().drops(reason);
    for (at, family) in Family::BOTH.into_iter().enumerate() {
        let to = world.address(family).to_string();
        eventually("the world answers", SOON, || ping(pod, &to, 56));
        for (kind, reason, told) in [
            ("blackhole", "route_blackhole", ["", ""]),
            ("unreachable", "route_unreachable", ["Destination Host Unreachable", "No route"]),
            ("prohibit", "route_prohibit", ["Packet filtered", "Administratively prohibited"]),
            ("throw", "no_route", ["Destination Host Unreachable", "Address unreachable"]),
        ] {
            host.must(&["ip", "route", "add", kind, RANGES[at]]);
            let before = drops(reason);
            eventually("it is refused", SOON, || !ping(pod, &to, 56));
            let heard = said(pod, &to);
            assert!(heard.contains(told[at]), "{kind} {family:?}: {heard}");
            if told[at].is_empty() {
                assert!(!heard.contains("From"), "in silence: {heard}");
            }
            assert!(drops(reason) > before, "{kind} {family:?}");
            let shown = fabric.node(0).daemon().cli(&["route", "list", "--to", &to]).stdout;
            assert!(shown.contains(RANGES[at]), "{shown}");
            host.must(&["ip", "route", "del", kind, RANGES[at]]);
            eventually("the world answers again", SOON, || ping(pod, &to, 56));
        }
        // A default route is gone before a blackhole that is there for that case.
        let family_flag = if family == Family::V4 { "-4" } else { "-6" };
        host.must(&["ip", family_flag, "route", "add", "blackhole", "default", "metric", "5000"]);
        assert!(ping(pod, &to, 56), "the least metric counts");
        let before = drops("route_blackhole");
        host.must(&[
            "ip",
            family_flag,
            "route",
            "del",
            "default",
            "metric",
            if at == 0 { "0" } else { "1024" },
        ]);
        eventually("the next one counts", SOON, || !ping(pod, &to, 56) && drops("route_blackhole") > before);
    }
    fabric.stop();
}
