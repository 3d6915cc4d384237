//! Random networks, small and full of conflicts.

use crate::random::Random;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{Gateway, PortRole};
use millrace_model::underlay::{Hop, Refuses, Underlay, UnderlayRoute, Uplink};
use millrace_model::*;
use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) const US: &str = "here";
const OTHERS: [&str; 3] = ["aside", "there", "yonder"];
pub(crate) const POD: (u16, &str) = (9, "10.1.0.5");
const NICS: [u16; 2] = [1, 2];
/// Of this node: on a link of the first uplink, on one of the second, on none.
const OWN: [&str; 4] = ["192.0.2.1", "2001:db8::1", "198.51.100.1", "203.0.113.9"];
const NODES: [&str; 7] =
    ["192.0.2.2", "192.0.2.3", "2001:db8::2", "198.51.100.2", "203.0.113.2", "203.0.113.3", "2001:db8:f::3"];
const LINKS: [[&str; 3]; 2] = [
    ["192.0.2.1/24", "2001:db8::1/64", "192.0.2.77/32"],
    ["198.51.100.1/24", "192.0.2.200/25", "fe80::7/64"],
];
const RANGES: [&str; 8] = [
    "10.1.0.0/24",
    "10.1.0.128/25",
    "10.2.0.0/24",
    "10.2.0.0/25",
    "10.3.0.0/24",
    "fd00:2::/64",
    "fd00:3::/64",
    "10.0.0.0/8",
];
const ROUTERS: [&str; 5] = ["192.0.2.254", "192.0.2.253", "2001:db8::fe", "198.51.100.254", "fe80::fe"];
const PREFIXES: [&str; 9] = [
    "0.0.0.0/0",
    "::/0",
    "203.0.113.0/24",
    "203.0.113.2/32",
    "10.2.0.0/24",
    "10.2.0.7/32",
    "10.96.0.0/16",
    "2001:db8:f::/48",
    "ff02::/16",
];
pub(crate) const SERVICES: &str = "10.96.0.0/16";
pub(crate) const PODS: &str = "10.0.0.0/8";

/// A network, seen from one node.
#[derive(Clone, Debug)]
pub(crate) struct Network {
    pub(crate) mode: RoutingMode,
    pub(crate) nodes: Vec<Node>,
    pub(crate) underlay: Underlay,
}

fn ip(text: &&str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &&str) -> IpNet {
    text.parse().unwrap()
}

/// Addresses of every kind that packets may be for.
pub(crate) fn addresses() -> Vec<IpAddr> {
    let plain = ["10.1.0.5", "10.1.0.6", "10.1.0.200", "10.2.0.7", "10.2.0.200", "10.3.0.1", "10.96.0.1"];
    let more =
        ["10.7.0.1", "fd00:2::7", "fd00:3::7", "192.0.2.88", "192.0.2.201", "8.8.8.8", "2001:db8:9::1"];
    let texts = plain.iter().chain(&more).chain(&NODES).chain(&OWN).chain(&ROUTERS);
    texts.map(ip).filter(|ip| !matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local())).collect()
}

pub(crate) fn mac(number: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, 2, number])
}

fn any_node(random: &mut Random, name: &str) -> Node {
    let addresses: &[&str] = if name == US { &OWN } else { &NODES };
    let ranges: &[&str] = if name == US { &RANGES[..2] } else { &RANGES };
    let modes = [None, None, None, Some(RoutingMode::Native), Some(RoutingMode::Vxlan)];
    Node {
        name: ObjectName::cluster_wide(name),
        labels: Default::default(),
        zone: None,
        addresses: random.some(addresses, if name == US { 60 } else { 25 }).iter().map(ip).collect(),
        pod_cidrs: random.some(ranges, if name == US { 45 } else { 30 }).iter().map(net).collect(),
        routing: NodeRouting {
            mode: *random.pick(&modes),
            vtep_mac: random.chance(15).then(|| mac(random.below(4) as u8)),
        },
        leaving: false,
        network_unavailable: None,
    }
}

fn any_uplinks(random: &mut Random) -> Vec<Uplink> {
    let uplink = |random: &mut Random, at: usize| Uplink {
        port: PortId(NICS[at]),
        mac: mac(0x10 + at as u8),
        mtu: *random.pick(&[1500, 1500, 9000]),
        addresses: random.some(&LINKS[at], 80).iter().map(net).collect(),
        is_up: random.chance(85),
        companion: None,
    };
    let all = [0, 1].map(|at| uplink(random, at));
    all.into_iter().filter(|_| random.chance(85)).collect()
}

fn any_route(random: &mut Random) -> UnderlayRoute {
    let to = net(random.pick(&PREFIXES));
    let routers: Vec<&str> =
        ROUTERS.into_iter().filter(|router| ip(router).is_ipv4() == to.addr().is_ipv4()).collect();
    let hop = |random: &mut Random| Hop {
        port: PortId(*random.pick(&NICS)),
        gateway: random.chance(90).then(|| ip(random.pick(&routers))),
    };
    let mut hops = vec![hop(random)];
    if random.chance(70) {
        let second = hop(random);
        hops.extend((second != hops[0]).then_some(second));
    }
    let metric = *random.pick(&[0, 10, 10, 20]);
    if random.chance(15) {
        let all = [Refuses::Blackhole, Refuses::Unreachable, Refuses::Prohibit, Refuses::Throw];
        return UnderlayRoute { to, metric, hops: Vec::new(), refuses: Some(*random.pick(&all)) };
    }
    UnderlayRoute { to, metric, hops, refuses: None }
}

fn any_neighbour(random: &mut Random) -> ((PortId, IpAddr), MacAddr) {
    let list: &[&str] = if random.chance(55) { &ROUTERS } else { &NODES };
    ((PortId(*random.pick(&NICS)), ip(random.pick(list))), mac(0x20 + random.below(3) as u8))
}

impl Network {
    pub(crate) fn any(random: &mut Random) -> Network {
        let mode =
            *random.pick(&[RoutingMode::Auto, RoutingMode::Auto, RoutingMode::Native, RoutingMode::Vxlan]);
        let mut nodes = vec![any_node(random, US)];
        for name in random.some(&OTHERS, 80) {
            nodes.push(any_node(random, name));
        }
        let routes = (0..random.between(1, 6)).map(|_| any_route(random)).collect();
        let neighbours =
            (0..random.between(2, 22)).map(|_| any_neighbour(random)).collect::<BTreeMap<_, _>>();
        Network { mode, nodes, underlay: Underlay { uplinks: any_uplinks(random), routes, neighbours } }
    }

    /// Makes one change that can happen, to the network and to its model.
    pub(crate) fn change(&mut self, random: &mut Random, model: &mut Model) {
        match random.below(8) {
            0 | 1 => {
                let name = *random.pick(&[US, OTHERS[0], OTHERS[1], OTHERS[2]]);
                self.nodes.retain(|node| node.name.name != name);
                if random.chance(75) {
                    let node = any_node(random, name);
                    self.nodes.push(node.clone());
                    model.apply(Object::Node(node));
                } else {
                    model.delete(Kind::Node, &ObjectName::cluster_wide(name));
                }
                return;
            }
            2 => self.underlay.uplinks = any_uplinks(random),
            3 => {
                if let Some(uplink) = self.underlay.uplinks.first_mut() {
                    uplink.is_up = !uplink.is_up;
                }
            }
            4 if !self.underlay.routes.is_empty() => {
                let at = random.below(self.underlay.routes.len());
                self.underlay.routes.remove(at);
            }
            4 | 5 => self.underlay.routes.push(any_route(random)),
            6 if !self.underlay.neighbours.is_empty() => {
                let at = random.below(self.underlay.neighbours.len());
                let place = *self.underlay.neighbours.keys().nth(at).unwrap();
                self.underlay.neighbours.remove(&place);
            }
            _ => {
                let (place, mac) = any_neighbour(random);
                self.underlay.neighbours.insert(place, mac);
            }
        }
        model.set_underlay(self.underlay.clone());
    }

    /// A model that has been told all of this.
    pub(crate) fn model(&self) -> Model {
        let gateway =
            Gateway { mac: mac(0), ipv4: [169, 254, 1, 1].into(), ipv6: "fe80::1".parse().unwrap() };
        let mut config = ModelConfig::new(US, gateway);
        config.pod_ranges = vec![net(&PODS)];
        config.routing.mode = self.mode;
        config.routing.service_ranges = vec![net(&SERVICES)];
        let mut model = Model::new(config);
        model.apply_port(PortSpec {
            id: PortId(POD.0),
            mac: mac(POD.0 as u8),
            mtu: 1400,
            spoof_check: true,
            role: PortRole::Pod,
            addresses: vec![ip(&POD.1).into()],
            pod: None,
        });
        for node in &self.nodes {
            model.apply(Object::Node(node.clone()));
        }
        model.set_underlay(self.underlay.clone());
        model
    }
}
