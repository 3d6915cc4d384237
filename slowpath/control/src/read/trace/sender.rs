//! Who sends a traced packet, and from which address.

use crate::control::Control;
use crate::port::Port;
use ipnet::IpNet;
use millrace_api::{ErrorCode, Sender, TraceRequest};
use millrace_config::{PodRef, PortName, PortRole};
use millrace_fastpath::port::Frame;
use std::net::IpAddr;
use thiserror::Error;

/// Why a packet cannot be traced on this node.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum TraceError {
    /// There is no port of this name.
    #[error("there is no port {0}")]
    UnknownPort(PortName),
    /// The pod is not behind a port of this node.
    #[error("no port of this node leads to pod {0}")]
    UnknownPod(PodRef),
    /// Everybody sends through an uplink.
    #[error("port {0} is an uplink: the packet's source address has to be given")]
    SourceMissing(PortName),
    /// The sender has only addresses of the other family, or prefixes.
    #[error(
        "port {port} has no {family} address of its own to send to {to} from, and no source address is given"
    )]
    NoAddress {
        /// The port.
        port: PortName,
        /// The address family of the destination.
        family: &'static str,
        /// The destination.
        to: IpAddr,
    },
}

impl TraceError {
    /// The kind of refusal for the admin API.
    pub fn code(&self) -> ErrorCode {
        match self {
            TraceError::UnknownPort(_) | TraceError::UnknownPod(_) => ErrorCode::NotFound,
            TraceError::SourceMissing(_) | TraceError::NoAddress { .. } => ErrorCode::Invalid,
        }
    }
}

/// Where a packet comes from.
pub(super) struct Sending<'a> {
    pub(super) port: &'a Port,
    pub(super) source: IpAddr,
}

impl<F: Frame> Control<F> {
    pub(super) fn sending(&self, request: &TraceRequest) -> Result<Sending<'_>, TraceError> {
        match &request.from {
            Sender::Port(name) => {
                let port = self.ports.get(name).ok_or_else(|| TraceError::UnknownPort(name.clone()))?;
                self.through(port, request)
            }
            Sender::Pod(pod) => {
                let of_pod = self.ports.values().filter(|port| port.config.pod.as_ref() == Some(pod));
                let mut tries: Vec<_> = of_pod.map(|port| (port, self.through(port, request))).collect();
                // A pod with several ports sends by the one that has its address.
                let fits = |(port, sending): &(&Port, Result<Sending<'_>, _>)| {
                    sending.as_ref().is_ok_and(|sending| self.owns(port, sending.source))
                };
                let best = tries.iter().position(fits).unwrap_or(0);
                match tries.is_empty() {
                    true => Err(TraceError::UnknownPod(pod.clone())),
                    false => tries.swap_remove(best).1,
                }
            }
        }
    }

    fn through<'a>(&self, port: &'a Port, request: &TraceRequest) -> Result<Sending<'a>, TraceError> {
        let (to, name) = (request.to.address, &port.config.name);
        let source = match request.source {
            Some(source) => source,
            None if port.config.role() == PortRole::Uplink => {
                return Err(TraceError::SourceMissing(name.clone()));
            }
            None => self.own_address(port, to).ok_or_else(|| TraceError::NoAddress {
                port: name.clone(),
                family: if to.is_ipv4() { "IPv4" } else { "IPv6" },
                to,
            })?,
        };
        Ok(Sending { port, source })
    }

    /// The first address of a port in the family of `to`: its pod's before those that it was given.
    fn own_address(&self, port: &Port, to: IpAddr) -> Option<IpAddr> {
        let given: Vec<IpNet> = port.config.addresses.iter().map(|prefix| prefix.net()).collect();
        let prefixes = self.prefixes_of(port.id);
        let of_pod = prefixes.into_iter().filter(|prefix| !given.contains(prefix));
        let hosts = of_pod.chain(given.iter().copied());
        let mut hosts = hosts.filter(|prefix| prefix.prefix_len() == prefix.max_prefix_len());
        hosts.find(|prefix| prefix.addr().is_ipv4() == to.is_ipv4()).map(|prefix| prefix.addr())
    }

    fn owns(&self, port: &Port, address: IpAddr) -> bool {
        self.prefixes_of(port.id).iter().any(|prefix| prefix.contains(&address))
    }
}
