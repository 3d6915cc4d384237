//! The pod's end: its shape, options, addresses, up, routes.

use super::netlink::{converse, find};
use super::route::add_routes;
use super::{Interface, LinkError, Namespace, Step, offloads};
use crate::sysctl;
use millrace_api::Route;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::{Handle, LinkUnspec};
use std::path::PathBuf;

/// What an interface gets besides what is said of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dress<'a> {
    /// Its alias.
    pub(super) alias: Option<&'a str>,
    /// Whether it keeps the offloads that a raw frame cannot carry.
    pub(super) offloads: bool,
}

/// Makes the interface, which is down, ready for use; gives the routes that were set. It takes one thread and one
/// conversation: this is most of what a container waits for.
pub(super) fn configure(
    namespace: Option<&Namespace>,
    interface: &Interface,
    dress: Dress<'_>,
) -> Result<Vec<Route>, LinkError> {
    converse(namespace, async |handle| {
        let index = find(handle, interface.name.as_str()).await?.header.index;
        if !dress.offloads {
            offloads::turn_off(interface.name.as_str())?;
        }
        shape(handle, index, interface, dress.alias).await?;
        set_up(handle, index, interface).await
    })
}

/// Sets MAC address, MTU and alias.
async fn shape(
    handle: &Handle,
    index: u32,
    interface: &Interface,
    alias: Option<&str>,
) -> Result<(), LinkError> {
    let value = format!("{}, {}", interface.mac, interface.mtu);
    let shape = LinkUnspec::new_with_index(index)
        .address(interface.mac.octets().to_vec())
        .mtu(u32::from(interface.mtu));
    let shape = match alias {
        Some(alias) => shape.append_extra_attribute(LinkAttribute::IfAlias(alias.to_owned())),
        None => shape,
    };
    let shaped = handle.link().change(shape.build()).execute().await;
    shaped.map_err(|error| LinkError::netlink(interface.name.as_str(), Step::Shape, value, &error))
}

/// Everything after its shape.
async fn set_up(handle: &Handle, index: u32, interface: &Interface) -> Result<Vec<Route>, LinkError> {
    let name = interface.name.as_str();
    set_options(interface)?;
    keep_neighbours(name);
    for net in interface.host_addresses() {
        add_address(handle, name, index, net).await?;
    }
    let up = handle.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await;
    up.map_err(|error| LinkError::netlink(name, Step::Up, "up", &error))?;
    add_routes(handle, index, interface).await
}

/// Turns off what the kernel would say by itself on an interface that is not its own: router solicitations,
/// multicast reports. They would do no harm, so failure is no error (`/proc/sys` may be read-only).
pub(super) fn silence(name: &str) {
    let _ = std::fs::write(option_path(6, name, "disable_ipv6"), "1");
}

/// Has the kernel take no part in what comes by an interface: no answers to ARP, nothing forwarded. Where that cannot be said,
/// it is as before.
pub(super) fn ignore(name: &str) {
    for (option, value) in [("arp_ignore", "8"), ("forwarding", "0")] {
        if let Err(error) = set_option(option_path(4, name, option), value) {
            tracing::debug!(interface = name, option, %error, "left as it is");
        }
    }
}

/// Has the pod remember its gateway while a TAP is without a carrier: until the next daemon has opened it. The kernel would
/// forget it then (`neigh_carrier_down`; the options are of Linux 5.16), and ask for it when the pod next sends. Where that
/// cannot be said, a restart of the daemon costs the pod up to two seconds.
fn keep_neighbours(name: &str) {
    for (family, option) in [(4, "arp_evict_nocarrier"), (6, "ndisc_evict_nocarrier")] {
        if let Err(error) = set_option(option_path(family, name, option), "0") {
            tracing::debug!(interface = name, option, %error, "the pod forgets its gateway with the carrier");
        }
    }
}

/// IPv6 on, no autoconfiguration, and no waiting for duplicate address detection: the addresses are unique by
/// assignment, and nobody else is on the link.
fn set_options(interface: &Interface) -> Result<(), LinkError> {
    if interface.has_v6() { ipv6_options(interface.name.as_str()) } else { Ok(()) }
}

/// The options for an interface that has IPv6. It works without the first two: nobody advertises routers there, and addresses
/// are added as known to be unique. `/proc/sys` may be read-only, as in a container without privileges.
pub(super) fn ipv6_options(name: &str) -> Result<(), LinkError> {
    if !sysctl::file("ipv6").exists() {
        return Ok(());
    }
    for option in ["accept_ra", "accept_dad"] {
        if let Err(error) = set_option(option_path(6, name, option), "0") {
            tracing::debug!(interface = name, option, %error, "left as it is");
        }
    }
    set_option(option_path(6, name, "disable_ipv6"), "0")
        .map_err(|error| LinkError::kernel(name, Step::Option, "disable_ipv6=0", error))
}

fn option_path(family: u8, interface: &str, option: &str) -> PathBuf {
    sysctl::file(&format!("ipv{family}/conf/{interface}/{option}"))
}

/// Writes only what differs: where `/proc/sys` is read-only the value may be right already.
fn set_option(path: PathBuf, value: &str) -> std::io::Result<()> {
    if std::fs::read_to_string(&path)?.trim() == value { Ok(()) } else { std::fs::write(&path, value) }
}

async fn add_address(handle: &Handle, name: &str, index: u32, net: ipnet::IpNet) -> Result<(), LinkError> {
    let mut request = handle.address().add(index, net.addr(), net.prefix_len());
    let flags = match net {
        ipnet::IpNet::V4(_) => AddressFlags::Noprefixroute,
        ipnet::IpNet::V6(_) => AddressFlags::Noprefixroute | AddressFlags::Nodad,
    };
    request.message_mut().attributes.push(AddressAttribute::Flags(flags));
    request.execute().await.map_err(|error| LinkError::netlink(name, Step::Address, net, &error))
}
