//! Endpoints of a service port: in which sets they are, and why not in the others.

use crate::endpoints::{Conditions, Reason};
use crate::object::{AddressFamily, Endpoint, ObjectName, SlicePort, Transport};
use std::fmt;
use std::net::IpAddr;

/// An endpoint of a service port, as one slice mentions it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EndpointView {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The slice.
    pub slice: ObjectName,
    /// The node that it is on.
    pub node: Option<String>,
    /// The zone that it is in.
    pub zone: Option<String>,
    /// The pod behind it.
    pub pod: Option<ObjectName>,
    /// Its conditions.
    pub conditions: Conditions,
    /// Whether it is in the cluster set, and if not, why.
    pub cluster: Result<(), WhyNot>,
    /// Whether it is in this node's set, and if not, why.
    pub local: Result<(), WhyNot>,
    /// Whether it takes new connections of some kind through this node.
    pub usable: bool,
}

/// Why an endpoint is not in a set.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WhyNot {
    /// It is not ready, and not about to end either.
    NotReady,
    /// It is terminating, and others are ready.
    Terminating,
    /// It is terminating and has stopped to serve.
    NotServing,
    /// It is on another node, if it says on which one.
    OtherNode {
        /// The node.
        node: Option<String>,
    },
    /// Its hints name other nodes, and this node has some of its own.
    HintedToOtherNode {
        /// The nodes that the hints name.
        nodes: Vec<String>,
    },
    /// Its hints name other zones, and this node's zone has some of its own.
    HintedToOtherZone {
        /// The zones that the hints name.
        zones: Vec<String>,
    },
    /// Another mention of the same address and port counts.
    DuplicateOf {
        /// The slice of that mention; possibly the same one.
        slice: ObjectName,
    },
    /// The service has no ClusterIP of its family.
    FamilyNotServed {
        /// The endpoint's family.
        family: AddressFamily,
    },
}

impl WhyNot {
    pub(super) fn new(reason: Reason, endpoint: &Endpoint) -> WhyNot {
        match reason {
            Reason::NotReady => WhyNot::NotReady,
            Reason::Terminating => WhyNot::Terminating,
            Reason::NotServing => WhyNot::NotServing,
            Reason::OtherNode => WhyNot::OtherNode { node: endpoint.node.clone() },
            Reason::HintedToOtherNode => WhyNot::HintedToOtherNode { nodes: endpoint.for_nodes.clone() },
            Reason::HintedToOtherZone => WhyNot::HintedToOtherZone { zones: endpoint.for_zones.clone() },
        }
    }

    /// A short name that does not change.
    pub const fn name(&self) -> &'static str {
        match self {
            WhyNot::NotReady => "NotReady",
            WhyNot::Terminating => "Terminating",
            WhyNot::NotServing => "NotServing",
            WhyNot::OtherNode { .. } => "OtherNode",
            WhyNot::HintedToOtherNode { .. } => "HintedToOtherNode",
            WhyNot::HintedToOtherZone { .. } => "HintedToOtherZone",
            WhyNot::DuplicateOf { .. } => "DuplicateOf",
            WhyNot::FamilyNotServed { .. } => "FamilyNotServed",
        }
    }
}

impl fmt::Display for WhyNot {
    /// One sentence without a full stop.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNot::NotReady => out.write_str("it is not ready"),
            WhyNot::Terminating => out.write_str("it is terminating, and others are ready"),
            WhyNot::NotServing => out.write_str("it is terminating and has stopped to serve"),
            WhyNot::OtherNode { node: Some(node) } => write!(out, "it is on node {node}"),
            WhyNot::OtherNode { node: None } => out.write_str("it does not say which node it is on"),
            WhyNot::HintedToOtherNode { nodes } => {
                write!(out, "its hints are for {}, and this node has its own", list("node", nodes))
            }
            WhyNot::HintedToOtherZone { zones } => {
                write!(out, "its hints are for {}, and this node's zone has its own", list("zone", zones))
            }
            WhyNot::DuplicateOf { slice } => write!(out, "it is counted as a mention in slice {slice}"),
            WhyNot::FamilyNotServed { family } => write!(out, "the service has no {family} ClusterIP"),
        }
    }
}

fn list(noun: &str, names: &[String]) -> String {
    format!("{noun}{} {}", if names.len() == 1 { "" } else { "s" }, names.join(", "))
}

/// A slice that names the service, as one port of the service sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SliceView {
    /// The slice.
    pub name: ObjectName,
    /// The family of its addresses.
    pub family: AddressFamily,
    /// How many endpoints it mentions for this port, or why none.
    pub endpoints: Result<usize, WhyUnused>,
}

/// Why a slice gives a service port no endpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WhyUnused {
    /// It is labelled as one of a headless service.
    Headless,
    /// None of its ports has the name and protocol of the service's port.
    NoSuchPort {
        /// The ports that it has.
        ports: Vec<SlicePort>,
    },
    /// It lists no endpoint.
    Empty,
}

impl WhyUnused {
    /// A short name that does not change.
    pub const fn name(&self) -> &'static str {
        match self {
            WhyUnused::Headless => "Headless",
            WhyUnused::NoSuchPort { .. } => "NoSuchPort",
            WhyUnused::Empty => "Empty",
        }
    }
}

impl fmt::Display for WhyUnused {
    /// One sentence without a full stop.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyUnused::Headless => out.write_str("it is labelled service.kubernetes.io/headless"),
            WhyUnused::NoSuchPort { ports } if ports.is_empty() => out.write_str("it has no port"),
            WhyUnused::NoSuchPort { ports } => {
                let ports: Vec<String> =
                    ports.iter().map(|port| port_text(&port.name, port.protocol)).collect();
                write!(out, "its ports are {}", ports.join(", "))
            }
            WhyUnused::Empty => out.write_str("it lists no endpoint"),
        }
    }
}

/// Why a service port has no endpoint at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum WhyNoEndpoints {
    /// No slice names the service.
    NoSlice,
    /// No slice of the service has a port of this name and protocol.
    NoSuchPort {
        /// The name of the service's port.
        port: String,
        /// Its protocol.
        protocol: Transport,
    },
    /// There are slices with the port, and none lists an endpoint.
    Empty,
}

impl WhyNoEndpoints {
    /// A short name that does not change.
    pub const fn name(&self) -> &'static str {
        match self {
            WhyNoEndpoints::NoSlice => "NoSlice",
            WhyNoEndpoints::NoSuchPort { .. } => "NoSuchPort",
            WhyNoEndpoints::Empty => "Empty",
        }
    }
}

impl fmt::Display for WhyNoEndpoints {
    /// One sentence without a full stop.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            WhyNoEndpoints::NoSlice => out.write_str("no slice names the service"),
            WhyNoEndpoints::NoSuchPort { port, protocol } if port.is_empty() => {
                write!(out, "no slice has a port without a name for {protocol}")
            }
            WhyNoEndpoints::NoSuchPort { port, protocol } => {
                write!(out, "no slice has a port named `{port}` for {protocol}")
            }
            WhyNoEndpoints::Empty => out.write_str("the service's slices list no endpoint"),
        }
    }
}

fn port_text(name: &str, protocol: Transport) -> String {
    if name.is_empty() {
        format!("one without a name for {protocol}")
    } else {
        format!("`{name}` for {protocol}")
    }
}
