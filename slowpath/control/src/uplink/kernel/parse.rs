//! From messages of the kernel's routing netlink to what is of interest in them.

use super::{Hop, Interface, Neighbour, Route, Trust};
use crate::message::{OURS, Usable, ip_of, output, table, usable};
use ipnet::IpNet;
use millrace_config::InterfaceName;
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::underlay::Refuses;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteNextHop, RouteNextHopFlags, RouteType,
    RouteVia,
};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Interfaces of interest by number.
pub(super) type Names = BTreeMap<u32, InterfaceName>;

/// An interface, without its addresses.
pub(super) fn interface(message: &LinkMessage) -> Interface {
    let (mut mac, mut mtu) = (MacAddr::default(), 0);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::Address(bytes) => mac = mac_of(bytes).unwrap_or_default(),
            LinkAttribute::Mtu(bytes) => mtu = u16::try_from(*bytes).unwrap_or(u16::MAX),
            _ => {}
        }
    }
    Interface {
        index: message.header.index,
        mac,
        mtu,
        is_up: message.header.flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        addresses: Vec::new(),
    }
}

/// The name in a message about an interface.
pub(super) fn name(message: &LinkMessage) -> Option<&str> {
    message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    })
}

/// An address that can be used, with the prefix of its link; `None` for one that cannot, and for IPv6's link-local ones.
pub(super) fn address(message: &AddressMessage) -> Option<IpNet> {
    let Usable { own: ip, has_peer } = usable(&message.attributes)?;
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return None;
    }
    // With a peer, the prefix is that of the peer.
    let full = if ip.is_ipv4() { 32 } else { 128 };
    IpNet::new(ip, if has_peer { full } else { message.header.prefix_len }).ok()
}

/// A route of the main table that leads somewhere by an interface of interest, or that refuses; `None` for all others, and
/// for ours.
pub(super) fn route(message: &RouteMessage, names: &Names) -> Option<Route> {
    let header = &message.header;
    let refuses = match header.kind {
        RouteType::Unicast => None,
        RouteType::BlackHole => Some(Refuses::Blackhole),
        RouteType::Unreachable => Some(Refuses::Unreachable),
        RouteType::Prohibit => Some(Refuses::Prohibit),
        RouteType::Throw => Some(Refuses::Throw),
        _ => return None,
    };
    if !is_main(message) {
        return None;
    }
    // Those that do not hold for every packet to the destination are left to the kernel.
    if header.source_prefix_length > 0 || header.tos > 0 || header.flags.contains(RouteFlags::Cloned) {
        return None;
    }
    let (mut destination, mut metric, mut hops) = (None, 0, Vec::new());
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = Some(ip_of(address)?),
            RouteAttribute::Priority(value) => metric = *value,
            RouteAttribute::MultiPath(several) => {
                hops = several.iter().filter_map(|hop| of_many(hop, names)).collect()
            }
            _ => {}
        }
    }
    // Those of IPv6 that refuse are said to be by the loopback interface.
    if refuses.is_some() {
        hops.clear();
    } else if hops.is_empty() && !header.flags.contains(RouteFlags::Dead) {
        hops.extend(output(&message.attributes).and_then(|index| hop(index, &message.attributes, names)));
    }
    let everywhere = match header.address_family {
        rtnetlink::packet_route::AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        _ => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let to = IpNet::new(destination.unwrap_or(everywhere), header.destination_prefix_length).ok()?;
    let is_local =
        matches!(to, IpNet::V6(net) if net.addr().is_unicast_link_local() || net.addr().is_multicast());
    let counts = refuses.is_some() || !hops.is_empty();
    (counts && !is_local).then_some(Route { to, metric, hops, refuses })
}

/// Whether a route is in the main table and not ours.
pub(super) fn is_main(message: &RouteMessage) -> bool {
    table(message) == u32::from(RouteHeader::RT_TABLE_MAIN) && message.header.protocol != OURS
}

fn of_many(hop: &RouteNextHop, names: &Names) -> Option<Hop> {
    let is_dead = hop.flags.contains(RouteNextHopFlags::Dead);
    if is_dead { None } else { self::hop(hop.interface_index, &hop.attributes, names) }
}

fn hop(index: u32, attributes: &[RouteAttribute], names: &Names) -> Option<Hop> {
    let gateway = attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        RouteAttribute::Via(RouteVia::Inet(ip)) => Some((*ip).into()),
        RouteAttribute::Via(RouteVia::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    });
    Some(Hop { interface: names.get(&index)?.clone(), gateway })
}

/// A neighbour's address, and what is known of it: nothing while it is being asked for the first time.
pub(super) fn neighbour(message: &NeighbourMessage) -> Option<(IpAddr, Option<Neighbour>)> {
    if message.header.flags.contains(NeighbourFlags::Proxy) {
        return None;
    }
    let (mut address, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => address = Some(IpAddr::from(*ip)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => address = Some((*ip).into()),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = mac_of(bytes),
            _ => {}
        }
    }
    let trust = match message.header.state {
        NeighbourState::Permanent => Some(Trust::Permanent),
        NeighbourState::Reachable | NeighbourState::Delay | NeighbourState::Probe => Some(Trust::Confirmed),
        NeighbourState::Stale => Some(Trust::Stale),
        NeighbourState::Failed => Some(Trust::Failed),
        // Multicast and broadcast addresses are `Noarp`.
        _ => None,
    };
    let known = match trust? {
        Trust::Failed => Some(Neighbour { mac: None, trust: Trust::Failed }),
        trust => mac.map(|mac| Neighbour { mac: Some(mac), trust }),
    };
    Some((address?, known))
}

/// The address in a message about a neighbour.
pub(super) fn neighbour_address(message: &NeighbourMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some((*ip).into()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some((*ip).into()),
        _ => None,
    })
}

fn mac_of(bytes: &[u8]) -> Option<MacAddr> {
    bytes.try_into().ok().map(MacAddr)
}
