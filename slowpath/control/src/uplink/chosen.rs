//! What the configuration says of the ways behind uplinks, and what follows for ports.

use crate::control::Control;
use millrace_config::{Mtu, PortMtu, RoutingMode, StaticRoute};
use millrace_fastpath::port::Frame;
use millrace_model::tunnel_overhead;
use millrace_model::underlay::{Hop, Underlay, UnderlayRoute, Uplink};
use std::net::IpAddr;

impl<F: Frame> Control<F> {
    /// The MTU of ports that have none of their own: what the narrowest uplink leaves to packets, and tunnels where there
    /// may be any.
    pub(crate) fn default_mtu(&self) -> Mtu {
        if let PortMtu::Fixed(mtu) = self.config.mtu {
            return mtu;
        }
        let usual = Mtu::default();
        let (any, least) = self.uplinks.mtus();
        if !any {
            return usual;
        }
        let overhead = match self.config.routing.mode {
            // A node's annotation may ask for a tunnel in any mode.
            RoutingMode::Native if !self.model.has_tunnels() => 0,
            RoutingMode::Native | RoutingMode::Auto | RoutingMode::Vxlan => {
                let own = self.model.node_addresses();
                tunnel_overhead(own.is_empty() || own.iter().any(IpAddr::is_ipv4))
            }
        };
        let mtu = least.unwrap_or(usual.get()).saturating_sub(overhead).clamp(Mtu::LEAST, Mtu::MOST);
        u64::from(mtu).try_into().unwrap_or(usual)
    }
}

/// Puts the configured routes before the kernel's, as far as their routers are on an uplink's link.
pub(super) fn add_configured(underlay: &mut Underlay, configured: &[StaticRoute]) {
    let on_link =
        |uplink: &&Uplink, gateway: &IpAddr| uplink.addresses.iter().any(|net| net.contains(gateway));
    let hop = |gateway: &IpAddr| {
        let port = underlay.uplinks.iter().find(|uplink| on_link(uplink, gateway))?.port;
        Some(Hop { port, gateway: Some(*gateway) })
    };
    let routes = configured.iter().map(|route| UnderlayRoute {
        to: route.to.net(),
        metric: 0,
        hops: route.via.iter().filter_map(hop).collect(),
        refuses: None,
    });
    // Of several with the least metric the first is taken.
    let mut routes: Vec<_> = routes.filter(|route| !route.hops.is_empty()).collect();
    routes.append(&mut underlay.routes);
    underlay.routes = routes;
}
