//! Ways to other nodes inside of UDP: VXLAN (RFC 7348).

use super::routes::put;
use super::{Address, SharedMap};
use crate::port::PortId;
use crate::wire::ethernet::MacAddr;
use std::sync::Arc;

/// VXLAN's port (RFC 7348, section 5).
pub const VXLAN_PORT: u16 = 4789;

/// A VXLAN network identifier: 24 bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vni(u32);

impl Vni {
    /// The identifier with this number; none if it has more than 24 bits.
    pub const fn try_new(number: u32) -> Option<Self> {
        if number >> 24 == 0 { Some(Vni(number)) } else { None }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

/// Names a [`Tunnel`] within one [`TunnelTable`]. A number may be used again under a later epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TunnelId(pub u16);

/// The way to another node's tunnel end point: the headers before the inner frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Tunnel {
    /// The uplink that leads there.
    pub port: PortId,
    /// Destination MAC address of the outer frame: the next hop's.
    pub destination_mac: MacAddr,
    /// Source MAC address of the outer frame: the uplink's.
    pub source_mac: MacAddr,
    /// This node's address.
    pub local: Address,
    /// The other node's, of the same family.
    pub remote: Address,
    /// The network.
    pub vni: Vni,
    /// Destination UDP port.
    pub udp_port: u16,
    /// Whether the outer UDP checksum is made; without it the field is zero (RFC 6935 allows that in IPv6 for tunnels).
    pub checksum: bool,
}

/// This node's own end of all tunnels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Vtep {
    /// The addresses that encapsulated frames are sent to.
    pub addresses: Box<[Address]>,
    /// The MAC address that inner frames are sent to.
    pub mac: MacAddr,
    /// The network.
    pub vni: Vni,
    /// The UDP port.
    pub udp_port: u16,
}

/// Tunnels by number, this node's end, and who may send through them.
#[derive(Clone, Debug, Default)]
pub struct TunnelTable {
    vtep: Option<Arc<Vtep>>,
    tunnels: Arc<Vec<Option<Tunnel>>>,
    /// Addresses of other nodes' ends.
    peers: SharedMap<Address, ()>,
}

impl TunnelTable {
    /// This node's end; none where nothing is taken out of tunnels.
    #[inline]
    pub fn vtep(&self) -> Option<&Vtep> {
        self.vtep.as_deref()
    }

    /// Sets this node's end.
    pub fn set_vtep(&mut self, vtep: Option<Vtep>) {
        self.vtep = vtep.map(Arc::new);
    }

    /// The tunnel with this number.
    #[inline]
    pub fn get(&self, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(usize::from(id.0))?.as_ref()
    }

    /// Adds a tunnel under the lowest free number; none when all 65,536 are taken.
    pub fn insert(&mut self, tunnel: Tunnel) -> Option<TunnelId> {
        let tunnels = Arc::make_mut(&mut self.tunnels);
        if tunnels.len() > usize::from(u16::MAX) && tunnels.iter().all(Option::is_some) {
            return None;
        }
        u16::try_from(put(tunnels, tunnel)).ok().map(TunnelId)
    }

    /// Removes a tunnel. Adjacencies that name it must have been removed before, and the tables' epoch must be raised
    /// before the number is used again.
    pub fn remove(&mut self, id: TunnelId) -> Option<Tunnel> {
        Arc::make_mut(&mut self.tunnels).get_mut(usize::from(id.0))?.take()
    }

    /// Whether another node's tunnel end has this address: from others nothing is taken.
    #[inline]
    pub fn is_peer(&self, address: Address) -> bool {
        self.peers.get(&address).is_some()
    }

    /// Says whether another node's tunnel end has this address.
    pub fn set_peer(&mut self, address: Address, is_peer: bool) {
        match is_peer {
            true => self.peers.insert(address, ()),
            false => self.peers.remove(&address),
        };
    }
}
