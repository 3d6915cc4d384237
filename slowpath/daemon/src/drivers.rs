//! Opens ports: the control thread's view of the drivers.

use crate::memory::PacketMemory;
use crate::objects;
use millrace_config::{
    Attachment, Config, ContainerPortKind, InterfaceName, Netns, RoutingMode, VhostMode, XdpMode as Mode,
};
use millrace_control::{Device, Driver, Link, OpenRequest, Opened, Place, Refusal, Take};
use millrace_fastpath::port::{ClaimChanges, Shortcut};
use millrace_fastpath::sync::Domain;
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_ffi::batch::Batches;
use millrace_ffi::device;
use millrace_ffi::dpdk::{self, DpdkConfig};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::Mempool;
use millrace_ffi::shortcut::Shortcuts;
use millrace_ffi::tap::{self, LeadConfig, TapConfig};
use millrace_ffi::veth::{self, VethConfig};
use millrace_ffi::vhost::{self, Role, VhostConfig};
use millrace_ffi::xdp::{self, XdpConfig, XdpMode};
use std::sync::Arc;
use std::time::Duration;

/// Bounds of [`fill`] and [`uplink_fill`].
const LEAST_FILL: u32 = 32;
const MOST_FILL: u32 = 1_024;
const MOST_UPLINK_FILL: u32 = 4_096;

/// All kinds of ports, over the daemon's packet memory.
pub(crate) struct Drivers {
    memory: PacketMemory,
    domain: Arc<Domain>,
    /// What the host's own leg has.
    lead: LeadConfig,
    /// The UDP port of tunnels.
    tunnel_port: u16,
    /// Connections that the kernel carries past the data path.
    shortcuts: Arc<Shortcuts>,
    /// Whether it may.
    has_shortcuts: bool,
    /// What many small frames are sent with.
    batches: Arc<Batches>,
}

impl Drivers {
    pub(crate) fn new(memory: PacketMemory, domain: Arc<Domain>, config: &Config, workers: usize) -> Self {
        Drivers {
            memory,
            domain,
            lead: lead(config),
            tunnel_port: tunnel_port(config),
            shortcuts: Arc::new(Shortcuts::new(forgotten_after(config))),
            has_shortcuts: config.shortcuts,
            batches: Arc::new(Batches::new(workers)),
        }
    }
}

impl Driver<Mbuf> for Drivers {
    fn open(&mut self, request: &OpenRequest<'_>) -> Result<Opened<Mbuf>, Refusal> {
        let queues = request.config.queues.get();
        let interface = request.interface.map(|name| name.as_str().to_owned()).unwrap_or_default();
        let pool = &self.memory.pool;
        let opened = match &request.config.attachment {
            Attachment::AfXdp { mode, .. } => {
                let (arena, queues) = (self.memory.arena.pool(), queues.into());
                let kind = match request.take {
                    Take::Everything => XdpConfig { fill: fill(arena, queues), ..XdpConfig::pod(interface) },
                    Take::Claimed => XdpConfig {
                        fill: uplink_fill(arena, queues),
                        tunnel_port: self.tunnel_port,
                        large: Some(self.memory.tap_pools.clone()),
                        shortcuts: self.has_shortcuts.then(|| self.shortcuts.clone()),
                        ..XdpConfig::uplink(interface, queues)
                    },
                };
                let batches = Some(self.batches.clone());
                let config = XdpConfig { queues, mode: xdp_mode(*mode), batches, ..kind };
                xdp::open(&config, &self.memory.arena, &request.counters)?
            }
            Attachment::Tap { netns, .. } => {
                let in_pod = request.place != Place::Here;
                let config = TapConfig {
                    namespace: netns.as_ref().filter(|_| in_pod).map(Netns::path),
                    adopted: request.place == Place::Adopted,
                    lead: (request.take == Take::Claimed).then(|| self.lead.clone()),
                    ..TapConfig::here(interface, queues.into())
                };
                tap::open(&config, &self.memory.tap_pools, &request.counters)?
            }
            Attachment::Veth { .. } => {
                let config = VethConfig { interface, queues: queues.into() };
                veth::open(
                    &config,
                    &self.memory.tap_pools,
                    &request.counters,
                    &self.shortcuts,
                    &self.batches,
                )?
            }
            Attachment::VhostUser { socket, mode } => {
                let role = match mode {
                    VhostMode::Server => Role::Server,
                    VhostMode::Client => Role::Client,
                };
                // A guest that outlives this process brings its rings to the next one. How far they are used is to be seen
                // in split rings only: QEMU gives up packed ones whose backend went without a word.
                let packed = request.place == Place::Here;
                let config = VhostConfig { role, queues, packed, ..VhostConfig::new(socket.clone()) };
                vhost::open(&config, pool, &request.counters, &self.domain)?
            }
            Attachment::Dpdk { devargs } => {
                let config = DpdkConfig { queues, mtu: request.mtu, ..DpdkConfig::new(devargs.clone()) };
                dpdk::open(&config, &self.memory.eal, pool, &request.counters)?
            }
        };
        Ok(Opened { device: Box::new(Opener(opened.device)), queues: opened.queues })
    }

    fn receive_queues(&self, nic: &InterfaceName) -> Option<u32> {
        xdp::receive_queues(nic.as_str())
    }

    fn container_kind(&self) -> ContainerPortKind {
        if !self.has_shortcuts {
            return ContainerPortKind::Tap;
        }
        match self.shortcuts.check() {
            Ok(()) => ContainerPortKind::Veth,
            Err(error) => {
                tracing::debug!(%error, "containers get TAPs");
                ContainerPortKind::Tap
            }
        }
    }

    fn shortens_translated_ipv6(&self) -> bool {
        self.shortcuts.translates_v6()
    }

    fn shorten(&mut self, shortcut: &Shortcut) -> Result<(), Refusal> {
        self.shortcuts.add(shortcut)?;
        Ok(())
    }

    fn end_shortcuts(&mut self) -> Result<(), Refusal> {
        Ok(self.shortcuts.end_all()?)
    }
}

/// The UDP port of tunnels; 0 where there are none.
fn tunnel_port(config: &Config) -> u16 {
    match config.routing.mode {
        RoutingMode::Native => 0,
        RoutingMode::Auto | RoutingMode::Vxlan => config.routing.vxlan.port.get(),
    }
}

/// What the host's own leg has: the host speaks past us by the NICs that it shares.
fn lead(config: &Config) -> LeadConfig {
    let shared = config.uplinks.iter().filter(|uplink| !uplink.takes_nic());
    LeadConfig {
        router: objects::gateway(config).mac,
        ways_out: shared.map(|uplink| uplink.interface.to_string()).collect(),
    }
}

/// How long nothing is seen at least of a flow before it is forgotten that the kernel may carry.
fn forgotten_after(config: &Config) -> Duration {
    let timeouts = &config.flow_table.timeouts;
    let shortest =
        [&timeouts.tcp_established, &timeouts.tcp_fin_wait, &timeouts.udp_unreplied, &timeouts.udp_stream];
    Duration::from_secs(shortest.map(|seconds| seconds.get()).into_iter().min().unwrap_or(0).into())
}

/// Chunks that each queue of a new AF_XDP port keeps ready in the kernel. With 1,024 a TCP sender hardly loses anything,
/// with 64 every tenth packet of a burst. But every port takes its chunks out of the arena for good, so a port gets a
/// share of what is left: the first few as much as is useful, the hundredth still enough to live.
fn fill(arena: &Mempool, queues: u32) -> u32 {
    let left = arena.capacity().saturating_sub(arena.in_use()) as u32;
    fill_of(left, arena.capacity() as u32, queues)
}

fn fill_of(left: u32, all: u32, queues: u32) -> u32 {
    let part = if left > all / 4 * 3 { 16 } else { 32 };
    let share = (left / part / queues.max(1)).clamp(LEAST_FILL, MOST_FILL);
    // Down to a power of two, which the ring's size must be.
    1 << share.ilog2()
}

/// The same for an uplink, whose packets are all pods': it comes before their ports, and takes up to half of what is left. A
/// worker that shares its core is away for some milliseconds at times, in which several thousand packets come.
fn uplink_fill(arena: &Mempool, queues: u32) -> u32 {
    let left = arena.capacity().saturating_sub(arena.in_use()) as u32;
    uplink_fill_of(left, queues)
}

fn uplink_fill_of(left: u32, queues: u32) -> u32 {
    let share = (left / 2 / queues.max(1)).clamp(LEAST_FILL, MOST_UPLINK_FILL);
    1 << share.ilog2()
}

fn xdp_mode(mode: Mode) -> XdpMode {
    match mode {
        Mode::Auto => XdpMode::Auto,
        Mode::Native => XdpMode::Native,
        Mode::Generic => XdpMode::Generic,
        Mode::Tc => XdpMode::Tc,
    }
}

/// A driver's device in the control thread's terms.
struct Opener(Box<dyn device::Device>);

impl Device for Opener {
    fn link(&self) -> Link {
        match self.0.link() {
            device::Link::Up => Link::Up,
            device::Link::Down { reason } => Link::Down(reason),
        }
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        self.0.details()
    }

    fn steer(&self, changes: &ClaimChanges) -> Result<(), Refusal> {
        Ok(self.0.steer(changes)?)
    }

    fn unclaimed(&self) -> Option<String> {
        self.0.unclaimed()
    }

    fn mac(&self) -> Option<MacAddr> {
        self.0.mac()
    }

    fn mtu(&self) -> Option<u16> {
        self.0.mtu()
    }

    fn follow_mtu(&self, mtu: u16) -> Result<bool, Refusal> {
        Ok(self.0.follow_mtu(mtu)?)
    }

    fn shortcut_end(&self) -> Option<u32> {
        self.0.shortcut_end()
    }

    fn set_lasting(&self, lasting: bool) -> Result<(), Refusal> {
        Ok(self.0.set_lasting(lasting)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_uplink_takes_what_is_useful_and_at_most_half_of_what_is_left() {
        assert_eq!(uplink_fill_of(16_384, 1), 4_096);
        assert_eq!(uplink_fill_of(16_384, 16), 512);
        assert_eq!(uplink_fill_of(1_024, 2), 256);
        assert_eq!(uplink_fill_of(0, 2), LEAST_FILL);
    }

    #[test]
    fn a_hundred_and_ten_ports_share_the_default_arena_and_leave_room_for_packets() {
        let mut left = 16_384;
        let fills: Vec<u32> = (0..110)
            .map(|_| {
                let fill = fill_of(left, 16_384, 1);
                left -= fill;
                fill
            })
            .collect();
        assert_eq!(fills[..2], [1_024, 512]);
        assert!(fills.iter().all(|fill| fill.is_power_of_two() && *fill >= LEAST_FILL));
        assert!(left >= 1_024, "{left} chunks are left");
    }
}
