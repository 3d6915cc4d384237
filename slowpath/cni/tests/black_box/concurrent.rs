use crate::daemon::Daemon;
use crate::plugin::Place;
use std::collections::BTreeSet;
use std::thread;

#[test]
fn many_calls_at_once_do_not_get_into_each_others_way() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let addresses: BTreeSet<String> = thread::scope(|scope| {
        let calls: Vec<_> = (0..60)
            .map(|number| {
                let call = place.call("ADD").container(&format!("c{number}"));
                scope.spawn(move || call.result()["ips"][0]["address"].as_str().unwrap().to_owned())
            })
            .collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert_eq!(addresses.len(), 60);
    thread::scope(|scope| {
        for number in 0..60 {
            let call = place.call("DEL").container(&format!("c{number}"));
            scope.spawn(move || call.succeeds());
        }
    });
    assert!(daemon.names().is_empty());
}

#[test]
fn the_same_addition_at_once_makes_one_attachment() {
    let place = Place::new();
    let daemon = Daemon::start(&place.socket());
    let results: Vec<_> = thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| place.call("ADD").result())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| *result == results[0]));
    assert_eq!(daemon.names(), ["c1/eth0"]);
}

#[test]
fn deletions_at_once_are_all_kept_and_whole() {
    let place = Place::new();
    thread::scope(|scope| {
        for number in 0..40 {
            // Every container is deleted twice at the same time.
            let call = place.call("DEL").container(&format!("c{}", number / 2));
            scope.spawn(move || call.succeeds());
        }
    });
    assert_eq!(place.kept().len(), 20);
    for name in place.kept() {
        let bytes = std::fs::read(place.path("state/deletions").join(&name)).unwrap();
        let deletion: millrace_api::QueuedDeletion = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(name, format!("{}:eth0.json", deletion.id.container_id));
    }
}
