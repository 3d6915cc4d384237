//! Ports as the model sees them: who is behind which port.

use crate::object::ObjectName;
use ipnet::IpNet;
use millrace_fastpath::port::PortId;
use millrace_fastpath::tables::PortRole;
use millrace_fastpath::wire::ethernet::MacAddr;

/// A port that the control thread has made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PortSpec {
    /// Its number.
    pub id: PortId,
    /// MAC address of the peer.
    pub mac: MacAddr,
    /// Largest IP packet in bytes.
    pub mtu: u16,
    /// Whether the peer may send only from its own addresses.
    pub spoof_check: bool,
    /// Who is behind it.
    pub role: PortRole,
    /// What the peer owns besides the pod's addresses.
    pub addresses: Vec<IpNet>,
    /// The pod behind it.
    pub pod: Option<ObjectName>,
}
