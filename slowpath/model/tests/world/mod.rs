//! Random clusters, small and full of conflicts.

mod any;
mod packet;
mod random;

pub(crate) use any::NODE_ADDRESSES;
pub(crate) use packet::{Arrival, Packet};
pub(crate) use random::Random;

use any::{NAMESPACES, PORTS, SERVICES, any_endpoint, any_node, any_service};
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{Gateway, PortRole};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::{
    AddressFamily, Conditions, Endpoint, EndpointSlice, Kind, Model, ModelConfig, Node, Object, ObjectName,
    PortSpec, Service, SlicePort, Transport,
};
use std::net::IpAddr;

/// An endpoint as the API has it: conditions may be absent.
#[derive(Clone, Debug)]
pub(crate) struct RawEndpoint {
    pub(crate) address: IpAddr,
    pub(crate) ready: Option<bool>,
    pub(crate) serving: Option<bool>,
    pub(crate) terminating: Option<bool>,
    pub(crate) node: Option<String>,
    pub(crate) for_nodes: Vec<String>,
    pub(crate) for_zones: Vec<String>,
}

/// A slice as the API has it.
#[derive(Clone, Debug)]
pub(crate) struct RawSlice {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) service: Option<String>,
    pub(crate) headless: bool,
    pub v4: bool,
    pub(crate) ports: Vec<(String, Transport, u16)>,
    pub(crate) endpoints: Vec<RawEndpoint>,
}

/// A cluster, seen from one node.
#[derive(Clone, Debug)]
pub(crate) struct World {
    pub(crate) nodes: Vec<Node>,
    pub(crate) services: Vec<Service>,
    pub(crate) slices: Vec<RawSlice>,
    pub(crate) node_port_addresses: Vec<IpNet>,
    pub(crate) pod_ranges: Vec<IpNet>,
    /// What the host's own leg owns.
    pub(crate) host_addresses: Vec<IpAddr>,
}

fn ip(text: &&str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &&str) -> IpNet {
    text.parse().unwrap()
}

impl World {
    pub(crate) const US: &'static str = "here";
    pub(crate) const NODES: [&'static str; 3] = [World::US, "there", "far"];
    /// Pods of this node: port, addresses.
    pub(crate) const PODS: [(u16, &'static str, &'static str); 2] =
        [(1, "10.0.0.1", "fd00::1"), (2, "10.0.0.2", "fd00::2")];
    pub(crate) const HOST: u16 = 3;
    pub(crate) const UPLINK: u16 = 4;
    pub(crate) const MASQUERADE_PORTS: (u16, u16) = (50_000, 65_535);

    pub(crate) fn gateway(v4: bool) -> IpAddr {
        ip(if v4 { &"169.254.1.1" } else { &"fe80::1" })
    }

    /// Any cluster.
    pub(crate) fn any(random: &mut Random) -> World {
        let mut world = World {
            nodes: random.some(&World::NODES, 85).iter().map(|name| any_node(random, name)).collect(),
            services: Vec::new(),
            slices: Vec::new(),
            node_port_addresses: random
                .some(&["192.0.2.2/32", "0.0.0.0/0", "2001:db8::/32"], 25)
                .iter()
                .map(net)
                .collect(),
            pod_ranges: random.some(&["10.0.2.0/24", "fd00:2::/64"], 30).iter().map(net).collect(),
            host_addresses: Vec::new(),
        };
        world.host_addresses = match random.chance(50) {
            true => NODE_ADDRESSES.iter().map(ip).collect(),
            false => ["100.64.0.9", "fd64::9"].iter().map(ip).collect(),
        };
        for _ in 0..random.between(1, 4) {
            world.put_service(any_service(random));
        }
        for _ in 0..random.between(2, 9) {
            let slice = world.any_slice(random);
            world.put_slice(slice);
        }
        world
    }

    /// Makes one change that can happen in a cluster, to the world and to its model.
    pub(crate) fn change(&mut self, random: &mut Random, model: &mut Model) {
        match random.below(8) {
            0 if !self.services.is_empty() => {
                let gone = self.services.remove(random.below(self.services.len()));
                model.delete(Kind::Service, &gone.name);
            }
            1 if !self.slices.is_empty() => {
                let gone = self.slices.remove(random.below(self.slices.len()));
                model.delete(Kind::EndpointSlice, &gone.object_name());
            }
            2 => {
                let name = *random.pick(&World::NODES);
                self.nodes.retain(|node| node.name.name != name);
                if random.chance(75) {
                    let node = any_node(random, name);
                    self.nodes.push(node.clone());
                    model.apply(Object::Node(node));
                } else {
                    model.delete(Kind::Node, &ObjectName::cluster_wide(name));
                }
            }
            3 => {
                let fresh = World::any(random);
                self.services = fresh.services;
                let list = self.services.iter().cloned().map(Object::Service).collect();
                model.reset(Kind::Service, list);
            }
            4 | 5 => {
                let service = any_service(random);
                self.put_service(service.clone());
                model.apply(Object::Service(service));
            }
            _ => {
                let slice = self.any_slice(random);
                self.put_slice(slice.clone());
                model.apply(Object::EndpointSlice(slice.object()));
            }
        }
    }

    /// A model that has been told all of this.
    pub(crate) fn model(&self) -> Model {
        let mut model = Model::new(ModelConfig {
            node_port_addresses: self.node_port_addresses.clone(),
            pod_ranges: self.pod_ranges.clone(),
            masquerade_ports: World::MASQUERADE_PORTS,
            ..ModelConfig::new(World::US, gateway())
        });
        let pods = World::PODS.map(|(id, v4, v6)| (id, PortRole::Pod, vec![net_of(v4), net_of(v6)]));
        let host = self.host_addresses.iter().map(|&address| IpNet::from(address)).collect();
        let uplink = ["0.0.0.0/0", "::/0"].iter().map(net).collect();
        let others = [(World::HOST, PortRole::Host, host), (World::UPLINK, PortRole::Uplink, uplink)];
        for (id, role, addresses) in pods.into_iter().chain(others) {
            model.apply_port(PortSpec {
                id: PortId(id),
                mac: mac(id),
                mtu: 1500,
                spoof_check: role == PortRole::Pod,
                role,
                addresses,
                pod: None,
            });
        }
        for node in &self.nodes {
            model.apply(Object::Node(node.clone()));
        }
        for service in &self.services {
            model.apply(Object::Service(service.clone()));
        }
        for slice in &self.slices {
            model.apply(Object::EndpointSlice(slice.object()));
        }
        model
    }

    fn put_service(&mut self, service: Service) {
        self.services.retain(|other| other.name != service.name);
        self.services.push(service);
    }

    fn put_slice(&mut self, slice: RawSlice) {
        self.slices.retain(|other| other.object_name() != slice.object_name());
        self.slices.push(slice);
    }

    fn any_slice(&self, random: &mut Random) -> RawSlice {
        let v4 = random.chance(60);
        let service = match self.services.is_empty() || random.chance(15) {
            true => ObjectName::new(*random.pick(&NAMESPACES), *random.pick(&SERVICES)),
            false => random.pick(&self.services).name.clone(),
        };
        let mut ports: Vec<(String, Transport, u16)> = Vec::new();
        for (name, protocol, _) in random.some(&PORTS, 80) {
            ports.push((name.to_owned(), protocol, 8080 + random.below(2) as u16));
        }
        RawSlice {
            namespace: service.namespace,
            name: format!("e{}", random.below(9)),
            service: random.chance(95).then_some(service.name),
            headless: random.chance(5),
            v4,
            ports,
            endpoints: (0..random.below(6)).map(|_| any_endpoint(random, v4)).collect(),
        }
    }
}

impl RawSlice {
    pub(crate) fn object_name(&self) -> ObjectName {
        ObjectName::new(self.namespace.clone(), self.name.clone())
    }

    pub(crate) fn object(&self) -> EndpointSlice {
        let port = |(name, protocol, port): &(String, Transport, u16)| SlicePort {
            name: name.clone(),
            protocol: *protocol,
            port: *port,
        };
        let endpoint = |raw: &RawEndpoint| Endpoint {
            address: raw.address,
            conditions: Conditions::new(raw.ready, raw.serving, raw.terminating),
            node: raw.node.clone(),
            zone: None,
            for_nodes: raw.for_nodes.clone(),
            for_zones: raw.for_zones.clone(),
            pod: None,
        };
        EndpointSlice {
            name: self.object_name(),
            service: self.service.clone(),
            family: if self.v4 { AddressFamily::V4 } else { AddressFamily::V6 },
            headless: self.headless,
            ports: self.ports.iter().map(port).collect(),
            endpoints: self.endpoints.iter().map(endpoint).collect(),
            trigger_time: None,
        }
    }
}

fn gateway() -> Gateway {
    let (IpAddr::V4(ipv4), IpAddr::V6(ipv6)) = (World::gateway(true), World::gateway(false)) else {
        unreachable!()
    };
    Gateway { mac: MacAddr([2, 0, 0, 0, 0, 0xfe]), ipv4, ipv6 }
}

fn net_of(address: &str) -> IpNet {
    IpNet::from(ip(&address))
}

pub(crate) fn mac(port: u16) -> MacAddr {
    MacAddr([2, 0, 0, 0, 1, port as u8])
}
