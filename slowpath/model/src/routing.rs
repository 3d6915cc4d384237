//! How packets get to other nodes, and what leaves the cluster under this node's address: what is configured.

use ipnet::IpNet;
use millrace_fastpath::tables::{VXLAN_PORT, Vni};
use millrace_fastpath::wire::ethernet::MacAddr;

/// How packets for another node's pods cross the network between.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum RoutingMode {
    /// As they are to nodes of the same subnet, in tunnels to others.
    #[default]
    Auto,
    /// As they are: the network between knows where pods are.
    Native,
    /// In tunnels.
    Vxlan,
}

/// Whether outer UDP checksums are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum OuterChecksum {
    /// Over IPv6 only, where it is the rule (RFC 6935).
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// What is configured of routing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RoutingConfig {
    /// The mode of nodes that have none of their own.
    pub mode: RoutingMode,
    /// The network of the tunnels.
    pub vni: Vni,
    /// Their UDP port.
    pub udp_port: u16,
    /// Their checksums.
    pub checksum: OuterChecksum,
    /// Whether TCP connections are made to announce no larger segments than their way takes whole.
    pub clamp_mss: bool,
    /// Whether what comes by one uplink may leave by another.
    pub transit: bool,
    /// Ranges of ClusterIPs. With uplinks, what no service has of them is unreachable and not the world's.
    pub service_ranges: Vec<IpNet>,
    /// Which connections of pods leave under the node's address.
    pub outgoing: Option<OutgoingConfig>,
}

/// The VNI unless configured.
const VNI: Vni = match Vni::try_new(77) {
    Some(vni) => vni,
    None => unreachable!(),
};

impl Default for RoutingConfig {
    fn default() -> Self {
        RoutingConfig {
            mode: RoutingMode::default(),
            vni: VNI,
            udp_port: VXLAN_PORT,
            checksum: OuterChecksum::default(),
            clamp_mss: false,
            transit: false,
            service_ranges: Vec::new(),
            outgoing: None,
        }
    }
}

/// Which connections of pods take the node's address where they leave the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct OutgoingConfig {
    /// Those from these ranges; from all pods', if there are none.
    pub sources: Vec<IpNet>,
    /// Never those to these, besides pods, nodes and services.
    pub exceptions: Vec<IpNet>,
}

/// What a node's object says of the way to it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct NodeRouting {
    /// Its own mode.
    pub mode: Option<RoutingMode>,
    /// The MAC address of its tunnel end, if it does not follow from its address.
    pub vtep_mac: Option<MacAddr>,
}

/// Bytes that a tunnel puts before a packet: Ethernet, IP, UDP and VXLAN headers.
pub const fn tunnel_overhead(over_v4: bool) -> u16 {
    if over_v4 { 50 } else { 70 }
}
