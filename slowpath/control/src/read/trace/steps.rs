//! What each stage was asked and what it said.

use super::{Story, place};
use millrace_api::{Protocol, TraceStep};
use millrace_config::LoadBalancing;
use millrace_fastpath::pipeline::{TraceEnd, TraceStep as Step};
use millrace_fastpath::port::{DropReason, Frame, PortId};
use millrace_fastpath::tables::{
    Address, Adjacency, Backend, FrontendKind, Origin, RefusedRoute, Route, ServiceId, Tunnel,
};

impl<F: Frame> Story<'_, F> {
    /// One line a stage. A stage that refuses has the last.
    pub(super) fn steps(&self) -> Vec<TraceStep> {
        let mut steps = Vec::new();
        for (number, step) in self.traced.steps.iter().enumerate() {
            let before = number.checked_sub(1).and_then(|before| self.traced.steps.get(before));
            let after = self.traced.steps.get(number + 1);
            self.tell(step, before, after, &mut steps);
        }
        steps.extend(self.refusal());
        steps
    }

    fn tell(&self, step: &Step, before: Option<&Step>, after: Option<&Step>, steps: &mut Vec<TraceStep>) {
        match *step {
            Step::KnownFlow { state, service, current } => {
                steps.push(self.known_flow(state.name(), service, current));
            }
            Step::FlowIsOver { state } => {
                let answer = format!(
                    "a connection that is over or whose endpoint serves no more (state {}): the packet begins a new one",
                    state.name()
                );
                steps.push(self.flow_table(answer).with("state", state.name()));
            }
            Step::NewFlow => steps.push(self.flow_table("not known: the packet begins a connection")),
            Step::SourceOwned => steps.push(self.source_check("yes")),
            Step::Frontend { service, kind, origin, usable } => {
                steps.push(self.services(service, kind, origin, usable));
            }
            Step::NoFrontend => {
                steps.push(self.asked_services("no service answers there: nothing is translated"));
            }
            Step::Admitted => steps.push(self.source_ranges("yes")),
            Step::Bound { backend } => steps.push(self.bound(backend)),
            Step::Backend { backend } => {
                let bound = matches!(before, Some(Step::Bound { .. }));
                if !bound {
                    steps.extend(self.not_bound());
                }
                steps.push(self.endpoint(backend, bound));
                if !matches!(after, Some(Step::Masqueraded { .. })) {
                    let source = self.probe.source.to_string();
                    let answer = format!("no: it stays {source}");
                    steps.push(source_address(answer).with("source", source));
                }
            }
            Step::Masqueraded { address, hairpin } => steps.push(self.masqueraded(address, hairpin)),
            Step::LeavesCluster { address } => steps.push(self.leaves_cluster(address)),
            Step::Spread { ways } => {
                steps.push(next_hop(ways));
            }
            Step::Tunnel { tunnel } => steps.push(self.tunnel(&tunnel)),
            Step::Route { destination, neighbour } => steps.push(self.route(destination, &neighbour)),
        }
    }

    fn flow_table(&self, answer: impl Into<String>) -> TraceStep {
        step("flow table", self.packet.tuple.to_string(), answer)
    }

    fn known_flow(&self, state: &str, service: ServiceId, current: bool) -> TraceStep {
        let mut answer = match service {
            ServiceId::NONE => format!("a known connection, state {state}"),
            _ => format!("a known connection of {}, state {state}", self.service(service)),
        };
        if let Some(endpoint) = self.translated() {
            answer.push_str(&format!(", translated to {}", place(endpoint)));
        }
        if !current {
            answer.push_str("; the tables have changed since, so its way out is looked up again");
        }
        let mut told = self.flow_table(answer).with("state", state);
        if service != ServiceId::NONE {
            told = told.with("service", self.service(service));
        }
        match self.translated() {
            Some(endpoint) => told.with("endpoint", place(endpoint)),
            None => told,
        }
    }

    /// Where the packet goes instead of to its destination.
    fn translated(&self) -> Option<Backend> {
        let TraceEnd::Sent { rewritten, .. } = &self.traced.end else { return None };
        let goes_to = Backend { address: rewritten.destination, port: rewritten.destination_port };
        let addressed = Backend { address: self.probe.destination, port: self.probe.destination_port };
        let has_ports = self.packet.tuple.destination_port.is_some();
        (has_ports && goes_to != addressed).then_some(goes_to)
    }

    fn source_check(&self, answer: impl Into<String>) -> TraceStep {
        let tuple = &self.packet.tuple;
        let asked =
            format!("may port {} send from {} to {}", self.packet.port, tuple.source, tuple.destination);
        step("source check", asked, answer)
    }

    fn asked_services(&self, answer: impl Into<String>) -> TraceStep {
        let tuple = &self.packet.tuple;
        let asked = match tuple.destination_port {
            Some(port) => {
                format!("{} {}", tuple.protocol, std::net::SocketAddr::new(tuple.destination, port))
            }
            None => format!("{} {}", tuple.protocol, tuple.destination),
        };
        step("services", asked, answer)
    }

    fn services(&self, service: ServiceId, kind: FrontendKind, origin: Origin, usable: usize) -> TraceStep {
        let name = self.service(service);
        let endpoints = match usable {
            0 => "no endpoint may be chosen".to_owned(),
            1 => "1 endpoint may be chosen".to_owned(),
            _ => format!("{usable} endpoints may be chosen"),
        };
        let answer = format!("{} of {name}; the sender is {}; {endpoints}", kind.name(), origin.name());
        self.asked_services(answer)
            .with("service", name)
            .with("kind", kind.name())
            .with("origin", origin.name())
            .with("usable", usable.to_string())
    }

    fn source_ranges(&self, answer: impl Into<String>) -> TraceStep {
        let asked = format!("does loadBalancerSourceRanges admit {}", self.probe.source);
        step("source ranges", asked, answer)
    }

    /// Says that session affinity knows no endpoint for the client, if there is affinity at all.
    fn not_bound(&self) -> Option<TraceStep> {
        let frontend = self.frontend()?;
        let seconds = frontend.affinity?;
        let answer = format!("none: a connection would bind it to the chosen one for {seconds} seconds");
        Some(self.affinity(frontend.service, answer))
    }

    fn bound(&self, backend: Backend) -> TraceStep {
        let service = self.frontend().map_or(ServiceId::NONE, |frontend| frontend.service);
        self.affinity(service, place(backend)).with("endpoint", place(backend))
    }

    fn affinity(&self, service: ServiceId, answer: impl Into<String>) -> TraceStep {
        let asked =
            format!("the endpoint that client {} of {} stays with", self.probe.source, self.service(service));
        step("affinity", asked, answer)
    }

    fn endpoint(&self, backend: Backend, bound: bool) -> TraceStep {
        let service = self.frontend().map_or(ServiceId::NONE, |frontend| frontend.service);
        let usable = self.usable();
        let (pod, node) = self.whereabouts(service, backend);
        let mut answer = place(backend);
        if let Some(pod) = &pod {
            answer.push_str(&format!(", pod {pod}"));
        }
        if let Some(node) = &node {
            answer.push_str(&format!(" on node {node}"));
        }
        let asked = match bound {
            true => "the endpoint of the client".to_owned(),
            false if usable == 1 => "the only one".to_owned(),
            false => format!("one of {usable}, by {}", self.balancing()),
        };
        if !bound && usable > 1 {
            let port = self.packet.tuple.source_port.unwrap_or_default();
            let own = if self.packet.default_source_port { " (taken because none was given)" } else { "" };
            answer.push_str(&format!("; it depends on source port {port}{own}"));
        }
        let mut told = step("endpoint", asked, answer).with("endpoint", place(backend));
        for (name, value) in [("pod", pod), ("node", node)] {
            if let Some(value) = value {
                told = told.with(name, value);
            }
        }
        told
    }

    fn usable(&self) -> usize {
        let of = |step: &Step| match step {
            Step::Frontend { usable, .. } => Some(*usable),
            _ => None,
        };
        self.traced.steps.iter().find_map(of).unwrap_or(0)
    }

    fn balancing(&self) -> &'static str {
        match self.control.config.load_balancing {
            LoadBalancing::Maglev => "Maglev",
            LoadBalancing::Random => "the hash of the connection",
        }
    }

    fn masqueraded(&self, address: Address, hairpin: bool) -> TraceStep {
        let ports = self.control.current.masquerade.ports;
        let why =
            if hairpin { "the client is the endpoint itself" } else { "replies have to come back here" };
        let ports = format!("{}-{}", ports.first, ports.last);
        let answer = format!("yes, {why}: it becomes {address}, with a free port of {ports}");
        source_address(answer).with("source", address.to_string()).with("ports", ports)
    }

    fn leaves_cluster(&self, address: Address) -> TraceStep {
        let ports = self.control.current.masquerade.ports;
        let ports = format!("{}-{}", ports.first, ports.last);
        let answer = format!(
            "yes, the connection leaves the cluster: it becomes {address}, with a free port of {ports}"
        );
        source_address(answer).with("source", address.to_string()).with("ports", ports)
    }

    fn tunnel(&self, tunnel: &Tunnel) -> TraceStep {
        let (local, remote, vni) = (tunnel.local, tunnel.remote, tunnel.vni.get());
        let answer = format!("VXLAN {vni} from {local} to {remote}, by {}", self.port(tunnel.port));
        step("tunnel", "does the way lead through one", answer)
            .with("vni", vni.to_string())
            .with("local", local.to_string())
            .with("remote", remote.to_string())
            .with("mac", tunnel.destination_mac.to_string())
    }

    fn route(&self, destination: Address, neighbour: &Adjacency) -> TraceStep {
        let (mac, mtu) = (neighbour.destination_mac, neighbour.mtu);
        let answer = format!("{}, MAC address {mac}, MTU {mtu}", self.port(neighbour.port));
        let name = self.control.port_name(neighbour.port).unwrap_or_default();
        routes(destination, answer)
            .with("port", name)
            .with("mac", mac.to_string())
            .with("mtu", mtu.to_string())
    }

    /// What the stage said that did not let the packet pass.
    fn refusal(&self) -> Option<TraceStep> {
        let reason = match self.traced.end {
            TraceEnd::Sent { .. } => return None,
            TraceEnd::Waits { port, address } => return Some(self.waits(port, address)),
            TraceEnd::Local => return Some(self.last_route("this node itself", Some(Route::Local))),
            TraceEnd::Reset(reason) | TraceEnd::Icmp(_, reason) | TraceEnd::Dropped(reason) => reason,
        };
        Some(self.refused_for(reason).with("reason", reason.name()))
    }

    fn waits(&self, port: PortId, address: Address) -> TraceStep {
        let asked = format!("the MAC address of {address} behind {}", self.port(port));
        step("neighbours", asked, "not known yet: the packet waits until it is, a second at most")
            .with("address", address.to_string())
    }

    fn refused_for(&self, reason: DropReason) -> TraceStep {
        let tuple = &self.packet.tuple;
        match reason {
            DropReason::PortGone => step("ports", format!("port {}", self.packet.port), "it is gone"),
            DropReason::Multicast | DropReason::BadAddress | DropReason::SpoofedAddress => {
                self.source_check(format!("no: {}", sentence(reason)))
            }
            DropReason::NoService => {
                self.asked_services("a service has the address as its ClusterIP, and not this port")
            }
            DropReason::SourceRange => self.source_ranges("no"),
            DropReason::NoBackend => step("endpoint", format!("one of {}", self.usable()), "there is none"),
            DropReason::NoRoute => self.last_route("no route", None),
            DropReason::RouteBlackhole => self.refused_route("blackhole", RefusedRoute::Blackhole),
            DropReason::RouteUnreachable => self.refused_route("unreachable", RefusedRoute::Unreachable),
            DropReason::RouteProhibit => self.refused_route("prohibit", RefusedRoute::Prohibit),
            DropReason::TtlExceeded => {
                let name = if tuple.protocol == Protocol::Icmpv6 || tuple.destination.is_ipv6() {
                    "hop limit"
                } else {
                    "TTL"
                };
                step("TTL", format!("{name} {}", self.packet.ttl), "it ends here")
            }
            DropReason::TooBig => {
                step("MTU", format!("{} bytes", self.packet.size), "more than the way out takes")
            }
            other => self.flow_table(sentence(other)),
        }
    }

    /// The route that ended the packet's way: to its destination, or back to its sender.
    fn last_route(&self, answer: &str, found: Option<Route>) -> TraceStep {
        let destination = self.last_destination();
        match self.control.current.routes.lookup(destination) == found {
            true => routes(destination, answer),
            false => step("routes", format!("the way back to {}", self.probe.source), answer),
        }
    }

    fn refused_route(&self, kind: &str, how: RefusedRoute) -> TraceStep {
        self.last_route(&format!("a route of type {kind}"), Some(Route::Refused(how)))
    }

    /// The address that a route is looked up for.
    fn last_destination(&self) -> Address {
        let chosen = |step: &Step| match step {
            Step::Backend { backend } => Some(backend.address),
            _ => None,
        };
        self.traced.steps.iter().rev().find_map(chosen).unwrap_or(self.probe.destination)
    }
}

fn step(stage: &str, asked: impl Into<String>, answer: impl Into<String>) -> TraceStep {
    TraceStep { stage: stage.to_owned(), asked: asked.into(), answer: answer.into(), ..TraceStep::default() }
}

fn next_hop(ways: usize) -> TraceStep {
    step("next hop", format!("one of {ways}"), "chosen by the hash of the connection")
        .with("ways", ways.to_string())
}

fn source_address(answer: impl Into<String>) -> TraceStep {
    step("source address", "is it masqueraded", answer)
}

fn routes(destination: Address, answer: impl Into<String>) -> TraceStep {
    step("routes", destination.to_string(), answer)
}

/// The meaning of a reason, to be put into another sentence.
pub(super) fn sentence(reason: DropReason) -> String {
    let text = reason.meaning().trim_end_matches('.');
    let mut letters = text.chars();
    match letters.next() {
        // Abbreviations keep their capitals.
        Some(first) if !letters.as_str().starts_with(|next: char| next.is_uppercase()) => {
            first.to_lowercase().chain(letters).collect()
        }
        _ => text.to_owned(),
    }
}

/// Adds to the parts of an answer.
trait With {
    fn with(self, name: &str, value: impl Into<String>) -> Self;
}

impl With for TraceStep {
    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }
}
