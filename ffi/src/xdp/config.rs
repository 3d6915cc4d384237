//! What an AF_XDP port is to be like.

use crate::batch::Batches;
use crate::shortcut::Shortcuts;
use crate::tap::TapPools;
use millrace_fastpath::tables::VXLAN_PORT;
use std::sync::Arc;

/// Where packets are taken from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// As [`XdpMode::Native`] where the driver can and a physical NIC is behind it, otherwise as [`XdpMode::Tc`] where that is
    /// possible (and from Linux 6.6 on, when what is attached goes with the process), and else as [`XdpMode::Generic`].
    #[default]
    Auto,
    /// By XDP in the driver, or not at all.
    Native,
    /// By XDP in the kernel's receive path behind the driver: works with every device, at the price of an skb.
    Generic,
    /// By traffic control, behind the kernel's receive offload (GRO), and through a TAP: large frames come as they are. Only for
    /// what is taken by maps, and with [`XdpConfig::large`].
    Tc,
}

/// How packets come into the packet memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum CopyMode {
    /// Written by the device when its driver offers that, otherwise as [`CopyMode::Copy`].
    Auto,
    /// Written by the device, or not at all.
    ZeroCopy,
    /// Copied by the kernel. The only mode of veth, and the default.
    #[default]
    Copy,
}

/// Which received packets are taken from the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Take {
    /// All of them: a pod's veth.
    #[default]
    Everything,
    /// Those that the [`Steering`](super::Steering) names; nothing at first: an uplink.
    ByMaps,
}

/// An AF_XDP port.
#[derive(Clone, Debug)]
pub struct XdpConfig {
    /// The interface's name in the network namespace of the calling thread.
    pub interface: String,
    /// Queues 0 to this number - 1 are used; 1 to 64.
    pub queues: u32,
    /// Where packets are taken from the kernel.
    pub mode: XdpMode,
    /// Where large frames come to, for [`XdpMode::Tc`]. Without it that mode is refused, and not chosen.
    pub large: Option<TapPools>,
    /// What established connections may be carried by past the data path, where it is received by traffic control.
    pub shortcuts: Option<Arc<Shortcuts>>,
    /// What many small frames are sent with in one call, where the kernel copies them. Without it they go one by one.
    pub batches: Option<Arc<Batches>>,
    /// How packets come in.
    pub copy: CopyMode,
    /// Which packets are taken.
    pub take: Take,
    /// Chunks that each queue keeps ready in the kernel for packets to come: a power of two. They are gone from the arena
    /// while the port is open: 32 or 64 for each of many pods, more for an uplink.
    pub fill: u32,
    /// The UDP port of the packets of tunnels that go out by it; 0 for none.
    pub tunnel_port: u16,
    /// Slots of the transmit ring of each queue: a power of two.
    pub tx: u32,
}

impl XdpConfig {
    /// A pod's veth: one queue, everything taken, 64 chunks ready.
    pub fn pod(interface: impl Into<String>) -> XdpConfig {
        XdpConfig {
            interface: interface.into(),
            queues: 1,
            mode: XdpMode::Auto,
            large: None,
            shortcuts: None,
            batches: None,
            copy: CopyMode::Copy,
            take: Take::Everything,
            fill: 64,
            tunnel_port: 0,
            tx: 128,
        }
    }

    /// A NIC: taken by maps, zero-copy where the driver has it, 1,024 chunks ready on each queue, tunnels at VXLAN's port.
    pub fn uplink(interface: impl Into<String>, queues: u32) -> XdpConfig {
        XdpConfig {
            queues,
            copy: CopyMode::Auto,
            take: Take::ByMaps,
            fill: 1024,
            tunnel_port: VXLAN_PORT,
            tx: 1024,
            ..XdpConfig::pod(interface)
        }
    }
}
