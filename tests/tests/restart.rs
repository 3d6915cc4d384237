//! Connections while the daemon is killed, or ended, and started again: they go on as they were translated.
//!
//! ```text
//!   client (TAP) ─┐
//!   tap, xdp ─────┴─ node ══ world
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{
    Attached, Conversation, Echo, EndpointSpec, Fabric, Family, Kind, Plan, Pod, Protocol, Role, ServiceSpec,
    UdpClient, ask, expose,
};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PORT: u16 = 80;
const TARGET: u16 = 8080;
const NODE_PORT: u16 = 30_080;
const CLOCK: u16 = 8037;
/// Longer than a kernel waits before it sends again what was lost meanwhile.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node with a client and two servers, which have their interfaces from the plugin.
struct Stage {
    fabric: Fabric,
    client: Attached,
    servers: [Attached; 3],
    _echoes: Vec<Echo>,
    _clocks: Vec<Clock>,
}

/// A TCP server that speaks first and always, and never listens.
struct Clock {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Clock {
    fn start(pod: &Pod) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, listener) =
            (Arc::clone(&stop), pod.netns().within(|| TcpListener::bind(("::", CLOCK)).unwrap()));
        listener.set_nonblocking(true).unwrap();
        let work = move || {
            let mut listeners: Vec<TcpStream> = Vec::new();
            while !stopped.load(Ordering::Relaxed) {
                listeners.extend(listener.accept().map(|(stream, _)| stream));
                listeners.retain_mut(|stream| stream.write_all(b"tick").is_ok());
                std::thread::sleep(Duration::from_millis(10));
            }
        };
        Clock { stop, thread: Some(std::thread::spawn(work)) }
    }
}

impl Drop for Clock {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

fn service(name: &str, number: u8, target: u16) -> ServiceSpec {
    ServiceSpec::numbered(name, number, PORT, target)
}

fn address(spec: &ServiceSpec, family: Family) -> SocketAddr {
    let of = |address: &&std::net::IpAddr| address.is_ipv4() == (family == Family::V4);
    SocketAddr::new(*spec.cluster_ips.iter().find(of).unwrap(), PORT)
}

/// A service in both families, so many times each.
fn ends(spec: &ServiceSpec, count: usize) -> impl Iterator<Item = SocketAddr> {
    Family::BOTH.into_iter().flat_map(move |family| std::iter::repeat_n(address(spec, family), count))
}

impl Stage {
    fn set() -> Self {
        let fabric = Fabric::start(&Plan::bridge(&[Role::Millrace]));
        let daemon = fabric.node(0).daemon();
        let client = Attached::add(daemon, "client", Kind::Veth);
        let servers = [("tap", Kind::Tap), ("veth", Kind::Veth), ("xdp", Kind::AfXdp)]
            .map(|(name, kind)| Attached::add(daemon, name, kind));
        let ends = servers.iter().flat_map(|server| server.pod.addresses());
        let ends: Vec<EndpointSpec> =
            ends.map(|address| EndpointSpec::ready(address, &fabric.node(0).name)).collect();
        fabric.apply(|manifests| {
            for (spec, affinity) in Self::services().iter().zip(["None", "None", "ClientIP"]) {
                manifests.service_with(spec, |object| {
                    object["spec"]["sessionAffinity"] = json!(affinity);
                    if spec.name == "web" {
                        expose(object, "NodePort", NODE_PORT);
                    }
                });
                manifests.endpoints_as(spec, &ends);
            }
        });
        let mut echoes: Vec<Echo> = servers.iter().map(|server| Echo::start(&server.pod, TARGET)).collect();
        echoes.push(Echo::start(fabric.world(), TARGET));
        let clocks = servers.iter().map(|server| Clock::start(&server.pod)).collect();
        Stage { fabric, client, servers, _echoes: echoes, _clocks: clocks }
    }

    fn services() -> [ServiceSpec; 3] {
        [service("web", 20, TARGET), service("clock", 21, CLOCK), service("home", 22, TARGET)]
    }

    fn restart(&mut self, killed: bool) {
        let daemon = self.fabric.node_mut(0).daemon_mut();
        match killed {
            true => daemon.kill(),
            false => daemon.end(),
        }
        // Those who speak go on to speak.
        std::thread::sleep(Duration::from_millis(300));
        daemon.restart();
    }

    fn strike(self) {
        for attached in self.servers {
            attached.delete();
        }
        self.client.delete();
        self.fabric.stop();
    }
}

/// Both ways of translation: to services, and of the source to the world and from it.
fn conversations(stage: &Stage) -> Vec<(String, Conversation)> {
    let [web, ..] = Stage::services();
    let (client, world) = (&stage.client.pod, stage.fabric.world());
    let mut open = Vec::new();
    for family in Family::BOTH {
        let at_node = SocketAddr::new(stage.fabric.node(0).at(family), NODE_PORT);
        let ways = [
            (client, address(&web, family)),
            (client, world.at(family, TARGET)),
            (world, at_node),
            (client, stage.servers[0].pod.at(family, TARGET)),
        ];
        for (from, to) in ways {
            for _ in 0..6 {
                let mut talk = Conversation::open(from, to).unwrap();
                talk.set_patience(PATIENCE);
                talk.say("before").unwrap();
                open.push((format!("{} → {to}", from.name), talk));
            }
        }
    }
    open
}

#[test]
fn tcp_connections_of_all_kinds_go_on_after_a_kill_and_after_an_end() {
    let mut stage = Stage::set();
    let mut open = conversations(&stage);
    for killed in [true, false, true] {
        stage.restart(killed);
        for (way, talk) in &mut open {
            talk.say("after").unwrap_or_else(|error| panic!("{way}, killed: {killed}: {error}"));
        }
    }
    let flows = stage.fabric.node(0).daemon().cli_json(&["flow", "list"]);
    let translated = flows["flows"].as_array().unwrap().iter().filter(|flow| flow["service"].is_string());
    assert!(translated.count() >= 24, "{flows:#}");
    drop(open);
    stage.strike();
}

#[test]
fn a_server_that_speaks_first_after_the_restart_is_still_the_service() {
    let mut stage = Stage::set();
    let [_, clock, _] = Stage::services();
    let mut heard: Vec<TcpStream> = ends(&clock, 4)
        .map(|to| stage.client.pod.netns().within(move || TcpStream::connect(to).unwrap()))
        .collect();
    for killed in [true, false] {
        stage.restart(killed);
        for stream in &mut heard {
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            // More than can have been on its way.
            let mut ticks = [0; 400];
            stream.read_exact(&mut ticks).unwrap_or_else(|error| panic!("killed: {killed}: {error}"));
            assert_eq!(ticks, *b"tick".repeat(100));
        }
    }
    drop(heard);
    stage.strike();
}

#[test]
fn udp_flows_and_clients_stay_with_their_endpoints() {
    let mut stage = Stage::set();
    let [web, _, home] = Stage::services();
    let client = &stage.client.pod;
    let open: Vec<(UdpClient, String)> = ends(&web, 12)
        .map(|to| {
            let talk = UdpClient::open(client, to).unwrap();
            let name = talk.ask().unwrap().name;
            (talk, name)
        })
        .collect();
    let homes = Family::BOTH.map(|family| ask(client, Protocol::Tcp, address(&home, family)).unwrap().name);
    for killed in [true, false] {
        stage.restart(killed);
        for (talk, name) in &open {
            assert_eq!(&talk.ask().unwrap().name, name, "killed: {killed}");
        }
        for (family, home_was) in Family::BOTH.into_iter().zip(&homes) {
            for _ in 0..8 {
                let answer = ask(&stage.client.pod, Protocol::Tcp, address(&home, family)).unwrap();
                assert_eq!(&answer.name, home_was, "{family:?}, killed: {killed}");
            }
        }
    }
    stage.strike();
}

#[test]
fn connections_that_are_made_and_ended_at_the_moment_of_a_kill_do_no_harm() {
    let mut stage = Stage::set();
    let [web, ..] = Stage::services();
    let mut open = conversations(&stage);
    let stop = Arc::new(AtomicBool::new(false));
    // Connections that live for a moment, always some of them half made or half forgotten.
    let crowd: Vec<JoinHandle<u32>> = ends(&web, 3)
        .map(|to| {
            let (stop, netns) = (Arc::clone(&stop), stage.client.pod.netns().borrowed());
            std::thread::spawn(move || {
                let mut made = 0;
                while !stop.load(Ordering::Relaxed) {
                    let connect = move || TcpStream::connect_timeout(&to, Duration::from_millis(100));
                    made += u32::from(netns.within(connect).is_ok());
                }
                made
            })
        })
        .collect();
    for round in 0..6 {
        std::thread::sleep(Duration::from_millis(150 + 37 * round));
        stage.restart(true);
    }
    stop.store(true, Ordering::Relaxed);
    let made: u32 = crowd.into_iter().map(|thread| thread.join().unwrap()).sum();
    assert!(made > 100, "{made} connections were made");
    for (way, talk) in &mut open {
        talk.say("after").unwrap_or_else(|error| panic!("{way}: {error}"));
    }
    let count = usize::try_from(stage.fabric.node(0).daemon().status().flows).unwrap();
    assert!((open.len()..open.len() + made as usize + 100).contains(&count), "{count} flows, {made} made");
    drop(open);
    stage.strike();
}
