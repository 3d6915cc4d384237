//! One service explained, as text for people.

use crate::show::{flows, place};
use crate::table::{Table, clean};
use millrace_api::{
    Affinity, Endpoint, EndpointPool, FlowList, Frontend, Reason, Service, ServiceFlows, ServicePort,
    WhenEmpty,
};

/// The service, then its ports, then its flows.
pub(crate) fn explained(service: &Service) -> String {
    let mut text = general(service);
    for port in &service.ports {
        text.push_str(&of_port(port));
    }
    if let Some(flows) = &service.flows {
        text.push_str(&of_flows(flows));
    }
    clean(&text)
}

fn general(service: &Service) -> String {
    let mut table = Table::new(["SERVICE", &format!("{}/{}", service.namespace, service.name)]);
    let mut row = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            table.row([name.to_owned(), value]);
        }
    };
    row("not served here", service.not_served.as_ref().map(|reason| reason.text.clone()));
    row("type", service.kind.clone());
    row("internal traffic policy", service.internal_traffic_policy.clone());
    row("external traffic policy", service.external_traffic_policy.clone());
    let affinity = match (service.affinity_seconds, &service.not_served) {
        (Some(seconds), _) => Some(format!("ClientIP for {seconds} s")),
        (None, None) => Some("none".to_owned()),
        (None, Some(_)) => None,
    };
    row("session affinity", affinity);
    row("source ranges", (!service.source_ranges.is_empty()).then(|| service.source_ranges.join(", ")));
    row("health check node port", service.health_check_node_port.map(|port| port.to_string()));
    table.render()
}

fn of_port(port: &ServicePort) -> String {
    let name = if port.name.is_empty() { String::new() } else { format!(" {}", port.name) };
    let mut text = format!("\nPORT{name}: {}/{}\n", port.port, port.protocol);
    if port.frontends.is_empty() {
        text.push_str("no frontend on this node\n");
    } else {
        text.push_str(&frontends(port));
    }
    text.push('\n');
    match &port.no_endpoints {
        Some(why) => text.push_str(&format!("no endpoints: {}\n", why.text)),
        None => text.push_str(&endpoints(&port.endpoints)),
    }
    for slice in &port.slices {
        if let Some(why) = &slice.unused {
            text.push_str(&format!("slice {} ({}) is not used: {}\n", slice.name, slice.family, why.text));
        }
    }
    if let Some(affinity) = &port.affinity {
        text.push_str(&bound(affinity));
    }
    text
}

fn frontends(port: &ServicePort) -> String {
    let mut table =
        Table::new(["FRONTEND", "KIND", "FROM INSIDE", "FROM OUTSIDE", "OUTSIDE CLIENTS", "NOTES"]);
    for frontend in &port.frontends {
        table.row([
            place(frontend.address, frontend.port),
            frontend.kind.clone(),
            frontend.inside.as_ref().map(pool).unwrap_or_default(),
            frontend.outside.as_ref().map(pool).unwrap_or_default(),
            if frontend.keeps_client { "keep their address" } else { "are masqueraded" }.to_owned(),
            notes(frontend),
        ]);
    }
    table.render()
}

fn pool(pool: &EndpointPool) -> String {
    match (pool.usable, pool.when_empty) {
        (0, WhenEmpty::Reject) => format!("0 ({}): rejected", pool.set),
        (0, WhenEmpty::Drop) => format!("0 ({}): dropped", pool.set),
        (usable, _) => format!("{usable} ({})", pool.set),
    }
}

fn notes(frontend: &Frontend) -> String {
    let holder = frontend.held_by.as_ref().map(|holder| format!("{holder} answers here instead"));
    let wanted = (!frontend.contested_by.is_empty())
        .then(|| format!("also wanted by {}", frontend.contested_by.join(", ")));
    let restricted = frontend.restricted.then(|| "source ranges hold".to_owned());
    holder.into_iter().chain(wanted).chain(restricted).collect::<Vec<_>>().join("; ")
}

fn endpoints(endpoints: &[Endpoint]) -> String {
    let head = ["ENDPOINT", "USED", "CLUSTER SET", "LOCAL SET", "CONDITIONS", "NODE", "ZONE", "POD"];
    let mut table = Table::new(head);
    for endpoint in endpoints {
        table.row([
            place(endpoint.address, endpoint.port),
            if endpoint.usable { "yes" } else { "no" }.to_owned(),
            set(endpoint.not_in_cluster_set.as_ref()),
            set(endpoint.not_in_local_set.as_ref()),
            endpoint.conditions.join(","),
            endpoint.node.clone().unwrap_or_default(),
            endpoint.zone.clone().unwrap_or_default(),
            endpoint.pod.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn set(why_not: Option<&Reason>) -> String {
    why_not.map_or_else(|| "yes".to_owned(), |why| format!("no: {}", why.text))
}

fn bound(affinity: &Affinity) -> String {
    let mut text = format!("\n{}", counted(affinity.total, affinity.clients.len(), "bound client"));
    if !affinity.clients.is_empty() {
        let mut table = Table::new(["CLIENT", "ENDPOINT", "IDLE"]);
        for client in &affinity.clients {
            let endpoint = match (client.endpoint, client.endpoint_port) {
                (Some(address), Some(port)) => place(address, port),
                _ => "may not be used any more".to_owned(),
            };
            table.row([client.client.to_string(), endpoint, format!("{}s", client.idle_seconds)]);
        }
        text.push_str(&table.render());
    }
    text
}

fn of_flows(found: &ServiceFlows) -> String {
    let mut text = format!("\n{}", counted(found.total, found.flows.len(), "flow"));
    if found.total > 0 {
        let states = found.by_state.iter().map(|(state, count)| format!("{count} {state}"));
        text.push_str(&format!("by state: {}\n", states.collect::<Vec<_>>().join(", ")));
        text.push_str(&flows(&FlowList { flows: found.flows.clone(), truncated: false }));
    }
    text
}

/// How many there are, and how many of them are shown.
fn counted(total: u64, shown: usize, noun: &str) -> String {
    let plural = if total == 1 { "" } else { "s" };
    match total == shown as u64 {
        true => format!("{total} {noun}{plural}\n"),
        false => format!("{total} {noun}{plural}, {shown} shown\n"),
    }
}
