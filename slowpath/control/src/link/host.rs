//! The host's own leg: routes that lead the host to pods and services, and what they need.
//!
//! The interface itself has no address of the host's: these stay where they are, and the routes name the one to send from.
//! The gateway's MAC address is told the kernel beforehand, so nobody asks for it. All routes have a protocol number of
//! our own, by which they are known again; with the interface they go.

use super::netlink::{converse, find};
use super::pod::ipv6_options;
use super::{LinkError, Step};
use crate::message::{OURS, ip_of, output, table, usable};
use futures_util::TryStreamExt;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use millrace_config::InterfaceName;
use millrace_fastpath::wire::ethernet::MacAddr;
use rtnetlink::packet_route::address::{AddressHeaderFlags, AddressScope};
use rtnetlink::packet_route::link::{AfSpecInet, AfSpecUnspec, InetDevConf, LinkAttribute};
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};
use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kernel's routing tables that every packet is looked up in: default, main and local (linux/rtnetlink.h).
const TABLES: [u32; 3] = [253, 254, 255];
/// Addresses that nobody has (RFC 5737, RFC 3849): the way to them is the default route.
const NOWHERE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 255)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff, 0xffff)),
];

/// What the host is to reach by its leg.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRoutes {
    /// The leg.
    pub interface: InterfaceName,
    /// The router behind it.
    pub gateway_mac: MacAddr,
    /// Its IPv4 address.
    pub gateway_v4: Ipv4Addr,
    /// Its IPv6 address.
    pub gateway_v6: Ipv6Addr,
    /// The host's own addresses to send from, at most one a family. To a family without one there are no routes.
    pub sources: Vec<IpAddr>,
    /// The ranges to reach. None holds another.
    pub ranges: Vec<IpNet>,
    /// Interfaces by number that are shared with the host: its routes by them into a part of a range are fine.
    pub shared: BTreeSet<u32>,
    /// If the leg is also the host's way over a NIC, whose packets may be larger: the MTU toward the ranges. Router
    /// advertisements are then heard as they were at the NIC.
    pub nic_mtu: Option<u16>,
}

impl HostRoutes {
    fn source(&self, is_v4: bool) -> Option<IpAddr> {
        self.sources.iter().copied().find(|source| source.is_ipv4() == is_v4)
    }

    /// The ranges to which there can be routes.
    fn reachable(&self) -> impl Iterator<Item = IpNet> {
        self.ranges.iter().copied().filter(|range| self.source(range.addr().is_ipv4()).is_some())
    }

    fn gateway(&self, is_v4: bool) -> IpAddr {
        if is_v4 { self.gateway_v4.into() } else { self.gateway_v6.into() }
    }
}

/// A range that is not led to the pods, since the host has a route of its own there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Obstacle {
    /// The range.
    pub range: IpNet,
    /// The destination of the host's route.
    pub route: IpNet,
    /// The interface of the host's route, by number, if it has one.
    pub interface: Option<u32>,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Obstacle { range, route, interface } = self;
        write!(f, "the host has a route to {route}")?;
        if let Some(index) = interface {
            write!(f, " by its interface number {index}")?;
        }
        write!(
            f,
            ", which overlaps the cluster's range {range}: the host does not reach that range through Millrace"
        )
    }
}

/// What an interface has for an address that must have one, and valid on it alone.
const DETOURS: Ipv4Addr = Ipv4Addr::new(169, 254, 77, 77);

/// The host's own addresses that are valid everywhere; of each family that first which it sends from by default.
pub fn host_addresses() -> Result<Vec<IpAddr>, LinkError> {
    converse(None, async |handle| {
        let mut messages = handle.address().get().execute();
        let failed = |error| LinkError::netlink("-", Step::Read, "addresses", &error);
        let mut addresses = Vec::new();
        while let Some(message) = messages.try_next().await.map_err(failed)? {
            if message.header.scope != AddressScope::Universe {
                continue;
            }
            let secondary = message.header.flags.contains(AddressHeaderFlags::Secondary);
            let address = usable(&message.attributes).map(|found| found.own);
            if let Some(address) = address.filter(|address| !address.is_loopback()) {
                addresses.push((secondary, address));
            }
        }
        let mut sources = Vec::new();
        for nowhere in NOWHERE {
            sources.extend(default_source(handle, nowhere).await);
        }
        addresses.sort_by_key(|(secondary, address)| (!sources.contains(address), *secondary));
        Ok(addresses.into_iter().map(|(_, address)| address).collect())
    })
}

/// What the host sends from on its default route.
async fn default_source(handle: &Handle, to: IpAddr) -> Option<IpAddr> {
    let route = look_up(handle, to).await?;
    let source = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::PrefSource(source) => ip_of(source),
        _ => None,
    };
    route.attributes.iter().find_map(source).filter(|_| route.header.kind == RouteType::Unicast)
}

/// The kernel's way to an address; `None` when there is none.
async fn look_up(handle: &Handle, to: IpAddr) -> Option<RouteMessage> {
    let question = match to {
        IpAddr::V4(ip) => RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32).build(),
        IpAddr::V6(ip) => RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128).build(),
    };
    handle.route().get(question).execute().try_next().await.ok().flatten()
}

/// Whether everything that [`lead_host`] sets when nothing is in its way is there.
pub fn is_host_led(wanted: &HostRoutes) -> Result<bool, LinkError> {
    converse(None, async |handle| {
        let index = find(handle, wanted.interface.as_str()).await?.header.index;
        for range in wanted.reachable() {
            let route = look_up(handle, range.network()).await;
            if route.is_none_or(|route| output(&route.attributes) != Some(index)) {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// Has the host reach the ranges by its leg, which is up, and nothing else. Gives those that are left out since the host has
/// routes of its own there.
pub fn lead_host(wanted: &HostRoutes) -> Result<Vec<Obstacle>, LinkError> {
    converse(None, async |handle| {
        let name = wanted.interface.as_str();
        let index = find(handle, name).await?.header.index;
        let (mut ours, mut foreign) = (Vec::new(), Vec::new());
        for is_v4 in [true, false] {
            for route in all_routes(handle, name, is_v4).await? {
                match (output(&route.attributes), route.header.protocol) {
                    (Some(out), OURS) if out == index => ours.push(route),
                    (Some(out), _) if out == index => {}
                    _ if TABLES.contains(&table(&route)) => foreign.push(route),
                    _ => {}
                }
            }
            if let Some(source) = wanted.source(is_v4) {
                prepare_family(handle, name, index, wanted, source).await?;
            }
        }
        let (obstacles, mut routes) = (obstacles(wanted, &foreign), Vec::new());
        for is_v4 in [true, false].into_iter().filter(|is_v4| wanted.source(*is_v4).is_some()) {
            routes.push(link_route(index, wanted.gateway(is_v4)));
        }
        let free = |range: &IpNet| obstacles.iter().all(|obstacle| obstacle.range != *range);
        routes.extend(wanted.reachable().filter(free).filter_map(|range| route(index, wanted, range)));
        for route in &routes {
            if !ours.iter().any(|ours| is_same(ours, route)) {
                set(handle, name, route).await?;
            }
        }
        for stale in ours.iter().filter(|ours| routes.iter().all(|route| net_of(route) != net_of(ours))) {
            let removed = handle.route().del(stale.clone()).execute().await;
            removed.map_err(|error| LinkError::netlink(name, Step::Route, text(stale), &error))?;
        }
        Ok(obstacles)
    })
}

/// The interface's own options, and the gateway's MAC address.
async fn prepare_family(
    handle: &Handle,
    name: &str,
    index: u32,
    wanted: &HostRoutes,
    source: IpAddr,
) -> Result<(), LinkError> {
    match source {
        IpAddr::V6(_) if wanted.nic_mtu.is_none() => ipv6_options(name)?,
        IpAddr::V6(_) => {}
        IpAddr::V4(_) => {
            accept_own(handle, name, index).await?;
            if wanted.nic_mtu.is_none() {
                give_address(handle, name, index).await?;
            }
        }
    }
    let gateway = wanted.gateway(source.is_ipv4());
    let neighbour =
        handle.neighbours().add(index, gateway).link_layer_address(&wanted.gateway_mac.0).replace();
    let value = format!("{gateway} at {}", wanted.gateway_mac);
    neighbour.execute().await.map_err(|error| LinkError::netlink(name, Step::Neighbour, value, &error))
}

/// Takes packets in that kernels usually do not trust. Three options are set, by netlink since `/proc/sys` may be read-only
/// (`inet_set_link_af`, net/ipv4/devinet.c):
/// - `rp_filter` 2, loose: clients of services come here by way of Millrace, and are answered by the NIC. That of an interface
///   counts if it is greater than that of all (`fib_validate_source`, net/ipv4/fib_frontend.c).
/// - `accept_local`: what the host asks a NodePort at its own address comes back from that address.
/// - `route_localnet`: the same for host ports at 127.0.0.1. Nobody else gets at the host's loopback addresses by it: no other
///   port's packets from or to them are routed (`check_source`, fastpath's `pipeline/resolve.rs`), nor handed to the host by a
///   NIC that is taken (`pipeline/sort.rs`).
async fn accept_own(handle: &Handle, name: &str, index: u32) -> Result<(), LinkError> {
    let mut options = InetDevConf::default();
    (options.rp_filter, options.accept_local, options.route_localnet) = (2, 1, 1);
    let options =
        LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet(vec![AfSpecInet::DevConfRequest(options)])]);
    let change = LinkUnspec::new_with_index(index).append_extra_attribute(options).build();
    let changed = handle.link().change(change).execute().await;
    let value = "rp_filter=2, accept_local=1, route_localnet=1";
    changed.map_err(|error| LinkError::netlink(name, Step::Option, value, &error))
}

/// An address that nobody sends to or from. On an interface without any the kernel accepts no detours, however loose its
/// `rp_filter` (`no_addr` in `__fib_validate_source`, net/ipv4/fib_frontend.c).
async fn give_address(handle: &Handle, name: &str, index: u32) -> Result<(), LinkError> {
    let mut request = handle.address().add(index, IpAddr::V4(DETOURS), 32).replace();
    request.message_mut().header.scope = AddressScope::Link;
    let value = format!("{DETOURS}/32");
    request.execute().await.map_err(|error| LinkError::netlink(name, Step::Address, value, &error))
}

async fn all_routes(handle: &Handle, name: &str, is_v4: bool) -> Result<Vec<RouteMessage>, LinkError> {
    let question = match is_v4 {
        true => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        false => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    let routes = handle.route().get(question).execute().try_collect().await;
    routes.map_err(|error| LinkError::netlink(name, Step::Read, "routes", &error))
}

/// The ranges that overlap a route of the host. Its default routes lead everywhere and nowhere in particular.
fn obstacles(wanted: &HostRoutes, foreign: &[RouteMessage]) -> Vec<Obstacle> {
    let obstacle = |range: IpNet| {
        let overlaps = |route: &&RouteMessage| {
            let is_shared = output(&route.attributes).is_some_and(|out| wanted.shared.contains(&out));
            net_of(route).is_some_and(|net| {
                net.prefix_len() > 0 && (net.contains(&range) || (range.contains(&net) && !is_shared))
            })
        };
        let route = foreign.iter().find(overlaps)?;
        Some(Obstacle { range, route: net_of(route)?, interface: output(&route.attributes) })
    };
    wanted.reachable().filter_map(obstacle).collect()
}

/// The route to the gateway itself: ICMP errors come from it, and a strict `rp_filter` wants to know where it is.
fn link_route(index: u32, gateway: IpAddr) -> RouteMessage {
    match gateway {
        IpAddr::V4(ip) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new().destination_prefix(ip, 32);
            route.scope(RouteScope::Link).output_interface(index).protocol(OURS).build()
        }
        IpAddr::V6(ip) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new().destination_prefix(ip, 128);
            route.output_interface(index).protocol(OURS).build()
        }
    }
}

fn route(index: u32, wanted: &HostRoutes, range: IpNet) -> Option<RouteMessage> {
    match (range, wanted.source(range.addr().is_ipv4())?) {
        (IpNet::V4(net), IpAddr::V4(source)) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .gateway(wanted.gateway_v4)
                .pref_source(source);
            Some(with_mtu(route.onlink().output_interface(index).protocol(OURS).build(), wanted))
        }
        (IpNet::V6(net), IpAddr::V6(source)) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .destination_prefix(net.network(), net.prefix_len())
                .gateway(wanted.gateway_v6)
                .pref_source(source);
            Some(with_mtu(route.onlink().output_interface(index).protocol(OURS).build(), wanted))
        }
        _ => None,
    }
}

/// The interface's MTU holds for its routes unless they say less.
fn with_mtu(mut route: RouteMessage, wanted: &HostRoutes) -> RouteMessage {
    if let Some(mtu) = wanted.nic_mtu {
        route.attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu.into())]));
    }
    route
}

async fn set(handle: &Handle, name: &str, route: &RouteMessage) -> Result<(), LinkError> {
    let done = handle.route().add(route.clone()).replace().execute().await;
    done.map_err(|error| LinkError::netlink(name, Step::Route, text(route), &error))
}

/// Whether two routes of ours lead to the same place from the same address.
fn is_same(a: &RouteMessage, b: &RouteMessage) -> bool {
    let part = |route: &RouteMessage, which: fn(&RouteAttribute) -> Option<IpAddr>| {
        route.attributes.iter().find_map(which)
    };
    let source = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::PrefSource(address) => ip_of(address),
        _ => None,
    };
    let gateway = |attribute: &RouteAttribute| match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        _ => None,
    };
    let mtu = |route: &RouteMessage| {
        route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Metrics(metrics) => metrics.iter().find_map(|metric| match metric {
                RouteMetric::Mtu(mtu) => Some(*mtu),
                _ => None,
            }),
            _ => None,
        })
    };
    net_of(a) == net_of(b)
        && part(a, source) == part(b, source)
        && part(a, gateway) == part(b, gateway)
        && mtu(a) == mtu(b)
}

fn text(route: &RouteMessage) -> String {
    net_of(route).map_or_else(|| "default".to_owned(), |net| net.to_string())
}

/// The route's destination; that of a default route has no attribute.
fn net_of(route: &RouteMessage) -> Option<IpNet> {
    let length = route.header.destination_prefix_length;
    let destination = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(address) => ip_of(address),
        _ => None,
    })?;
    match destination {
        IpAddr::V4(ip) => Ipv4Net::new(ip, length).ok().map(IpNet::V4),
        IpAddr::V6(ip) => Ipv6Net::new(ip, length).ok().map(IpNet::V6),
    }
}
