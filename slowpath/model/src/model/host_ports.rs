//! Ports of this node that lead to one of its pods, and what attachments ask of the model.
//!
//! A port with host ports takes part in the claims to frontends like a service. Its name is none that a service can have.

use super::Model;
use super::services::{ClaimKey, Plan, Sets};
use crate::object::{AddressFamily, Node, ObjectName, Pod, Transport};
use crate::view::ServicePortName;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{Backend, Frontend, FrontendKind, Pool, WhenEmpty};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

/// A port of the node that leads to a pod.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostPort {
    /// The node's address; `None`: every one; unspecified: every one of that family.
    pub host_ip: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The port of the pod.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Transport,
}

impl HostPort {
    /// Where it answers on a node that has these addresses. `localhost` is among them where other nodes' portmap plugin has it:
    /// always if it is asked for, else over IPv4.
    fn answers_at(&self, own: &[IpAddr]) -> Vec<IpAddr> {
        let of_family = |v4: bool| own.iter().copied().filter(move |own| own.is_ipv4() == v4);
        let localhost = of_family(true).next().map(|_| IpAddr::V4(Ipv4Addr::LOCALHOST));
        match self.host_ip {
            None => own.iter().copied().chain(localhost).collect(),
            Some(any) if any.is_unspecified() => {
                of_family(any.is_ipv4()).chain(localhost.filter(|_| any.is_ipv4())).collect()
            }
            Some(wanted) if wanted.is_loopback() || own.contains(&wanted) => vec![wanted],
            Some(_) => Vec::new(),
        }
    }
}

/// What one pod asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Wanted {
    addresses: Vec<IpAddr>,
    ports: Vec<HostPort>,
}

/// All ports of the node that lead to pods.
#[derive(Debug, Default)]
pub(crate) struct HostPorts(BTreeMap<ObjectName, Wanted>);

/// The name under which a port takes part in claims. A service's namespace has no space in it.
fn claimant(port: PortId) -> ObjectName {
    ObjectName::new("host port", port.0.to_string())
}

impl Model {
    /// Has ports of the node lead to the pod behind a port, which has these addresses. Replaces what was said before; none
    /// ends it, and so does the end of the port.
    pub fn set_host_ports(&mut self, port: PortId, addresses: &[IpAddr], ports: Vec<HostPort>) {
        let name = claimant(port);
        let wanted = Wanted { addresses: addresses.to_vec(), ports };
        let before = match wanted.ports.is_empty() {
            true => self.host_ports.0.remove(&name),
            false => self.host_ports.0.insert(name.clone(), wanted.clone()),
        };
        if before.unwrap_or_default() != wanted {
            self.services.dirty.insert(name);
        }
    }

    /// Ends what was said of a port that goes.
    pub(super) fn forget_host_ports(&mut self, port: PortId) {
        if self.host_ports.0.remove(&claimant(port)).is_some() {
            self.services.dirty.insert(claimant(port));
        }
    }

    /// The node's addresses have changed.
    pub(super) fn touch_host_ports(&mut self) {
        self.services.dirty.extend(self.host_ports.0.keys().cloned());
    }

    /// Host ports that a service or another pod has before their pod: `[(port, address, number, protocol)]`.
    pub fn host_port_conflicts(&self) -> Vec<(PortId, IpAddr, u16, Transport)> {
        let of_name = |name: &ObjectName| name.name.parse().ok().map(PortId);
        let mut conflicts = Vec::new();
        for name in self.host_ports.0.keys() {
            for (key, _) in self.programmed.frontends(name) {
                if self.programmed.claims.owner(key) != Some(name) {
                    conflicts.extend(of_name(name).map(|port| (port, key.address, key.port, key.protocol)));
                }
            }
        }
        conflicts
    }

    /// Host ports at addresses that are none of the node's: `[(port, address, number, protocol)]`.
    pub fn host_ports_elsewhere(&self) -> Vec<(PortId, IpAddr, u16, Transport)> {
        let own = self.nodes.own_addresses();
        let elsewhere = |port: &HostPort| {
            let address = port.host_ip.filter(|ip| !ip.is_unspecified())?;
            port.answers_at(own).is_empty().then_some((address, port.host_port, port.protocol))
        };
        let of_pod = |(name, wanted): (&ObjectName, &Wanted)| {
            let id = name.name.parse().ok().map(PortId);
            let ports: Vec<_> = wanted.ports.iter().filter_map(elsewhere).collect();
            id.into_iter().flat_map(move |id| {
                ports.clone().into_iter().map(move |(at, number, of)| (id, at, number, of))
            })
        };
        self.host_ports.0.iter().flat_map(of_pod).collect()
    }

    /// What a claimant that is a port wants in the tables; nothing for one that is a service.
    pub(super) fn host_port_plan(&mut self, name: &ObjectName, former: &Plan) -> Option<Plan> {
        let wanted = self.host_ports.0.get(name)?.clone();
        let mut sets = Sets::of(former, self.config.balancing);
        let mut plan = Plan::default();
        for port in &wanted.ports {
            for &address in &wanted.addresses {
                let family = AddressFamily::of(address);
                let id = self.programmed.ids.claim(ServicePortName {
                    service: name.clone(),
                    port: port.host_port.to_string(),
                    protocol: port.protocol,
                });
                let backend = Backend { address: address.into(), port: port.container_port };
                let pool = Pool { backends: sets.get(vec![backend]), when_empty: WhenEmpty::Reject };
                plan.ids.insert(id);
                plan.serving.insert((id, backend));
                let places = port.answers_at(self.nodes.own_addresses()).into_iter();
                for own in places.filter(|own| AddressFamily::of(*own) == family) {
                    let key = ClaimKey { address: own, port: port.host_port, protocol: port.protocol };
                    let frontend = Frontend {
                        kind: FrontendKind::HostPort,
                        keeps_client: true,
                        ..Frontend::cluster_ip(id, pool.clone())
                    };
                    plan.frontends.insert(key, frontend);
                }
            }
        }
        Some(plan)
    }

    /// A pod that is known.
    pub fn pod(&self, name: &ObjectName) -> Option<&Pod> {
        self.addresses.pods.get(name)
    }

    /// The ranges of this node's pods, as its object has them.
    pub fn node_pod_ranges(&self) -> &[IpNet] {
        self.own_node().map_or(&[], |node: &Node| &node.pod_cidrs)
    }
}
