//! How many queues an uplink has, and what becomes of it when its NIC has another number.

use super::bench::{Node, Outside};
use super::uplinks::{CONFIG, claims, errors, id, node, port, told, view};
use millrace_config::Config;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;

fn queues(node: &Node) -> u16 {
    node.control.ports[&port()].config.queues.get()
}

/// The number of queues that the NIC has after so many seconds, and what is made of it.
fn recount(node: &mut Node, seconds: u64, count: u32) {
    *node.outside.receive_queues.lock().unwrap() = Some(count);
    node.control.tend_uplinks(Instant::now() + Duration::from_secs(seconds));
    node.control.publish();
}

#[test]
fn an_uplink_has_as_many_queues_as_its_nic_and_follows_their_number() {
    let mut node = node();
    *node.outside.receive_queues.lock().unwrap() = Some(4);
    told(&mut node, view(3));
    let first = id(&node).unwrap();
    assert_eq!(queues(&node), 4);
    let before = claims(&node);
    recount(&mut node, 2, 4);
    assert_eq!(id(&node), Some(first), "nothing has changed");
    recount(&mut node, 4, 2);
    assert_eq!(queues(&node), 2);
    assert_ne!(id(&node), Some(first));
    assert_eq!(claims(&node), before);
    let second = id(&node);
    recount(&mut node, 6, 100);
    assert_eq!(id(&node), second, "it serves those that it has");
    assert!(errors(&node)[0].contains("100 queues, of which 64"), "{:?}", errors(&node));
    assert!(errors(&node)[0].contains("ethtool -L eth0 combined 64"), "{:?}", errors(&node));
    *node.outside.receive_queues.lock().unwrap() = Some(8);
    node.control.tend_uplinks(Instant::now() + Duration::from_secs(60));
    assert_eq!(queues(&node), 8);
    assert!(errors(&node).is_empty());
    node.end();
}

#[test]
fn an_uplink_with_a_number_of_queues_of_its_own_says_when_its_nic_has_another() {
    let config = CONFIG.replace("interface: eth0", "interface: eth0, queues: 2");
    let config: Config = millrace_config::parse(Path::new("test"), &config).unwrap();
    let mut node = Node::at(1, config, Arc::new(TempDir::new().unwrap()), Arc::<Outside>::default());
    node.control.set_synced();
    *node.outside.receive_queues.lock().unwrap() = Some(2);
    told(&mut node, view(3));
    let first = id(&node);
    assert_eq!(queues(&node), 2);
    recount(&mut node, 2, 3);
    assert_eq!(id(&node), first, "it serves those that it has");
    assert!(errors(&node)[0].contains("on 3 queues now, 2 are configured"), "{:?}", errors(&node));
    recount(&mut node, 4, 2);
    assert!(errors(&node).is_empty());
    node.end();
}
