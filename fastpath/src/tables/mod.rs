//! What the cluster wants, as an immutable snapshot that workers read.
//!
//! A [`TableSet`] is built by the control thread and published through a [`Snapshot`](crate::sync::Snapshot).
//! Its large maps share structure with the version before: cloning it and changing one service costs a few
//! microseconds, whatever the size of the cluster.

mod address;
mod address_set;
mod backends;
mod claims;
mod maglev;
mod masquerade;
mod origin;
mod ports;
mod routes;
mod services;
mod shared_map;
#[cfg(test)]
mod tests;
mod tunnels;

pub use address::Address;
pub use address_set::AddressSet;
pub use backends::{Backend, BackendSet, Balancing};
pub use maglev::{MaglevError, MaglevTable};
pub use masquerade::{Masquerade, Outgoing, SourcePorts};
pub use origin::Origin;
pub use ports::{Gateway, PortInfo, PortRole, PortSet, PortTable, Shortcuts};
pub use routes::{Adjacency, AdjacencyId, GroupId, RefusedRoute, Route, RouteChange, RouteTable};
pub use services::{Frontend, FrontendKey, FrontendKind, Pool, ServiceId, ServiceTable, WhenEmpty};
pub use shared_map::{Change, SharedMap};
pub use tunnels::{Tunnel, TunnelId, TunnelTable, VXLAN_PORT, Vni, Vtep};

use crate::port::PortId;
use std::sync::Arc;

/// One version of everything that workers need to know.
#[derive(Clone, Debug)]
pub struct TableSet {
    /// Generation of all cached verdicts (D7): a flow whose verdict was made under another epoch is resolved again
    /// before it is used. Raised when a change can make a cached verdict wrong (a port, route or serving endpoint
    /// went or moved), not when something is only added.
    pub epoch: u32,
    /// Counts publications. For people and tests.
    pub version: u64,
    /// The node as the pods' router.
    pub gateway: Gateway,
    /// Ports by number.
    pub ports: PortTable,
    /// Which way to an address.
    pub routes: RouteTable,
    /// Ways to other nodes inside of UDP.
    pub tunnels: TunnelTable,
    /// Service frontends and their backends.
    pub services: ServiceTable,
    /// The addresses of the cluster's pods, on this node and on others.
    pub pod_ranges: Arc<AddressSet>,
    /// What connections that are to come back here take as their source.
    pub masquerade: Masquerade,
    /// Whether a TCP connection to an endpoint that no longer serves is reset at its next packet, not left to die.
    pub reset_vanished: bool,
    /// Whether TCP connections are made to announce no larger segments than their way takes whole.
    pub clamp_mss: bool,
    /// Whether what comes by one uplink may leave by another.
    pub transit: bool,
    /// Which connections the kernel can carry past the workers.
    pub shortcuts: Shortcuts,
    /// Whether all ports are there that are to be there at the start. Before, what cannot be forwarded may be so in a moment:
    /// its sender is not told that it cannot.
    pub settled: bool,
}

impl TableSet {
    /// Tables of a node without ports, routes and services.
    pub fn empty(gateway: Gateway) -> Self {
        TableSet {
            epoch: 1,
            version: 0,
            gateway,
            ports: PortTable::default(),
            routes: RouteTable::default(),
            tunnels: TunnelTable::default(),
            services: ServiceTable::default(),
            pod_ranges: Arc::default(),
            masquerade: Masquerade::default(),
            reset_vanished: false,
            clamp_mss: false,
            transit: false,
            shortcuts: Shortcuts::default(),
            settled: true,
        }
    }

    /// The tunnel that packets of `sender` come out of which arrive by this port: the one to the node that has it.
    pub fn tunnel_from(&self, arrival: PortId, sender: Address) -> Option<TunnelId> {
        self.routes.way(sender).filter(|back| back.port == arrival)?.tunnel
    }
}
