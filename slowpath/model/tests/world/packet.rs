//! Packets that open connections.

use super::any::{CLUSTER_IPS, ENDPOINTS, EXTERNAL_IPS, NODE_ADDRESSES};
use super::{Random, World, ip};
use std::net::IpAddr;

/// Where a packet comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Arrival {
    /// A pod of this node, by its port.
    Pod(u16),
    /// This node itself.
    Host,
    /// Everything else.
    Uplink,
}

impl Arrival {
    pub(crate) fn port(self) -> u16 {
        match self {
            Arrival::Pod(port) => port,
            Arrival::Host => World::HOST,
            Arrival::Uplink => World::UPLINK,
        }
    }
}

/// The first packet of a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Packet {
    pub(crate) arrival: Arrival,
    pub(crate) source: IpAddr,
    pub(crate) destination: IpAddr,
    pub(crate) protocol: u8,
    /// Source and destination.
    pub(crate) ports: (u16, u16),
}

impl Packet {
    /// Any packet to where services are or might be; its source port is still 0.
    pub(crate) fn any(random: &mut Random, world: &World) -> Packet {
        let anywhere = (anywhere(random), *random.pick(&[6, 6, 17, 132]));
        let known = random.chance(75).then(|| frontend(random, world)).flatten();
        let ((destination, port), protocol) = known.unwrap_or(anywhere);
        let (arrival, source) = source(random, world, destination.is_ipv4());
        Packet { arrival, source, destination, protocol, ports: (0, port) }
    }
}

/// An address, port and protocol that a service mentions, though it may not answer there.
fn frontend(random: &mut Random, world: &World) -> Option<((IpAddr, u16), u8)> {
    let service = world.services.get(random.below(world.services.len().max(1)))?;
    let port = service.ports.get(random.below(service.ports.len().max(1)))?;
    let node = (NODE_ADDRESSES.iter().map(ip), port.node_port.unwrap_or(port.port));
    let balancers = service.load_balancer_ips.iter().map(|balancer| balancer.ip);
    let mut places: Vec<(IpAddr, u16)> = node.0.map(|address| (address, node.1)).collect();
    for _ in 0..3 {
        let ips = service.cluster_ips.iter().chain(&service.external_ips).copied().chain(balancers.clone());
        places.extend(ips.map(|address| (address, port.port)));
    }
    Some((*random.pick(&places), port.protocol.number()))
}

fn anywhere(random: &mut Random) -> (IpAddr, u16) {
    let v4 = random.chance(55);
    let of_family = |list: &[&str]| list.iter().map(ip).filter(|ip| ip.is_ipv4() == v4).collect::<Vec<_>>();
    let addresses = match random.below(10) {
        0..4 => of_family(&CLUSTER_IPS.concat()),
        4..7 => of_family(&EXTERNAL_IPS),
        7..9 => of_family(&NODE_ADDRESSES),
        _ => of_family(&ENDPOINTS.concat()),
    };
    let node_ports = NODE_ADDRESSES.iter().map(ip).any(|address| addresses.contains(&address));
    let ports: &[u16] =
        if node_ports { &[30080, 30080, 30081, 30082, 30083, 80] } else { &[80, 80, 80, 81, 82, 30080] };
    (*random.pick(&addresses), *random.pick(ports))
}

fn source(random: &mut Random, world: &World, v4: bool) -> (Arrival, IpAddr) {
    match random.below(10) {
        0..4 => {
            let (port, pod_v4, pod_v6) = *random.pick(&World::PODS);
            (Arrival::Pod(port), ip(if v4 { &pod_v4 } else { &pod_v6 }))
        }
        4 => {
            let own: Vec<IpAddr> =
                world.host_addresses.iter().copied().filter(|ip| ip.is_ipv4() == v4).collect();
            (Arrival::Host, *random.pick(&own))
        }
        // Pods of other nodes, if somebody says so, and possibly endpoints.
        5..7 => (Arrival::Uplink, ip(random.pick(&ENDPOINTS[usize::from(!v4)][2..5]))),
        _ if v4 => (Arrival::Uplink, ip(random.pick(&["198.51.100.7", "203.0.113.200"]))),
        _ => (Arrival::Uplink, ip(random.pick(&["2001:db8:9::7", "2001:db8:a::7"]))),
    }
}
