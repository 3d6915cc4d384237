//! What an AF_XDP port is to be like.

use millrace_fastpath::tables::VXLAN_PORT;

/// Where the XDP program runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum XdpMode {
    /// In the driver when it can, otherwise as [`XdpMode::Generic`].
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the kernel's receive path behind the driver: works with every device, at the price of an skb.
    Generic,
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
    /// Where the program runs.
    pub mode: XdpMode,
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
