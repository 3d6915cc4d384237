//! The written rules of services, line by line and slowly, on the objects themselves. Shares no code with the model: not
//! even the rules for absent conditions. Names of sections are those of Kubernetes' documents and of kube-proxy.

use crate::world::{Arrival, Packet, RawEndpoint, RawSlice, World};
use millrace_fastpath::port::DropReason;
use millrace_model::{Node, Service, ServicePort, ServiceType, TrafficPolicy};
use std::net::IpAddr;

/// What may become of a packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It leaves by a port, for this address and port; with its own source, or with this address.
    Leaves { by: u16, to: (IpAddr, u16), masqueraded: Option<IpAddr> },
    /// Its sender gets a TCP reset, or an ICMP error that says port unreachable.
    Refused,
    /// Nothing happens.
    Silence(DropReason),
}

/// All that may become of a packet, and whether the sender's next connections must meet the same.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Expected {
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) sticks: bool,
}

/// Why a service answers somewhere.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Kind {
    ClusterIp,
    LoadBalancer,
    ExternalIp,
    NodePort,
}

pub(crate) fn expected(world: &World, packet: &Packet) -> Expected {
    let certain = |outcome| Expected { outcomes: vec![outcome], sticks: false };
    let Some((service, port, kind)) = frontend(world, packet) else {
        // "ClusterIP with a port that the service does not have → reject."
        let is_cluster_ip = |service: &&Service| {
            is_handled(service)
                && !service.ports.is_empty()
                && service.cluster_ips.contains(&packet.destination)
        };
        return certain(match world.services.iter().find(is_cluster_ip) {
            Some(_) => Outcome::Refused,
            None => match routed(world, (packet.destination, packet.ports.1), None) {
                // A node is no router between others.
                Outcome::Leaves { by, .. }
                    if by == packet.arrival.port() && packet.arrival == Arrival::Uplink =>
                {
                    Outcome::Silence(DropReason::Transit)
                }
                routed => routed,
            },
        });
    };
    // "`loadBalancerSourceRanges`: others are dropped, on load-balancer IPs only; a `/0` means everyone."
    let ranges: Vec<_> = service
        .source_ranges
        .iter()
        .filter(|range| range.addr().is_ipv4() == packet.source.is_ipv4())
        .collect();
    if kind == Kind::LoadBalancer
        && !ranges.is_empty()
        && !ranges.iter().any(|range| range.contains(&packet.source))
    {
        return certain(Outcome::Silence(DropReason::SourceRange));
    }
    let endpoints = endpoints(world, service, port, packet.destination.is_ipv4());
    let inside = matches!(packet.arrival, Arrival::Pod(_) | Arrival::Host);
    let policy = match (kind, inside) {
        // "ClusterIP uses the cluster set; with `internalTrafficPolicy: Local` the local set."
        (Kind::ClusterIp, _) => service.internal_policy,
        // "… and the *cluster set* for traffic from pods and from the node itself": from this node's pods. Upstream's tests
        // want those of other nodes treated as coming from outside.
        (_, true) => TrafficPolicy::Cluster,
        // "with `externalTrafficPolicy: Local` the local set for traffic from outside".
        (_, false) => service.external_policy,
    };
    let set = match policy {
        TrafficPolicy::Cluster => cluster_set(world, &endpoints),
        TrafficPolicy::Local => local_set(&endpoints),
    };
    if set.is_empty() {
        // "no usable endpoint anywhere → reject. Endpoints exist, but a Local policy leaves none here → drop."
        let anywhere = !ready(&endpoints).is_empty() || !ending(&endpoints).is_empty();
        return certain(if anywhere { Outcome::Silence(DropReason::NoBackend) } else { Outcome::Refused });
    }
    let outcome = |found: &Found| {
        let masqueraded =
            is_masqueraded(world, packet, service, kind, found).then(|| node_address(world, packet, found));
        routed(world, (found.endpoint.address, found.port), masqueraded)
    };
    Expected { outcomes: set.iter().map(outcome).collect(), sticks: service.affinity_seconds.is_some() }
}

/// The same for a further packet of a UDP flow whose first one met this, when the world has changed since. "A change of
/// policy, topology or readiness moves no established flow. When an endpoint is gone (no slice has it as serving): UDP
/// flows to it are resolved again at once, also when the service went from no endpoint to some."
pub(crate) fn continued(before: &World, now: &World, packet: &Packet, met: &Outcome) -> Expected {
    let Outcome::Leaves { to, masqueraded, .. } = met else { return expected(now, packet) };
    let stays = match frontend(before, packet) {
        Some((service, port, _)) => serves(now, service, port, *to),
        // Nobody's until now.
        None => frontend(now, packet).is_none(),
    };
    match stays {
        true => Expected { outcomes: vec![routed(now, *to, *masqueraded)], sticks: false },
        false => expected(now, packet),
    }
}

/// Whether a service port of that name still has this endpoint as serving.
fn serves(now: &World, service: &Service, port: &ServicePort, endpoint: (IpAddr, u16)) -> bool {
    let same = |other: &&ServicePort| (&other.name, other.protocol) == (&port.name, port.protocol);
    let Some(service) = now.services.iter().find(|other| other.name == service.name) else { return false };
    let Some(port) = service.ports.iter().find(same).filter(|_| is_handled(service)) else { return false };
    let v4 = endpoint.0.is_ipv4();
    service.cluster_ips.iter().any(|ip| ip.is_ipv4() == v4)
        && endpoints(now, service, port, v4).iter().any(|found| {
            (found.endpoint.address, found.port) == endpoint
                && (is_ready(&found.endpoint) || is_serving(&found.endpoint))
        })
}

/// "ExternalName; headless; services with the label `service.kubernetes.io/service-proxy-name`" are not handled.
fn is_handled(service: &Service) -> bool {
    service.kind != ServiceType::ExternalName && !service.cluster_ips.is_empty() && !service.foreign_proxy
}

/// The service port that answers at the packet's destination, and why it does. Of several that want to, ClusterIPs come
/// first and NodePorts last, then the first service by name.
fn frontend<'a>(world: &'a World, packet: &Packet) -> Option<(&'a Service, &'a ServicePort, Kind)> {
    let mut wanted = Vec::new();
    for service in world.services.iter().filter(|service| is_handled(service)) {
        for (index, port) in service.ports.iter().enumerate() {
            for (kind, address, number) in addresses(world, service, port) {
                // One proxier a family: a family without ClusterIP is not served.
                let family = service.cluster_ips.iter().any(|ip| ip.is_ipv4() == address.is_ipv4());
                let here = (address, number, port.protocol.number())
                    == (packet.destination, packet.ports.1, packet.protocol);
                if family && here {
                    let between = match kind {
                        Kind::ClusterIp => 0,
                        Kind::LoadBalancer | Kind::ExternalIp => 1,
                        Kind::NodePort => 2,
                    };
                    wanted.push((between, service.name.clone(), kind, index));
                }
            }
        }
    }
    wanted.sort();
    let (_, name, kind, index) = wanted.into_iter().next()?;
    let service = world.services.iter().find(|service| service.name == name)?;
    Some((service, &service.ports[index], kind))
}

/// "each ClusterIP; each `spec.externalIPs`; each `status.loadBalancer.ingress[].ip` with `ipMode` VIP or unset; the
/// NodePort on every address that `nodePortAddresses` selects (default: the node's primary addresses)".
fn addresses(world: &World, service: &Service, port: &ServicePort) -> Vec<(Kind, IpAddr, u16)> {
    let mut found = Vec::new();
    for &ip in &service.cluster_ips {
        found.push((Kind::ClusterIp, ip, port.port));
    }
    for &ip in &service.external_ips {
        found.push((Kind::ExternalIp, ip, port.port));
    }
    for balancer in &service.load_balancer_ips {
        if balancer.vip {
            found.push((Kind::LoadBalancer, balancer.ip, port.port));
        }
    }
    let has_node_port = service.kind == ServiceType::NodePort || service.kind == ServiceType::LoadBalancer;
    if let (true, Some(number)) = (has_node_port, port.node_port) {
        for &ip in own_addresses(world) {
            let selected = match world.node_port_addresses.is_empty() {
                true => primary(world, ip.is_ipv4()) == Some(ip),
                false => world.node_port_addresses.iter().any(|range| range.contains(&ip)),
            };
            if selected {
                found.push((Kind::NodePort, ip, number));
            }
        }
    }
    found
}

/// An endpoint of a service port, with its port number.
#[derive(Clone)]
struct Found {
    endpoint: RawEndpoint,
    port: u16,
}

/// "Endpoints come from EndpointSlices only, several slices per service, ports matched by *name*, one address family per
/// slice; duplicates across slices count once." Slices labelled as headless are not handled.
fn endpoints(world: &World, service: &Service, port: &ServicePort, v4: bool) -> Vec<Found> {
    let names_it = |slice: &&RawSlice| {
        slice.namespace == service.name.namespace && slice.service.as_ref() == Some(&service.name.name)
    };
    let mut slices: Vec<&RawSlice> =
        world.slices.iter().filter(names_it).filter(|slice| !slice.headless).collect();
    slices.sort_by(|a, b| a.name.cmp(&b.name));
    let mut all = Vec::new();
    for slice in slices {
        for (name, protocol, number) in &slice.ports {
            if *name == port.name && *protocol == port.protocol {
                for endpoint in slice.endpoints.iter().filter(|endpoint| endpoint.address.is_ipv4() == v4) {
                    all.push(Found { endpoint: endpoint.clone(), port: *number });
                }
            }
        }
    }
    // Of several mentions that of a pod that runs counts before that of one that ends, then the best, then the first.
    let merit = |found: &Found| {
        (!is_terminating(&found.endpoint), is_ready(&found.endpoint), is_serving(&found.endpoint))
    };
    let mut once: Vec<Found> = Vec::new();
    for found in all {
        let same =
            |other: &&mut Found| (other.endpoint.address, other.port) == (found.endpoint.address, found.port);
        match once.iter_mut().find(same) {
            Some(known) if merit(&found) > merit(known) => *known = found,
            Some(_) => {}
            None => once.push(found),
        }
    }
    once
}

/// "A nil `ready` means ready; a nil `serving` means what `ready` says; a nil `terminating` means false."
fn is_ready(endpoint: &RawEndpoint) -> bool {
    endpoint.ready != Some(false)
}

fn is_serving(endpoint: &RawEndpoint) -> bool {
    match endpoint.serving {
        Some(serving) => serving,
        None => is_ready(endpoint),
    }
}

fn is_terminating(endpoint: &RawEndpoint) -> bool {
    endpoint.terminating == Some(true)
}

fn ready(endpoints: &[Found]) -> Vec<Found> {
    endpoints.iter().filter(|found| is_ready(&found.endpoint)).cloned().collect()
}

/// Serving and terminating.
fn ending(endpoints: &[Found]) -> Vec<Found> {
    let ends = |found: &&Found| is_serving(&found.endpoint) && is_terminating(&found.endpoint);
    endpoints.iter().filter(ends).cloned().collect()
}

/// "ready endpoints, filtered by topology; if no endpoint is ready, those serving and terminating".
fn cluster_set(world: &World, endpoints: &[Found]) -> Vec<Found> {
    let ready = ready(endpoints);
    if ready.is_empty() { ending(endpoints) } else { by_topology(world, ready) }
}

/// "if every ready endpoint has `hints.forNodes` and one names this node → only those naming it. Else if every ready
/// endpoint has `hints.forZones` and one names this node's zone → only those. Else all."
fn by_topology(world: &World, ready: Vec<Found>) -> Vec<Found> {
    let us = World::US.to_owned();
    if ready.iter().all(|found| !found.endpoint.for_nodes.is_empty()) {
        let ours: Vec<Found> =
            ready.iter().filter(|found| found.endpoint.for_nodes.contains(&us)).cloned().collect();
        if !ours.is_empty() {
            return ours;
        }
    }
    if let Some(zone) = own_node(world).and_then(|node| node.zone.clone())
        && ready.iter().all(|found| !found.endpoint.for_zones.is_empty())
    {
        let ours: Vec<Found> =
            ready.iter().filter(|found| found.endpoint.for_zones.contains(&zone)).cloned().collect();
        if !ours.is_empty() {
            return ours;
        }
    }
    ready
}

/// "ready endpoints on this node; if none, those on this node serving and terminating".
fn local_set(endpoints: &[Found]) -> Vec<Found> {
    let is_here = |found: &&Found| found.endpoint.node.as_deref() == Some(World::US);
    let here: Vec<Found> = endpoints.iter().filter(is_here).cloned().collect();
    let ready = ready(&here);
    if ready.is_empty() { ending(&here) } else { ready }
}

fn is_masqueraded(world: &World, packet: &Packet, service: &Service, kind: Kind, found: &Found) -> bool {
    // "hairpin (a pod that reaches itself through a service)"
    if found.endpoint.address == packet.source {
        return true;
    }
    let is_remote_pod = packet.arrival == Arrival::Uplink && is_in_pod_range(world, packet.source);
    match packet.arrival {
        // "kept for pod → ClusterIP". A pod of this node gets its replies back by this node in any case.
        Arrival::Pod(_) => false,
        Arrival::Uplink if is_remote_pod && kind == Kind::ClusterIp => false,
        Arrival::Host => true,
        // "source outside the pod range → ClusterIP"; "outside → NodePort/LB/external IP with policy Cluster"; "With
        // `externalTrafficPolicy: Local` the client's address is kept."
        Arrival::Uplink => kind == Kind::ClusterIp || service.external_policy == TrafficPolicy::Cluster,
    }
}

fn is_in_pod_range(world: &World, address: IpAddr) -> bool {
    world
        .pod_ranges
        .iter()
        .chain(world.nodes.iter().flat_map(|node| &node.pod_cidrs))
        .any(|range| range.contains(&address))
}

/// "Masqueraded with the node's address"; a node without one has its pods' gateway. So has one whose own network stack is
/// the endpoint: a kernel takes no packet off a wire that comes from itself.
fn node_address(world: &World, packet: &Packet, found: &Found) -> IpAddr {
    let v4 = packet.source.is_ipv4();
    let is_host = world.host_addresses.contains(&found.endpoint.address);
    primary(world, v4).filter(|_| !is_host).unwrap_or(World::gateway(v4))
}

fn own_node(world: &World) -> Option<&Node> {
    world.nodes.iter().find(|node| node.name.name == World::US)
}

fn own_addresses(world: &World) -> &[IpAddr] {
    own_node(world).map_or(&[], |node| &node.addresses)
}

fn primary(world: &World, v4: bool) -> Option<IpAddr> {
    own_addresses(world).iter().copied().find(|address| address.is_ipv4() == v4)
}

/// Where a packet goes that is addressed so: to a pod, to the host's own leg, to this node itself, or out.
fn routed(world: &World, to: (IpAddr, u16), masqueraded: Option<IpAddr>) -> Outcome {
    let pod = World::PODS.iter().find(|(_, v4, v6)| [*v4, *v6].contains(&to.0.to_string().as_str()));
    let by = match pod {
        Some((number, ..)) => *number,
        None if world.host_addresses.contains(&to.0) => World::HOST,
        // Nobody listens at this node's own addresses.
        None if own_addresses(world).contains(&to.0) => return Outcome::Refused,
        None if [true, false].map(World::gateway).contains(&to.0) => return Outcome::Refused,
        None => World::UPLINK,
    };
    Outcome::Leaves { by, to, masqueraded }
}
