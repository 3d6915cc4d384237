//! The ways to other nodes and to the world.

use serde::{Deserialize, Serialize};

/// Other nodes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct PeerList {
    /// By name.
    pub peers: Vec<Peer>,
}

/// Another node, and the way to it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// `native` or `vxlan`.
    pub mode: String,
    /// Its address that decides: its tunnel end, or the next hop toward its pods.
    pub address: Option<String>,
    /// The ranges of its pods.
    pub ranges: Vec<String>,
    /// Next hops that are known; without any it is not reached.
    pub next_hops: Vec<NextHop>,
    /// Largest packet that gets there whole, in bytes.
    pub mtu: Option<u16>,
}

/// Routes.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct RouteList {
    /// By prefix.
    pub routes: Vec<TableRoute>,
}

/// A route of the fast path's table.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TableRoute {
    /// What it leads to.
    pub prefix: String,
    /// `port`, `tunnel`, `on-link`, `local` or `unreachable`.
    pub kind: String,
    /// Where it leads; flows are spread over several.
    pub next_hops: Vec<NextHop>,
}

/// A way out.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NextHop {
    /// The port.
    pub port: String,
    /// The next hop's address, or of a tunnel its far end.
    pub address: Option<String>,
    /// Its MAC address.
    pub mac: Option<String>,
}
