//! Answers as text for people.

use crate::table::Table;
use millrace_api::{
    DropList, FlowList, LinkState, NextHop, ObjectErrorList, PeerList, PortList, RouteList, ServerStatus,
    ServiceList, Status, Tables, WhenEmpty, WorkerList,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(crate) fn status(status: &Status) -> String {
    let mut table = Table::new(["FIELD", "VALUE"]);
    let source = &status.source;
    let synced = if source.synced { "synced" } else { "not synced" };
    let memory = if status.hugepages { "hugepages" } else { "ordinary memory" };
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("node", status.node.clone());
    row("version", status.version.clone());
    row("process", format!("{} (up {} s)", status.pid, status.uptime_seconds));
    row("source", format!("{} {}, {synced}", source.kind, source.place));
    if let Some(server) = &source.server {
        row("server", server_of(server));
    }
    row("objects", format!("{} ({} errors)", source.objects, source.errors));
    row("ports", format!("{} ({} up)", status.ports, status.ports_up));
    if status.uplinks > 0 {
        row("uplinks", format!("{} ({} up)", status.uplinks, status.uplinks_up));
        row("other nodes", format!("{} ({} reached)", status.peers, status.peers_reached));
    }
    row("services", status.services.to_string());
    if status.policies_not_enforced > 0 {
        row("policies", format!("{}, NONE of them enforced", status.policies_not_enforced));
    }
    row("workers", status.workers.to_string());
    row("flows", format!("{} of {}", status.flows, status.flow_capacity));
    row("dropped frames", status.dropped_frames.to_string());
    row("packet memory", memory.to_owned());
    for pool in &status.pools {
        row(&format!("pool {}", pool.name), format!("{} of {} in use", pool.in_use, pool.capacity));
    }
    table.render()
}

fn server_of(server: &ServerStatus) -> String {
    let state = if server.connected { "answers" } else { "does not answer" };
    let age =
        server.age_seconds.map_or("never heard of".to_owned(), |age| format!("last heard of {age:.0} s ago"));
    match &server.last_error {
        Some(error) => format!("{state}, {age}: {error}"),
        None => format!("{state}, {age}"),
    }
}

pub(crate) fn ports(list: &PortList) -> String {
    let head = ["NAME", "KIND", "ROLE", "LINK", "POD", "MAC", "MTU", "ADDRESSES", "RX", "TX", "DROPS"];
    let mut table = Table::new(head);
    for port in &list.ports {
        let link = match &port.link {
            LinkState::Up => "up".to_owned(),
            LinkState::Down { reason } => format!("down ({reason})"),
        };
        table.row([
            port.config.name.to_string(),
            port.config.attachment.kind().to_string(),
            port.config.role().name().to_owned(),
            link,
            port.config.pod.as_ref().map(ToString::to_string).unwrap_or_default(),
            port.mac.clone(),
            port.mtu.to_string(),
            port.addresses.join(","),
            port.counts.rx_frames.to_string(),
            port.counts.tx_frames.to_string(),
            port.drops.iter().map(|drop| drop.frames).sum::<u64>().to_string(),
        ]);
    }
    table.render()
}

pub(crate) fn peers(list: &PeerList) -> String {
    let head = ["NAME", "MODE", "REASON", "STATE", "ADDRESS", "RANGES", "MTU", "VTEP MAC", "NEXT HOPS"];
    let mut table = Table::new(head);
    for peer in &list.peers {
        table.row([
            peer.name.clone(),
            peer.mode.clone(),
            peer.reason.clone(),
            peer.state.clone(),
            peer.address.clone().unwrap_or_default(),
            peer.ranges.join(","),
            peer.mtu.map(|mtu| mtu.to_string()).unwrap_or_default(),
            peer.vtep_mac.clone().unwrap_or_default(),
            hops(if peer.next_hops.is_empty() { &peer.awaited } else { &peer.next_hops }),
        ]);
    }
    table.render()
}

pub(crate) fn routes(list: &RouteList) -> String {
    let mut table = Table::new(["PREFIX", "KIND", "NEXT HOPS"]);
    for route in &list.routes {
        table.row([route.prefix.clone(), route.kind.clone(), hops(&route.next_hops)]);
    }
    table.render()
}

fn hops(hops: &[NextHop]) -> String {
    let parts = |hop: &NextHop| {
        let parts = [hop.address.as_deref(), hop.mac.as_deref(), Some(&*hop.port)];
        parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
    };
    hops.iter().map(parts).collect::<Vec<_>>().join(", ")
}

pub(crate) fn services(list: &ServiceList) -> String {
    let head = ["NAMESPACE", "NAME", "PORT", "PROTO", "FRONTEND", "KIND", "ENDPOINTS", "FROM OUTSIDE"];
    let mut table = Table::new(head);
    for service in &list.services {
        for port in &service.ports {
            for frontend in &port.frontends {
                let same = |address: IpAddr| address.is_ipv4() == frontend.address.is_ipv4();
                let endpoints = port.endpoints.iter().map(|endpoint| (endpoint.address, endpoint.port));
                // Several slices may mention one endpoint.
                let all = endpoints.filter(|&(address, _)| same(address)).collect::<BTreeSet<_>>().len();
                let usable = |usable: u32, when_empty: WhenEmpty| match (usable, when_empty) {
                    (0, WhenEmpty::Reject) => format!("0 of {all}, rejects"),
                    (0, WhenEmpty::Drop) => format!("0 of {all}, drops"),
                    _ => format!("{usable} of {all}"),
                };
                let outside = frontend.outside.as_ref().map(|pool| usable(pool.usable, pool.when_empty));
                let holder = frontend.held_by.as_ref().map(|holder| format!("held by {holder}"));
                table.row([
                    service.namespace.clone(),
                    service.name.clone(),
                    port.name.clone(),
                    port.protocol.to_string(),
                    place(frontend.address, frontend.port),
                    frontend.kind.clone(),
                    holder.unwrap_or_else(|| usable(frontend.usable, frontend.when_empty)),
                    outside.filter(|_| frontend.held_by.is_none()).unwrap_or_default(),
                ]);
            }
        }
    }
    table.render()
}

pub(crate) fn flows(list: &FlowList) -> String {
    let head = ["PROTO", "SOURCE", "DESTINATION", "BACKEND", "SERVICE", "STATE", "IN", "OUT", "IDLE"];
    let mut table = Table::new(head);
    for flow in &list.flows {
        let backend = flow.backend.map(|address| place(address, flow.backend_port.unwrap_or_default()));
        table.row([
            flow.protocol.to_string(),
            place(flow.source, flow.source_port),
            place(flow.destination, flow.destination_port),
            backend.unwrap_or_default(),
            flow.service.clone().unwrap_or_default(),
            flow.state.clone(),
            flow.in_port.clone().unwrap_or_default(),
            flow.out_port.clone().unwrap_or_default(),
            format!("{}s", flow.idle_seconds),
        ]);
    }
    table.render()
}

pub(crate) fn drops(list: &DropList, all: bool) -> String {
    let mut table = Table::new(["REASON", "FRAMES", "MEANING"]);
    for drop in list.drops.iter().filter(|drop| all || drop.frames > 0) {
        table.row([drop.reason.clone(), drop.frames.to_string(), drop.meaning.clone()]);
    }
    table.render()
}

pub(crate) fn workers(list: &WorkerList) -> String {
    let head = ["ID", "CORE", "LOAD", "FRAMES", "ESTABLISHED", "RESOLVED", "DROPPED", "SLEEPS", "QUEUES"];
    let mut table = Table::new(head);
    for worker in &list.workers {
        let count = |name: &str| worker.counters.get(name).copied().unwrap_or(0).to_string();
        table.row([
            worker.id.to_string(),
            worker.core.map(|core| core.to_string()).unwrap_or_default(),
            format!("{:.0}%", worker.load * 100.0),
            count("frames"),
            count("established"),
            count("resolved"),
            worker.dropped.to_string(),
            count("sleeps"),
            worker.queues.join(","),
        ]);
    }
    table.render()
}

pub(crate) fn tables(tables: &Tables) -> String {
    let sizes = &tables.sizes;
    let mut table = Table::new(["TABLE", "ENTRIES"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("version", tables.version.to_string());
    row("epoch", tables.epoch.to_string());
    row("ports", sizes.ports.to_string());
    row("routes", sizes.routes.to_string());
    row("frontends", sizes.frontends.to_string());
    row("endpoints", sizes.endpoints.to_string());
    row("flow entries", format!("{} of {}", sizes.flow_entries, sizes.flow_capacity));
    table.render()
}

pub(crate) fn object_errors(list: &ObjectErrorList) -> String {
    let mut table = Table::new(["FILE", "DOCUMENT", "OBJECT", "REASON"]);
    for error in &list.errors {
        table.row([
            error.file.clone(),
            error.document.map(|document| document.to_string()).unwrap_or_default(),
            error.object.clone().unwrap_or_default(),
            error.reason.clone(),
        ]);
    }
    table.render()
}

/// An address and port as they are written in URLs (RFC 3986 section 3.2.2).
pub(crate) fn place(address: IpAddr, port: u16) -> String {
    std::net::SocketAddr::new(address, port).to_string()
}
