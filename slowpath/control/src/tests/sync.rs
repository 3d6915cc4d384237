//! What publications tell load balancers and measure.

use super::bench::{Node, eventually};
use super::objects::{cluster, service};
use crate::{ControlLoop, SyncReading};
use millrace_model::{Kind, Object, Service, TrafficPolicy};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant, SystemTime};

fn checked(port: u16) -> Object {
    Object::Service(Service {
        external_policy: TrafficPolicy::Local,
        health_check_node_port: Some(port),
        ..service("web")
    })
}

#[test]
fn health_checks_are_told_when_everything_is_known_and_when_they_change() {
    let mut node = Node::new(1);
    let mut told = node.control.health_checks();
    node.control.model().apply(checked(31_000));
    node.control.publish();
    assert!(!told.has_changed().unwrap(), "its endpoints may still come");
    for object in cluster() {
        node.control.model().apply(object);
    }
    node.control.model().apply(checked(31_000));
    node.control.set_synced();
    node.control.publish();
    assert!(told.has_changed().unwrap());
    assert_eq!(told.borrow_and_update()[&31_000].local_endpoints, 2);
    node.control.publish();
    assert!(!told.has_changed().unwrap());
    node.control.model().apply(checked(31_001));
    node.control.publish();
    assert!(told.borrow_and_update().keys().eq(&[31_001]));
    node.end();
}

#[test]
fn what_was_triggered_since_the_start_is_observed_once_the_workers_use_it() {
    let mut node = Node::new(1);
    let start = SystemTime::now();
    std::thread::sleep(Duration::from_millis(1));
    for object in cluster() {
        let Object::EndpointSlice(mut slice) = object else { continue };
        for (name, trigger_time) in [
            ("early", start.checked_sub(Duration::from_secs(9))),
            ("late", Some(SystemTime::now())),
            ("ahead", start.checked_add(Duration::from_secs(60))),
            ("unknown", None),
        ] {
            slice.name.name = format!("{name}-{}", slice.service.as_deref().unwrap_or_default());
            slice.trigger_time = trigger_time;
            node.control.model().apply(Object::EndpointSlice(slice.clone()));
        }
    }
    let before = node.control.read_sync();
    assert_eq!((before.pending_slices, before.seen.slices), (8, 8));
    let heard = Instant::now();
    node.control.note_heard(Kind::EndpointSlice, heard);
    node.control.publish();
    let counts = |sync: &SyncReading| sync.programming.each_ref().map(crate::Histogram::count);
    eventually("the worker uses it", || counts(&node.control.read_sync()) != [0, 0]);
    let after = node.control.read_sync();
    assert_eq!((after.pending_slices, after.seen.slices), (0, 8));
    assert_eq!(counts(&after), [4, 0], "of each service one just now, one by a clock that is ahead");
    assert_eq!(after.changes[&Kind::EndpointSlice].count(), 1);
    assert!(after.changes[&Kind::EndpointSlice].sum() <= heard.elapsed());
    assert!(after.programming[0].sum() < Duration::from_secs(30));
    assert_eq!(after.duration.count(), before.duration.count() + 1);
    node.control.publish();
    assert_eq!(node.control.read_sync().duration.count(), after.duration.count(), "nothing new is no sync");
    node.end();
}

#[test]
fn a_control_thread_at_work_is_healthy_and_says_when_it_published() {
    let mut node = Node::new(1);
    let progress = node.control.progress();
    let before = progress.health(Instant::now()).published;
    assert_eq!(node.control.read_sync().queued, None);
    let (control_loop, handle) = ControlLoop::new(node.control);
    let thread = std::thread::spawn(move || control_loop.run());
    handle.change(|control| cluster().into_iter().for_each(|object| control.model().apply(object))).unwrap();
    let (answer, answered) = channel();
    let deadline = Instant::now() + Duration::from_secs(5);
    while progress.health(Instant::now()).published == before {
        assert!(Instant::now() < deadline, "published soon");
        std::thread::sleep(Duration::from_millis(1));
    }
    handle.request(move |control| answer.send(control.read_sync()).unwrap()).unwrap();
    let sync = answered.recv().unwrap();
    assert!(sync.queued.is_some() && sync.published > before);
    assert_eq!((sync.pending_services, sync.without_local.external), (0, [1, 0]));
    let health = progress.health(Instant::now());
    assert!(health.healthy && health.eligible);
    handle.stop().unwrap();
    node.control = thread.join().unwrap();
    node.end();
}
