//! Results as CNI has them (specification, section 5; older versions: their own section "Result").
//!
//! A result may come from plugins before us. What we do not know of it is kept as it is, so values stay text until
//! somebody needs them.

use crate::config::{address, nullable};
use crate::version::Version;
use ipnet::IpNet;
use millrace_api::Route;
use millrace_config::Prefix;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::net::IpAddr;

/// The result of an `ADD`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkResult {
    /// The version of its form.
    #[serde(deserialize_with = "nullable")]
    pub cni_version: String,
    /// All interfaces that were made, those in the node's namespace included.
    #[serde(deserialize_with = "nullable")]
    pub interfaces: Vec<Interface>,
    /// Addresses of interfaces in the container.
    #[serde(deserialize_with = "nullable")]
    pub ips: Vec<IpEntry>,
    /// Routes in the container.
    #[serde(deserialize_with = "nullable")]
    pub routes: Vec<RouteEntry>,
    /// How the container resolves names.
    #[serde(deserialize_with = "nullable")]
    pub dns: Dns,
    /// What we do not know.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// One interface.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Its name.
    #[serde(deserialize_with = "nullable")]
    pub name: String,
    /// Its MAC address; empty if it has none.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// Its MTU in bytes (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the namespace that it lies in; empty for the node's.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// The socket that stands for it (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// The device (since 1.1.0).
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
    /// What we do not know.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// One address.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct IpEntry {
    /// `4` or `6` (before 1.0.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// Where its interface stands in the list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<i64>,
    /// The address with its prefix length.
    #[serde(deserialize_with = "nullable")]
    pub address: String,
    /// The next hop of default routes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<String>,
    /// What we do not know.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// One route.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RouteEntry {
    /// The destination in CIDR form.
    #[serde(deserialize_with = "nullable")]
    pub dst: String,
    /// The next hop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gw: Option<String>,
    /// The MTU towards the destination (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The TCP segment size to advertise (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// The metric (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The scope (since 1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
    /// What we do not know.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// How names are resolved.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Dns {
    /// Addresses of servers, the first one first.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains, the first one first.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Options of the resolver.
    #[serde(deserialize_with = "nullable", skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl NetworkResult {
    /// The same in the form of a version: without the fields that it does not have, with those that it must have.
    pub fn in_version(mut self, version: Version) -> Self {
        self.cni_version = version.to_string();
        for ip in &mut self.ips {
            ip.version = match ip.family() {
                Some(family) if version < Version::V1_0_0 => Some(family.to_owned()),
                _ => None,
            };
        }
        if version < Version::V1_1_0 {
            for interface in &mut self.interfaces {
                (interface.mtu, interface.socket_path, interface.pci_id) = (None, None, None);
            }
            for route in &mut self.routes {
                let plain =
                    RouteEntry { dst: route.dst.clone(), gw: route.gw.clone(), ..RouteEntry::default() };
                *route = RouteEntry { others: std::mem::take(&mut route.others), ..plain };
            }
        }
        self
    }

    /// Where an interface of a container stands in the list.
    pub(crate) fn position(&self, name: &str) -> Option<usize> {
        self.interfaces.iter().position(|interface| interface.name == name && !interface.sandbox.is_empty())
    }
}

impl IpEntry {
    /// An address that is alone on its link.
    pub(crate) fn host(address: IpAddr, gateway: Option<IpAddr>, interface: usize) -> Self {
        IpEntry {
            interface: i64::try_from(interface).ok(),
            address: IpNet::from(address).to_string(),
            gateway: gateway.map(|gateway| gateway.to_string()),
            ..IpEntry::default()
        }
    }

    fn family(&self) -> Option<&'static str> {
        self.ip().ok().map(|ip| if ip.is_ipv4() { "4" } else { "6" })
    }

    /// The address alone.
    pub(crate) fn ip(&self) -> Result<IpAddr, String> {
        address(&self.address)
    }
}

impl RouteEntry {
    /// As the daemon is asked for it. The next hop is left out: everything goes to the one neighbour that the
    /// container's link has.
    pub(crate) fn wished(&self) -> Result<Route, String> {
        let wrong = || format!("`{}` is not a destination, as in 10.0.0.0/8 or fd00::/8", self.dst);
        let net: IpNet = self.dst.parse().map_err(|_| wrong())?;
        let destination: Prefix = net.trunc().to_string().parse().map_err(|_| wrong())?;
        Ok(Route {
            mtu: self.mtu,
            advmss: self.advmss,
            priority: self.priority,
            table: self.table,
            scope: self.scope,
            ..Route::to(destination)
        })
    }
}

impl From<&Route> for RouteEntry {
    fn from(route: &Route) -> Self {
        RouteEntry {
            dst: route.destination.net().to_string(),
            gw: route.gateway.map(|gateway| gateway.to_string()),
            mtu: route.mtu,
            advmss: route.advmss,
            priority: route.priority,
            table: route.table,
            scope: route.scope,
            others: Map::new(),
        }
    }
}

#[cfg(test)]
mod tests;
