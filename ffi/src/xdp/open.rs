//! Opening an AF_XDP port.

use super::arena::Arena;
use super::below::{Unmerged, members};
use super::config::{CopyMode, Take, XdpConfig, XdpMode};
use super::device::XdpDevice;
use super::error::{StepError, XdpError};
use super::features;
use super::handle::SharedSocket;
use super::large::Large;
use super::parts::Reach;
use super::program::{Flavour, MOST_QUEUES, Steering};
use super::queue::{Parts, XdpQueue};
use super::socket::{Binding, RingSizes, Rings, Socket, takes_long_frames};
use crate::device::Opened;
use crate::interface::{self, Probe};
use crate::mbuf::Mbuf;
use crate::open_checksum;
use millrace_fastpath::port::{PortCounters, PortQueue};
use std::sync::{Arc, Mutex};

/// Drivers of interfaces that bundle others.
const BUNDLES: [&str; 2] = ["bonding", "team"];

/// The driver that lets its other end have an MTU above a page only with a program that knows of fragments.
const VETH: &str = "veth";

/// Sizes that the kernel takes for a ring and that make sense for one.
const RING_SIZES: std::ops::RangeInclusive<u32> = 8..=32_768;

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
    let wanted_mode = mode_for(config, &probe)?;
    let driver = probe.driver(&config.interface);
    let open_checksums = driver.as_deref().is_some_and(open_checksum::may_come_by);
    let flavour = flavour_for(driver.as_deref(), mtu);
    let steering = Steering::load(&config.interface, ifindex, config.queues, config.take, flavour)?;
    let steering = Arc::new(steering);
    let mut queues = Vec::new();
    let mut sockets = Vec::new();
    let mut reach = if flavour == Flavour::Long { Reach::most(config) } else { Reach::ONE };
    for queue in 0..config.queues {
        let Connected { socket, rings, reach: own } = connect(config, arena, ifindex, queue, mtu)
            .map_err(|error| error.at(&config.interface, queue))?;
        reach = reach.min(own);
        let fd = socket.raw();
        let shared = config.take == Take::ByMaps && !socket.is_zero_copy();
        let large = if shared { way_for_large(config, &probe, ifindex, queue, own) } else { None };
        let socket = Arc::new(SharedSocket::new(socket));
        let parts = Parts {
            queue,
            arena: arena.clone(),
            counters: counters.clone(),
            steering: steering.clone(),
            socket: socket.clone(),
            fd,
            rings,
            ready: config.fill,
            open_checksums,
            reach: own,
            large,
        };
        // From here on, dropping the queue gives back what it holds.
        queues.push(Box::new(XdpQueue::new(parts)) as Box<dyn PortQueue<Mbuf>>);
        sockets.push(socket);
        steering.enter(queue, fd)?;
    }
    steering.set_mtu(mtu, reach)?;
    let mode = steering.attach(ifindex, wanted_mode)?;
    let shares = config.take == Take::ByMaps && mode == XdpMode::Generic;
    let _unmerged =
        Probe::here().ok().filter(|_| shares).map(|probe| Unmerged::below(&config.interface, probe));
    let interface = config.interface.clone();
    let counters = counters.clone();
    let steered = steering.clone();
    let device = XdpDevice {
        interface,
        mode,
        steering: steered,
        sockets,
        counters,
        probe,
        reach,
        waiting: Mutex::default(),
        _unmerged,
    };
    Ok((Opened { device: Box::new(device), queues }, steering))
}

/// The way for large frames of an uplink whose packets the kernel copies. Where a driver sends from packet memory itself, pieces
/// cost little; and what is in a pod need not know of packets that are larger than its MTU.
fn way_for_large(config: &XdpConfig, probe: &Probe, ifindex: u32, queue: u32, reach: Reach) -> Option<Large> {
    let interface = &config.interface;
    let datagrams = !probe.hands_on_large_datagrams(interface);
    Large::open(interface, ifindex, reach.longest_sent(), datagrams, config.tunnel_port)
        .inspect_err(
            |error| tracing::info!(interface, queue, %error, "large frames are cut before they are sent"),
        )
        .ok()
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

/// Which program an interface gets: drivers that know of no fragments may refuse the one that does, so it has to be needed.
fn flavour_for(driver: Option<&str>, mtu: u32) -> Flavour {
    match takes_long_frames() && (mtu > Reach::ONE.mtu() || driver == Some(VETH)) {
        true => Flavour::Long,
        false => Flavour::Short,
    }
}

/// The mode to try. The kernel attaches a bond's native program to the members (`bond_xdp_set`), where a received packet does
/// not fit a socket of the bond (`xsk_rcv_check`) and would be lost.
fn mode_for(config: &XdpConfig, probe: &Probe) -> Result<XdpMode, XdpError> {
    match probe.driver(&config.interface) {
        Some(driver) if BUNDLES.contains(&driver.as_str()) => match config.mode {
            XdpMode::Native => Err(XdpError::NoNativeMode { interface: config.interface.clone(), driver }),
            XdpMode::Auto | XdpMode::Generic => Ok(XdpMode::Generic),
        },
        _ => Ok(config.mode),
    }
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
