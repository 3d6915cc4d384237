//! Ports and what they have carried.

use crate::drops::DropCount;
use millrace_config::PortConfig;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// All ports.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PortList {
    /// In the order of their names.
    pub ports: Vec<Port>,
}

/// One port.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Port {
    /// As it was configured.
    pub config: PortConfig,
    /// The number in the tables.
    pub number: u32,
    /// The MAC address of the peer, configured or derived; of an uplink the NIC's own.
    pub mac: String,
    /// The MTU in bytes.
    pub mtu: u16,
    /// Whether the peer is there.
    pub link: LinkState,
    /// The addresses that lead here: configured ones and the pod's, as prefixes; of an uplink the node's own on its link.
    #[serde(default)]
    pub addresses: Vec<String>,
    /// The pod's own addresses, as far as the pod is known.
    #[serde(default)]
    pub pod_ips: Vec<IpAddr>,
    /// Which worker polls which queue, by queue.
    #[serde(default)]
    pub workers: Vec<u32>,
    /// What the driver tells: ring kind, XDP mode, negotiated features.
    #[serde(default)]
    pub details: BTreeMap<String, String>,
    /// What it has carried.
    #[serde(default)]
    pub counts: PortCounts,
    /// What was lost at it; reasons without a frame are left out.
    #[serde(default)]
    pub drops: Vec<DropCount>,
}

/// Whether the peer of a port is there.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "state")]
pub enum LinkState {
    /// Frames pass.
    Up,
    /// Frames are dropped.
    Down {
        /// Why.
        reason: String,
    },
}

/// What a port has carried since it was made. Bytes are without FCS.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PortCounts {
    /// Frames received from the peer.
    pub rx_frames: u64,
    /// Bytes received from the peer.
    pub rx_bytes: u64,
    /// Frames sent to the peer.
    pub tx_frames: u64,
    /// Bytes sent to the peer.
    pub tx_bytes: u64,
}
