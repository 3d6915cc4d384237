//! The model: objects in, tables out.

mod host_ports;
mod routes;
mod services;
mod ways;

use crate::health::HealthChecks;
use crate::incoming::{Incoming, Seen};
use crate::index::{AddressIndex, Moved, NodeIndex, ServiceIndex};
use crate::object::{Kind, Namespace, NetworkPolicy, Node, Object, ObjectName};
use crate::port::PortSpec;
use crate::routing::RoutingConfig;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::{AddressSet, Balancing, Gateway, Masquerade, SourcePorts, TableSet};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub use host_ports::HostPort;
pub(crate) use services::{ClaimKey, Programmed, sets_of};
pub use ways::PeerProblem;

/// What does not change while the model lives.
#[derive(Clone, Debug)]
pub struct ModelConfig {
    /// The name of this node.
    pub node: String,
    /// The router that pods see.
    pub gateway: Gateway,
    /// How connections are spread over endpoints.
    pub balancing: Balancing,
    /// Ranges of pods' addresses, besides those that nodes are said to have.
    pub pod_ranges: Vec<IpNet>,
    /// Which of this node's addresses NodePorts answer at; if empty, its primary ones.
    pub node_port_addresses: Vec<IpNet>,
    /// First and last source port of masqueraded connections.
    pub masquerade_ports: (u16, u16),
    /// Whether TCP connections to endpoints that no longer serve are reset.
    pub reset_vanished: bool,
    /// The ways to other nodes and to the world.
    pub routing: RoutingConfig,
}

impl ModelConfig {
    /// The defaults for a node: Maglev balancing, NodePorts at its primary addresses, masquerading from the dynamic ports.
    pub fn new(node: impl Into<String>, gateway: Gateway) -> Self {
        let SourcePorts { first, last } = SourcePorts::DYNAMIC;
        ModelConfig {
            node: node.into(),
            gateway,
            balancing: Balancing::default(),
            pod_ranges: Vec::new(),
            node_port_addresses: Vec::new(),
            masquerade_ports: (first, last),
            reset_vanished: false,
            routing: RoutingConfig::default(),
        }
    }
}

/// The cluster as this node needs it.
#[derive(Debug)]
pub struct Model {
    pub(crate) config: ModelConfig,
    pub(crate) services: ServiceIndex,
    pub(crate) addresses: AddressIndex,
    pub(crate) nodes: NodeIndex,
    namespaces: BTreeMap<ObjectName, Namespace>,
    policies: BTreeMap<ObjectName, NetworkPolicy>,
    pub(crate) programmed: Programmed,
    host_ports: host_ports::HostPorts,
    pub(crate) health: HealthChecks,
    pub(crate) incoming: Incoming,
    pub(crate) seen: Seen,
    pub(crate) underlay: crate::underlay::Underlay,
    routes: routes::Routes,
    ways: ways::Ways,
    tables: TableSet,
}

impl Model {
    /// A model of a cluster of which nothing is known yet.
    pub fn new(config: ModelConfig) -> Self {
        let (first, last) = config.masquerade_ports;
        let masquerade = Masquerade { ports: SourcePorts { first, last }, ..Masquerade::default() };
        let (clamp_mss, transit) = (config.routing.clamp_mss, config.routing.transit);
        let tables = TableSet {
            masquerade,
            reset_vanished: config.reset_vanished,
            clamp_mss,
            transit,
            ..TableSet::empty(config.gateway)
        };
        Model {
            tables,
            services: ServiceIndex::default(),
            addresses: AddressIndex::default(),
            nodes: NodeIndex::new(config.node.clone()),
            namespaces: BTreeMap::new(),
            policies: BTreeMap::new(),
            programmed: Programmed::default(),
            host_ports: host_ports::HostPorts::default(),
            health: HealthChecks::default(),
            incoming: Incoming::default(),
            seen: Seen::default(),
            underlay: crate::underlay::Underlay::default(),
            routes: routes::Routes::default(),
            ways: ways::Ways::default(),
            config,
        }
    }

    /// Adds or replaces an object.
    pub fn apply(&mut self, object: Object) {
        match object {
            Object::Pod(pod) => self.addresses.apply_pod(pod),
            Object::Service(service) => self.take_service(service),
            Object::EndpointSlice(slice) => self.take_slice(slice),
            Object::Node(node) => {
                let moved = self.nodes.apply(node);
                self.follow_node(moved);
            }
            Object::Namespace(namespace) => {
                self.namespaces.insert(namespace.name.clone(), namespace);
            }
            Object::NetworkPolicy(policy) => {
                self.policies.insert(policy.name.clone(), policy);
            }
        }
    }

    /// Removes an object, if it is there.
    pub fn delete(&mut self, kind: Kind, name: &ObjectName) {
        self.note_delete(kind, name);
        match kind {
            Kind::Pod => self.addresses.delete_pod(name),
            Kind::Service => self.services.delete_service(name),
            Kind::EndpointSlice => self.services.delete_slice(name),
            Kind::Node => {
                let moved = self.nodes.delete(name);
                self.follow_node(moved);
            }
            Kind::Namespace => {
                self.namespaces.remove(name);
            }
            Kind::NetworkPolicy => {
                self.policies.remove(name);
            }
        }
    }

    /// Replaces all objects of a kind. Objects of another kind in the list are ignored.
    pub fn reset(&mut self, kind: Kind, objects: Vec<Object>) {
        let objects: Vec<Object> = objects.into_iter().filter(|object| object.kind() == kind).collect();
        let kept: BTreeSet<ObjectName> = objects.iter().map(|object| object.name().clone()).collect();
        for name in self.names(kind).into_iter().filter(|name| !kept.contains(name)) {
            self.delete(kind, &name);
        }
        for object in objects {
            self.apply(object);
        }
    }

    /// Adds or replaces a port.
    pub fn apply_port(&mut self, port: PortSpec) {
        self.addresses.apply_port(port);
    }

    /// Removes a port, if it is there.
    pub fn delete_port(&mut self, id: PortId) {
        self.addresses.delete_port(id);
        self.forget_host_ports(id);
    }

    /// How many objects there are.
    pub fn objects(&self) -> usize {
        let cluster = [Kind::Node, Kind::Namespace, Kind::NetworkPolicy];
        let kinds = [Kind::Pod, Kind::Service, Kind::EndpointSlice].into_iter().chain(cluster);
        kinds.map(|kind| self.count(kind)).sum()
    }

    /// NetworkPolicies. Tables do not depend on them: nothing enforces them yet.
    pub fn policies(&self) -> &BTreeMap<ObjectName, NetworkPolicy> {
        &self.policies
    }

    /// Whether anything changed since the last compilation that tables may depend on.
    pub fn has_changes(&self) -> bool {
        self.has_moved()
            || self.ways.has_changes()
            || !self.nodes.moved.is_empty()
            || !self.services.dirty.is_empty()
            || !self.addresses.dirty.is_empty()
    }

    /// The tables for what is known now. The cost is that of what changed since the last time; the rest is shared
    /// with the tables of then. When nothing changed, the version is that of then, too.
    pub fn compile(&mut self) -> TableSet {
        if !self.has_changes() {
            return self.tables.clone();
        }
        self.compile_health();
        self.compile_nodes();
        let before = self.tables.clone();
        let routes_stale = self.compile_routes();
        let changes = self.compile_services();
        if routes_stale || changes.make_stale(&before, &self.tables) {
            // Generations may wrap: a flow would have to sleep through four thousand million of them.
            self.tables.epoch = self.tables.epoch.wrapping_add(1);
        }
        self.tables.version += 1;
        self.tables.clone()
    }

    /// Whether addresses of this node or ranges of pods changed since the last compilation.
    pub fn has_moved(&self) -> bool {
        self.nodes.addresses_changed || self.nodes.ranges_changed
    }

    /// This node's addresses according to its object, `InternalIP` before `ExternalIP`.
    pub fn node_addresses(&self) -> &[IpAddr] {
        self.nodes.named_addresses()
    }

    /// Sets what this node's addresses are while its object names none.
    pub fn assume_node_addresses(&mut self, addresses: Vec<IpAddr>) {
        if self.nodes.assume(addresses) {
            self.follow_node(Moved { addresses: true, zone: false });
        }
    }

    /// The ranges of pods' addresses: those configured, and those of all nodes.
    pub fn pod_ranges(&self) -> impl Iterator<Item = IpNet> {
        self.config.pod_ranges.iter().copied().chain(self.nodes.pod_ranges())
    }

    pub(crate) fn own_node(&self) -> Option<&Node> {
        self.nodes.own()
    }

    /// Has the services looked at again whose tables depend on what has changed of this node.
    fn follow_node(&mut self, moved: Moved) {
        if moved.addresses {
            self.touch_host_ports();
        }
        if moved.zone {
            self.services.touch(|_| true);
        } else if moved.addresses {
            self.services.touch(|service| service.ports.iter().any(|port| port.node_port.is_some()));
        }
    }

    /// What new flows need to know of nodes. Flows that are there keep their source.
    fn compile_nodes(&mut self) {
        if self.nodes.addresses_changed {
            let (ipv4, ipv6) = self.nodes.primary_addresses();
            (self.tables.masquerade.ipv4, self.tables.masquerade.ipv6) = (ipv4, ipv6);
        }
        if std::mem::take(&mut self.nodes.ranges_changed) {
            self.tables.masquerade.toward_host = self.nodes.spare_addresses();
            self.tables.pod_ranges = Arc::new(AddressSet::new(self.pod_ranges()));
        }
        let moved = std::mem::take(&mut self.nodes.moved);
        if self.nodes.addresses_changed || moved.iter().any(|name| self.nodes.is_us(name)) {
            self.ways.touch_all();
        }
        if self.nodes.addresses_changed || !moved.is_empty() {
            self.compile_outgoing();
        }
        for name in moved {
            self.ways.touch_peer(name);
        }
    }

    fn names(&self, kind: Kind) -> Vec<ObjectName> {
        match kind {
            Kind::Pod => self.addresses.pods.keys().cloned().collect(),
            Kind::Service => self.services.services.keys().cloned().collect(),
            Kind::EndpointSlice => self.services.slices.keys().cloned().collect(),
            Kind::Node => self.nodes.nodes.keys().cloned().collect(),
            Kind::Namespace => self.namespaces.keys().cloned().collect(),
            Kind::NetworkPolicy => self.policies.keys().cloned().collect(),
        }
    }

    fn count(&self, kind: Kind) -> usize {
        match kind {
            Kind::Pod => self.addresses.pods.len(),
            Kind::Service => self.services.services.len(),
            Kind::EndpointSlice => self.services.slices.len(),
            Kind::Node => self.nodes.nodes.len(),
            Kind::Namespace => self.namespaces.len(),
            Kind::NetworkPolicy => self.policies.len(),
        }
    }
}
