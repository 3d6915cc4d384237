//! The real client beside an API server for tests, over a real socket.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_apiserver::{ApiServer, Store};
use millrace_model::{Kind, ObjectName};
use millrace_source::{Access, Change, KubernetesSource, Liveness, News};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

const NODE: &str = "node-a";
/// More than a back-off after a few failures.
const PATIENCE: Duration = Duration::from_secs(20);

/// A source that follows a server.
struct Followed {
    _source: KubernetesSource,
    liveness: Liveness,
    changes: Receiver<News>,
    _file: tempfile::NamedTempFile,
}

impl Followed {
    fn start(server: &ApiServer) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), server.kubeconfig()).unwrap();
        let access = Access { kubeconfig: Some(file.path().to_owned()), ..Access::default() };
        let (liveness, (tell, changes)) = (Liveness::default(), channel());
        let source = KubernetesSource::try_new(&access, NODE, &liveness, tell).unwrap();
        Followed { _source: source, liveness, changes, _file: file }
    }

    /// The next change.
    fn next(&self) -> Change {
        self.changes.recv_timeout(PATIENCE).expect("a change").change
    }

    /// All changes until everything is known.
    fn until_synced(&self) -> Vec<Change> {
        let mut changes = Vec::new();
        loop {
            match self.next() {
                Change::Synced => return changes,
                change => changes.push(change),
            }
        }
    }

    /// What comes until a namespace of this name does, which the caller has applied last.
    fn until_marker(&self, store: &Store, name: &str) -> Vec<Change> {
        store.apply(namespace(name));
        let mut changes = Vec::new();
        loop {
            match self.next() {
                Change::Apply(object) if *object.name() == ObjectName::cluster_wide(name) => return changes,
                change => changes.push(change),
            }
        }
    }

    fn is_silent(&self, time: Duration) -> bool {
        self.changes.recv_timeout(time).is_err()
    }
}

fn namespace(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
}

fn service(name: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "demo"},
        "spec": {"clusterIP": ip, "ports": [{"port": 80}]}})
}

fn slice(name: &str, address: &str) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "namespace": "demo", "labels": {"kubernetes.io/service-name": "web"}},
        "ports": [{"name": "", "port": 80}], "endpoints": [{"addresses": [address]}]})
}

fn pod(name: &str, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "demo"},
        "spec": {"nodeName": node, "containers": []}, "status": {"phase": "Running"}})
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": {"podCIDRs": ["10.1.0.0/24"]}})
}

/// A server with one object of each kind.
fn server() -> ApiServer {
    let server = ApiServer::start().unwrap();
    for object in [
        node(NODE),
        namespace("demo"),
        service("web", "10.96.0.1"),
        slice("web-1", "10.1.0.2"),
        pod("a", NODE),
    ] {
        server.store().apply(object);
    }
    server
}

/// Nobody may read anything any more, and all are told so.
fn expire_token(server: &ApiServer) {
    server.store().fail(|faults| {
        for resource in ["pods", "services", "endpointslices", "nodes", "namespaces", "networkpolicies"] {
            faults.refused.insert(resource.to_owned(), 401);
        }
    });
    server.store().cut();
}

fn names(changes: &[Change]) -> BTreeSet<String> {
    let name = |change: &Change| match change {
        Change::Apply(object) => format!("{} {}", object.kind(), object.name()),
        Change::Delete(kind, name) => format!("no {kind} {name}"),
        Change::Problems(problems) => format!("{} problems", problems.len()),
        Change::Synced => "synced".to_owned(),
    };
    changes.iter().map(name).collect()
}

const ALL: [&str; 5] =
    ["EndpointSlice demo/web-1", "Namespace demo", "Node node-a", "Pod demo/a", "Service demo/web"];

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn what_is_there_is_told_before_synced_and_then_what_changes() {
    let server = server();
    let followed = Followed::start(&server);
    assert_eq!(names(&followed.until_synced()), set(&ALL));
    server.store().apply(service("db", "10.96.0.2"));
    assert_eq!(names(&[followed.next()]), set(&["Service demo/db"]));
    server.store().delete("Service", "demo/db");
    assert_eq!(followed.next(), Change::Delete(Kind::Service, ObjectName::new("demo", "db")));
}

#[test]
fn a_node_takes_only_its_own_pods_and_services_that_are_its_business() {
    let server = server();
    server.store().apply(pod("elsewhere", "node-b"));
    let mut foreign = service("foreign", "10.96.0.7");
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
    server.store().apply(foreign.clone());
    let followed = Followed::start(&server);
    assert_eq!(names(&followed.until_synced()), set(&ALL));
    foreign["metadata"]["labels"] = json!({});
    server.store().apply(foreign.clone());
    assert_eq!(names(&[followed.next()]), set(&["Service demo/foreign"]));
    foreign["metadata"]["labels"] = json!({"service.kubernetes.io/headless": ""});
    server.store().apply(foreign);
    assert_eq!(names(&[followed.next()]), set(&["no Service demo/foreign"]));
}

#[test]
fn a_server_that_streams_no_lists_is_read_in_pages() {
    let server = server();
    server.store().fail(|faults| faults.no_streaming = true);
    for number in 0..1_200 {
        server.store().apply(service(
            &format!("many-{number}"),
            &format!("10.97.{}.{}", number / 200, number % 200 + 1),
        ));
    }
    let followed = Followed::start(&server);
    assert_eq!(followed.until_synced().len(), ALL.len() + 1_200);
    assert!(server.store().requests().iter().any(|request| request.contains("continue=")));
    server.store().apply(service("db", "10.96.0.2"));
    assert_eq!(names(&[followed.next()]), set(&["Service demo/db"]));
}

#[test]
fn nothing_is_synced_while_one_list_is_not_complete() {
    let server = server();
    server.store().fail(|faults| {
        faults.endless.insert("endpointslices".to_owned());
    });
    let followed = Followed::start(&server);
    let told: Vec<Change> = (0..ALL.len()).map(|_| followed.next()).collect();
    assert_eq!(names(&told), set(&ALL));
    assert!(followed.is_silent(Duration::from_millis(800)));
    server.store().fail(|faults| faults.endless.clear());
    server.store().cut();
    assert_eq!(followed.next(), Change::Synced);
}

#[test]
fn a_server_that_was_away_and_came_back_tells_only_real_differences() {
    let server = server();
    let followed = Followed::start(&server);
    followed.until_synced();
    let (address, store) = (server.address(), server.store().clone());
    drop(server);
    assert!(followed.is_silent(Duration::from_millis(1_500)), "a blip empties nothing");
    store.apply(slice("web-2", "10.1.0.3"));
    store.delete("Pod", "demo/a");
    // It has forgotten what was: everybody must list anew.
    store.compact();
    eventually("the silence is noticed", || !followed.liveness.heard().unwrap().is_connected());
    let server = ApiServer::start_with(address, store).unwrap();
    let changes = followed.until_marker(server.store(), "marker");
    let expected = set(&["EndpointSlice demo/web-2", "no Pod demo/a"]);
    let mut seen = names(&changes);
    while seen.len() < expected.len() {
        seen.extend(names(&[followed.next()]));
    }
    assert_eq!(seen, expected);
    assert!(followed.is_silent(Duration::from_millis(300)));
    eventually("all is well", || followed.liveness.heard().unwrap().is_connected());
}

#[test]
fn connections_that_break_off_at_any_byte_lose_nothing() {
    let server = server();
    let followed = Followed::start(&server);
    followed.until_synced();
    for (round, cut) in [1, 77, 200, 333].into_iter().enumerate() {
        server.store().fail(|faults| faults.cut_after = Some(cut));
        server.store().cut();
        server.store().apply(slice("web-1", &format!("10.1.0.{}", round + 10)));
        std::thread::sleep(Duration::from_millis(300));
        server.store().fail(|faults| faults.cut_after = None);
        let changes = followed.until_marker(server.store(), &format!("marker-{round}"));
        let mut last = changes.into_iter().next_back();
        let wanted = |change: &Option<Change>| matches!(change, Some(Change::Apply(object)) if format!("{object:?}").contains(&format!("10.1.0.{}", round + 10)));
        while !wanted(&last) {
            last = Some(followed.next());
        }
    }
}

#[test]
fn a_version_that_the_server_has_forgotten_is_no_loss() {
    let server = server();
    let followed = Followed::start(&server);
    followed.until_synced();
    for number in 0..3 {
        server.store().fail(|faults| faults.mute = true);
        server.store().apply(service("web", &format!("10.96.0.{}", 20 + number)));
        server.store().delete("Namespace", "demo");
        server.store().compact();
        server.store().fail(|faults| faults.mute = false);
        server.store().cut();
        let mut seen = names(&followed.until_marker(server.store(), &format!("marker-{number}")));
        while !seen.contains("Service demo/web") {
            seen.extend(names(&[followed.next()]));
        }
    }
}

#[test]
fn who_may_not_read_a_kind_is_told_verb_and_resource_and_is_not_synced_until_it_may() {
    let server = server();
    server.store().fail(|faults| {
        faults.refused.insert("endpointslices".to_owned(), 403);
    });
    let followed = Followed::start(&server);
    eventually("the refusal is known", || {
        let heard = followed.liveness.heard().unwrap();
        heard.last_error().is_some_and(|error| error.contains("cannot watch endpointslices"))
            && heard.kinds[&Kind::EndpointSlice].errors.contains_key("forbidden")
    });
    server.store().fail(|faults| faults.refused.clear());
    assert_eq!(names(&followed.until_synced()), set(&ALL));
}

#[test]
fn who_may_not_read_policies_serves_all_the_same() {
    let server = server();
    server.store().fail(|faults| {
        faults.refused.insert("networkpolicies".to_owned(), 403);
    });
    let followed = Followed::start(&server);
    assert_eq!(names(&followed.until_synced()), set(&ALL));
    eventually("the refusal is known", || {
        followed.liveness.heard().unwrap().kinds[&Kind::NetworkPolicy].errors.contains_key("forbidden")
    });
}

#[test]
fn an_expired_token_is_a_reason_to_wait_not_to_forget() {
    let server = server();
    let followed = Followed::start(&server);
    followed.until_synced();
    expire_token(&server);
    eventually("it is noticed", || {
        followed.liveness.heard().unwrap().kinds[&Kind::Pod].errors.contains_key("unauthorized")
    });
    assert!(followed.is_silent(Duration::from_millis(300)));
    server.store().fail(|faults| faults.refused.clear());
    server.store().apply(service("db", "10.96.0.2"));
    assert_eq!(names(&[followed.next()]), set(&["Service demo/db"]));
}

#[test]
fn an_object_of_the_wrong_type_is_reported_and_stops_nobody() {
    let bad_spec = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "bad", "namespace": "demo"}, "spec": {"clusterIP": 7}});
    let bad_metadata = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "bad", "namespace": "demo", "labels": {"is": 7}}, "spec": {"clusterIP": "10.96.0.9"}});
    for (bad, field) in [(bad_spec, "clusterIP"), (bad_metadata, "metadata.labels")] {
        for no_streaming in [false, true] {
            let server = server();
            server.store().fail(|faults| faults.no_streaming = no_streaming);
            server.store().apply(bad.clone());
            let followed = Followed::start(&server);
            let changes = followed.until_synced();
            let problems = changes.iter().find_map(|change| match change {
                Change::Problems(problems) => Some(problems.clone()),
                _ => None,
            });
            let text = problems.unwrap()[0].to_string();
            assert!(text.contains("Service demo/bad") && text.contains(field), "{text}");
            let rest: Vec<Change> =
                changes.into_iter().filter(|change| !matches!(change, Change::Problems(_))).collect();
            assert_eq!(names(&rest), set(&ALL));
            server.store().delete("Service", "demo/bad");
            assert_eq!(followed.next(), Change::Problems(Vec::new()));
        }
    }
}

#[test]
fn answers_that_are_no_json_are_errors_that_pass() {
    let server = server();
    server.store().fail(|faults| (faults.no_streaming, faults.nonsense) = (true, true));
    let followed = Followed::start(&server);
    eventually("it is noticed", || {
        followed.liveness.heard().unwrap().kinds.values().all(|kind| !kind.errors.is_empty())
    });
    server.store().fail(|faults| faults.nonsense = false);
    assert_eq!(names(&followed.until_synced()), set(&ALL));
}

#[test]
fn a_slow_server_is_waited_for() {
    let server = server();
    server.store().fail(|faults| faults.slow = 50);
    let followed = Followed::start(&server);
    assert_eq!(names(&followed.until_synced()), set(&ALL));
}

#[test]
fn a_source_ends_at_once_whatever_its_server_does() {
    let server = server();
    server.store().fail(|faults| faults.mute = true);
    let followed = Followed::start(&server);
    std::thread::sleep(Duration::from_millis(200));
    let begin = Instant::now();
    drop(followed);
    assert!(begin.elapsed() < Duration::from_secs(1));
}

#[test]
fn credentials_that_cannot_be_used_are_named() {
    let missing = Access { kubeconfig: Some("/nowhere/kubeconfig".into()), ..Access::default() };
    let error = KubernetesSource::try_new(&missing, NODE, &Liveness::default(), channel().0).unwrap_err();
    assert!(error.to_string().contains("/nowhere/kubeconfig"), "{error}");
    let server = server();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), server.kubeconfig()).unwrap();
    let access = Access {
        kubeconfig: Some(file.path().to_owned()),
        context: Some("other".to_owned()),
        ..Access::default()
    };
    let error = KubernetesSource::try_new(&access, NODE, &Liveness::default(), channel().0).unwrap_err();
    assert!(error.to_string().contains("other"), "{error}");
    let error =
        KubernetesSource::try_new(&Access::default(), NODE, &Liveness::default(), channel().0).unwrap_err();
    assert!(error.to_string().contains("no kubeconfig is given"), "{error}");
}

#[test]
fn what_is_wrong_with_a_kind_is_forgotten_when_it_is_heard_of_again() {
    let server = server();
    let followed = Followed::start(&server);
    followed.until_synced();
    server.store().fail(|faults| {
        faults.refused.insert("services".to_owned(), 403);
    });
    server.store().cut();
    eventually("it is noticed", || followed.liveness.heard().unwrap().last_error().is_some());
    server.store().fail(|faults| faults.refused.clear());
    server.store().apply(service("db", "10.96.0.2"));
    while !matches!(followed.next(), Change::Apply(object) if object.kind() == Kind::Service) {}
    assert_eq!(followed.liveness.heard().unwrap().last_error(), None);
}

#[test]
fn what_is_in_force_grows_old_while_watches_are_refused_though_the_server_answers() {
    let server = server();
    let followed = Followed::start(&server);
    followed.until_synced();
    expire_token(&server);
    eventually("age", || followed.liveness.heard().unwrap().age().unwrap() > Duration::from_secs(7));
    assert!(!followed.liveness.heard().unwrap().is_connected());
}
