//! A NIC that is taken from the kernel: the host goes on speaking by its leg, and nobody on the wire notices.
//!
//! ```text
//!   neighbour 192.0.2.254 ──── up0 ════ node ════ millrace0 192.0.2.1  host
//! ```
//! `net_af_packet` on a veth stands for the driver of a PCI device. Unlike that, the interface stays in the kernel's sight.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_tests::{Family, Kind, Netns, Network, eventually, ping};
use serde_json::json;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(15);
const SSH: u16 = 2222;
/// Nothing on the way back is to take longer: one retransmission of TCP, and the next.
const PATIENCE: Duration = Duration::from_millis(900);

fn network() -> Network {
    let network = Network::on_host(&[Kind::AfXdp], |config| {
        config["uplinks"] = json!([
            { "interface": "up0", "kind": "dpdk", "dpdk": { "devargs": "net_af_packet0,iface=up0" } },
        ]);
    });
    // A wire carries whole packets. A packet socket on a veth would see what is left to the NIC.
    network.neighbour().must(&["ethtool", "-K", "eth0", "tx", "off"]);
    network
}

fn addresses(host: &Netns, interface: &str) -> String {
    host.run(&["ip", "-o", "addr", "show", "dev", interface, "scope", "global"]).stdout
}

fn has_both(host: &Netns, interface: &str) -> bool {
    let shown = addresses(host, interface);
    Family::BOTH.iter().all(|&family| shown.contains(&Network::node_address(family).to_string()))
}

fn default_route(host: &Netns) -> String {
    host.must(&["ip", "route", "show", "default"])
}

/// A connection from the neighbour to a server of the host's, with a word and its answer every 20 ms.
struct Session {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Duration)>,
}

impl Session {
    fn start(network: &Network, family: Family) -> Self {
        let address = SocketAddr::new(Network::node_address(family), SSH);
        let listener = network.host().netns().within(move || TcpListener::bind(address).unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut word = [0; 8];
            while stream.read_exact(&mut word).is_ok() && stream.write_all(&word).is_ok() {}
        });
        let mut stream = network.neighbour().within(move || TcpStream::connect(address).unwrap());
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let (mut words, mut worst) = (0_u32, Duration::ZERO);
            while !asked.load(Ordering::Relaxed) {
                let (began, mut answer) = (Instant::now(), [0; 8]);
                let word = u64::from(words).to_be_bytes();
                stream.write_all(&word).expect("the session lasts");
                stream.read_exact(&mut answer).expect("the session lasts");
                assert_eq!(answer, word);
                (words, worst) = (words + 1, worst.max(began.elapsed()));
                std::thread::sleep(Duration::from_millis(20));
            }
            (words, worst)
        });
        Session { stop, thread }
    }

    /// Ends it; gives the longest time that an answer took.
    fn end(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let (words, worst) = self.thread.join().unwrap();
        assert!(words > 10, "{words} words");
        worst
    }
}

fn taken(network: &Network) {
    let host = network.host().netns();
    eventually("the host speaks by its leg", SOON, || has_both(host, "millrace0"));
    eventually("the NIC is empty", SOON, || addresses(host, "up0").is_empty());
    assert!(default_route(host).contains("dev millrace0"), "{}", default_route(host));
}

fn given_back(host: &Netns) {
    eventually("the NIC is the kernel's", SOON, || has_both(host, "up0"));
    assert!(default_route(host).contains("dev up0"), "{}", default_route(host));
}

#[test]
fn sessions_of_the_host_survive_that_its_nic_is_taken_given_back_and_lost_by_a_kill() {
    let mut network = network();
    taken(&network);
    let sessions = Family::BOTH.map(|family| Session::start(&network, family));
    for family in Family::BOTH {
        let address = Network::neighbour_address(family);
        eventually("the host reaches its neighbour", SOON, || {
            ping(network.host(), &address.to_string(), 1400)
        });
    }
    network.daemon_mut().kill();
    let killed = Instant::now();
    given_back(network.host().netns());
    assert!(killed.elapsed() < Duration::from_secs(2), "{:?}", killed.elapsed());

    network.daemon_mut().restart();
    taken(&network);
    network.daemon_mut().end();
    given_back(network.host().netns());
    network.daemon_mut().restart();
    taken(&network);
    std::thread::sleep(Duration::from_millis(300));
    for session in sessions {
        let worst = session.end();
        println!("an answer took at most {worst:?}");
        assert!(worst < PATIENCE, "{worst:?}");
    }
    network.stop();
}

#[test]
fn a_daemon_that_does_not_come_up_leaves_the_nic_alone() {
    let mut network = network();
    taken(&network);
    network.daemon_mut().kill();
    given_back(network.host().netns());
    let file = network.daemon().room().join("millrace.yaml");
    let good = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, good.replace("\"dpdk\"", "\"ndis\"")).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| network.daemon_mut().restart()));
    assert!(outcome.is_err());
    given_back(network.host().netns());
    std::fs::write(&file, good).unwrap();
    network.daemon_mut().restart();
    taken(&network);
    network.stop();
}

#[test]
fn what_is_given_to_the_nic_later_is_moved_and_comes_back_with_the_rest() {
    let mut network = network();
    taken(&network);
    let host = network.host().netns();
    host.must(&["ip", "addr", "add", "198.51.100.9/24", "dev", "up0"]);
    eventually("it is moved", SOON, || addresses(host, "millrace0").contains("198.51.100.9"));
    eventually("it is moved", SOON, || !addresses(host, "up0").contains("198.51.100.9"));
    network.daemon_mut().kill();
    given_back(network.host().netns());
    assert!(addresses(network.host().netns(), "up0").contains("198.51.100.9"));
    network.daemon_mut().restart();
    taken(&network);
    network.stop();
}
