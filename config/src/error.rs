//! What can be wrong with a configuration.

use crate::address::Prefix;
use crate::names::{InterfaceName, PortName};
use crate::services::PortRange;
use std::path::PathBuf;
use thiserror::Error;

/// A configuration that cannot be used. The message names the file, the field and the offending value.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: cannot be read: {source}", file.display())]
    Read {
        /// The configuration file.
        file: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A field does not have a legal value, or there is no such field.
    #[error("{}:{line}: {field}: {reason}{}", file.display(), quoted(text))]
    Field {
        /// The configuration file.
        file: PathBuf,
        /// Line of the value, from 1; 0 if it is not known.
        line: u64,
        /// Path of the field, as in `ports[2].mac`; `.` for the whole file.
        field: String,
        /// Why the value is refused.
        reason: String,
        /// The source line that holds the value.
        text: String,
    },
    /// Two settings that are legal alone and not together.
    #[error("{}: {conflict}", file.display())]
    Conflict {
        /// The configuration file.
        file: PathBuf,
        /// What contradicts what.
        conflict: Conflict,
    },
    /// No node name is configured and the host has none that could serve.
    #[error("nodeName is not set and the host's name cannot serve: {reason}")]
    NodeName {
        /// Why the host's name cannot be used.
        reason: InvalidValue,
    },
}

/// Two settings that contradict each other.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum Conflict {
    /// Pods, services and nodes must have ranges of their own, or an address would mean two things.
    #[error(
        "cluster.{left_field} {left} overlaps cluster.{right_field} {right}: every address must be either a pod's, a service's or a node's"
    )]
    Ranges {
        /// Field of the one range.
        left_field: &'static str,
        /// The one range.
        left: Prefix,
        /// Field of the other range.
        right_field: &'static str,
        /// The other range.
        right: Prefix,
    },
    /// A range that pods are to get addresses from, and that others have.
    #[error(
        "cni.podCIDRs {range} overlaps cluster.{field} {other}: every address must be either a pod's, a service's or a node's"
    )]
    ContainerRange {
        /// The range.
        range: Prefix,
        /// Field of the other range.
        field: &'static str,
        /// The other range.
        other: Prefix,
    },
    /// A directory in which no socket can be made.
    #[error("cni.vhostUserDirectory {}: not an absolute path of at most {most} bytes, which leaves room for a socket in it", .directory.display())]
    SocketDirectory {
        /// The directory.
        directory: std::path::PathBuf,
        /// Bytes that it may have.
        most: usize,
    },
    /// Two ports of one name.
    #[error("ports[{second}].name: {name} is already the name of ports[{first}]")]
    PortName {
        /// The name that occurs twice.
        name: PortName,
        /// Index of the first port.
        first: usize,
        /// Index of the second port.
        second: usize,
    },
    /// Two ports that own the same prefix.
    #[error("ports[{second}].addresses: {address} already belongs to port {owner}")]
    PortAddress {
        /// The prefix with two owners.
        address: Prefix,
        /// The port that has it.
        owner: PortName,
        /// Index of the port that wants it, too.
        second: usize,
    },
    /// Two ports on the same interface, socket or device.
    #[error("ports[{second}]: {place} is already used by port {owner}")]
    PortPlace {
        /// What both want to use.
        place: String,
        /// The port that has it.
        owner: PortName,
        /// Index of the port that wants it, too.
        second: usize,
    },
    /// Two uplinks on one interface.
    #[error("uplinks[{second}].interface: {interface} is already that of uplinks[{first}]")]
    UplinkInterface {
        /// The interface that occurs twice.
        interface: InterfaceName,
        /// Index of the first uplink.
        first: usize,
        /// Index of the second uplink.
        second: usize,
    },
    /// A port that an uplink makes is configured, too.
    #[error("ports[{port}]: {value} belongs to uplinks[{uplink}], which is a port of its own")]
    UplinkPort {
        /// The name, or what both want to use.
        value: String,
        /// Index of the uplink.
        uplink: usize,
        /// Index of the port.
        port: usize,
    },
    /// A port that serves two purposes.
    #[error("routing.vxlan.port: {port} lies in {field} {range}: packets to it would mean two things")]
    TunnelPort {
        /// The port of tunnels.
        port: u16,
        /// What the range is for.
        field: &'static str,
        /// The range.
        range: PortRange,
    },
    /// Two routes to one prefix.
    #[error(
        "routing.routes[{second}].to: {to} is already that of routes[{first}]; name all routers in one `via`"
    )]
    RouteTwice {
        /// The destination.
        to: Prefix,
        /// Index of the first route.
        first: usize,
        /// Index of the second route.
        second: usize,
    },
    /// A NIC that is taken leaves the host nothing to speak through.
    #[error(
        "uplinks[{uplink}]: {interface} is taken from the host by kind dpdk, and with hostLeg none the host has nothing to speak through"
    )]
    NoVoice {
        /// Index of the uplink.
        uplink: usize,
        /// Its interface.
        interface: InterfaceName,
    },
    /// A port claims an address of the gateway.
    #[error("ports[{port}].addresses: {address} holds the gateway's address {gateway}")]
    GatewayAddress {
        /// The gateway's address.
        gateway: std::net::IpAddr,
        /// The prefix that holds it.
        address: Prefix,
        /// Index of the port.
        port: usize,
    },
}

/// One value that is not legal where it stands.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum InvalidValue {
    /// Not of the form that the field wants.
    #[error("`{value}` is not {expected}")]
    Form {
        /// What was written.
        value: String,
        /// What the field wants.
        expected: &'static str,
    },
    /// A number outside the legal range.
    #[error("{value} is not in {least}..={most}{unit}")]
    Range {
        /// What was written.
        value: u64,
        /// The least legal value.
        least: u64,
        /// The greatest legal value.
        most: u64,
        /// The unit, with a space in front; empty for a plain number.
        unit: &'static str,
    },
    /// A prefix with bits set behind its length.
    #[error("`{value}` has bits set behind its prefix length; did you mean {meant}?")]
    HostBits {
        /// What was written.
        value: String,
        /// The prefix that it lies in.
        meant: Prefix,
    },
    /// A field that this kind of thing must have.
    #[error("{field} is missing: {reason}")]
    Missing {
        /// The absent field.
        field: &'static str,
        /// Why it must be there.
        reason: &'static str,
    },
    /// A port without the network namespace that its kind is about.
    #[error("netns is missing: one end of port {port}, a veth, is in a pod's namespace")]
    NoNamespace {
        /// The port.
        port: PortName,
    },
    /// A field that this kind of thing cannot have.
    #[error("{field}: {reason}")]
    Unwanted {
        /// The field that must not be there.
        field: &'static str,
        /// Why.
        reason: &'static str,
    },
    /// A list that holds a value twice.
    #[error("{field}: {value} occurs twice")]
    Twice {
        /// The list.
        field: &'static str,
        /// The value.
        value: String,
    },
}

fn quoted(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(" (in `{text}`)") }
}
