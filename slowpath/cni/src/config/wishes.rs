//! What the configuration wants of a new attachment.

use super::capabilities::Capabilities;
use super::{NetworkConfig, address};
use crate::error::CniError;
use crate::extra::Extra;
use crate::result::{Dns, RouteEntry};
use millrace_api::{Bandwidth, HostPort, Route};
use millrace_config::{ContainerPortKind, MacAddr, Mtu, PortKind};
use serde::Deserialize;
use serde_json::Value;
use std::net::IpAddr;

/// What the configuration wants of a new attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Wishes {
    /// The kind of port.
    pub(crate) kind: Option<PortKind>,
    /// The MTU of the interface.
    pub(crate) mtu: Option<Mtu>,
    /// The MAC address.
    pub(crate) mac: Option<MacAddr>,
    /// Addresses that the container is to have; others of their families will not do.
    pub(crate) ips: Vec<IpAddr>,
    /// What is reached by the interface, if the configuration says.
    pub(crate) routes: Option<Vec<Route>>,
    /// Ports of the node.
    pub(crate) host_ports: Vec<HostPort>,
    /// Limits of the rate.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// What the result says of DNS.
    pub(crate) dns: Dns,
}

#[derive(Deserialize, Default)]
struct RawArgs {
    #[serde(default)]
    cni: RawCniArgs,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawCniArgs {
    ips: Option<Vec<String>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct RawOwnIpam {
    routes: Option<Vec<RouteEntry>>,
}

impl Wishes {
    /// Reads what `ADD` needs. What the runtime says for this one container goes before what `args` say, and that
    /// before `CNI_ARGS` (CONVENTIONS.md of the CNI project).
    pub(crate) fn read(config: &NetworkConfig, extra: &Extra) -> Result<Self, CniError> {
        refuse_masquerading(config)?;
        let is_delegated = config.delegate.is_some();
        let runtime: Value =
            config.field("runtimeConfig")?.unwrap_or_else(|| Value::Object(Default::default()));
        let capabilities = Capabilities::read(runtime, is_delegated)?;
        let dns = if capabilities.dns == Dns::default() { config.dns()? } else { capabilities.dns };
        let routes = if is_delegated { None } else { own_routes(config)? };
        Ok(Wishes {
            kind: kind(config)?,
            mtu: mtu(config)?,
            mac: capabilities.mac.or(extra.mac),
            ips: match (capabilities.ips, arguments_ips(config)?) {
                (ips, _) if !ips.is_empty() => ips,
                (_, Some(ips)) => ips,
                (_, None) => extra.ip.into_iter().collect(),
            },
            routes,
            host_ports: capabilities.host_ports,
            bandwidth: capabilities.bandwidth,
            dns,
        })
    }
}

/// `ipMasq` asks the plugin to hide the network behind the node's address; which traffic leaves with which address
/// is the cluster's matter here, not one network's.
fn refuse_masquerading(config: &NetworkConfig) -> Result<(), CniError> {
    if config.field("ipMasq")? == Some(true) {
        return Err(CniError::UnsupportedField {
            key: "ipMasq".to_owned(),
            value: "true".to_owned(),
            reason: "masquerading is configured at the daemon, for all networks",
        });
    }
    Ok(())
}

fn kind(config: &NetworkConfig) -> Result<Option<PortKind>, CniError> {
    Ok(config.field::<ContainerPortKind>("port")?.map(PortKind::from))
}

fn mtu(config: &NetworkConfig) -> Result<Option<Mtu>, CniError> {
    match config.field::<u64>("mtu")? {
        None | Some(0) => Ok(None),
        Some(mtu) => Mtu::try_from(mtu).map(Some).map_err(|reason| CniError::config("mtu", reason)),
    }
}

fn own_routes(config: &NetworkConfig) -> Result<Option<Vec<Route>>, CniError> {
    let ipam: RawOwnIpam = config.field("ipam")?.unwrap_or_default();
    let route = |(at, entry): (usize, RouteEntry)| {
        entry.wished().map_err(|reason| CniError::config(format!("ipam.routes[{at}].dst"), reason))
    };
    ipam.routes.map(|routes| routes.into_iter().enumerate().map(route).collect()).transpose()
}

fn arguments_ips(config: &NetworkConfig) -> Result<Option<Vec<IpAddr>>, CniError> {
    let args: RawArgs = config.field("args")?.unwrap_or_default();
    let ip = |(at, text): (usize, String)| {
        address(&text).map_err(|reason| CniError::config(format!("args.cni.ips[{at}]"), reason))
    };
    args.cni.ips.map(|ips| ips.into_iter().enumerate().map(ip).collect()).transpose()
}
