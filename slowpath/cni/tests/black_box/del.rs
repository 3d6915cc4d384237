use crate::daemon::{Daemon, Mood};
use crate::plugin::Place;
use millrace_api::{ErrorCode, QueuedDeletion};
use serde_json::json;

#[test]
fn a_deletion_can_be_repeated_and_needs_no_namespace() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let result = place.call("ADD").version(version).result();
        assert_eq!(daemon.names(), ["c1/eth0"]);
        let deletion = place.call("DEL").version(version);
        deletion.clone().with(json!({ "prevResult": result })).succeeds();
        assert!(daemon.names().is_empty());
        deletion.succeeds();
        deletion.clone().variable("CNI_NETNS", "").succeeds();
        deletion.clone().without("CNI_NETNS").succeeds();
        deletion.variable("CNI_NETNS", "/run/netns/gone").succeeds();
    }
}

#[test]
fn details_that_only_an_addition_needs_do_not_stop_a_deletion() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    place.call("ADD").result();
    place
        .call("DEL")
        .variable("CNI_ARGS", "this is nothing")
        .with(json!({"mtu": "x", "port": 5, "runtimeConfig": [], "prevResult": "x", "ipMasq": true}))
        .succeeds();
    assert!(daemon.names().is_empty());
}

#[test]
fn a_deletion_with_the_daemon_down_is_kept_and_can_be_repeated() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    place.call("ADD").result();
    daemon.stop();
    place.call("DEL").succeeds();
    place.call("DEL").variable("CNI_NETNS", "").succeeds();
    place.call("DEL").container("c1-eth0").succeeds();
    assert_eq!(place.kept(), ["c1-eth0:eth0.json", "c1:eth0.json"]);
}

#[test]
fn a_socket_that_nobody_listens_on_is_a_daemon_that_is_down() {
    let place = Place::new();
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    place.call("DEL").succeeds();
    assert_eq!(place.kept(), ["c1:eth0.json"]);
}

#[test]
fn a_deletion_that_the_daemon_cannot_answer_is_kept() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::BreaksOff(1));
    place.call("DEL").succeeds();
    daemon.mood(Mood::Refuses(ErrorCode::Unavailable, "the daemon is ending"));
    place.call("DEL").container("c2").succeeds();
    assert_eq!(place.kept(), ["c1:eth0.json", "c2:eth0.json"]);
}

#[test]
fn a_deletion_that_failed_is_told() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    daemon.mood(Mood::Refuses(ErrorCode::Failed, "the interface is busy"));
    let error = place.call("DEL").error();
    assert_eq!(error.code, 100);
    assert!(error.details.contains("busy"), "{error:?}");
    assert!(place.kept().is_empty());
}

#[test]
fn a_deletion_that_can_be_kept_nowhere_is_an_io_failure() {
    let place = Place::new();
    std::fs::write(place.path("state"), "a file in the way").unwrap();
    let error = place.call("DEL").error();
    assert_eq!(error.code, 5);
    assert!(error.details.contains("millrace.sock") && error.details.contains("deletions/c1:eth0.json"));
}

#[test]
fn a_deletion_without_a_configuration_is_an_error() {
    let place = Place::new();
    assert_eq!(place.call("DEL").input(b"?").code(), 6);
    assert_eq!(place.call("DEL").container("").code(), 4);
    assert!(place.kept().is_empty());
}

#[test]
fn a_kept_deletion_says_what_to_delete() {
    let place = Place::new();
    place.call("DEL").succeeds();
    let bytes = std::fs::read(place.path("state/deletions/c1:eth0.json")).unwrap();
    let deletion: QueuedDeletion = serde_json::from_slice(&bytes).unwrap();
    assert_eq!((deletion.id.to_string().as_str(), deletion.network.as_str()), ("c1/eth0", "pods"));
}
