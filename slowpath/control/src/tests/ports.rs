//! The life of ports.

use super::bench::{Node, eventually, name, port};
use crate::{PortError, Step};
use millrace_api::ErrorCode;
use millrace_fastpath::port::{BufferFrame, Frame};

/// An IPv4 packet from one port's peer to another's, with valid checksums.
fn packet(from: u8, to: u8) -> BufferFrame {
    packet_to(from, [10, 0, 0, to])
}

/// The same to any address.
pub(super) fn packet_to(from: u8, [a, b, c, to]: [u8; 4]) -> BufferFrame {
    let mut bytes = vec![2, 0x4d, 0x52, 0, 0, 1, 2, 0, 0, 0, 0, from, 8, 0];
    let mut ip = [0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, a, b, c, to];
    let sum: u32 = ip.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    ip[10..12].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    bytes.extend(ip);
    // UDP 1000 → 2000, 12 bytes, no checksum.
    bytes.extend([3, 0xe8, 7, 0xd0, 0, 12, 0, 0, b'p', b'i', b'n', b'g']);
    BufferFrame::new(&bytes)
}

#[test]
fn frames_pass_between_two_ports_whichever_worker_has_them() {
    for workers in [1, 2, 3] {
        let mut node = Node::new(workers);
        let first = node.control.add_port(port(1, 1)).unwrap();
        let second = node.control.add_port(port(2, 1)).unwrap();
        let (first, second) = (node.wire(first), node.wire(second));
        for (from, to, wire) in [(1, 2, &first), (2, 1, &second)] {
            wire.lock().unwrap().arrived.push_back(packet(from, to));
        }
        for (to, wire) in [(2, &second), (1, &first)] {
            eventually("the packet arrives", || wire.lock().unwrap().sent.len() == 1);
            assert_eq!(wire.lock().unwrap().sent[0].head()[..6], [2, 0, 0, 0, 0, to]);
        }
        let ports = node.control.list_ports().ports;
        assert_eq!(
            ports.iter().map(|port| (port.counts.rx_frames, port.counts.tx_frames)).collect::<Vec<_>>(),
            [(1, 1); 2]
        );
        node.end();
    }
}

#[test]
fn a_failure_at_any_step_leaves_nothing_behind_and_names_the_step_and_the_port() {
    let mut node = Node::new(2);
    for step in [Step::Prepare, Step::Open, Step::Finish] {
        let tables = node.control.tables();
        node.fail(Some(step));
        let error = node.control.add_port(port(1, 2)).unwrap_err();
        assert!(matches!(&error, PortError::Step { step: failed, .. } if *failed == step), "{error}");
        assert!(error.to_string().contains("port-1"), "{error}");
        assert!(error.to_string().contains(&step.to_string()), "{error}");
        assert_eq!(node.outside.held(), (0, 0, 0), "after {step}");
        assert_eq!(node.control.tables().sizes, tables.sizes, "after {step}");
        assert!(node.control.list_ports().ports.is_empty());
        node.fail(None);
        node.control.add_port(port(1, 2)).unwrap();
        node.control.remove_port(&name(1)).unwrap();
    }
    node.end();
}

#[test]
fn a_port_that_cannot_be_undone_is_reported_and_its_devices_are_closed_all_the_same() {
    let mut node = Node::new(1);
    node.control.add_port(port(1, 1)).unwrap();
    node.fail(Some(Step::Undo));
    let error = node.control.remove_port(&name(1)).unwrap_err();
    assert!(matches!(error, PortError::Step { step: Step::Undo, .. }), "{error}");
    assert_eq!(node.outside.held(), (0, 0, 0));
    node.end();
}

#[test]
fn hundreds_of_ports_come_and_go_under_load_without_a_trace() {
    let mut node = Node::new(2);
    let steady = [node.control.add_port(port(1, 1)).unwrap(), node.control.add_port(port(2, 1)).unwrap()];
    let wires = steady.map(|id| node.wire(id));
    let empty = (node.outside.held(), node.control.tables().sizes.routes);
    let mut offered = 0;
    for round in 0..40_u8 {
        for number in 10..20 {
            node.control.add_port(port(number, 1 + u16::from(round % 3))).unwrap();
            wires[0].lock().unwrap().arrived.extend([packet(1, 2), packet(1, number)]);
            offered += 2;
        }
        for number in 10..20 {
            wires[0].lock().unwrap().arrived.push_back(packet(1, number));
            offered += 1;
            node.control.remove_port(&name(number)).unwrap();
        }
        assert_eq!((node.outside.held(), node.control.tables().sizes.routes), empty, "round {round}");
    }
    eventually("all frames are received", || wires[0].lock().unwrap().arrived.is_empty());
    eventually("every frame is sent or counted as dropped", || {
        let to_steady = wires[1].lock().unwrap().sent.len() as u64;
        let dropped: u64 = node.control.drops().drops.iter().map(|drop| drop.frames).sum();
        // What reached a port that is gone by now was counted at that port: it is neither here nor lost.
        to_steady == 400 && to_steady + dropped <= offered
    });
    node.end();
}

#[test]
fn queues_of_a_port_go_to_different_workers_and_the_next_port_to_the_least_loaded() {
    let mut node = Node::new(3);
    node.control.add_port(port(1, 2)).unwrap();
    node.control.add_port(port(2, 1)).unwrap();
    node.control.add_port(port(3, 4)).unwrap();
    let workers = |number| node.control.show_port(&name(number)).unwrap().workers;
    assert_eq!(workers(1), [0, 1]);
    assert_eq!(workers(2), [2]);
    assert_eq!(workers(3), [0, 1, 2, 0]);
    assert_eq!(node.control.list_workers().workers[0].queues, ["port-1:0", "port-3:0", "port-3:3"]);
    node.end();
}

#[test]
fn a_port_that_no_worker_has_room_for_is_refused_without_a_trace() {
    let mut node = Node::new(1);
    node.control.add_port(port(1, 50)).unwrap();
    let error = node.control.add_port(port(2, 13)).unwrap_err();
    assert!(error.to_string().contains("further queue"), "{error}");
    assert_eq!(node.outside.held(), (1, 50, 1));
    node.control.add_port(port(2, 12)).unwrap();
    node.end();
}

#[test]
fn a_second_port_of_the_same_name_place_or_address_is_refused() {
    let mut node = Node::new(1);
    node.control.add_port(port(1, 1)).unwrap();
    let mut same_place = port(2, 1);
    same_place.attachment = port(1, 1).attachment;
    let mut same_address = port(2, 1);
    same_address.addresses = port(1, 1).addresses;
    for (config, part) in [(port(1, 1), "exists"), (same_place, "net_null1"), (same_address, "10.0.0.1/32")] {
        let error = node.control.add_port(config).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Conflict);
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(node.control.remove_port(&name(9)).unwrap_err().code(), ErrorCode::NotFound);
    assert_eq!(node.outside.held(), (1, 1, 1));
    node.end();
}

#[test]
fn the_gateways_address_belongs_to_nobody() {
    let mut node = Node::new(1);
    let mut greedy = port(1, 1);
    greedy.addresses = vec!["169.254.0.0/16".parse().unwrap()];
    assert_eq!(node.control.add_port(greedy).unwrap_err().code(), ErrorCode::Invalid);
    node.end();
}
