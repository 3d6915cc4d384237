//! The own node's condition `NetworkUnavailable`, as an API server sees it.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use millrace_apiserver::{ApiServer, Store};
use millrace_source::{Access, Change, KubernetesSource, Liveness, News};
use serde_json::{Value, json};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::NamedTempFile;

const NODE: &str = "node-a";
const PATIENCE: Duration = Duration::from_secs(20);
/// Longer than from one patch to the next.
const WHILE: Duration = Duration::from_secs(4);

struct Followed {
    source: KubernetesSource,
    changes: Receiver<News>,
    _file: NamedTempFile,
}

impl Followed {
    /// Follows the server; everything is known when this returns.
    fn start(server: &ApiServer) -> Self {
        let file = NamedTempFile::new().unwrap();
        std::fs::write(file.path(), server.kubeconfig()).unwrap();
        let access = Access { kubeconfig: Some(file.path().to_owned()), ..Access::default() };
        let (tell, changes) = channel();
        let source = KubernetesSource::try_new(&access, NODE, &Liveness::default(), tell).unwrap();
        let followed = Followed { source, changes, _file: file };
        while followed.changes.recv_timeout(PATIENCE).unwrap().change != Change::Synced {}
        followed
    }

    fn serves(&self) {
        self.source.announcer().announce();
    }
}

fn eventually(what: &str, mut is: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn node(name: &str, conditions: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": {"conditions": conditions}})
}

fn said(status: &str) -> Value {
    json!([{"type": "NetworkUnavailable", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}])
}

/// The condition as the server has it.
fn condition(store: &Store) -> Value {
    let node = store.get("Node", NODE).unwrap();
    let conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    conditions.into_iter().find(|condition| condition["type"] == "NetworkUnavailable").unwrap_or_default()
}

#[test]
fn it_is_false_once_the_node_serves_and_not_before() {
    let server = ApiServer::start().unwrap();
    server.store().apply(node(NODE, said("True")));
    server.store().apply(node("node-b", said("True")));
    let followed = Followed::start(&server);
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.store().patches().is_empty());
    followed.serves();
    eventually("it is false", || condition(server.store())["status"] == "False");
    let (path, patch) = server.store().patches().remove(0);
    assert_eq!(path, "/api/v1/nodes/node-a/status");
    assert_eq!(patch["status"]["conditions"].as_array().unwrap().len(), 1);
    assert_ne!(condition(server.store())["lastTransitionTime"], "2026-01-01T00:00:00Z");
    // What was told is enough.
    std::thread::sleep(WHILE);
    assert_eq!(server.store().patches().len(), 1);
}

#[test]
fn a_node_that_says_so_already_is_left_alone_and_told_when_it_changes_its_mind() {
    let server = ApiServer::start().unwrap();
    server.store().apply(node(NODE, said("False")));
    let followed = Followed::start(&server);
    followed.serves();
    std::thread::sleep(Duration::from_millis(500));
    assert!(server.store().patches().is_empty());
    assert_eq!(condition(server.store())["lastTransitionTime"], "2026-01-01T00:00:00Z");
    // The node's object is made anew, as by a kubelet that registers again, and later somebody contradicts.
    for (count, next) in [(1, json!([])), (2, said("True")), (3, said("Unknown"))] {
        server.store().delete("Node", NODE);
        server.store().apply(node(NODE, next));
        eventually("it is told", || server.store().patches().len() == count);
        eventually("it is false", || condition(server.store())["status"] == "False");
    }
    server.store().apply(node(NODE, said("True")));
    eventually("it is told", || server.store().patches().len() == 4);
}

#[test]
fn a_refusal_is_not_the_last_word_and_a_node_that_is_not_there_is_waited_for() {
    let server = ApiServer::start().unwrap();
    server.store().fail(|faults| {
        faults.refused.insert("nodes/status".to_owned(), 403);
    });
    let followed = Followed::start(&server);
    followed.serves();
    std::thread::sleep(Duration::from_millis(300));
    server.store().apply(node(NODE, json!([])));
    std::thread::sleep(Duration::from_millis(300));
    assert!(server.store().patches().is_empty());
    server.store().fail(|faults| faults.refused.clear());
    eventually("it is false", || condition(server.store())["status"] == "False");
}
