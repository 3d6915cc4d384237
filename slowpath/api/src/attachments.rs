//! Attachments: the network interfaces that a container runtime asked for.

use crate::flows::Protocol;
use millrace_config::{InterfaceName, MacAddr, Mtu, PortKind, PortName, Prefix};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use thiserror::Error;

/// The directory below the daemon's state directory where deletions wait for it; see [`QueuedDeletion`].
pub const DELETIONS_DIRECTORY: &str = "deletions";

/// What a container runtime calls a container: as CNI has it, a letter or digit, then letters, digits, `_`, `.`, `-`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ContainerId(String);

/// Text that is no container id.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "`{0}` is not a container id: 1 to {most} letters, digits, `_`, `.` and `-`, first a letter or digit",
    most = ContainerId::MAX_LENGTH
)]
pub struct InvalidContainerId(String);

impl ContainerId {
    /// The most bytes that an id may have: with an interface name it makes a file name.
    pub const MAX_LENGTH: usize = 200;

    /// The id as it was given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether CNI allows this as a container's id or a network's name: letters, digits, `_`, `.` and `-`, first a letter or
/// digit (specification 1.1.0, section 1 and "Parameters" of section 2). The length does not matter to it.
pub fn is_cni_name(text: &str) -> bool {
    let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    starts_well && text.bytes().all(is_legal)
}

impl FromStr for ContainerId {
    type Err = InvalidContainerId;
    fn from_str(text: &str) -> Result<Self, InvalidContainerId> {
        if is_cni_name(text) && text.len() <= Self::MAX_LENGTH {
            Ok(ContainerId(text.to_owned()))
        } else {
            Err(InvalidContainerId(text.chars().take(Self::MAX_LENGTH).collect()))
        }
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidContainerId;
    fn try_from(text: String) -> Result<Self, InvalidContainerId> {
        text.parse()
    }
}

impl From<ContainerId> for String {
    fn from(id: ContainerId) -> String {
        id.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// What tells one attachment from all others (CNI specification, section 3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentId {
    /// The container.
    pub container_id: ContainerId,
    /// The interface in the container.
    pub if_name: InterfaceName,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.container_id, self.if_name)
    }
}

/// Asks for an interface.
///
/// The same request again gets the attachment that is there already; another request for the same container and
/// interface is a conflict.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AttachmentRequest {
    /// The container and its interface.
    #[serde(flatten)]
    pub id: AttachmentId,
    /// Path of the file that stands for the container's network namespace.
    pub netns: PathBuf,
    /// Name of the CNI network.
    pub network: String,
    /// The pod, if the runtime told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// The kind that the network asks for; absent: the pod's annotation or the node's default decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<PortKind>,
    /// The MAC address of the container's side; absent: derived from the port's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
    /// The MTU of the interface; absent: the node's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<Mtu>,
    /// Where its addresses come from.
    pub addresses: AddressSource,
    /// What the container reaches by this interface. Absent: everything, in each family of which it gets an
    /// address and of which its namespace has no default route yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub routes: Option<Vec<Route>>,
    /// Limits of its rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<Bandwidth>,
    /// Ports of the node that lead to the container.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub host_ports: Vec<HostPort>,
}

/// A pod, as a container runtime names it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodIdentity {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its uid, if the runtime told: a pod may have been made anew under the same name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// Where the addresses of an attachment come from.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "source")]
pub enum AddressSource {
    /// The daemon gives them out of the node's ranges: one of each family that has a range.
    Own {
        /// These, and no others of their families.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        requested: Vec<IpAddr>,
    },
    /// Somebody else has given them.
    Given {
        /// At least one.
        addresses: Vec<IpAddr>,
    },
}

/// A route in the container's namespace.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Where it leads.
    pub destination: Prefix,
    /// The next hop. In a request always absent: it is the gateway of the family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The MTU towards the destination in bytes (`RTAX_MTU` of rtnetlink(7)).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The TCP segment size to advertise in bytes (`RTAX_ADVMSS`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Its metric: lower is preferred (`RTA_PRIORITY`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// The routing table (`RTA_TABLE`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Its scope: 0 global, 253 link, 254 host (`rtm_scope`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route without any wish of its own.
    pub fn to(destination: Prefix) -> Self {
        Route {
            destination,
            gateway: None,
            mtu: None,
            advmss: None,
            priority: None,
            table: None,
            scope: None,
        }
    }
}

/// Limits of what a container receives and sends. Absent or 0: no limit; a burst without a rate means nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Bandwidth {
    /// Towards the container, bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<u64>,
    /// Towards the container: bits that may pass at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress_burst: Option<u64>,
    /// From the container, bits a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<u64>,
    /// From the container: bits that may pass at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress_burst: Option<u64>,
}

/// A port of the node that leads to a container.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// The node's address; absent: every one; unspecified: every one of that family.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// The port of the node.
    pub host_port: u16,
    /// The port of the container.
    pub container_port: u16,
    /// TCP, UDP or SCTP.
    pub protocol: Protocol,
}

impl HostPort {
    /// Whether two of them want the same port at the same address.
    pub fn clashes_with(&self, other: &HostPort) -> bool {
        let addresses_meet = match (self.host_ip, other.host_ip) {
            (Some(a), Some(b)) if a.is_unspecified() || b.is_unspecified() => a.is_ipv4() == b.is_ipv4(),
            (Some(a), Some(b)) => a == b,
            _ => true,
        };
        addresses_meet && (self.host_port, self.protocol) == (other.host_port, other.protocol)
    }
}

/// An interface that a container has.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attachment {
    /// The container and its interface.
    #[serde(flatten)]
    pub id: AttachmentId,
    /// Name of the CNI network.
    pub network: String,
    /// Path of the container's network namespace.
    pub netns: PathBuf,
    /// The pod, if the runtime told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<PodIdentity>,
    /// Its port on this node.
    pub port: PortName,
    /// How it is attached.
    pub kind: PortKind,
    /// The MAC address of the container's side.
    pub mac: MacAddr,
    /// The MTU of the container's side.
    pub mtu: Mtu,
    /// The container's addresses.
    pub addresses: Vec<IpAddr>,
    /// The next hop of each family that it has an address of.
    #[serde(default)]
    pub gateways: Vec<IpAddr>,
    /// The routes that were set in the container, those to the gateways themselves left out.
    #[serde(default)]
    pub routes: Vec<Route>,
    /// The interface's other end in the node's namespace, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_interface: Option<HostInterface>,
    /// Where an application finds its vhost-user socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vhost_user: Option<VhostUserFiles>,
}

/// The node's end of an attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostInterface {
    /// Its name.
    pub name: InterfaceName,
    /// Its MAC address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<MacAddr>,
}

/// The files of a vhost-user attachment. All paths are absolute.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VhostUserFiles {
    /// The directory to give to the application.
    pub directory: PathBuf,
    /// The socket in it.
    pub socket: PathBuf,
    /// The file in it that tells the application what it needs to know.
    pub file: PathBuf,
}

/// All attachments.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct AttachmentList {
    /// In the order of their ids.
    pub attachments: Vec<Attachment>,
}

/// Asks for the removal of all attachments of a network that are not listed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GarbageRequest {
    /// Name of the CNI network.
    pub network: String,
    /// Those that stay.
    pub valid: Vec<AttachmentId>,
}

/// What a [`GarbageRequest`] has removed.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct GarbageList {
    /// In the order of their ids.
    pub removed: Vec<AttachmentId>,
}

/// Whether an attachment can be made now. Part of the [`Status`](crate::Status).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct AttachmentStatus {
    /// Whether a request would be served.
    pub ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Attachments that there are.
    pub attachments: u64,
    /// IPv4 addresses that can still be given; absent without a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv4_left: Option<u64>,
    /// IPv6 addresses that can still be given; absent without a range.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ipv6_left: Option<u64>,
}

/// The content of a file in [`DELETIONS_DIRECTORY`]: a deletion that could not be told to the daemon.
///
/// Files appear under their final names with all their content. The daemon does those whose names end in
/// [`QueuedDeletion::SUFFIX`], leaves others alone, and removes each file when its deletion is done. It holds the
/// lock of that attachment from reading the file until having removed it, and does a queued deletion before it
/// makes an attachment of the same id: else the new one would be deleted in place of the old.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueuedDeletion {
    /// The container and its interface.
    #[serde(flatten)]
    pub id: AttachmentId,
    /// Name of the CNI network.
    pub network: String,
}

impl QueuedDeletion {
    /// What the names of finished files end in.
    pub const SUFFIX: &str = ".json";

    /// The file of an attachment's deletion. The name is made with a `:`, which neither part can contain, so that
    /// no two attachments share a file.
    pub fn path(state_directory: &Path, id: &AttachmentId) -> PathBuf {
        let name = format!("{}:{}{}", id.container_id, id.if_name, Self::SUFFIX);
        state_directory.join(DELETIONS_DIRECTORY).join(name)
    }
}

#[cfg(test)]
mod tests;
