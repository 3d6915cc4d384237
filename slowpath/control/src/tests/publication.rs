//! What becomes of changes.

use super::bench::{Node, name, port};
use crate::{ControlLoop, now};
use millrace_fastpath::pipeline::Nanos;
use millrace_fastpath::port::PortId;
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::PortSpec;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

#[test]
fn changes_that_come_together_are_published_once_and_soon() {
    let mut node = Node::new(1);
    let before = node.control.tables().version;
    node.control.add_port(port(1, 1)).unwrap();
    assert!(node.control.tables().version > before);

    let (control_loop, handle) = ControlLoop::new(node.control);
    let thread = std::thread::spawn(move || control_loop.run());
    let started = Instant::now();
    for number in 2..50_u8 {
        handle
            .change(move |control| {
                control.model().apply_port(PortSpec {
                    id: PortId(number.into()),
                    mac: MacAddr([2, 0, 0, 0, 0, number]),
                    mtu: 1500,
                    spoof_check: true,
                    role: Default::default(),
                    addresses: vec![format!("10.1.0.{number}/32").parse().unwrap()],
                    pod: None,
                });
            })
            .unwrap();
    }
    let (answer, answered) = channel();
    let version = loop {
        let answer = answer.clone();
        handle.request(move |control| answer.send((control.tables(), control.is_synced())).unwrap()).unwrap();
        let (tables, synced) = answered.recv().unwrap();
        assert!(!synced);
        if tables.sizes.routes >= 50 {
            break tables.version;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "published soon");
        std::thread::sleep(Duration::from_millis(1));
    };
    assert!(version <= before + 12, "{version}: 48 changes were coalesced");
    handle.stop().unwrap();
    node.control = thread.join().unwrap();
    node.end();
}

#[test]
fn a_handle_without_a_loop_says_so() {
    let mut node = Node::new(1);
    let (control_loop, handle) = ControlLoop::new(node.control);
    handle.stop().unwrap();
    node.control = control_loop.run();
    node.end();
    assert!(handle.request(|_| ()).is_err());
    assert!(handle.change(|_| ()).is_err());
}

#[test]
fn a_configured_port_that_fails_is_reported_and_comes_when_it_can() {
    let mut node = Node::new(1);
    node.fail(Some(crate::Step::Open));
    node.control.config.ports = vec![port(1, 1), port(2, 1)];
    node.control.open_configured_ports();
    let errors = node.control.object_errors().errors;
    assert_eq!(
        errors.iter().map(|error| error.object.as_deref()).collect::<Vec<_>>(),
        [Some("port port-1"), Some("port port-2")]
    );
    node.control.remove_port(&name(2)).unwrap();
    node.fail(None);
    node.control.tick();
    assert!(node.control.list_ports().ports.is_empty(), "not before its time");
    node.control.retry_pending(Instant::now() + Duration::from_secs(2));
    assert_eq!(node.control.list_ports().ports.len(), 1);
    assert!(node.control.object_errors().errors.is_empty());
    node.end();
}

#[test]
fn the_clock_of_the_data_path_runs() {
    let first = now();
    std::thread::sleep(Duration::from_millis(2));
    assert!(first > Nanos(0) && now().0 >= first.0 + 2_000_000);
}
