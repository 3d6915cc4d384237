//! The ways to other nodes and to the world.

use crate::path::{ROUTES, with_query};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

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
    /// What decided that: `annotation`, `configuration`, `same-link` or `other-link`.
    pub reason: String,
    /// `reached`, `resolving` (no next hop is known yet) or `unreachable` (there is no next hop).
    pub state: String,
    /// Its address that decides: its tunnel end, or the next hop toward its pods.
    pub address: Option<String>,
    /// The MAC address of its tunnel end, if there is a tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<String>,
    /// The ranges of its pods.
    pub ranges: Vec<String>,
    /// Next hops that are known; without any it is not reached.
    pub next_hops: Vec<NextHop>,
    /// Next hops that are not known yet.
    pub awaited: Vec<NextHop>,
    /// Largest packet that gets there whole, in bytes.
    pub mtu: Option<u16>,
}

/// Which routes to list.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RouteFilter {
    /// The one that packets to this address take; all if absent.
    pub to: Option<IpAddr>,
}

impl RouteFilter {
    /// The path and query of a request.
    pub fn to_path(&self) -> String {
        with_query(ROUTES, &[("to", self.to.map(|address| address.to_string()))])
    }
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
    /// `port`, `tunnel`, `on-link`, `waiting` (for next hops that are not known yet), `local`, `unreachable`,
    /// `blackhole` or `prohibit`.
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
