//! Routes of a pod's interface.

use super::{Interface, LinkError, Step};
use ipnet::IpNet;
use millrace_api::Route;
use nix::errno::Errno;
use rtnetlink::packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};
use rtnetlink::{Handle, RouteMessageBuilder};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Adds the routes to the gateways and those through them; gives the latter, as far as they were not there already: the
/// first interface of a pod keeps its default route when a second is added.
pub(super) async fn add_routes(
    handle: &Handle,
    index: u32,
    interface: &Interface,
) -> Result<Vec<Route>, LinkError> {
    let name = interface.name.as_str();
    for (text, route) in gateways(index, interface) {
        add(handle, name, &text, route).await?;
    }
    let mut added = Vec::new();
    for route in interface.wanted_routes() {
        let text = describe(&route);
        if add(handle, name, &text, message(index, &route)).await? {
            added.push(route);
        }
    }
    Ok(added)
}

/// The route to the gateway of each family that the interface has an address of.
fn gateways(index: u32, interface: &Interface) -> Vec<(String, RouteMessage)> {
    let mut routes = Vec::new();
    if interface.has_v4() {
        let gateway = interface.gateway_v4;
        let route = RouteMessageBuilder::<Ipv4Addr>::new().output_interface(index);
        let link = route.destination_prefix(gateway, 32).scope(RouteScope::Link);
        routes.push((format!("{gateway}/32 scope link"), link.build()));
    }
    if interface.has_v6() {
        let gateway = interface.gateway_v6;
        let route = RouteMessageBuilder::<Ipv6Addr>::new().output_interface(index);
        routes.push((format!("{gateway}/128"), route.destination_prefix(gateway, 128).build()));
    }
    routes
}

fn message(index: u32, wanted: &Route) -> RouteMessage {
    let mut message = match (wanted.destination.net(), wanted.gateway) {
        (IpNet::V4(net), gateway) => {
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .output_interface(index)
                .destination_prefix(net.network(), net.prefix_len());
            match gateway {
                Some(IpAddr::V4(gateway)) => route.gateway(gateway).onlink(),
                _ => route,
            }
            .build()
        }
        (IpNet::V6(net), gateway) => {
            let route = RouteMessageBuilder::<Ipv6Addr>::new()
                .output_interface(index)
                .destination_prefix(net.network(), net.prefix_len());
            match gateway {
                Some(IpAddr::V6(gateway)) => route.gateway(gateway).onlink(),
                _ => route,
            }
            .build()
        }
    };
    let metrics: Vec<RouteMetric> =
        wanted.mtu.map(RouteMetric::Mtu).into_iter().chain(wanted.advmss.map(RouteMetric::Advmss)).collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    if let Some(priority) = wanted.priority {
        message.attributes.push(RouteAttribute::Priority(priority));
    }
    if let Some(table) = wanted.table {
        // The header's field has 8 bits: the attribute says it in any case.
        message.header.table = u8::try_from(table).unwrap_or_default();
        message.attributes.push(RouteAttribute::Table(table));
    }
    if let Some(scope) = wanted.scope {
        message.header.scope = scope.into();
    }
    message
}

fn describe(route: &Route) -> String {
    match route.gateway {
        Some(gateway) => format!("{} via {gateway}", route.destination),
        None => route.destination.to_string(),
    }
}

/// Adds a route. False when there is one already, which stays as it is.
async fn add(handle: &Handle, name: &str, text: &str, route: RouteMessage) -> Result<bool, LinkError> {
    match handle.route().add(route).execute().await {
        Ok(()) => Ok(true),
        Err(error) => match LinkError::netlink(name, Step::Route, text, &error) {
            error if error.errno() == Some(Errno::EEXIST as i32) => Ok(false),
            error => Err(error),
        },
    }
}
