//! The pod's end: options, addresses, up, routes.

use super::netlink::{converse, find};
use super::{Interface, LinkError, Namespace, Step};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::route::{RouteMessage, RouteScope};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

/// Makes the interface, which is down, ready for use.
pub(super) fn configure(namespace: Option<&Namespace>, interface: &Interface) -> Result<(), LinkError> {
    converse(namespace, async |handle| {
        let name = interface.name.as_str();
        let index = find(handle, name).await?.header.index;
        set_options(interface)?;
        for net in interface.host_addresses() {
            add_address(handle, name, index, net).await?;
        }
        let up = handle.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await;
        up.map_err(|error| LinkError::netlink(name, Step::Up, "up", &error))?;
        for (text, route) in routes(index, interface) {
            add_route(handle, name, &text, route).await?;
        }
        Ok(())
    })
}

/// Turns off what the kernel would say by itself on an interface that is not its own: router solicitations,
/// multicast reports. They would do no harm, so failure is no error (`/proc/sys` may be read-only).
pub(super) fn silence(name: &str) {
    let _ = std::fs::write(option_path(6, name, "disable_ipv6"), "1");
}

/// IPv6 on, no autoconfiguration, and no waiting for duplicate address detection: the addresses are unique by
/// assignment, and nobody else is on the link.
fn set_options(interface: &Interface) -> Result<(), LinkError> {
    let name = interface.name.as_str();
    if !interface.has_v6() || !Path::new("/proc/sys/net/ipv6").exists() {
        return Ok(());
    }
    for (option, value) in [("accept_ra", "0"), ("accept_dad", "0"), ("disable_ipv6", "0")] {
        set_option(option_path(6, name, option), value)
            .map_err(|error| LinkError::kernel(name, Step::Option, format!("{option}={value}"), error))?;
    }
    Ok(())
}

fn option_path(family: u8, interface: &str, option: &str) -> PathBuf {
    PathBuf::from(format!("/proc/sys/net/ipv{family}/conf/{interface}/{option}"))
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

/// For each family: a route to the gateway itself, and those through it.
fn routes(index: u32, interface: &Interface) -> Vec<(String, RouteMessage)> {
    let mut routes = Vec::new();
    if interface.has_v4() {
        let gateway = interface.gateway_v4;
        let route = || RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index);
        let link = route().destination_prefix(gateway, 32).scope(RouteScope::Link);
        routes.push((format!("{gateway}/32 scope link"), link.build()));
        for net in interface
            .destinations
            .iter()
            .filter_map(|net| if let IpNet::V4(net) = net { Some(net) } else { None })
        {
            let through =
                route().destination_prefix(net.network(), net.prefix_len()).gateway(gateway).onlink();
            routes.push((format!("{net} via {gateway}"), through.build()));
        }
    }
    if interface.has_v6() {
        let gateway = interface.gateway_v6;
        let route = || RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index);
        routes.push((format!("{gateway}/128"), route().destination_prefix(gateway, 128).build()));
        for net in interface
            .destinations
            .iter()
            .filter_map(|net| if let IpNet::V6(net) = net { Some(net) } else { None })
        {
            let through =
                route().destination_prefix(net.network(), net.prefix_len()).gateway(gateway).onlink();
            routes.push((format!("{net} via {gateway}"), through.build()));
        }
    }
    routes
}

/// Adds a route. One that the pod has already stays as it is: the first interface of a pod keeps its default
/// route when a second is added.
async fn add_route(handle: &Handle, name: &str, text: &str, route: RouteMessage) -> Result<(), LinkError> {
    match handle.route().add(route).execute().await {
        Ok(()) => Ok(()),
        Err(error) => match LinkError::netlink(name, Step::Route, text, &error) {
            error if error.errno() == Some(Errno::EEXIST as i32) => Ok(()),
            error => Err(error),
        },
    }
}
