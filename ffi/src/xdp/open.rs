//! Opening an AF_XDP port.

use super::arena::Arena;
use super::below::{Unmerged, members};
use super::config::{CopyMode, Take, XdpConfig, XdpMode};
use super::device::XdpDevice;
use super::diversion::Diversion;
use super::error::{Step, StepError, XdpError};
use super::features;
use super::handle::SharedSocket;
use super::incoming::Incoming;
use super::intake::Intake;
use super::large::Large;
use super::packet_ring;
use super::parts::Reach;
use super::program::{Flavour, MOST_QUEUES, Steering};
use super::queue::{Parts, XdpQueue};
use super::socket::{Binding, RingSizes, Rings, Socket, takes_long_frames};
use crate::batch::{Outlet, Promptness};
use crate::device::Opened;
use crate::interface::{self, Probe, VETH};
use crate::mbuf::Mbuf;
use crate::open_checksum;
use crate::shortcut::{Named, Shortcuts, Way};
use crate::tap::{TapFile, TapQueue};
use crate::tc;
use millrace_fastpath::port::{PortCounters, PortQueue};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Arc, Mutex};

/// Drivers of interfaces that bundle others.
const BUNDLES: [&str; 2] = ["bonding", "team"];

/// Sizes that the kernel takes for a ring and that make sense for one.
const RING_SIZES: std::ops::RangeInclusive<u32> = 8..=32_768;

/// Slots of the rings of a socket that receives nothing: as many as the longest frame would take.
const LEAST_FILL: u32 = 64;

/// Opens the port that `config` describes, in the network namespace of the calling thread. Packets that the
/// program takes arrive from now on.
///
/// # Errors
/// [`XdpError`], with interface, queue and the kernel's answer; nothing is left behind then.
pub fn open(config: &XdpConfig, arena: &Arena, counters: &Arc<PortCounters>) -> Result<Opened, XdpError> {
    open_steered(config, arena, counters).map(|(opened, _)| opened)
}

/// As [`open`], and gives what decides which packets are taken.
///
/// # Errors
/// As for [`open`].
pub fn open_steered(
    config: &XdpConfig,
    arena: &Arena,
    counters: &Arc<PortCounters>,
) -> Result<(Opened, Arc<Steering>), XdpError> {
    let Checked { ifindex, probe, mtu } = check(config)?;
    let driver = probe.driver(&config.interface);
    let mode = mode_for(config, driver.as_deref())?;
    let opening = Opening { config, arena, counters, ifindex, probe, mtu, driver };
    match mode {
        XdpMode::Tc => opening.by_tc(),
        // Where the driver has no native mode, traffic control gives more than generic XDP.
        XdpMode::Auto if has_tc(config) => match opening.by_xdp(XdpMode::Native) {
            Err(error @ XdpError::Program { step: Step::AttachProgram, .. }) => {
                tracing::info!(interface = config.interface, %error, "no native XDP");
                open_steered(&XdpConfig { mode: XdpMode::Tc, ..config.clone() }, arena, counters)
            }
            outcome => outcome,
        },
        mode => opening.by_xdp(mode),
    }
}

/// A port that is being opened.
struct Opening<'a> {
    config: &'a XdpConfig,
    arena: &'a Arena,
    counters: &'a Arc<PortCounters>,
    ifindex: u32,
    probe: Probe,
    mtu: u32,
    driver: Option<String>,
}

impl Opening<'_> {
    /// Received by XDP, in this mode.
    fn by_xdp(self, wanted: XdpMode) -> Result<(Opened, Arc<Steering>), XdpError> {
        let config = self.config;
        let flavour = flavour_for(self.driver.as_deref(), self.mtu);
        let steering = Steering::load(&config.interface, self.ifindex, config.queues, config.take, flavour)?;
        let steering = Arc::new(steering);
        let most = if flavour == Flavour::Long { Reach::most(config) } else { Reach::ONE };
        let open_checksums = self.driver.as_deref().is_some_and(open_checksum::may_come_by);
        let Sockets { queues, sockets, reach, promptness } =
            self.sockets(&steering, Vec::new(), open_checksums)?;
        let reach = reach.min(most);
        steering.set_mtu(self.mtu, reach)?;
        let mode = steering.attach(self.ifindex, wanted)?;
        let shares = config.take == Take::ByMaps && mode == XdpMode::Generic;
        let mut device = self.device(mode, steering.clone(), sockets, reach, None);
        device.promptness = promptness;
        device.unmerged =
            Probe::here().ok().filter(|_| shares).map(|probe| Unmerged::below(&config.interface, probe));
        Ok((Opened { device: Box::new(device), queues }, steering))
    }

    /// Received by traffic control, through a TAP. The sockets only send.
    fn by_tc(self) -> Result<(Opened, Arc<Steering>), XdpError> {
        let config = self.config;
        let Some(pools) = config.large.as_ref().filter(|_| config.take == Take::ByMaps) else {
            return Err(XdpError::NoTc { interface: config.interface.clone() });
        };
        let Opening { ifindex, mtu, .. } = self;
        let (intake, rings) =
            Intake::open(&config.interface, ifindex, mtu, config.queues, config.tunnel_port)?;
        let diversion = Diversion::load(&config.interface, ifindex, intake.tap.ifindex)?;
        diversion.attach(&intake.tap.name, &intake.sockets)?;
        packet_ring::start(&intake.sockets, ifindex)
            .map_err(|source| StepError::new(Step::PacketSocket, source).at(&config.interface, 0))?;
        let steering = Arc::new(Steering::diverting(&config.interface, diversion));
        let ways =
            rings.into_iter().zip(&intake.sockets).zip(&intake.tap.files).map(|((ring, socket), file)| {
                let tap = TapQueue::new(file.clone(), pools, self.counters.clone());
                let (ring, pool) = ((ring, socket.as_fd().as_raw_fd()), self.arena.pool().clone());
                (Incoming::new(ring, tap, steering.clone(), pool, self.counters.clone()), file.clone())
            });
        let Sockets { queues, sockets, reach, promptness } =
            self.sockets(&steering, ways.collect(), false)?;
        let way = config.shortcuts.as_ref().and_then(|shortcuts| way(shortcuts, &config.interface, ifindex));
        let mut device = self.device(XdpMode::Tc, steering.clone(), sockets, reach, Some(intake));
        device.promptness = promptness;
        device.way = way;
        Ok((Opened { device: Box::new(device), queues }, steering))
    }

    /// A socket on each queue. `ways`: by which the queues receive, with the TAP's files, if not by the sockets.
    fn sockets(
        &self,
        steering: &Arc<Steering>,
        ways: Vec<(Incoming, Arc<TapFile>)>,
        open_checksums: bool,
    ) -> Result<Sockets, XdpError> {
        let config = self.config;
        // A socket that only sends needs no chunks to receive into.
        let only_sends = !ways.is_empty();
        let mut ways = ways.into_iter();
        let fill = if only_sends { LEAST_FILL.min(config.fill) } else { config.fill };
        let copy = if only_sends { CopyMode::Copy } else { config.copy };
        let binding = XdpConfig { fill, copy, ..config.clone() };
        let mut made =
            Sockets { queues: Vec::new(), sockets: Vec::new(), reach: possible(config), promptness: None };
        for queue in 0..config.queues {
            let Connected { socket, rings, reach } =
                connect(&binding, self.arena, self.ifindex, queue, self.mtu)
                    .map_err(|error| error.at(&config.interface, queue))?;
            made.reach = made.reach.min(reach);
            let fd = socket.raw();
            let shared = config.take == Take::ByMaps && !socket.is_zero_copy();
            let (incoming, tap) = ways.next().unzip();
            let large = if shared { self.way_for_large(queue, reach, tap) } else { None };
            let outlet = if socket.is_zero_copy() { None } else { self.outlet(queue, &mut made.promptness) };
            let socket = Arc::new(SharedSocket::new(socket));
            let parts = Parts {
                queue,
                arena: self.arena.clone(),
                counters: self.counters.clone(),
                steering: steering.clone(),
                socket: socket.clone(),
                fd,
                rings,
                ready: if only_sends { 0 } else { fill },
                open_checksums,
                reach,
                large,
                outlet,
                incoming,
            };
            // From here on, dropping the queue gives back what it holds.
            made.queues.push(Box::new(XdpQueue::new(parts)) as Box<dyn PortQueue<Mbuf>>);
            made.sockets.push(socket);
            steering.enter(queue, fd)?;
        }
        Ok(made)
    }

    /// The way for large frames of an uplink whose packets the kernel copies. Where a driver sends from packet memory itself, pieces
    /// cost little; and what is in a pod need not know of packets that are larger than its MTU.
    fn way_for_large(&self, queue: u32, reach: Reach, tap: Option<Arc<TapFile>>) -> Option<Large> {
        let interface = &self.config.interface;
        let datagrams = !self.probe.hands_on_large_datagrams(interface);
        Large::open(interface, self.ifindex, reach.longest_sent(), datagrams, self.config.tunnel_port, tap)
            .inspect_err(
                |error| tracing::info!(interface, queue, %error, "large frames are cut before they are sent"),
            )
            .ok()
    }

    /// The way for many small frames, which a driver that sends from packet memory has no need of. All queues share `promptness`.
    fn outlet(&self, queue: u32, promptness: &mut Option<Promptness>) -> Option<Outlet> {
        let batches = self.config.batches.as_ref()?;
        let interface = Named { name: &self.config.interface, ifindex: self.ifindex };
        let seen = promptness.clone().unwrap_or_else(|| Promptness::of(&self.probe, interface.name));
        let outlet = Outlet::open(batches, interface, queue, seen.clone())?;
        *promptness = Some(seen);
        Some(outlet)
    }

    fn device(
        self,
        mode: XdpMode,
        steering: Arc<Steering>,
        sockets: Vec<Arc<SharedSocket>>,
        reach: Reach,
        intake: Option<Intake>,
    ) -> XdpDevice {
        XdpDevice {
            interface: self.config.interface.clone(),
            mode,
            steering,
            sockets,
            counters: self.counters.clone(),
            probe: self.probe,
            promptness: None,
            reach,
            waiting: Mutex::default(),
            intake,
            unmerged: None,
            way: None,
        }
    }
}

/// What leads connections past the data path at an uplink. Without it all packets are seen.
fn way(shortcuts: &Arc<Shortcuts>, interface: &str, ifindex: u32) -> Option<Way> {
    let way = shortcuts.pass(Named { name: interface, ifindex });
    way.inspect_err(|error| tracing::info!(%error, "no connections are carried past the data path")).ok()
}

/// The sockets of a port.
struct Sockets {
    queues: Vec<Box<dyn PortQueue<Mbuf>>>,
    sockets: Vec<Arc<SharedSocket>>,
    /// Chunks that a frame may take on all of them.
    reach: Reach,
    /// That of the interface, where they have ways for many small frames.
    promptness: Option<Promptness>,
}

/// On how many queues the interface `name` of the calling thread's network namespace receives: a bond as many as that of its
/// members which has most. None when its driver does not say.
pub fn receive_queues(name: &str) -> Option<u32> {
    let probe = Probe::here().ok()?;
    match probe.driver(name) {
        Some(driver) if BUNDLES.contains(&driver.as_str()) => {
            members(name).iter().filter_map(|member| probe.receive_queues(member)).max()
        }
        _ => probe.receive_queues(name),
    }
}

/// What was found of an interface.
struct Checked {
    ifindex: u32,
    probe: Probe,
    mtu: u32,
}

/// Chunks that a frame may take on any interface.
fn possible(config: &XdpConfig) -> Reach {
    if takes_long_frames() { Reach::most(config) } else { Reach::ONE }
}

/// Refuses what cannot be.
fn check(config: &XdpConfig) -> Result<Checked, XdpError> {
    let interface = || config.interface.clone();
    if !(1..=MOST_QUEUES).contains(&config.queues) {
        return Err(XdpError::Queues { interface: interface(), queues: config.queues, most: MOST_QUEUES });
    }
    for slots in [config.fill, config.tx] {
        if !slots.is_power_of_two() || !RING_SIZES.contains(&slots) {
            return Err(XdpError::RingSize { interface: interface(), slots });
        }
    }
    let gone = |source| XdpError::NoInterface { interface: interface(), source };
    let ifindex = interface::index(&config.interface).map_err(gone)?;
    let probe = Probe::here().map_err(gone)?;
    let mtu = probe.mtu(&config.interface).map_err(gone)?;
    let room = possible(config).mtu();
    if mtu > room {
        return Err(XdpError::Mtu { interface: interface(), mtu, room, long: takes_long_frames() });
    }
    let has = probe.receive_queues(&config.interface).filter(|_| config.take == Take::ByMaps);
    match has {
        Some(has) if has != config.queues => {
            Err(XdpError::UplinkQueues { interface: interface(), has, queues: config.queues })
        }
        _ => Ok(Checked { ifindex, probe, mtu }),
    }
}

/// Which program an interface gets: drivers that know of no fragments may refuse the one that does, so it has to be needed. A veth lets its
/// other end have an MTU above a page only with that.
fn flavour_for(driver: Option<&str>, mtu: u32) -> Flavour {
    match takes_long_frames() && (mtu > Reach::ONE.mtu() || driver == Some(VETH)) {
        true => Flavour::Long,
        false => Flavour::Short,
    }
}

/// The mode to try. The kernel attaches a bond's native program to the members (`bond_xdp_set`), where a received packet does
/// not fit a socket of the bond (`xsk_rcv_check`) and would be lost. A veth has native XDP, but for each packet it makes a copy with
/// room for the program first (`veth_convert_skb_to_xdp_buff`), and its other end has to cut what it sends.
fn mode_for(config: &XdpConfig, driver: Option<&str>) -> Result<XdpMode, XdpError> {
    let is_bundle = driver.is_some_and(|driver| BUNDLES.contains(&driver));
    let best = if has_tc(config) { XdpMode::Tc } else { XdpMode::Generic };
    match (config.mode, driver) {
        (XdpMode::Native, Some(driver)) if is_bundle => {
            Err(XdpError::NoNativeMode { interface: config.interface.clone(), driver: driver.to_owned() })
        }
        (XdpMode::Auto, _) if is_bundle => Ok(best),
        (XdpMode::Auto, Some(VETH)) if has_tc(config) => Ok(XdpMode::Tc),
        (mode, _) => Ok(mode),
    }
}

/// Whether a port is better received by traffic control than by XDP without a driver's help: where the programs go with this process.
fn has_tc(config: &XdpConfig) -> bool {
    let is_possible = config.take == Take::ByMaps && config.large.is_some();
    is_possible && config.copy != CopyMode::ZeroCopy && tc::has_links()
}

/// A bound socket, and how many chunks a frame of it may take.
struct Connected {
    socket: Socket,
    rings: Rings,
    reach: Reach,
}

/// Makes a socket and binds it to a queue of an interface with this MTU.
fn connect(
    config: &XdpConfig,
    arena: &Arena,
    ifindex: u32,
    queue: u32,
    mtu: u32,
) -> Result<Connected, StepError> {
    // The rings the kernel produces into have room for all that it can hold.
    let sizes = RingSizes { fill: config.fill, completion: config.tx, rx: config.fill, tx: config.tx };
    let reach = possible(config);
    if config.copy != CopyMode::Copy {
        // Not every driver with zero-copy has it for long frames.
        let reach = if mtu > Reach::ONE.mtu() { reach } else { Reach::ONE };
        match bind_zero_copy(arena, ifindex, queue, sizes, reach) {
            Ok(connected) => return Ok(connected),
            Err(error) if config.copy == CopyMode::ZeroCopy => return Err(error),
            Err(error) => {
                let interface = &config.interface;
                tracing::info!(interface, queue, reason = %error.source, "no zero-copy");
            }
        }
    }
    let socket = Socket::create()?;
    socket.size_rings(sizes)?;
    let rings = socket.map_rings(sizes)?;
    arena.bind_shared(&socket, ifindex, queue)?;
    Ok(Connected { socket, rings, reach })
}

/// A zero-copy socket registers the memory by itself: those that share a registration share its mode.
fn bind_zero_copy(
    arena: &Arena,
    ifindex: u32,
    queue: u32,
    sizes: RingSizes,
    reach: Reach,
) -> Result<Connected, StepError> {
    let socket = Socket::create()?;
    arena.register(&socket)?;
    socket.size_rings(sizes)?;
    let rings = socket.map_rings(sizes)?;
    let long = reach > Reach::ONE;
    socket.bind(ifindex, queue, Binding::OwnZeroCopy { long })?;
    let reach = if long { reach.at_most(features::zero_copy_parts(ifindex)) } else { reach };
    Ok(Connected { socket, rings, reach })
}
