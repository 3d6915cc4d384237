//! A daemon that follows a large cluster: what that costs, how fast a change is in use, and a burst of changes.
//!
//! ```text
//!   API server (in the node's namespace) ──► node ══ client (TAP)
//!                                             ╚═════ server (AF_XDP): behind demo/web
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_api::{Status, Tables, path};
use millrace_apiserver::{ApiServer, Store};
use millrace_tests::{
    Attached, Daemon, Echo, EndpointSpec, Family, Kind, Metrics, Network, Observed, ServiceSpec, Session,
    Size, eventually, own_node, pod, serve_next, slice,
};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const TARGET: u16 = 8080;
/// How long the control thread may rest between two publications while changes wait.
const REST: Duration = Duration::from_millis(3);

fn version(daemon: &Daemon) -> u64 {
    daemon.client().get::<Tables>(path::TABLES).unwrap().version
}

/// How long changes of EndpointSlices took to be used by every worker.
fn observed(daemon: &Daemon) -> Observed {
    Metrics::of(daemon.netns()).histogram("millrace_programming_duration_seconds", "kind=\"EndpointSlice\"")
}

/// The processor time that a process has used.
fn processor_time(pid: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    // A hundred a second on every Linux.
    Duration::from_millis(ticks * 10)
}

/// A daemon that follows this cluster, and the server.
fn follow(network: &mut Network, store: &Arc<Store>) -> ApiServer {
    let daemon = network.daemon_mut();
    daemon.end();
    let server = serve_next(daemon, store);
    daemon.restart();
    server
}

#[test]
fn a_burst_of_ten_thousand_changes_costs_few_publications_and_holds_up_nobody() {
    const SERVICES: u32 = 10_000;
    let mut network = Network::for_plugin(|_| ());
    let [client, server] = [("client", Kind::Tap), ("server", Kind::AfXdp)]
        .map(|(name, kind)| Attached::add(network.daemon(), name, kind));
    let _echo = Echo::start(&server.pod, TARGET);
    let store = Arc::new(Store::default());
    let web = ServiceSpec::numbered("web", 20, 80, TARGET);
    let ready = EndpointSpec::ready(server.pod.address(Family::V4), Network::node_name());
    store.apply_all([own_node(), web.object(), web.slice("IPv4", "IPv4", [&ready])]);
    let size = Size { nodes: 0, pods: 0, services: SERVICES, endpoints: 2 };
    store.apply_all(size.objects());
    let api = follow(&mut network, &store);
    let daemon = network.daemon();
    let talk = Session::open(&client.pod, SocketAddr::new(web.cluster_ips[0], 80));
    let (before, first) = (observed(daemon), version(daemon));

    // Somebody asks all the time.
    let done = AtomicBool::new(false);
    let (took, longest) = std::thread::scope(|scope| {
        let asking = scope.spawn(|| {
            let mut longest = Duration::ZERO;
            while !done.load(Ordering::Relaxed) {
                let begin = Instant::now();
                daemon.client().get::<Status>(path::STATUS).expect("requests are answered meanwhile");
                longest = longest.max(begin.elapsed());
                std::thread::sleep(Duration::from_millis(5));
            }
            longest
        });
        let begin = Instant::now();
        store.apply_all((0..SERVICES).map(|number| slice(number, 1, 2)));
        eventually("all changes are in use", Duration::from_secs(30), || {
            observed(daemon).since(&before).count() >= u64::from(SERVICES)
        });
        let took = begin.elapsed();
        done.store(true, Ordering::Relaxed);
        (took, asking.join().unwrap())
    });
    let published = version(daemon) - first;
    let told = talk.close();
    let changes = observed(daemon).since(&before);
    eprintln!(
        "{SERVICES} changes in use after {took:?}, of each {:?} at the mean and {:?} at p99; {published} publications; \
         the longest request {longest:?}, the longest word of a connection {:?}",
        changes.mean(),
        changes.quantile(0.99),
        told.longest
    );
    assert_eq!(changes.count(), u64::from(SERVICES), "each is measured once");
    let most = took.as_micros() / REST.as_micros() + 2;
    assert!(u128::from(published) <= most, "{published} publications in {took:?}");
    assert!(longest < Duration::from_millis(500), "a request took {longest:?}");
    assert!(told.longest < Duration::from_millis(500), "an answer took {:?}", told.longest);
    // What comes alone afterwards waits for nobody.
    let (before, begin) = (observed(daemon), Instant::now());
    store.apply(slice(7, 2, 2));
    eventually("it is in use", Duration::from_secs(5), || observed(daemon).since(&before).count() == 1);
    assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
    drop(api);
    for pod in [client, server] {
        pod.delete();
    }
    network.stop();
}

/// Measures: how long a daemon takes to know a large cluster, what that costs, and how long a change then takes.
fn measure(own_pods: u32) {
    let mut network = Network::for_plugin(|_| ());
    let store = Arc::new(Store::default());
    store.apply(own_node());
    store.apply_all(Size::LARGE.objects());
    store.apply_all((0..own_pods).map(|number| pod(1_000_000 + number, Network::node_name())));
    let server = follow(&mut network, &store);
    let daemon = network.daemon();
    let status = daemon.status();
    let used = processor_time(status.pid);
    assert_eq!(status.services, 10_000);
    let of_process = |name: &str| {
        let text = std::fs::read_to_string(format!("/proc/{}/status", status.pid)).unwrap();
        text.lines().find_map(|line| line.strip_prefix(name).map(|rest| rest.trim().to_owned())).unwrap()
    };
    let load = Metrics::of(daemon.netns()).get("millrace_source_load_seconds{}").unwrap();
    eprintln!(
        "{} objects, {own_pods} of them pods of this node, in the tables after {load:.3} s with {used:?} of processor time; \
         resident {}, at most {}",
        status.source.objects,
        of_process("VmRSS:"),
        of_process("VmHWM:")
    );
    let rest = Duration::from_secs(10);
    let idle = processor_time(status.pid);
    std::thread::sleep(rest);
    let idle = processor_time(status.pid) - idle;
    eprintln!("while nothing changes {:.2} % of a core", 100.0 * idle.as_secs_f64() / rest.as_secs_f64());

    let (before, first, used) = (observed(daemon), version(daemon), processor_time(status.pid));
    for round in 0..1_000 {
        store.apply(slice(round * 7 % 10_000, 1 + round / 10_000, 10));
        std::thread::sleep(Duration::from_millis(10));
    }
    eventually("all changes are in use", Duration::from_secs(5), || {
        observed(daemon).since(&before).count() == 1_000
    });
    let changes = observed(daemon).since(&before);
    let used = processor_time(status.pid) - used;
    eprintln!(
        "a change of one endpoint is in use after {:?} at the mean, p50 ≤ {:?}, p99 ≤ {:?}, all ≤ {:?}, and costs {:?} of \
         processor time; {} publications of 1,000 changes",
        changes.mean(),
        changes.quantile(0.5).unwrap(),
        changes.quantile(0.99).unwrap(),
        changes.quantile(1.0).unwrap(),
        used / 1_000,
        version(daemon) - first
    );
    if !cfg!(debug_assertions) {
        assert!(load <= 2.0, "{load} s");
        assert!(changes.quantile(0.99).unwrap() <= Duration::from_millis(5));
    }
    drop(server);
    network.stop();
}

#[test]
#[ignore = "measures; run with --release, --ignored and --nocapture"]
fn a_large_cluster_is_known_and_followed() {
    measure(0);
}

#[test]
#[ignore = "measures; run with --release, --ignored and --nocapture"]
fn a_large_cluster_is_known_and_followed_by_a_node_with_pods_of_its_own() {
    measure(250);
}
