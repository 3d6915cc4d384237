//! In network namespaces of their own, which go with the test.

use super::*;
use nix::sched::{CloneFlags, unshare};
use std::collections::BTreeSet;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

fn run(line: &str) -> String {
    let arguments: Vec<&str> = line.split_whitespace().collect();
    let output = Command::new(arguments[0]).args(&arguments[1..]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A namespace of this test's own with a veth pair, `eth0` here and `far` in a namespace that goes with this.
struct Wire(String);

impl Wire {
    /// `None`, and a line, where that is not allowed.
    fn new() -> Option<Self> {
        if unshare(CloneFlags::CLONE_NEWNET).is_err() {
            eprintln!("skipped: needs the right to make network namespaces");
            return None;
        }
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let far = format!("mrkn{}-{number}", std::process::id());
        run(&format!("ip netns add {far}"));
        run("ip link set lo up");
        let wire = Wire(far);
        wire.plug();
        Some(wire)
    }

    fn plug(&self) {
        let far = &self.0;
        run(&format!(
            "ip link add eth0 address 02:00:00:00:00:01 type veth peer far address 02:00:00:00:00:02 netns {far}"
        ));
        // The kernel asks from its link-local address, which would be tentative for a second.
        std::fs::write("/proc/sys/net/ipv6/conf/eth0/accept_dad", "0").unwrap();
        run("ip addr add 192.0.2.1/24 dev eth0");
        run("ip -6 addr add 2001:db8::1/64 dev eth0 nodad");
        run("ip link set eth0 up");
        self.far("ip addr add 192.0.2.2/24 dev far");
        self.far("ip -6 addr add 2001:db8::2/64 dev far nodad");
        self.far("ip link set far up");
    }

    fn far(&self, line: &str) -> String {
        run(&format!("ip netns exec {} {line}", self.0))
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn eth0() -> InterfaceName {
    "eth0".parse().unwrap()
}

/// What is told of `eth0`.
struct Told {
    _follower: Follower,
    views: Receiver<View>,
    last: View,
}

impl Told {
    fn new() -> Self {
        let (tell, views) = channel();
        let follower =
            Follower::start(BTreeSet::from([eth0()]), move |view| tell.send(view).is_ok()).unwrap();
        Told { _follower: follower, views, last: View::default() }
    }

    /// Waits until the view is so.
    fn until(&mut self, what: &str, holds: impl Fn(&View) -> bool) -> Duration {
        let began = Instant::now();
        while !holds(&self.last) {
            let left = Duration::from_secs(5).saturating_sub(began.elapsed());
            self.last =
                self.views.recv_timeout(left).unwrap_or_else(|_| panic!("{what}: {}", brief(&self.last)));
        }
        began.elapsed()
    }
}

fn brief(view: &View) -> String {
    let neighbours: Vec<_> = view.neighbours.iter().take(9).collect();
    let (routes, count) = (view.routes.len(), view.neighbours.len());
    format!("{:?}, {routes} routes, {count} neighbours, as {neighbours:?}", view.interfaces)
}

fn routes(view: &View) -> Vec<String> {
    let text = |hop: &Hop| hop.gateway.map_or("link".to_owned(), |gateway| gateway.to_string());
    let one = |route: &Route| {
        let hops: Vec<String> = route.hops.iter().map(text).collect();
        let refuses = route.refuses.map(|how| format!("{how:?}")).unwrap_or_default();
        format!("{} {} {}{refuses}", route.to, route.metric, hops.join("+"))
    };
    view.routes.iter().map(one).collect()
}

fn trust(view: &View, address: &str) -> Option<Trust> {
    view.neighbours.get(&(eth0(), address.parse().unwrap())).map(|neighbour| neighbour.trust)
}

#[test]
fn an_interface_is_told_with_its_addresses_and_routes() {
    let Some(_wire) = Wire::new() else { return };
    run("ip route add default via 192.0.2.2");
    run("ip -6 route add default via 2001:db8::2 metric 7");
    run("ip route add 10.8.0.0/16 proto 77 via 192.0.2.2");
    run("ip route add 10.9.0.0/16 nexthop via 192.0.2.2 nexthop via 192.0.2.3");
    run("ip route add 10.10.0.0/16 table 300 via 192.0.2.2");
    run("ip route add 198.51.100.0/24 dev eth0 metric 5");
    let mut told = Told::new();
    told.until("carrier", |view| view.interfaces.get(&eth0()).is_some_and(|eth0| eth0.is_up));
    let interface = &told.last.interfaces[&eth0()];
    assert_eq!((interface.mtu, interface.mac), (1500, MacAddr([2, 0, 0, 0, 0, 1])));
    let addresses: Vec<String> = interface.addresses.iter().map(IpNet::to_string).collect();
    assert_eq!(addresses, ["192.0.2.1/24", "2001:db8::1/64"]);
    assert_eq!(
        routes(&told.last),
        [
            "0.0.0.0/0 0 192.0.2.2",
            "10.9.0.0/16 0 192.0.2.2+192.0.2.3",
            "192.0.2.0/24 0 link",
            "198.51.100.0/24 5 link",
            "::/0 7 2001:db8::2",
            "2001:db8::/64 256 link",
        ]
    );
}

#[test]
fn routes_come_and_go_also_those_that_the_kernel_takes_away_in_silence() {
    let Some(wire) = Wire::new() else { return };
    let mut told = Told::new();
    told.until("the link's route", |view| view.routes.len() == 2);
    run("ip route add default via 192.0.2.2");
    let took = told.until("a route", |view| routes(view).contains(&"0.0.0.0/0 0 192.0.2.2".to_owned()));
    assert!(took < Duration::from_millis(500), "{took:?}");
    run("ip addr del 192.0.2.1/24 dev eth0");
    told.until("no route of IPv4", |view| view.routes.iter().all(|route| route.to.addr().is_ipv6()));
    run("ip addr add 192.0.2.7/24 dev eth0");
    told.until("the new address", |view| view.interfaces[&eth0()].addresses.len() == 2);
    run("ip link set eth0 mtu 1400");
    told.until("the MTU", |view| view.interfaces[&eth0()].mtu == 1400);
    wire.far("ip link set far down");
    told.until("no carrier", |view| !view.interfaces[&eth0()].is_up);
    wire.far("ip link set far up");
    told.until("carrier", |view| view.interfaces[&eth0()].is_up);
}

#[test]
fn routes_that_refuse_are_followed_in_both_families_whatever_interface_they_name() {
    let Some(_wire) = Wire::new() else { return };
    let mut told = Told::new();
    told.until("the link's routes", |view| view.routes.len() == 2);
    for (kind, number) in [("blackhole", 1), ("unreachable", 2), ("prohibit", 3), ("throw", 4)] {
        run(&format!("ip route add {kind} 10.{number}.0.0/16 metric 5"));
        run(&format!("ip -6 route add {kind} 2001:db8:{number}::/48"));
    }
    run("ip route add blackhole 10.9.0.0/16 table 300");
    told.until("eight routes that refuse", |view| view.routes.len() == 10);
    assert_eq!(
        routes(&told.last),
        [
            "192.0.2.0/24 0 link",
            "10.1.0.0/16 5 Blackhole",
            "10.2.0.0/16 5 Unreachable",
            "10.3.0.0/16 5 Prohibit",
            "10.4.0.0/16 5 Throw",
            "2001:db8::/64 256 link",
            "2001:db8:1::/48 1024 Blackhole",
            "2001:db8:2::/48 1024 Unreachable",
            "2001:db8:3::/48 1024 Prohibit",
            "2001:db8:4::/48 1024 Throw",
        ]
    );
    run("ip route del blackhole 10.1.0.0/16");
    told.until("one has gone", |view| view.routes.len() == 9);
}

#[test]
fn routes_by_next_hop_objects_are_followed() {
    let Some(_wire) = Wire::new() else { return };
    run("ip nexthop add id 1 via 192.0.2.2 dev eth0");
    run("ip nexthop add id 2 via 192.0.2.3 dev eth0");
    run("ip nexthop add id 10 group 1/2");
    run("ip route add 10.9.0.0/16 nhid 10");
    let mut told = Told::new();
    let has = |hops: &'static str| move |view: &View| routes(view).contains(&format!("10.9.0.0/16 0 {hops}"));
    told.until("two hops", has("192.0.2.2+192.0.2.3"));
    run("ip nexthop replace id 2 via 192.0.2.4 dev eth0");
    told.until("another hop", has("192.0.2.2+192.0.2.4"));
    run("ip nexthop replace id 10 group 1");
    told.until("one hop", has("192.0.2.2"));
}

#[test]
fn an_interface_that_comes_back_under_its_name_is_another_one() {
    let Some(wire) = Wire::new() else { return };
    let mut told = Told::new();
    told.until("it is there", |view| view.interfaces.contains_key(&eth0()));
    let before = told.last.interfaces[&eth0()].index;
    run("ip link del eth0");
    told.until("it is gone", |view| {
        view.interfaces.is_empty() && view.routes.is_empty() && view.neighbours.is_empty()
    });
    wire.plug();
    told.until("it is back", |view| view.interfaces.get(&eth0()).is_some_and(|eth0| eth0.is_up));
    assert_ne!(told.last.interfaces[&eth0()].index, before);
    run("ip link set eth0 down");
    run("ip link set eth0 name eth7");
    told.until("it was renamed", |view| view.interfaces.is_empty());
}

#[test]
fn neighbours_are_resolved_when_asked_for_and_failures_are_told() {
    let Some(_wire) = Wire::new() else { return };
    let mut told = Told::new();
    told.until("carrier", |view| view.interfaces.get(&eth0()).is_some_and(|eth0| eth0.is_up));
    let index = told.last.interfaces[&eth0()].index;
    let addresses: Vec<IpAddr> =
        ["192.0.2.2", "2001:db8::2", "192.0.2.99"].iter().map(|text| text.parse().unwrap()).collect();
    let asked: Vec<(u32, IpAddr)> = addresses.iter().map(|&address| (index, address)).collect();
    // The other end takes a moment before it answers for its address of IPv6.
    for _ in 0..20 {
        solicit(&asked).unwrap();
        std::thread::sleep(Duration::from_millis(100));
    }
    for address in ["192.0.2.2", "2001:db8::2"] {
        told.until(address, |view| trust(view, address) == Some(Trust::Confirmed));
    }
    let known = told.last.neighbours[&(eth0(), addresses[0])];
    assert_eq!(known.mac, Some(MacAddr([2, 0, 0, 0, 0, 2])));
    for option in ["ipv4", "ipv6"] {
        std::fs::write(format!("/proc/sys/net/{option}/neigh/eth0/retrans_time_ms"), "50").unwrap();
    }
    told.until("nobody answers", |view| trust(view, "192.0.2.99") == Some(Trust::Failed));
    std::fs::write("/proc/sys/net/ipv4/neigh/eth0/delay_first_probe_time", "1").unwrap();
    run("ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:09 nud stale dev eth0");
    told.until("stale", |view| trust(view, "192.0.2.2") == Some(Trust::Stale));
    solicit(&asked[..1]).unwrap();
    told.until("looked at again", |view| trust(view, "192.0.2.2") == Some(Trust::Confirmed));
    run("ip neigh replace 192.0.2.3 lladdr 02:00:00:00:00:03 nud permanent dev eth0");
    told.until("permanent", |view| trust(view, "192.0.2.3") == Some(Trust::Permanent));
    run("ip neigh del 192.0.2.3 dev eth0");
    told.until("gone", |view| trust(view, "192.0.2.3").is_none_or(|trust| trust == Trust::Failed));
}

#[test]
fn a_burst_of_changes_ends_in_what_is_there() {
    let Some(_wire) = Wire::new() else { return };
    let mut told = Told::new();
    told.until("the link's route", |view| view.routes.len() == 2);
    let one = |n: usize| {
        let (a, b, c, d) = (n / 250, n % 250, 3 + n % 200, n % 200);
        let route = format!("route add 10.{a}.{b}.0/24 via 192.0.2.2");
        format!("{route}\nneigh replace 192.0.2.{c} lladdr 02:00:00:00:00:{d:02x} dev eth0 nud permanent\n")
    };
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), (0..2_000).map(one).collect::<String>()).unwrap();
    run(&format!("ip -batch {}", file.path().display()));
    told.until("all of them", |view| view.routes.len() == 2_002 && view.neighbours.len() == 200);
}
