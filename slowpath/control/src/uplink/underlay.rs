//! From what the kernel knows to what the model is told.

use super::kernel::View;
use millrace_config::InterfaceName;
use millrace_fastpath::port::PortId;
use millrace_model::underlay::{Hop, Underlay, UnderlayRoute, Uplink};
use std::collections::BTreeMap;

/// An uplink that is open, as far as the kernel does not know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Open {
    /// Its port.
    pub(super) port: PortId,
    /// The host's leg, if the kernel speaks through it.
    pub(super) companion: Option<PortId>,
    /// Whether the device has a link, where the kernel cannot tell.
    pub(super) has_link: bool,
}

/// The underlay of the open uplinks, by the interfaces that the kernel has of them.
pub(super) fn underlay(view: &View, open: &BTreeMap<InterfaceName, Open>) -> Underlay {
    let uplinks = open.iter().filter_map(|(name, open)| {
        let interface = view.interfaces.get(name)?;
        Some(Uplink {
            port: open.port,
            mac: interface.mac,
            mtu: interface.mtu,
            addresses: interface.addresses.clone(),
            is_up: interface.is_up && open.has_link,
            companion: open.companion,
        })
    });
    let port = |name: &InterfaceName| open.get(name).map(|open| open.port);
    let routes = view.routes.iter().filter_map(|route| {
        let hops = route.hops.iter();
        let hops: Vec<Hop> =
            hops.filter_map(|hop| Some(Hop { port: port(&hop.interface)?, gateway: hop.gateway })).collect();
        let (metric, refuses) = (route.metric, route.refuses);
        let counts = refuses.is_some() || !hops.is_empty();
        counts.then_some(UnderlayRoute { to: route.to, metric, hops, refuses })
    });
    let neighbours = view
        .neighbours
        .iter()
        .filter_map(|((name, address), neighbour)| Some(((port(name)?, *address), neighbour.mac?)));
    Underlay { uplinks: uplinks.collect(), routes: routes.collect(), neighbours: neighbours.collect() }
}

#[cfg(test)]
mod tests {
    use super::super::kernel::{self, Interface, Neighbour, Route, Trust};
    use super::*;
    use millrace_fastpath::wire::ethernet::MacAddr;

    fn name(name: &str) -> InterfaceName {
        name.parse().unwrap()
    }

    #[test]
    fn only_what_belongs_to_open_uplinks_is_told() {
        let interface = |index| Interface {
            index,
            mac: MacAddr([2, 0, 0, 0, 0, index as u8]),
            mtu: 9000,
            is_up: true,
            addresses: vec!["192.0.2.1/24".parse().unwrap()],
        };
        let hop = |interface: &str, gateway: &str| kernel::Hop {
            interface: name(interface),
            gateway: Some(gateway.parse().unwrap()),
        };
        let route = |to: &str, hops| Route { to: to.parse().unwrap(), metric: 3, hops, refuses: None };
        let known = Neighbour { mac: Some(MacAddr([2; 6])), trust: Trust::Stale };
        let failed = Neighbour { mac: None, trust: Trust::Failed };
        let view = View {
            interfaces: BTreeMap::from([(name("eth0"), interface(1)), (name("eth1"), interface(2))]),
            routes: vec![
                route("0.0.0.0/0", vec![hop("eth0", "192.0.2.9"), hop("eth1", "198.51.100.9")]),
                route("10.0.0.0/8", vec![hop("eth1", "198.51.100.9")]),
            ],
            neighbours: BTreeMap::from([
                ((name("eth0"), "192.0.2.9".parse().unwrap()), known),
                ((name("eth0"), "192.0.2.8".parse().unwrap()), failed),
                ((name("eth1"), "198.51.100.9".parse().unwrap()), known),
            ]),
        };
        let open = Open { port: PortId(5), companion: None, has_link: true };
        let told = underlay(&view, &BTreeMap::from([(name("eth0"), open)]));
        assert_eq!(told.uplinks.len(), 1);
        assert_eq!(
            (told.uplinks[0].port, told.uplinks[0].mtu, told.uplinks[0].is_up),
            (PortId(5), 9000, true)
        );
        assert_eq!(told.routes.len(), 1);
        assert_eq!(
            told.routes[0].hops,
            [Hop { port: PortId(5), gateway: Some("192.0.2.9".parse().unwrap()) }]
        );
        assert_eq!(told.neighbours.len(), 1);
        let open = Open { has_link: false, ..open };
        assert!(!underlay(&view, &BTreeMap::from([(name("eth0"), open)])).uplinks[0].is_up);
    }
}
