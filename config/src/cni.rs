//! What containers get that a container runtime asks for by the CNI plugin.

use crate::address::Prefix;
use crate::cluster::Cluster;
use crate::error::{Conflict, InvalidValue};
use crate::port::{PortKind, QueueCount};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// Where vhost-user sockets of pods are unless told otherwise.
pub const DEFAULT_VHOST_USER_DIRECTORY: &str = "/run/millrace/pods";

/// Attachments of containers.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub struct Cni {
    /// The kind of an attachment of which neither pod nor network says one.
    pub default_port: DefaultPort,
    /// Queue pairs of an attachment's port.
    pub queues: QueueCount,
    /// Where each vhost-user attachment gets a directory of its own.
    pub vhost_user_directory: PathBuf,
    /// Where the daemon puts the CNI network configuration once it serves; it puts none by default.
    pub conf_file: Option<PathBuf>,
    /// Ranges to give addresses from while the node's object names none (`spec.podCIDRs`). Several of one family
    /// are used one after the other.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: Vec<Prefix>,
}

impl Default for Cni {
    fn default() -> Self {
        Cni {
            default_port: DefaultPort::default(),
            queues: QueueCount::default(),
            vhost_user_directory: DEFAULT_VHOST_USER_DIRECTORY.into(),
            conf_file: None,
            pod_cidrs: Vec::new(),
        }
    }
}

impl Cni {
    /// Bytes that the vhost-user directory's path may have: with `/c-0123456789ab/vhost-user.sock` it makes 107, the most
    /// that `sun_path` of unix(7) takes.
    const DIRECTORY_BYTES: usize = 76;

    /// Refuses ranges that others have, and a directory that no socket fits into.
    pub(crate) fn check(&self, cluster: &Cluster) -> Result<(), Conflict> {
        let foreign = [("serviceCIDRs", &cluster.service_cidrs), ("nodeCIDRs", &cluster.node_cidrs)];
        for &range in &self.pod_cidrs {
            for (field, others) in foreign {
                if let Some(&other) = others.iter().find(|other| range.overlaps(**other)) {
                    return Err(Conflict::ContainerRange { range, field, other });
                }
            }
        }
        let directory = &self.vhost_user_directory;
        if directory.is_absolute() && directory.as_os_str().len() <= Self::DIRECTORY_BYTES {
            return Ok(());
        }
        Err(Conflict::SocketDirectory { directory: directory.clone(), most: Self::DIRECTORY_BYTES })
    }
}

/// The kind of port of containers of which nobody says one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub enum DefaultPort {
    /// The best that this machine's kernel has.
    #[default]
    Auto,
    /// This kind.
    Kind(ContainerPortKind),
}

impl TryFrom<String> for DefaultPort {
    type Error = InvalidValue;
    fn try_from(value: String) -> Result<Self, InvalidValue> {
        if value == "auto" { Ok(DefaultPort::Auto) } else { value.parse().map(DefaultPort::Kind) }
    }
}

/// A kind of port that can be made for a container.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "PortKind", into = "PortKind")]
pub enum ContainerPortKind {
    /// A TAP interface in the container's namespace.
    Tap,
    /// A pair of interfaces whose end in the container keeps its offloads.
    Veth,
    /// A pair of interfaces with an AF_XDP socket on the node's side.
    AfXdp,
    /// A vhost-user socket in a directory.
    VhostUser,
}

impl TryFrom<PortKind> for ContainerPortKind {
    type Error = InvalidValue;
    fn try_from(kind: PortKind) -> Result<Self, InvalidValue> {
        match kind {
            PortKind::Tap => Ok(ContainerPortKind::Tap),
            PortKind::Veth => Ok(ContainerPortKind::Veth),
            PortKind::AfXdp => Ok(ContainerPortKind::AfXdp),
            PortKind::VhostUser => Ok(ContainerPortKind::VhostUser),
            PortKind::Dpdk => Err(InvalidValue::Form {
                value: kind.to_string(),
                expected: "a kind of port that a container can have: tap, veth, af-xdp or vhost-user",
            }),
        }
    }
}

impl std::str::FromStr for ContainerPortKind {
    type Err = InvalidValue;
    fn from_str(value: &str) -> Result<Self, InvalidValue> {
        [
            ContainerPortKind::Tap,
            ContainerPortKind::Veth,
            ContainerPortKind::AfXdp,
            ContainerPortKind::VhostUser,
        ]
        .into_iter()
        .find(|kind| PortKind::from(*kind).name() == value)
        .ok_or_else(|| InvalidValue::Form {
            value: value.to_owned(),
            expected: "a kind of port that a container can have: tap, veth, af-xdp or vhost-user",
        })
    }
}

impl From<ContainerPortKind> for PortKind {
    fn from(kind: ContainerPortKind) -> PortKind {
        match kind {
            ContainerPortKind::Tap => PortKind::Tap,
            ContainerPortKind::Veth => PortKind::Veth,
            ContainerPortKind::AfXdp => PortKind::AfXdp,
            ContainerPortKind::VhostUser => PortKind::VhostUser,
        }
    }
}

impl fmt::Display for ContainerPortKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        PortKind::from(*self).fmt(out)
    }
}
