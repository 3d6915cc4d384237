//! A TAP pod while the daemon is killed and started again: its kernel remembers the gateway.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Attached, Echo, Family, Kind, Network, UdpClient};
use std::time::{Duration, Instant};

const PORT: u16 = 7007;
const PATIENCE: Duration = Duration::from_secs(20);

/// How long after `begin` the other pod answers by this family.
fn answered(from: &Attached, to: &Attached, family: Family, begin: Instant) -> Duration {
    let client = UdpClient::open(&from.pod, to.pod.at(family, PORT)).unwrap();
    while client.ask_within(Duration::from_millis(20)).is_err() {
        assert!(begin.elapsed() < PATIENCE, "{family:?} is not answered");
    }
    begin.elapsed()
}

#[test]
fn a_tap_pod_speaks_ipv6_as_soon_as_ipv4_after_the_daemon_was_killed() {
    let mut network = Network::for_plugin(|_| ());
    let (a, b) =
        (Attached::add(network.daemon(), "a", Kind::Tap), Attached::add(network.daemon(), "b", Kind::Tap));
    let _server = Echo::start(&b.pod, PORT);
    for family in Family::BOTH {
        answered(&a, &b, family, Instant::now());
    }
    for round in 0..3 {
        network.daemon_mut().kill();
        let known = a.pod.netns().must(&["sh", "-c", "ip -4 neigh; ip -6 neigh"]);
        for gateway in ["169.254.", "fe80::"] {
            let line = known.lines().find(|line| line.starts_with(gateway));
            assert!(line.is_some_and(|line| line.contains("lladdr")), "{gateway} is forgotten: {known}");
        }
        let begin = Instant::now();
        network.daemon_mut().respawn();
        let took = std::thread::scope(|scope| {
            let each = Family::BOTH.map(|family| {
                let (a, b) = (&a, &b);
                scope.spawn(move || answered(a, b, family, begin))
            });
            each.map(|thread| thread.join().unwrap())
        });
        println!("round {round}: IPv4 after {:?}, IPv6 after {:?}", took[0], took[1]);
        assert!(took[1] < took[0] + Duration::from_millis(300), "{took:?}");
        network.daemon_mut().wait_ready();
    }
    a.delete();
    b.delete();
    network.stop();
}
