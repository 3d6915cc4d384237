//! Clients that stay with their endpoint.

use super::fixture::*;
use crate::tables::{Backend, FrontendKind, Pool};
use std::collections::HashSet;
use std::net::IpAddr;

const PORT: u16 = 8443;

/// A service with affinity of 100 s at a ClusterIP and a NodePort, and four endpoints behind pod B's port.
fn node(net: &Net, frontends: &[IpAddr]) -> Node {
    let mut node = Node::new();
    node.add_uplink();
    for &address in frontends {
        let kind = if address == net.node { FrontendKind::NodePort } else { FrontendKind::ExternalIp };
        set(&mut node, net, address, kind, &[1, 2, 3, 4]);
    }
    node
}

fn set(node: &mut Node, net: &Net, address: IpAddr, kind: FrontendKind, numbers: &[u16]) {
    let backends: Vec<Backend> =
        numbers.iter().map(|number| Backend { address: net.b.into(), port: 8080 + number }).collect();
    let service = node.add_frontend(address, PORT, kind, |frontend| {
        let shared = pool(backends.clone());
        frontend.inside = Pool { ..shared.clone() };
        frontend.outside = shared;
        frontend.affinity = Some(100);
    });
    for number in 1..=4 {
        let backend = Backend { address: net.b.into(), port: 8080 + number };
        node.tables.services.set_serving(service, backend, numbers.contains(&number));
    }
    node.tables.epoch += 1;
}

fn endpoint(node: &mut Node, from: Packet) -> u16 {
    see(&node.run(from.from, from.frame()).unwrap().1).ports.1
}

#[test]
fn all_connections_of_a_client_go_to_one_endpoint_at_every_frontend() {
    for net in families() {
        let external: IpAddr =
            if net.a.is_ipv4() { [203, 0, 113, 5].into() } else { "2001:db8:5::5".parse().unwrap() };
        let mut node = node(&net, &[net.node, external]);
        let chosen: HashSet<u16> = (0..40)
            .map(|number| {
                let destination = if number % 2 == 0 { net.node } else { external };
                let protocol = [TCP, UDP, SCTP][usize::from(number) % 3];
                endpoint(
                    &mut node,
                    Packet::new(UPLINK, net.client, destination, protocol, (3000 + number, PORT)),
                )
            })
            .collect();
        assert_eq!(chosen.len(), 1, "{chosen:?}");
        let others: HashSet<u16> = (0..40)
            .map(|number| {
                let client: IpAddr = if net.a.is_ipv4() {
                    [198, 51, 101, number].into()
                } else {
                    format!("2001:db8:a::{number}").parse().unwrap()
                };
                endpoint(&mut node, Packet::new(UPLINK, client, net.node, TCP, (3000, PORT)))
            })
            .collect();
        assert_eq!(others.len(), 4, "other clients are spread");
    }
}

#[test]
fn an_affinity_ends_with_its_timeout_and_is_renewed_by_new_connections() {
    let net = families()[0];
    let mut node = node(&net, &[net.node]);
    let mut port = 1000;
    let mut next = |node: &mut Node, wait: u64| {
        node.now.0 += wait * 1_000_000_000;
        port += 1;
        endpoint(node, Packet::new(UPLINK, net.client, net.node, UDP, (port, PORT)))
    };
    let first = next(&mut node, 0);
    assert!((0..20).all(|_| next(&mut node, 60) == first), "renewed each time, over twenty minutes");
    let later: HashSet<u16> = (0..40).map(|_| next(&mut node, 110)).collect();
    assert!(later.len() > 1, "{later:?}");
}

#[test]
fn an_affinity_to_an_endpoint_that_may_not_be_used_is_forgotten() {
    let net = families()[0];
    let mut node = node(&net, &[net.node]);
    let first = endpoint(&mut node, Packet::new(UPLINK, net.client, net.node, TCP, (1000, PORT)));
    let left: Vec<u16> = (1..=4).filter(|number| 8080 + number != first).collect();
    set(&mut node, &net, net.node, FrontendKind::NodePort, &left);
    let second = endpoint(&mut node, Packet::new(UPLINK, net.client, net.node, TCP, (1001, PORT)));
    assert_ne!(first, second);
    set(&mut node, &net, net.node, FrontendKind::NodePort, &[1, 2, 3, 4]);
    for port in 1002..1030 {
        let packet = Packet::new(UPLINK, net.client, net.node, TCP, (port, PORT));
        assert_eq!(endpoint(&mut node, packet), second, "the first is forgotten");
    }
}
