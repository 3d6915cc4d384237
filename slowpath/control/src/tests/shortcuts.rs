//! Which ports workers may offer connections of, and when what the kernel carries ends.

use super::attachments;
use super::bench::{Node, eventually, name, port};
use super::ports::packet_to;
use crate::attachment::fixture::{id, request};
use millrace_api::{AttachmentRequest, Bandwidth};
use millrace_fastpath::port::PortId;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;

/// Gives ports with these numbers an interface of the kernel's, when they come.
fn have_ends(node: &Node, ports: impl IntoIterator<Item = u16>) {
    let ends = ports.into_iter().map(|id| (PortId(id), 100 + u32::from(id)));
    node.outside.ends.lock().unwrap().extend(ends);
}

fn has(node: &Node, id: PortId) -> bool {
    node.control.current.shortcuts.ports.contains(id)
}

/// How often all shortcuts have ended since the last time.
fn ended(node: &Node) -> usize {
    node.outside.ended.swap(0, Ordering::SeqCst)
}

fn limited() -> Option<Bandwidth> {
    Some(Bandwidth { ingress_rate: Some(1_000_000), ..Bandwidth::default() })
}

#[test]
fn the_tables_name_open_ports_that_have_an_interface() {
    let mut node = Node::new(1);
    let plain = node.control.add_port(port(1, 1)).unwrap();
    assert!(!has(&node, plain) && !node.control.hears_workers());
    have_ends(&node, 0..10);
    let [first, second] = [2, 3].map(|number| node.control.add_port(port(number, 1)).unwrap());
    assert!(!has(&node, plain) && has(&node, first) && has(&node, second));
    assert!(node.control.hears_workers());
    node.control.remove_port(&name(2)).unwrap();
    assert!(!has(&node, first) && has(&node, second));
    node.control.remove_port(&name(3)).unwrap();
    assert!(!has(&node, second) && !node.control.hears_workers());
    node.end();
}

#[test]
fn a_port_that_could_not_be_added_is_not_named() {
    let mut node = Node::new(1);
    have_ends(&node, 0..10);
    node.control.add_port(port(1, 60)).unwrap();
    let held = node.control.current.shortcuts.clone();
    node.control.add_port(port(2, 13)).unwrap_err();
    assert_eq!(node.control.current.shortcuts, held);
    node.end();
}

#[test]
fn a_port_with_a_limit_is_not_named_as_long_as_it_has_one() {
    let mut node = Node::new(1);
    have_ends(&node, 0..10);
    let [id, other] = [1, 2].map(|number| node.control.add_port(port(number, 1)).unwrap());
    ended(&node);
    node.control.limit_port(&name(1), limited()).unwrap();
    assert!(!has(&node, id) && has(&node, other));
    assert_eq!(ended(&node), 1);
    // What is so already changes nothing.
    node.control.limit_port(&name(1), limited()).unwrap();
    assert_eq!(ended(&node), 0);
    // A rate of 0 is none.
    node.control
        .limit_port(&name(1), Some(Bandwidth { egress_rate: Some(0), ..Bandwidth::default() }))
        .unwrap();
    assert!(has(&node, id));
    node.control.limit_port(&name(1), limited()).unwrap();
    node.control.limit_port(&name(1), None).unwrap();
    assert!(has(&node, id) && has(&node, other));
    assert_eq!(ended(&node), 3);
    node.end();
}

#[test]
fn an_attachment_that_comes_with_a_limit_is_not_named_until_that_goes() {
    let mut node = attachments::node();
    have_ends(&node, 0..10);
    let asked = AttachmentRequest { bandwidth: limited(), ..request("a") };
    let port = node.control.attach(asked).unwrap().port;
    let number = node.control.ports[&port].id;
    assert!(!has(&node, number));
    node.control.limit_port(&port, None).unwrap();
    assert!(has(&node, number));
    node.control.detach(&id("a")).unwrap();
    assert!(!has(&node, number));
    node.end();
}

#[test]
fn all_shortcuts_end_when_something_goes_and_none_when_something_comes() {
    let mut node = Node::new(1);
    have_ends(&node, 0..10);
    node.control.add_port(port(1, 1)).unwrap();
    let epoch = node.control.current.epoch;
    ended(&node);
    node.control.add_port(port(2, 1)).unwrap();
    node.control.publish();
    assert_eq!((ended(&node), node.control.current.epoch), (0, epoch));
    node.control.remove_port(&name(2)).unwrap();
    assert_ne!(node.control.current.epoch, epoch);
    assert_eq!(ended(&node), 1);
    node.control.publish();
    assert_eq!(ended(&node), 0);
    node.end();
}

#[test]
fn shortcuts_that_could_not_be_ended_are_ended_with_the_next_tables() {
    let mut node = Node::new(1);
    have_ends(&node, 0..10);
    for number in [1, 2] {
        node.control.add_port(port(number, 1)).unwrap();
    }
    ended(&node);
    let fails = |node: &Node, fails| node.outside.ending_fails.store(fails, Ordering::SeqCst);
    fails(&node, 1);
    node.control.limit_port(&name(1), limited()).unwrap();
    fails(&node, 0);
    node.control.publish();
    assert_eq!(ended(&node), 1);
    fails(&node, 1);
    node.control.remove_port(&name(2)).unwrap();
    fails(&node, 0);
    node.control.publish();
    assert_eq!(ended(&node), 1);
    node.control.publish();
    assert_eq!(ended(&node), 0);
    node.end();
}

#[test]
fn the_kernel_is_told_what_workers_tell() {
    let mut node = Node::new(2);
    have_ends(&node, 0..10);
    let [first, second] = [1, 2].map(|number| node.control.add_port(port(number, 1)).unwrap());
    let send = |node: &Node, count: usize| {
        let (from, to) = (node.wire(first), node.wire(second));
        let before = to.lock().unwrap().sent.len();
        from.lock().unwrap().arrived.extend((0..count).map(|_| packet_to(1, [10, 0, 0, 2])));
        eventually("the packets arrive", || to.lock().unwrap().sent.len() == before + count);
    };
    // The first makes the flow; then one in eight is looked at.
    send(&node, 1);
    send(&node, 8);
    node.control.hear_workers();
    let told = std::mem::take(&mut *node.outside.shortened.lock().unwrap());
    assert_eq!(told.len(), 1);
    let [arrival, out] = [first, second].map(|id| 100 + u32::from(id.0));
    assert_eq!((told[0].arrival, told[0].out, told[0].protocol), (arrival, out, 17));
    assert_eq!(told[0].arriving, told[0].leaving);
    assert_eq!(told[0].arriving.destination, SocketAddr::from(([10, 0, 0, 2], 2000)));
    assert_eq!(told[0].macs[0].0, [2, 0, 0, 0, 0, 2]);

    send(&node, 8);
    node.control.hear_workers();
    assert_eq!(std::mem::take(&mut *node.outside.shortened.lock().unwrap()), told, "again");
    // Told before the limit, heard after it.
    send(&node, 8);
    node.control.limit_port(&name(2), limited()).unwrap();
    node.control.hear_workers();
    assert_eq!(*node.outside.shortened.lock().unwrap(), []);
    node.end();
}
