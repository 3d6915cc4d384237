//! A cluster of many nodes: what it costs to learn of them, and of one neighbour's change afterwards. To be run with
//! `--ignored --nocapture`.
#![allow(clippy::unwrap_used, reason = "a test says what went wrong by panicking")]

use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::Gateway;
use millrace_model::underlay::{Hop, Underlay, UnderlayRoute, Uplink};
use millrace_model::*;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

const NODES: u32 = 5_000;
const CHANGES: u32 = 50;
const NIC: PortId = PortId(1);

fn address(number: u32) -> IpAddr {
    Ipv4Addr::from_bits(0xac10_0000 + number).into()
}

fn range(number: u32) -> IpNet {
    IpNet::new(Ipv4Addr::from_bits(0x0a00_0000 + (number << 8)).into(), 24).unwrap()
}

fn node(number: u32) -> Object {
    let name = if number == 1 { "us".to_owned() } else { format!("node-{number}") };
    Object::Node(Node {
        name: ObjectName::cluster_wide(name),
        labels: Default::default(),
        zone: None,
        addresses: vec![address(number)],
        pod_cidrs: vec![range(number)],
        routing: Default::default(),
        leaving: false,
        network_unavailable: None,
    })
}

fn mac(number: u32) -> MacAddr {
    let [a, b, c, d] = number.to_be_bytes();
    MacAddr([2, 0, a, b, c, d])
}

/// All nodes on one link with this prefix length of ours; those beyond are behind a router. With `fabric` the kernel has a
/// route to each node's pods, as a routing daemon makes them.
fn underlay(length: u8, fabric: bool) -> Underlay {
    let hop = |number| vec![Hop { port: NIC, gateway: Some(address(number)) }];
    let mut routes =
        vec![UnderlayRoute { to: "0.0.0.0/0".parse().unwrap(), metric: 0, hops: hop(2), refuses: None }];
    if fabric {
        routes.extend((2..=NODES).map(|number| UnderlayRoute {
            to: range(number),
            metric: 20,
            hops: hop(2),
            refuses: None,
        }));
    }
    Underlay {
        uplinks: vec![Uplink {
            port: NIC,
            mac: mac(1),
            mtu: 1500,
            addresses: vec![IpNet::new(address(1), length).unwrap()],
            is_up: true,
            companion: None,
        }],
        routes,
        neighbours: (2..=NODES).map(|number| ((NIC, address(number)), mac(number))).collect(),
    }
}

fn median(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn measure(what: &str, mut known: Underlay) {
    let gateway = Gateway { mac: mac(0), ipv4: [169, 254, 1, 1].into(), ipv6: "fe80::1".parse().unwrap() };
    let mut model = Model::new(ModelConfig::new("us", gateway));
    let start = Instant::now();
    for number in 1..=NODES {
        model.apply(node(number));
    }
    model.set_underlay(known.clone());
    // Workers hold the version before while the next is made.
    let mut published = vec![model.compile()];
    println!("{what}: {NODES} nodes in {:?}", start.elapsed());
    let (mut flaps, mut nodes) = (Vec::new(), Vec::new());
    for change in 0..CHANGES {
        let number = 3 + change * 7;
        known.neighbours.insert((NIC, address(number)), mac(number + 1_000_000 + change));
        let told = known.clone();
        let start = Instant::now();
        model.set_underlay(told);
        let next = model.compile();
        flaps.push(start.elapsed());
        published.push(next);
        let Object::Node(mut moved) = node(number) else { unreachable!() };
        moved.pod_cidrs = vec![range(6_000 + change)];
        let start = Instant::now();
        model.apply(Object::Node(moved));
        let next = model.compile();
        nodes.push(start.elapsed());
        published = vec![next];
    }
    let start = Instant::now();
    assert_eq!(model.peer_problems(), []);
    println!("{what}: all nodes looked at for problems in {:?}", start.elapsed());
    known.uplinks[0].is_up = false;
    let start = Instant::now();
    model.set_underlay(known.clone());
    published.push(model.compile());
    let down = start.elapsed();
    known.uplinks[0].is_up = true;
    let start = Instant::now();
    model.set_underlay(known);
    published.push(model.compile());
    println!("{what}: the link down {down:?}, up {:?}", start.elapsed());
    println!("{what}: a neighbour {:?}, a node {:?} (median, 99th percentile)", median(flaps), median(nodes));
}

#[test]
#[ignore = "measures time; run it alone"]
fn one_neighbour_of_many_nodes_costs_what_uses_it() {
    measure("one link", underlay(16, false));
    measure("behind a router", underlay(29, false));
    measure("a fabric's routes", underlay(29, true));
}
