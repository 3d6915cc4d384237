//! Uplinks: the NICs by which the node reaches other nodes and the world.

use crate::error::InvalidValue;
use crate::names::InterfaceName;
use crate::node::missing;
use crate::port::{Attachment, PortConfig, PortKind, PortRole, QueueCount, RawAfXdp, RawDpdk, check_devargs};
use serde::Deserialize;

/// A NIC that is to carry traffic between nodes and to the world. It becomes a port of its interface's name.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(try_from = "RawUplink")]
pub struct Uplink {
    /// The interface in the daemon's network namespace.
    pub interface: InterfaceName,
    /// AF_XDP, which shares it with the kernel, or DPDK, which takes it.
    pub attachment: Attachment,
    /// How many queue pairs it has; if that is not said, with AF_XDP as many as its NIC receives on, with DPDK one.
    pub queues: Option<QueueCount>,
}

impl Uplink {
    /// The port that it becomes: it owns no addresses, as all that no other port owns may be behind it.
    pub fn port(&self) -> Result<PortConfig, InvalidValue> {
        Ok(PortConfig {
            name: self.interface.as_str().parse()?,
            attachment: self.attachment.clone(),
            mac: None,
            addresses: Vec::new(),
            pod: None,
            role: Some(PortRole::Uplink),
            mtu: None,
            spoof_check: false,
            queues: self.queues.unwrap_or_default(),
        })
    }

    /// Whether the NIC is taken from the kernel.
    pub const fn takes_nic(&self) -> bool {
        matches!(self.attachment, Attachment::Dpdk { .. })
    }
}

/// An uplink as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RawUplink {
    interface: InterfaceName,
    #[serde(default = "af_xdp")]
    kind: PortKind,
    queues: Option<QueueCount>,
    af_xdp: Option<RawAfXdp>,
    dpdk: Option<RawDpdk>,
}

const fn af_xdp() -> PortKind {
    PortKind::AfXdp
}

impl TryFrom<RawUplink> for Uplink {
    type Error = InvalidValue;
    fn try_from(raw: RawUplink) -> Result<Self, InvalidValue> {
        let RawUplink { interface, kind, queues, af_xdp, dpdk } = raw;
        let unwanted =
            |field| InvalidValue::Unwanted { field, reason: "does not belong to an uplink of this kind" };
        let attachment = match (kind, af_xdp, dpdk) {
            (PortKind::AfXdp, _, Some(_)) => return Err(unwanted("dpdk")),
            (PortKind::AfXdp, section, None) => Attachment::AfXdp {
                netns: None,
                interface: interface.clone(),
                mode: section.map(|section| section.mode).unwrap_or_default(),
            },
            (PortKind::Dpdk, Some(_), _) => return Err(unwanted("afXdp")),
            (PortKind::Dpdk, None, None) => return Err(missing("dpdk", "the device must be known")),
            (PortKind::Dpdk, None, Some(section)) => {
                check_devargs(&section.devargs)?;
                Attachment::Dpdk { devargs: section.devargs }
            }
            (PortKind::Tap | PortKind::Veth | PortKind::VhostUser, ..) => {
                let value = kind.name().to_owned();
                return Err(InvalidValue::Form {
                    value,
                    expected: "af-xdp or dpdk as the kind of an uplink",
                });
            }
        };
        let uplink = Uplink { interface, attachment, queues };
        uplink.port()?;
        Ok(uplink)
    }
}
