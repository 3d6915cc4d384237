use crate::daemon::Daemon;
use crate::plugin::Place;
use serde_json::{Value, json};

#[test]
fn what_is_as_it_was_passes_in_every_version() {
    let place = Place::new();
    let _daemon = Daemon::start(&place.socket());
    for version in ["0.4.0", "1.0.0", "1.1.0"] {
        let result = place.call("ADD").version(version).result();
        place.call("CHECK").version(version).with(json!({ "prevResult": result })).succeeds();
    }
    let error = place.call("CHECK").version("0.3.1").error();
    assert_eq!(error.code, 1);
    assert!(error.details.contains("no CHECK"), "{error:?}");
}

#[test]
fn a_difference_is_told() {
    let place = Place::new();
    let _daemon = Daemon::start(&place.socket());
    let result = place.call("ADD").result();
    let told = |change: &dyn Fn(&mut Value)| {
        let mut changed = result.clone();
        change(&mut changed);
        let error = place.call("CHECK").with(json!({ "prevResult": changed })).error();
        assert_eq!(error.code, 102);
        error.details
    };
    let details = told(&|result| result["ips"][0]["address"] = json!("10.9.0.200/32"));
    assert!(details.contains("10.9.0.1") && details.contains("10.9.0.200"), "{details}");
    assert!(told(&|result| result["interfaces"][0]["mac"] = json!("02:4d:00:00:00:02")).contains("MAC"));
    assert!(told(&|result| result["interfaces"] = json!([])).contains("no interface eth0"));
    let other = place.call("CHECK").with(json!({"name": "other", "prevResult": result})).error();
    assert!(other.code == 102 && other.details.contains("pods"), "{other:?}");
}

#[test]
fn what_the_daemon_misses_is_told() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let result = place.call("ADD").result();
    daemon.damage();
    let error = place.call("CHECK").with(json!({ "prevResult": result })).error();
    assert!(error.code == 102 && error.details.contains("eth0 has gone"), "{error:?}");
}

#[test]
fn an_unknown_container_has_a_code_of_its_own() {
    let place = Place::new();
    let _daemon = Daemon::start(&place.socket());
    let result = place.call("ADD").result();
    let unknown = place.call("CHECK").container("c2").with(json!({ "prevResult": result }));
    assert_eq!(unknown.code(), 3);
}

#[test]
fn without_a_previous_result_there_is_nothing_to_compare_with() {
    let place = Place::new();
    let _daemon = Daemon::start(&place.socket());
    place.call("ADD").result();
    assert_eq!(place.call("CHECK").code(), 7);
    assert_eq!(place.call("CHECK").without("CNI_NETNS").code(), 4);
}
