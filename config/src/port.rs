//! Ports: what is attached to the node, and how.

use crate::address::{MacAddr, Prefix};
use crate::error::InvalidValue;
use crate::names::{InterfaceName, Netns, PodRef, PortName};
use crate::node::{Mtu, bounded_number, missing};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::PathBuf;

/// One port: a point-to-point link to a pod, a virtual machine, a network function or another network.
///
/// The same form is used in the configuration file and by the admin API.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(try_from = "RawPort", into = "RawPort")]
pub struct PortConfig {
    /// Its name on this node.
    pub name: PortName,
    /// How it is attached.
    pub attachment: Attachment,
    /// The MAC address of the peer; see [`PortConfig::peer_mac`] for the default.
    pub mac: Option<MacAddr>,
    /// What the peer owns: packets to these go out here, and only from these may it send.
    pub addresses: Vec<Prefix>,
    /// The pod behind the port: its `status.podIPs` belong to the port as well.
    pub pod: Option<PodRef>,
    /// Who is behind the port; see [`PortConfig::role`] for the default.
    pub role: Option<PortRole>,
    /// The MTU, if it is not the node's.
    pub mtu: Option<Mtu>,
    /// Whether packets from other MAC or IP addresses than the port's own are dropped.
    pub spoof_check: bool,
    /// How many queue pairs the port has.
    pub queues: QueueCount,
}

impl PortConfig {
    /// The MAC address of the peer: the configured one, else one that is always the same for the port's name.
    pub fn peer_mac(&self) -> MacAddr {
        self.mac.unwrap_or_else(|| MacAddr::derived_from(self.name.as_str()))
    }

    /// Who is behind the port: what was configured, else another network if the port has no pod and owns a default
    /// route (a prefix of length 0), else a pod of this node.
    pub fn role(&self) -> PortRole {
        let is_way_out =
            self.pod.is_none() && self.addresses.iter().any(|prefix| prefix.net().prefix_len() == 0);
        self.role.unwrap_or(if is_way_out { PortRole::Uplink } else { PortRole::Pod })
    }

    /// What the port uses up, for people; two ports cannot be at one place.
    pub fn place(&self) -> String {
        match &self.attachment {
            Attachment::AfXdp { netns, interface, .. } | Attachment::Tap { netns, interface } => {
                match netns {
                    Some(netns) => format!("interface {interface} in namespace {netns}"),
                    None => format!("interface {interface}"),
                }
            }
            Attachment::Veth { netns, interface } => format!("interface {interface} in namespace {netns}"),
            Attachment::VhostUser { socket, .. } => format!("socket {}", socket.display()),
            Attachment::Dpdk { devargs } => format!("device {devargs}"),
        }
    }
}

/// How a port is attached.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Attachment {
    /// AF_XDP sockets on a virtual Ethernet pair whose far end is in `netns`; without `netns`, on the interface
    /// that exists under this name.
    AfXdp {
        /// The pod's network namespace.
        netns: Option<Netns>,
        /// The interface's name, in the namespace where there is one.
        interface: InterfaceName,
        /// Where the XDP program runs.
        mode: XdpMode,
    },
    /// A TAP interface in `netns`; without `netns`, in the daemon's own namespace.
    Tap {
        /// The pod's network namespace.
        netns: Option<Netns>,
        /// The interface's name.
        interface: InterfaceName,
    },
    /// A virtual Ethernet pair whose far end is in `netns` and keeps all its offloads.
    Veth {
        /// The pod's network namespace.
        netns: Netns,
        /// The name of the far end.
        interface: InterfaceName,
    },
    /// A vhost-user socket.
    VhostUser {
        /// The path of the socket.
        socket: PathBuf,
        /// Which side makes it.
        mode: VhostMode,
    },
    /// A DPDK Ethernet device.
    Dpdk {
        /// The device and its arguments, as DPDK's `--vdev` and `--allow` take them.
        devargs: String,
    },
}

impl Attachment {
    /// The kind alone.
    pub fn kind(&self) -> PortKind {
        match self {
            Attachment::AfXdp { .. } => PortKind::AfXdp,
            Attachment::Tap { .. } => PortKind::Tap,
            Attachment::Veth { .. } => PortKind::Veth,
            Attachment::VhostUser { .. } => PortKind::VhostUser,
            Attachment::Dpdk { .. } => PortKind::Dpdk,
        }
    }
}

/// The kind of a port.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortKind {
    /// AF_XDP sockets.
    AfXdp,
    /// A TAP interface.
    Tap,
    /// A virtual Ethernet pair.
    Veth,
    /// A vhost-user socket.
    VhostUser,
    /// A DPDK Ethernet device.
    Dpdk,
}

impl PortKind {
    /// The name in configuration, API and output.
    pub const fn name(self) -> &'static str {
        match self {
            PortKind::AfXdp => "af-xdp",
            PortKind::Tap => "tap",
            PortKind::Veth => "veth",
            PortKind::VhostUser => "vhost-user",
            PortKind::Dpdk => "dpdk",
        }
    }
}

impl fmt::Display for PortKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Who is behind a port. It decides which source address a packet to a service gets, and which endpoints it may meet.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PortRole {
    /// A pod, virtual machine or network function of this node.
    Pod,
    /// The node itself.
    Host,
    /// Other nodes and the world.
    Uplink,
}

impl PortRole {
    /// The name in configuration, API and output.
    pub const fn name(self) -> &'static str {
        match self {
            PortRole::Pod => "pod",
            PortRole::Host => "host",
            PortRole::Uplink => "uplink",
        }
    }
}

impl fmt::Display for PortRole {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

/// Where packets are taken from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// By XDP in the driver, if it can and there is a NIC behind it. Otherwise pods' interfaces as `generic`, uplinks as `tc`.
    #[default]
    Auto,
    /// By XDP in the driver.
    Native,
    /// By XDP in the kernel's generic path.
    Generic,
    /// By traffic control, behind the kernel's receive offload. Uplinks only.
    Tc,
}

/// Which side makes the vhost-user socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VhostMode {
    /// The daemon listens; the guest connects.
    #[default]
    Server,
    /// The guest listens; the daemon connects, again and again if it must.
    Client,
}

bounded_number! {
    /// A number of queue pairs.
    QueueCount(u16), 1..=64, " queues"
}

impl Default for QueueCount {
    fn default() -> Self {
        QueueCount(1)
    }
}

/// A port as it is written: one flat map whose sections depend on the kind.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawPort {
    name: PortName,
    kind: PortKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<Netns>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<InterfaceName>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<PodRef>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<PortRole>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mac: Option<MacAddr>,
    #[serde(default)]
    addresses: Vec<Prefix>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    mtu: Option<Mtu>,
    #[serde(default = "yes")]
    spoof_check: bool,
    #[serde(default)]
    queues: QueueCount,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vhost_user: Option<RawVhostUser>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    dpdk: Option<RawDpdk>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    af_xdp: Option<RawAfXdp>,
}

fn yes() -> bool {
    true
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawVhostUser {
    socket: PathBuf,
    #[serde(default)]
    mode: VhostMode,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawDpdk {
    pub(crate) devargs: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawAfXdp {
    #[serde(default)]
    pub(crate) mode: XdpMode,
}

impl TryFrom<RawPort> for PortConfig {
    type Error = InvalidValue;
    fn try_from(mut raw: RawPort) -> Result<Self, InvalidValue> {
        raw.refuse_foreign_sections()?;
        let attachment = raw.attachment()?;
        if raw.addresses.is_empty() && raw.pod.is_none() && raw.spoof_check {
            let reason = "a port without addresses and pod could send nothing; or set spoofCheck: false";
            return Err(missing("addresses", reason));
        }
        if let Some((_, twice)) =
            raw.addresses.iter().enumerate().find(|(at, a)| raw.addresses[..*at].contains(a))
        {
            return Err(InvalidValue::Twice { field: "addresses", value: twice.to_string() });
        }
        Ok(PortConfig {
            name: raw.name,
            attachment,
            mac: raw.mac,
            addresses: raw.addresses,
            pod: raw.pod,
            role: raw.role,
            mtu: raw.mtu,
            spoof_check: raw.spoof_check,
            queues: raw.queues,
        })
    }
}

impl RawPort {
    /// A section that the kind does not use is a mistake, not a detail to ignore.
    fn refuse_foreign_sections(&self) -> Result<(), InvalidValue> {
        let on_interface = matches!(self.kind, PortKind::AfXdp | PortKind::Tap | PortKind::Veth);
        let unwanted = [
            ("netns", self.netns.is_some() && !on_interface),
            ("interface", self.interface.is_some() && !on_interface),
            ("vhostUser", self.vhost_user.is_some() && self.kind != PortKind::VhostUser),
            ("dpdk", self.dpdk.is_some() && self.kind != PortKind::Dpdk),
            ("afXdp", self.af_xdp.is_some() && self.kind != PortKind::AfXdp),
        ];
        match unwanted.iter().find(|(_, wrong)| *wrong) {
            Some((field, _)) => {
                Err(InvalidValue::Unwanted { field, reason: "does not belong to a port of this kind" })
            }
            None => Ok(()),
        }
    }

    fn attachment(&mut self) -> Result<Attachment, InvalidValue> {
        match self.kind {
            PortKind::AfXdp => Ok(Attachment::AfXdp {
                interface: self.interface()?,
                netns: self.netns.take(),
                mode: self.af_xdp.as_ref().map(|section| section.mode).unwrap_or_default(),
            }),
            PortKind::Tap => Ok(Attachment::Tap { interface: self.interface()?, netns: self.netns.take() }),
            PortKind::Veth => {
                let Some(netns) = self.netns.clone() else {
                    return Err(InvalidValue::NoNamespace { port: self.name.clone() });
                };
                Ok(Attachment::Veth { interface: self.interface()?, netns })
            }
            PortKind::VhostUser => {
                let section =
                    self.vhost_user.take().ok_or(missing("vhostUser", "the socket must be known"))?;
                check_socket(&section.socket)?;
                Ok(Attachment::VhostUser { socket: section.socket, mode: section.mode })
            }
            PortKind::Dpdk => {
                let section = self.dpdk.take().ok_or(missing("dpdk", "the device must be known"))?;
                check_devargs(&section.devargs)?;
                Ok(Attachment::Dpdk { devargs: section.devargs })
            }
        }
    }

    fn interface(&mut self) -> Result<InterfaceName, InvalidValue> {
        match (self.interface.take(), &self.netns) {
            (Some(interface), _) => Ok(interface),
            // What a container runtime calls a pod's first interface.
            (None, Some(_)) => "eth0".parse(),
            (None, None) => Err(missing("interface", "without netns there is no default for it")),
        }
    }
}

/// `sun_path` of unix(7) holds 108 bytes with the final zero.
fn check_socket(socket: &std::path::Path) -> Result<(), InvalidValue> {
    if socket.is_absolute() && socket.as_os_str().len() < 108 {
        return Ok(());
    }
    let value = socket.display().to_string();
    Err(InvalidValue::Form { value, expected: "an absolute path of at most 107 bytes" })
}

pub(crate) fn check_devargs(devargs: &str) -> Result<(), InvalidValue> {
    if !devargs.is_empty() && !devargs.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Ok(());
    }
    Err(InvalidValue::Form {
        value: devargs.to_owned(),
        expected: "a DPDK device, as in net_memif0,role=client",
    })
}

impl From<PortConfig> for RawPort {
    fn from(port: PortConfig) -> RawPort {
        let kind = port.attachment.kind();
        let mut raw = RawPort {
            name: port.name,
            kind,
            netns: None,
            interface: None,
            pod: port.pod,
            role: port.role,
            mac: port.mac,
            addresses: port.addresses,
            mtu: port.mtu,
            spoof_check: port.spoof_check,
            queues: port.queues,
            vhost_user: None,
            dpdk: None,
            af_xdp: None,
        };
        match port.attachment {
            Attachment::AfXdp { netns, interface, mode } => {
                (raw.netns, raw.interface, raw.af_xdp) = (netns, Some(interface), Some(RawAfXdp { mode }));
            }
            Attachment::Tap { netns, interface } => (raw.netns, raw.interface) = (netns, Some(interface)),
            Attachment::Veth { netns, interface } => {
                (raw.netns, raw.interface) = (Some(netns), Some(interface));
            }
            Attachment::VhostUser { socket, mode } => raw.vhost_user = Some(RawVhostUser { socket, mode }),
            Attachment::Dpdk { devargs } => raw.dpdk = Some(RawDpdk { devargs }),
        }
        raw
    }
}
