//! Whether an interface is there and as it was made.

use super::netlink::{converse, find};
use super::veth::is_ours;
use super::{Interface, LinkError, Namespace};
use futures_util::TryStreamExt;
use ipnet::IpNet;
use millrace_api::Route;
use millrace_config::InterfaceName;
use nix::sys::statfs::{NSFS_MAGIC, statfs};
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute, RouteMessage};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// The namespace of this process.
const OWN: &str = "/proc/self/ns/net";

/// What of an interface is not as it was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Difference {
    /// Its MAC address is another.
    Mac(String),
    /// Its MTU is another.
    Mtu(u32),
    /// It is down.
    Down,
    /// It lacks an address.
    Address(IpNet),
    /// A route is gone.
    Route(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Difference::Mac(mac) => write!(out, "its MAC address is {mac}"),
            Difference::Mtu(mtu) => write!(out, "its MTU is {mtu}"),
            Difference::Down => out.write_str("it is down"),
            Difference::Address(net) => write!(out, "it lacks the address {net}"),
            Difference::Route(route) => write!(out, "the route to {route} is gone"),
        }
    }
}

/// Whether the file stands for a network namespace that is still there. A mount that was taken off leaves an ordinary file.
pub fn is_namespace(path: &Path) -> bool {
    statfs(path).is_ok_and(|status| status.filesystem_type() == NSFS_MAGIC)
}

/// Whether the file stands for the network namespace of this process.
pub fn is_own_namespace(path: &Path) -> bool {
    let identity = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    identity(path).is_some_and(|given| identity(Path::new(OWN)) == Some(given))
}

/// Whether there is an interface of this name that was made here for `owner`.
pub fn is_made_here(
    namespace: Option<&Namespace>,
    name: &InterfaceName,
    owner: &str,
) -> Result<bool, LinkError> {
    converse(namespace, async |handle| match find(handle, name.as_str()).await {
        Ok(link) => Ok(is_ours(&link, Some(owner))),
        Err(error) if error.is_missing() => Ok(false),
        Err(error) => Err(error),
    })
}

/// What of `interface` is not as it was made, and which of `routes` are gone.
pub fn compare(
    namespace: &Namespace,
    interface: &Interface,
    routes: &[Route],
) -> Result<Vec<Difference>, LinkError> {
    converse(Some(namespace), async |handle| {
        let link = find(handle, interface.name.as_str()).await?;
        let index = link.header.index;
        let mut differences = of_link(&link, interface);
        let present = addresses(handle, index).await;
        differences.extend(
            interface.host_addresses().filter(|net| !present.contains(&net.addr())).map(Difference::Address),
        );
        let there = destinations(handle, index).await;
        differences.extend(
            routes
                .iter()
                .filter(|route| !there.contains(&route.destination.net()))
                .map(|route| Difference::Route(route.destination.to_string())),
        );
        Ok(differences)
    })
}

fn of_link(link: &LinkMessage, interface: &Interface) -> Vec<Difference> {
    let mut differences = Vec::new();
    for attribute in &link.attributes {
        match attribute {
            LinkAttribute::Address(mac) if *mac != interface.mac.octets() => {
                let octets: Vec<String> = mac.iter().map(|octet| format!("{octet:02x}")).collect();
                differences.push(Difference::Mac(octets.join(":")));
            }
            LinkAttribute::Mtu(mtu) if *mtu != u32::from(interface.mtu) => {
                differences.push(Difference::Mtu(*mtu));
            }
            _ => {}
        }
    }
    if !link.header.flags.contains(LinkFlags::Up) {
        differences.push(Difference::Down);
    }
    differences
}

async fn addresses(handle: &Handle, index: u32) -> BTreeSet<IpAddr> {
    let mut found = BTreeSet::new();
    let mut messages = handle.address().get().set_link_index_filter(index).execute();
    while let Ok(Some(message)) = messages.try_next().await {
        for attribute in message.attributes {
            if let AddressAttribute::Address(address) | AddressAttribute::Local(address) = attribute {
                found.insert(address);
            }
        }
    }
    found
}

async fn destinations(handle: &Handle, index: u32) -> BTreeSet<IpNet> {
    let queries: [(RouteMessage, IpAddr); 2] = [
        (RouteMessageBuilder::<Ipv4Addr>::new().build(), Ipv4Addr::UNSPECIFIED.into()),
        (RouteMessageBuilder::<Ipv6Addr>::new().build(), Ipv6Addr::UNSPECIFIED.into()),
    ];
    let mut found = BTreeSet::new();
    for (query, everything) in queries {
        let mut messages = handle.route().get(query).execute();
        while let Ok(Some(route)) = messages.try_next().await {
            let is_here =
                |attribute: &RouteAttribute| matches!(attribute, RouteAttribute::Oif(oif) if *oif == index);
            if !route.attributes.iter().any(is_here) {
                continue;
            }
            let address = route.attributes.iter().find_map(|attribute| match attribute {
                RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::from(*address)),
                RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::from(*address)),
                _ => None,
            });
            let address = address.unwrap_or(everything);
            found.extend(IpNet::new(address, route.header.destination_prefix_length));
        }
    }
    found
}
