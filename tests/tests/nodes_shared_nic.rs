//! A NIC that the host goes on using while Millrace takes from it what is its own.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Attached, Conversation, Echo, Fabric, Family, Kind, NIC, Pings, Plan, Protocol, Role, ServiceSpec,
    Session, ask, exchange, ping, request, serve_sctp,
};
use serde_json::json;
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

const PORT: u16 = 7007;
const SSH: u16 = 22;

/// Everybody who would notice a lost packet: sessions and pings into the node and out of it, both families.
struct Watch(Vec<Session>, Vec<Pings>);

impl Watch {
    fn start(fabric: &Fabric) -> Self {
        let (host, world) = (&fabric.node(0).host, fabric.world());
        let mut sessions = Vec::new();
        let mut pings = Vec::new();
        for family in Family::BOTH {
            sessions.push(Session::open(world, host.at(family, SSH)));
            sessions.push(Session::open(host, world.at(family, SSH)));
            pings.push(Pings::start(world, host.address(family)));
        }
        Watch(sessions, pings)
    }

    fn assert_nothing_lost(self) {
        for session in self.0 {
            let told = session.close();
            println!("{told:?}");
            assert!(told.answered > 100 && told.lost == 0, "{told:?}");
        }
        for pings in self.1 {
            let told = pings.stop();
            println!("{told:?}");
            assert!(told.answered > 50 && told.lost == 0, "{told:?}");
        }
    }
}

#[test]
fn not_a_packet_of_the_hosts_is_lost_while_the_daemon_starts_stops_and_is_killed() {
    let mut fabric = Fabric::start(&Plan::bridge(&[Role::Millrace]));
    let _servers = [Echo::start(&fabric.node(0).host, SSH), Echo::start(fabric.world(), SSH)];
    let container = Attached::add(fabric.node(0).daemon(), "a", Kind::Tap);
    let watch = Watch::start(&fabric);
    std::thread::sleep(Duration::from_millis(300));
    for round in 0..3 {
        fabric.node_mut(0).daemon_mut().kill();
        std::thread::sleep(Duration::from_millis(200));
        fabric.node_mut(0).daemon_mut().restart();
        let (pod, world) = (&container.pod, fabric.world());
        millrace_tests::eventually("pods reach the world again", Duration::from_secs(10), || {
            ping(pod, &world.address(Family::V4).to_string(), 56)
        });
        exchange(pod, world.at(Family::V6, SSH), 1 << 20)
            .unwrap_or_else(|error| panic!("round {round}: {error}"));
        // An orderly end, and a new start.
        fabric.node_mut(0).daemon_mut().end();
        std::thread::sleep(Duration::from_millis(100));
        fabric.node_mut(0).daemon_mut().restart();
    }
    watch.assert_nothing_lost();
    container.delete();
    fabric.stop();
}

#[test]
fn the_hosts_own_ports_and_connections_stay_the_hosts() {
    let mut fabric = Fabric::start(&Plan::bridge(&[Role::Millrace]));
    fabric.add_pod(0, Kind::Tap);
    let (host, world, pod) = (&fabric.node(0).host, fabric.world(), fabric.pod(0));
    let _servers =
        [Echo::start(host, SSH), Echo::start(host, 6443), Echo::start(world, PORT), Echo::start(pod, PORT)];
    let _sctp = [serve_sctp(host, 3868), serve_sctp(world, PORT)];
    let range = host.netns().must(&["sysctl", "-n", "net.ipv4.ip_local_reserved_ports"]);
    assert_eq!(range.trim(), "49152-65535", "the host's programs do not get these");
    for family in Family::BOTH {
        for port in [SSH, 6443] {
            request(world, host.at(family, port), &Protocol::USUAL, &host.name, world.address(family));
            exchange(world, host.at(family, port), 4 << 20).unwrap();
            millrace_tests::datagram(world, host.at(family, port), 9000).unwrap();
        }
        request(world, host.at(family, 3868), &[Protocol::Sctp], &host.name, world.address(family));
        // Outgoing ones, with many source ports, beside those of pods.
        let mut talks = Vec::new();
        for _ in 0..30 {
            let talk = Conversation::open(host, world.at(family, PORT)).unwrap();
            assert!(talk.seen.port() < 49_152 && talk.seen.ip() == host.address(family), "{}", talk.seen);
            talks.push(talk);
            talks.push(Conversation::open(pod, world.at(family, PORT)).unwrap());
        }
        talks.iter_mut().for_each(|talk| talk.say("mine").unwrap());
        for _ in 0..10 {
            request(host, world.at(family, PORT), &Protocol::USUAL, "world", host.address(family));
        }
        assert!(ping(world, &host.address(family).to_string(), 4000));
        assert!(ping(host, &world.address(family).to_string(), 4000));
    }
    // What the kernel has refused or never heard of, it still does.
    let to = SocketAddr::new(host.address(Family::V4), 81);
    let refused =
        world.netns().within(move || TcpStream::connect_timeout(&to, Duration::from_secs(1)).unwrap_err());
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
    let silent = host.netns().within(|| UdpSocket::bind("0.0.0.0:5353").unwrap());
    silent.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    // Broadcasts, too.
    fabric.netns().must(&["python3", "-c", "import socket as s; k=s.socket(s.AF_INET,s.SOCK_DGRAM); k.setsockopt(s.SOL_SOCKET,s.SO_BROADCAST,1); k.sendto(b'x',('192.0.2.255',5353))"]);
    silent.recv(&mut [0; 8]).expect("a broadcast arrives");
    fabric.stop();
}

#[test]
fn several_queues_and_workers_carry_pods_and_the_host_beside_each_other() {
    let plan = Plan::bridge(&[Role::Millrace; 2]).queues(2);
    let mut fabric = Fabric::start_with(&plan, |_, config| config["workers"] = json!({"count": 2}));
    for node in 0..2 {
        fabric.add_pod(node, Kind::Tap);
    }
    let (a, b, host, world) = (fabric.pod(0), fabric.pod(1), &fabric.node(0).host, fabric.world());
    let _servers: Vec<_> = [a, b, host, world].map(|place| Echo::start(place, PORT)).into();
    let watch = Session::open(world, host.at(Family::V4, PORT));
    for family in Family::BOTH {
        let mut talks: Vec<Conversation> = (0..20)
            .flat_map(|_| [(a, b), (b, a), (a, world)])
            .map(|(from, to)| Conversation::open(from, to.at(family, PORT)).unwrap())
            .collect();
        for _ in 0..5 {
            talks.iter_mut().for_each(|talk| talk.say("a word").unwrap());
        }
        exchange(a, b.at(family, PORT), 8 << 20).unwrap();
        exchange(b, world.at(family, PORT), 8 << 20).unwrap();
        exchange(world, host.at(family, PORT), 8 << 20).unwrap();
    }
    let told = watch.close();
    assert_eq!(told.lost, 0, "{told:?}");
    fabric.stop();
}

#[test]
fn where_packets_are_taken_from_the_kernel_is_chosen_where_configured() {
    for (mode, shows) in
        [("native", Some("xdp ")), ("generic", Some("xdpgeneric")), ("tc", None), ("auto", None)]
    {
        let mut fabric = Fabric::start_with(&Plan::bridge(&[Role::Millrace; 2]), |_, config| {
            config["uplinks"][0]["afXdp"] = json!({"mode": mode});
        });
        for node in 0..2 {
            fabric.add_pod(node, Kind::Veth);
        }
        if mode == "generic" {
            // Only for a program in native mode does the other end of a veth cut what it sends, as a NIC's peer would.
            for far in ["n1", "n2"] {
                fabric.netns().must(&["ethtool", "-K", far, "tso", "off", "gso", "off"]);
            }
        }
        let shown = fabric.node(0).netns().must(&["ip", "-d", "link", "show", NIC]);
        let attached = ["xdpgeneric", "xdp "].into_iter().find(|program| shown.contains(program));
        assert_eq!(attached, shows, "{shown}");
        let (taps, number) = (
            fabric.node(0).netns().must(&["ip", "-br", "link", "show", "type", "tun"]),
            fabric.node(0).netns().must(&["cat", &format!("/sys/class/net/{NIC}/ifindex")]),
        );
        assert_eq!(taps.contains(&format!("mr-in{} ", number.trim())), shows.is_none(), "{taps}");
        let (a, b) = (fabric.pod(0), fabric.pod(1));
        let _servers = [Echo::start(b, PORT), Echo::start(fabric.world(), PORT)];
        for family in Family::BOTH {
            exchange(a, b.at(family, PORT), 4 << 20).unwrap();
            exchange(a, fabric.world().at(family, PORT), 4 << 20).unwrap();
            assert_eq!(ask(a, Protocol::Udp, b.at(family, PORT)).unwrap().name, b.name);
        }
        fabric.stop();
        // Nothing of it is left.
    }
}

#[test]
fn a_connection_that_is_older_than_the_frontend_at_its_end_goes_on_in_bulk() {
    let mut fabric = Fabric::start(&Plan::bridge(&[Role::Millrace]));
    fabric.add_pod(0, Kind::Tap);
    fabric.add_pod(0, Kind::Tap);
    let (client, world) = (fabric.pod(1), fabric.world());
    let _servers = [Echo::start(world, PORT), Echo::start(fabric.pod(0), PORT)];
    let mut talks = Family::BOTH.map(|family| Conversation::open(client, world.at(family, PORT)).unwrap());
    let taken = Family::BOTH.map(|family| world.address(family));
    fabric.serve_with(&ServiceSpec::numbered("taken", 30, PORT, PORT), &[0], |service| {
        service["spec"]["externalIPs"] = json!(taken);
    });
    for (family, talk) in Family::BOTH.into_iter().zip(&mut talks) {
        let answer = ask(client, Protocol::Tcp, world.at(family, PORT)).unwrap();
        assert_eq!(answer.name, fabric.pod(0).name, "a new connection is the service's");
        let begin = Instant::now();
        talk.say(&"many words ".repeat(100_000)).unwrap_or_else(|error| panic!("{family:?}: {error}"));
        assert!(begin.elapsed() < Duration::from_secs(3), "{family:?}: {:?}", begin.elapsed());
    }
    drop(talks);
    fabric.stop();
}
