//! Parts of the messages of the kernel's routing netlink, as several readers need them.

use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol,
};
use std::net::IpAddr;

/// `rtm_protocol` of our routes: `M`, which iproute2's list (etc/rt_protos) leaves free.
pub(crate) const OURS: RouteProtocol = RouteProtocol::Other(77);

/// An address of an interface that can be used by now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Usable {
    /// The interface's own.
    pub(crate) own: IpAddr,
    /// Whether the prefix that comes with it is that of a peer, on a link of two.
    pub(crate) has_peer: bool,
}

/// The address in a message about one; `None` while its uniqueness is in doubt (RFC 4862). (`IFA_ADDRESS` is the peer's where
/// there is `IFA_LOCAL`, linux/if_addr.h.)
pub(crate) fn usable(attributes: &[AddressAttribute]) -> Option<Usable> {
    let (mut local, mut address) = (None, None);
    for attribute in attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            AddressAttribute::Flags(flags)
                if flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed) =>
            {
                return None;
            }
            _ => {}
        }
    }
    let own = local.or(address)?;
    Some(Usable { own, has_peer: address.is_some_and(|address| address != own) })
}

/// An address in a message about a route.
pub(crate) fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}

/// The number of the interface that a route leads out of.
pub(crate) fn output(attributes: &[RouteAttribute]) -> Option<u32> {
    attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

/// The table that a route is in.
pub(crate) fn table(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or(match route.header.table {
        RouteHeader::RT_TABLE_UNSPEC => RouteHeader::RT_TABLE_MAIN.into(),
        table => table.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_with_a_peer_is_the_own_one_and_one_in_doubt_is_none() {
        let (own, peer) =
            (AddressAttribute::Local(ip("192.0.2.1")), AddressAttribute::Address(ip("192.0.2.2")));
        let found = usable(&[peer, own.clone()]).unwrap();
        assert_eq!(found, Usable { own: ip("192.0.2.1"), has_peer: true });
        let same = usable(&[AddressAttribute::Address(ip("192.0.2.1")), own]).unwrap();
        assert!(!same.has_peer);
        let v6 = AddressAttribute::Address(ip("2001:db8::1"));
        assert_eq!(usable(std::slice::from_ref(&v6)).unwrap().own, ip("2001:db8::1"));
        assert_eq!(usable(&[v6, AddressAttribute::Flags(AddressFlags::Tentative)]), None);
    }

    #[test]
    fn a_route_without_a_table_is_in_the_main_one() {
        let mut route = RouteMessage::default();
        assert_eq!(table(&route), 254);
        route.attributes.push(RouteAttribute::Table(300));
        assert_eq!(table(&route), 300);
    }
}
