//! Addresses and routes of an interface: read, and put on another.

use super::{Nic, TakeoverError};
use crate::message::OURS;
use crate::sysctl;
use crate::uplink::kernel::{Socket, request};
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
};
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteFlags, RouteMessage, RouteNextHopFlags, RouteProtocol, RouteType,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::fmt;
use std::net::IpAddr;

/// The table of the host's own addresses (`RT_TABLE_LOCAL`, linux/rtnetlink.h).
const LOCAL: u8 = 255;

/// An interface, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) mtu: u32,
}

/// The interface of this name, if there is one.
pub(super) fn find(socket: &mut Socket, name: &str) -> Result<Option<Link>, TakeoverError> {
    let mut question = LinkMessage::default();
    question.attributes.push(LinkAttribute::IfName(name.to_owned()));
    let answers = match socket.ask(&format!("finding {name}"), RouteNetlinkMessage::GetLink(question), 0) {
        Err(error) if error.errno() == Some(Errno::ENODEV) => return Ok(None),
        answers => answers?,
    };
    Ok(answers.into_iter().find_map(|answer| {
        let RouteNetlinkMessage::NewLink(link) = answer else { return None };
        let mtu = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(bytes) => Some(*bytes),
            _ => None,
        });
        Some(Link { index: link.header.index, mtu: mtu.unwrap_or_default() })
    }))
}

/// Sets an interface up.
pub(super) fn set_up(socket: &mut Socket, index: u32) -> Result<(), TakeoverError> {
    let mut up = LinkMessage::default();
    up.header.index = index;
    (up.header.flags, up.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
    socket.ask("setting the interface up", RouteNetlinkMessage::SetLink(up), 0)?;
    Ok(())
}

/// Gives the leg the NIC's MAC address and MTU, and the NIC's way with router advertisements.
pub(super) fn dress_leg(socket: &mut Socket, leg: &Link, nic: &Nic, mtu: u32) -> Result<(), TakeoverError> {
    let mac = nic.mac;
    let mut shape = LinkMessage::default();
    shape.header.index = leg.index;
    shape.attributes = vec![LinkAttribute::Address(mac.octets().to_vec()), LinkAttribute::Mtu(mtu)];
    socket.ask(
        &format!("giving {} the MAC address {mac}", nic.leg),
        RouteNetlinkMessage::SetLink(shape),
        0,
    )?;
    let path = |name: &str, option: &str| sysctl::file(&format!("ipv6/conf/{name}/{option}"));
    for option in ["accept_ra", "autoconf", "accept_ra_defrtr", "accept_ra_pinfo"] {
        // Where there is no IPv6, or nothing may be set, it stays as it is.
        if let Ok(value) = std::fs::read_to_string(path(nic.interface.as_str(), option)) {
            let _ = std::fs::write(path(nic.leg.as_str(), option), value.trim());
        }
    }
    Ok(())
}

/// What an interface has.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Config {
    pub(super) addresses: Vec<AddressMessage>,
    pub(super) routes: Vec<RouteMessage>,
}

impl fmt::Display for Config {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<String> = self.addresses.iter().filter_map(ip).map(|ip| ip.to_string()).collect();
        write!(out, "{} and {} routes", addresses.join(", "), self.routes.len())
    }
}

impl Config {
    /// Reads what can be moved: all addresses, and all routes that did not come with them and are not the leg's own.
    pub(super) fn read(socket: &mut Socket, index: u32) -> Result<Self, TakeoverError> {
        let mut config = Config::default();
        let question = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        for message in socket.dump("reading addresses", &question)? {
            if let RouteNetlinkMessage::NewAddress(message) = message
                && message.header.index == index
            {
                config.addresses.push(message);
            }
        }
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            for message in socket.dump("reading routes", &RouteNetlinkMessage::GetRoute(question))? {
                if let RouteNetlinkMessage::NewRoute(message) = message
                    && is_movable(&message, index)
                {
                    config.routes.push(message);
                }
            }
        }
        // Routers are reached by routes that are there before.
        config.routes.sort_by_key(has_gateway);
        Ok(config)
    }

    /// Whether there is an address that is worth something beyond the link.
    pub(super) fn has_address(&self) -> bool {
        self.addresses.iter().any(|address| address.header.scope != AddressScope::Link)
    }

    /// The same without link-local addresses: each interface has its own.
    pub(super) fn without_link_local(mut self) -> Self {
        self.addresses.retain(|address| address.header.scope != AddressScope::Link);
        self
    }

    /// Puts all of it, which was read of interface `named`, on interface `to`, then removes it from interface `from`, if there is
    /// such a one. It is handed to the kernel at once: in between there is nothing that could fail or wait.
    pub(super) fn move_over(
        &self,
        socket: &mut Socket,
        named: u32,
        from: Option<u32>,
        to: u32,
    ) -> Result<(), TakeoverError> {
        let mut messages = Vec::new();
        for address in &self.addresses {
            let message = RouteNetlinkMessage::NewAddress(address_at(address, to));
            messages.push(request(message, NLM_F_CREATE | NLM_F_REPLACE));
        }
        for route in &self.routes {
            messages.push(request(RouteNetlinkMessage::NewRoute(route_at(route, named, to)), NLM_F_CREATE));
        }
        let needed = messages.len();
        for (from, route) in from.iter().flat_map(|from| self.routes.iter().map(move |route| (*from, route)))
        {
            messages.push(request(RouteNetlinkMessage::DelRoute(route_at(route, named, from)), 0));
        }
        // A primary address takes its secondary ones with it.
        for (from, address) in
            from.iter().flat_map(|from| self.addresses.iter().rev().map(move |a| (*from, a)))
        {
            // The link-local address belongs to the interface, whatever the host does.
            if address.header.scope != AddressScope::Link {
                messages.push(request(RouteNetlinkMessage::DelAddress(address_at(address, from)), 0));
            }
        }
        let outcomes = socket.batch(messages)?;
        for (at, outcome) in outcomes.into_iter().take(needed).enumerate() {
            let Err(source) = outcome else { continue };
            if source.raw_os_error() != Some(Errno::EEXIST as i32) {
                return Err(TakeoverError::Move { what: self.describe(at), index: to, source });
            }
        }
        Ok(())
    }

    fn describe(&self, at: usize) -> String {
        match (
            self.addresses.get(at),
            at.checked_sub(self.addresses.len()).and_then(|at| self.routes.get(at)),
        ) {
            (Some(address), _) => {
                format!("address {}", ip(address).map_or_else(String::new, |ip| ip.to_string()))
            }
            (None, Some(route)) => format!("route {}", destination(route)),
            (None, None) => String::new(),
        }
    }
}

fn ip(address: &AddressMessage) -> Option<IpAddr> {
    let find = |local: bool| {
        address.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    find(true).or_else(|| find(false))
}

fn destination(route: &RouteMessage) -> String {
    let length = route.header.destination_prefix_length;
    let ip = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(rtnetlink::packet_route::route::RouteAddress::Inet(ip)) => {
            Some(IpAddr::from(*ip))
        }
        RouteAttribute::Destination(rtnetlink::packet_route::route::RouteAddress::Inet6(ip)) => {
            Some((*ip).into())
        }
        _ => None,
    });
    ip.and_then(|ip| IpNet::new(ip, length).ok()).map_or("default".to_owned(), |net| net.to_string())
}

fn is_movable(route: &RouteMessage, index: u32) -> bool {
    let header = &route.header;
    let is_local = header.table == LOCAL;
    // Those of the kernel come with their addresses.
    let is_own = matches!(header.protocol, RouteProtocol::Kernel | RouteProtocol::IcmpRedirect)
        || header.protocol == OURS;
    header.kind == RouteType::Unicast
        && !is_local
        && !is_own
        && !header.flags.contains(RouteFlags::Cloned)
        && route.attributes.iter().any(|attribute| match attribute {
            RouteAttribute::Oif(out) => *out == index,
            RouteAttribute::MultiPath(hops) => hops.iter().any(|hop| hop.interface_index == index),
            _ => false,
        })
}

fn has_gateway(route: &RouteMessage) -> bool {
    route.attributes.iter().any(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Gateway(_) | RouteAttribute::Via(_) | RouteAttribute::MultiPath(_)
        )
    })
}

/// The same address on interface `index`, at once usable: it was the host's before.
fn address_at(address: &AddressMessage, index: u32) -> AddressMessage {
    let mut address = address.clone();
    address.header.index = index;
    let is_v6 = address.header.family == AddressFamily::Inet6;
    // What the kernel says of its state is not for us to set.
    let kept = AddressFlags::Noprefixroute | AddressFlags::Managetempaddr | AddressFlags::Homeaddress;
    let mut flags = AddressFlags::empty();
    for attribute in &address.attributes {
        if let AddressAttribute::Flags(found) = attribute {
            flags = *found & kept;
        }
    }
    if is_v6 {
        flags |= AddressFlags::Nodad;
    }
    address.header.flags = AddressHeaderFlags::empty();
    // A label names its interface.
    address
        .attributes
        .retain(|attribute| !matches!(attribute, AddressAttribute::Flags(_) | AddressAttribute::Label(_)));
    address.attributes.push(AddressAttribute::Flags(flags));
    address
}

/// The same route by interface `to` where it was by `from`.
fn route_at(route: &RouteMessage, from: u32, to: u32) -> RouteMessage {
    let mut route = route.clone();
    route.header.flags &= RouteFlags::Onlink;
    // Next-hop objects belong to their interface: what they lead to is said in full as well.
    route.attributes.retain(|attribute| {
        !matches!(
            attribute,
            RouteAttribute::CacheInfo(_) | RouteAttribute::Expires(_) | RouteAttribute::NhId(_)
        )
    });
    for attribute in &mut route.attributes {
        match attribute {
            RouteAttribute::Oif(out) if *out == from => *out = to,
            RouteAttribute::MultiPath(hops) => {
                for hop in hops {
                    // What the kernel says of its state is not for us to set.
                    hop.flags &= RouteNextHopFlags::Onlink;
                    if hop.interface_index == from {
                        hop.interface_index = to;
                    }
                }
            }
            _ => {}
        }
    }
    route
}
