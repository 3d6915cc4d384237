//! What a packet would meet, in names that users know.

mod sender;
mod steps;
mod verdict;

pub use sender::TraceError;

use crate::clock;
use crate::control::Control;
use millrace_api::{Protocol, Trace, TraceRequest, TracedPacket, Tuple};
use millrace_fastpath::conntrack::FlowKey;
use millrace_fastpath::pipeline::{self, Probe};
use millrace_fastpath::port::{Frame, PortId};
use millrace_fastpath::tables::{Backend, Frontend, FrontendKey, ServiceId};
use millrace_fastpath::wire::IpProtocol;
use sender::Sending;

/// A trace and what is needed to tell of it.
struct Story<'a, F> {
    control: &'a Control<F>,
    probe: Probe,
    packet: TracedPacket,
    traced: pipeline::Trace,
}

impl<F: Frame> Control<F> {
    /// Tells what a packet would meet now. Nothing is sent, and nothing is changed.
    ///
    /// # Errors
    /// [`TraceError`]: nobody on this node can send such a packet, or it is not said from which address.
    pub fn trace(&self, request: &TraceRequest) -> Result<Trace, TraceError> {
        let sending = self.sending(request)?;
        let (arrival, protocol) = (sending.port.id, request.protocol());
        let probe = Probe {
            arrival,
            source: sending.source.into(),
            destination: request.to.address.into(),
            source_port: request.source_port().unwrap_or(0),
            destination_port: request.to.port.unwrap_or(0),
            protocol: IpProtocol(protocol.number()),
            length: request.size(),
            ttl: request.ttl(),
        };
        let packet = packet(request, protocol, &sending);
        let traced = pipeline::trace(&self.current, &self.flows, &self.affinity, &probe, clock::now());
        let story = Story { control: self, probe, packet, traced };
        let (steps, verdict) = (story.steps(), story.verdict());
        Ok(Trace { packet: story.packet, steps, verdict })
    }
}

fn packet(request: &TraceRequest, protocol: Protocol, sending: &Sending<'_>) -> TracedPacket {
    let source_port = request.source_port();
    TracedPacket {
        port: sending.port.config.name.to_string(),
        pod: sending.port.config.pod.as_ref().map(ToString::to_string),
        tuple: Tuple {
            protocol,
            source: sending.source,
            source_port,
            destination: request.to.address,
            destination_port: request.to.port,
        },
        default_source_port: source_port.is_some() && request.source_port.is_none(),
        size: request.size(),
        ttl: request.ttl(),
    }
}

impl<F: Frame> Story<'_, F> {
    /// The frontend that the packet is addressed to.
    fn frontend(&self) -> Option<&Frontend> {
        let key = FrontendKey {
            address: self.probe.destination,
            port: self.probe.destination_port,
            protocol: self.probe.protocol.0,
        };
        self.control.current.services.frontend(&key)
    }

    /// A service port as `namespace/name:port`.
    fn service(&self, id: ServiceId) -> String {
        match self.control.model.service_name(id) {
            Some(name) => name.to_string(),
            None => "a service that is gone".to_owned(),
        }
    }

    /// A port with its pod.
    fn port(&self, id: PortId) -> String {
        match self.control.ports.values().find(|port| port.id == id) {
            Some(port) => match &port.config.pod {
                Some(pod) => format!("port {} (pod {pod})", port.config.name),
                None => format!("port {}", port.config.name),
            },
            None => "a port that is gone".to_owned(),
        }
    }

    /// Pod and node of an endpoint, as far as they are known.
    fn whereabouts(&self, service: ServiceId, backend: Backend) -> (Option<String>, Option<String>) {
        let model = &self.control.model;
        let find = || {
            let name = model.service_name(service)?;
            let view = model.service(&name.service)?;
            let mut ports = view.ports.into_iter();
            let port = ports.find(|port| port.name == name.port && port.protocol == name.protocol)?;
            let is_it = |address, port| Backend { address, port } == backend;
            port.endpoints.into_iter().find(|endpoint| is_it(endpoint.address.into(), endpoint.port))
        };
        find().map_or((None, None), |found| (found.pod.map(|pod| pod.to_string()), found.node))
    }

    /// The 5-tuple that the packet leaves with.
    fn leaves_as(&self, key: &FlowKey) -> Tuple {
        let arrives = &self.packet.tuple;
        Tuple {
            protocol: arrives.protocol,
            source: key.source.to_ip(),
            source_port: arrives.source_port.filter(|_| !self.awaits_source_port()).map(|_| key.source_port),
            destination: key.destination.to_ip(),
            destination_port: arrives.destination_port.map(|_| key.destination_port),
        }
    }

    /// Whether its source port is chosen only when the connection is made.
    fn awaits_source_port(&self) -> bool {
        let masqueraded =
            |step: &pipeline::TraceStep| matches!(step, pipeline::TraceStep::Masqueraded { .. });
        self.traced.steps.iter().any(masqueraded)
    }
}

fn place(backend: Backend) -> String {
    std::net::SocketAddr::new(backend.address.to_ip(), backend.port).to_string()
}
