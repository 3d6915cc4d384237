//! The XDP program of one interface, and the maps that tell it what to take.

use super::claims::ClaimMaps;
use super::config::{Take, XdpMode};
use super::diversion::{self, Diversion};
use super::error::{ClaimError, Step, XdpError, chain};
use super::parts::Reach;
use aya::maps::{Array, Map, MapData, XskMap};
use aya::programs::xdp::{Xdp, XdpLink};
use aya::programs::{TestRun, TestRunOptions, TestRunResult};
use aya::{Ebpf, EbpfLoader};
use millrace_fastpath::port::Claim;
use std::collections::BTreeSet;
use std::error::Error;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

/// The compiled program; its source is `bpf/steer.c`.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/steer.o"));

/// Sockets that the program's map holds: the most queues a port can have.
pub(super) const MOST_QUEUES: u32 = 64;

/// Entries of a map that this use of the program does not consult.
const UNUSED: u32 = 1;

/// What the program answers for a packet that it takes (`XDP_REDIRECT`).
const REDIRECT: u32 = 4;

/// The maps, typed.
struct Maps {
    sockets: XskMap<MapData>,
    claims: ClaimMaps,
    /// Bytes of the longest frame that is claimed.
    longest: Array<MapData, u32>,
}

/// Interfaces that the shared program tells apart, a power of two.
const SLOTS: u32 = 16_384;

/// Queues of an interface that the shared program serves, at most.
const SHARED_QUEUES: u32 = 4;

/// Which of the object's programs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Flavour {
    /// For frames in one piece of memory.
    Short,
    /// For frames in several, too: the kernel then lets the interface, and the other end of a veth, have MTUs above a page.
    Long,
}

impl Flavour {
    fn name(self) -> &'static str {
        match self {
            Flavour::Short => "steer",
            Flavour::Long => "steer_long",
        }
    }
}

/// A loaded program.
struct Program {
    flavour: Flavour,
    maps: Mutex<Maps>,
    /// Owns the program.
    object: Mutex<Ebpf>,
    /// Slots of interfaces that use it.
    slots: Mutex<BTreeSet<u32>>,
}

impl Program {
    fn load(interface: &str, purpose: Purpose, flavour: Flavour) -> Result<Program, XdpError> {
        let failed = |error: &dyn Error| refusal(interface, Step::LoadProgram, error);
        let mut object = loader(purpose).load(OBJECT).map_err(|error| failed(&error))?;
        program(&mut object, flavour, interface)?.load().map_err(|error| failed(&error))?;
        let claims = claim_maps(&mut object, interface)?;
        let longest = take_map(&mut object, interface, "longest")?;
        let maps = Maps { sockets: take_map(&mut object, interface, "sockets")?, claims, longest };
        Ok(Program { flavour, maps: Mutex::new(maps), object: Mutex::new(object), slots: Mutex::default() })
    }

    /// The program that all pods share, with a place in it for this interface, if there is one. Each further program that
    /// takes packets costs every change of any of them a grace period of the kernel's (10 ms; `bpf_dispatcher_update` in
    /// kernel/bpf/dispatcher.c), one that is there already costs nothing.
    fn shared(
        interface: &str,
        ifindex: u32,
        flavour: Flavour,
    ) -> Result<Option<(Arc<Program>, u32)>, XdpError> {
        static SHARED: [Mutex<Option<Arc<Program>>>; 2] = [const { Mutex::new(None) }; 2];
        let mut shared = lock(&SHARED[flavour as usize]);
        let program = match &*shared {
            Some(program) => Arc::clone(program),
            None => {
                let program = Arc::new(Program::load(interface, Purpose::Shared, flavour)?);
                *shared = Some(Arc::clone(&program));
                program
            }
        };
        let slot = ifindex & (SLOTS - 1);
        let is_free = lock(&program.slots).insert(slot);
        Ok(is_free.then_some((program, slot)))
    }
}

/// What is taken from the kernel on one interface. All calls are the control thread's; the data path never
/// comes here. The program leaves the interface when this is dropped, or when the process ends in whatever way: it is
/// held by a descriptor and pinned nowhere.
pub struct Steering {
    interface: String,
    take: Take,
    way: Way,
}

/// How packets are taken from the kernel.
enum Way {
    /// By XDP, before the kernel has looked at them.
    Xdp {
        program: Arc<Program>,
        /// Its place in a shared program.
        slot: Option<u32>,
        /// While the program is attached.
        link: Mutex<Option<XdpLink>>,
    },
    /// By traffic control, behind the kernel's receive offload.
    Tc(Box<Diversion>),
}

impl Steering {
    /// Loads the program for `interface`, with so many queues; it is not attached yet, and claims no frame.
    pub(super) fn load(
        interface: &str,
        ifindex: u32,
        queues: u32,
        take: Take,
        flavour: Flavour,
    ) -> Result<Steering, XdpError> {
        let shared = match take {
            Take::Everything if queues <= SHARED_QUEUES => Program::shared(interface, ifindex, flavour)?,
            _ => None,
        };
        let (program, slot) = match shared {
            Some((program, slot)) => (program, Some(slot)),
            None => (Arc::new(Program::load(interface, take.into(), flavour)?), None),
        };
        let way = Way::Xdp { program, slot, link: Mutex::new(None) };
        Ok(Steering { interface: interface.to_owned(), take, way })
    }

    /// Takes by claims, by a diversion that is attached already.
    pub(super) fn diverting(interface: &str, diversion: Diversion) -> Steering {
        Steering { interface: interface.to_owned(), take: Take::ByMaps, way: Way::Tc(Box::new(diversion)) }
    }

    /// Claims frames of the interface from now on that are no longer than its MTU allows, and a socket takes. Behind the kernel's
    /// receive offload all are, however long.
    pub(super) fn set_mtu(&self, mtu: u32, reach: Reach) -> Result<(), XdpError> {
        let Way::Xdp { program, .. } = &self.way else { return Ok(()) };
        if self.take == Take::Everything {
            return Ok(());
        }
        let longest = reach.longest_of(mtu);
        let done = lock(&program.maps).longest.set(0, longest, 0);
        done.map_err(|error| refusal(&self.interface, Step::Enter, &error))
    }

    /// Attaches the XDP program; gives the mode it runs in, which is not [`XdpMode::Auto`].
    pub(super) fn attach(&self, ifindex: u32, mode: XdpMode) -> Result<XdpMode, XdpError> {
        let failed = |error: &dyn Error| refusal(&self.interface, Step::AttachProgram, error);
        // A diversion runs from the beginning.
        let Way::Xdp { program: loaded, link, .. } = &self.way else { return Ok(XdpMode::Tc) };
        let mut object = lock(&loaded.object);
        let program = program(&mut object, loaded.flavour, &self.interface)?;
        let (id, mode) = match program.attach_to_if_index(ifindex, aya_mode(mode)) {
            Ok(id) if mode == XdpMode::Generic => (id, XdpMode::Generic),
            Ok(id) => (id, XdpMode::Native),
            Err(error) if mode == XdpMode::Auto => {
                tracing::info!(interface = self.interface, reason = chain(&error), "no native XDP");
                let generic = program.attach_to_if_index(ifindex, aya_mode(XdpMode::Generic));
                (generic.map_err(|error| failed(&error))?, XdpMode::Generic)
            }
            Err(error) => return Err(failed(&error)),
        };
        *lock(link) = Some(program.take_link(id).map_err(|error| failed(&error))?);
        Ok(mode)
    }

    /// Takes the program off the interface: the kernel has all its packets back.
    pub(super) fn detach(&self) {
        match &self.way {
            Way::Xdp { link, .. } => drop(lock(link).take()),
            Way::Tc(diversion) => diversion.detach(),
        }
    }

    /// Sends the packets of `queue` to `socket`. Behind the kernel's receive offload there are no queues.
    pub(super) fn enter(&self, queue: u32, socket: RawFd) -> Result<(), XdpError> {
        let Way::Xdp { program, slot, .. } = &self.way else { return Ok(()) };
        let done = lock(&program.maps).sockets.set(key(queue, *slot), socket, 0);
        done.map_err(|error| refusal(&self.interface, Step::Enter, &error))
    }

    /// Leaves the packets of `queue` to the kernel; those of all others, too, behind the kernel's receive offload.
    pub(super) fn leave(&self, queue: u32) {
        let Way::Xdp { program, slot, .. } = &self.way else { return self.detach() };
        if let Err(error) = lock(&program.maps).sockets.unset(key(queue, *slot)) {
            // Not an error of ours: the kernel has done it already when the interface went away.
            tracing::debug!(interface = self.interface, queue, reason = chain(&error), "no socket to leave");
        }
    }

    /// Takes the packets that `claim` names from now on. Claiming again changes nothing.
    ///
    /// # Errors
    /// [`XdpError::Claim`]: the claim contradicts another, its map is full, or the port takes everything anyway.
    pub fn claim(&self, claim: &Claim) -> Result<(), XdpError> {
        self.change(claim, ClaimMaps::claim)
    }

    /// Leaves the packets that `claim` names, and no other claim does, to the kernel. Releasing what is not claimed
    /// changes nothing.
    ///
    /// # Errors
    /// [`XdpError::Claim`] with the kernel's answer, or if the port takes everything.
    pub fn release(&self, claim: &Claim) -> Result<(), XdpError> {
        self.change(claim, ClaimMaps::release)
    }

    fn change(
        &self,
        claim: &Claim,
        how: fn(&mut ClaimMaps, Claim) -> Result<(), ClaimError>,
    ) -> Result<(), XdpError> {
        let done = match self.take {
            Take::Everything => Err(ClaimError::TakesEverything),
            Take::ByMaps => self.with_claims(|claims| how(claims, *claim)),
        };
        let interface = || self.interface.clone();
        done.map_err(|reason| XdpError::Claim { interface: interface(), claim: *claim, reason })
    }

    /// Whether a claim says that an end of this node's tunnels is there.
    pub(super) fn ends_tunnel(&self, address: IpAddr, port: u16) -> bool {
        self.with_claims(|claims| claims.holds(Claim::Tunnel { address, port }))
    }

    fn with_claims<T>(&self, work: impl FnOnce(&mut ClaimMaps) -> T) -> T {
        match &self.way {
            Way::Xdp { program, .. } => work(&mut lock(&program.maps).claims),
            Way::Tc(diversion) => work(&mut lock(diversion.claims())),
        }
    }

    /// Whether a frame that arrives on queue 0 would come to the port. The kernel runs the program on a copy.
    ///
    /// # Errors
    /// The kernel's: it takes no frame that is shorter than an Ethernet header, and none that is longer than a page where the
    /// program does not know of fragments.
    pub fn takes(&self, frame: &[u8]) -> Result<bool, XdpError> {
        let answer = self.try_program(frame, 1)?.return_value;
        Ok(match &self.way {
            Way::Xdp { .. } => answer == REDIRECT,
            Way::Tc(_) => diversion::TAKEN.contains(&answer),
        })
    }

    /// How long the program takes for a frame, of so many runs the mean.
    ///
    /// # Errors
    /// As for [`takes`](Steering::takes).
    pub fn time(&self, frame: &[u8], runs: u32) -> Result<Duration, XdpError> {
        Ok(self.try_program(frame, runs)?.duration)
    }

    fn try_program(&self, frame: &[u8], repeat: u32) -> Result<TestRunResult, XdpError> {
        match &self.way {
            Way::Xdp { program: loaded, .. } => {
                let mut object = lock(&loaded.object);
                let program = program(&mut object, loaded.flavour, &self.interface)?;
                try_on(&self.interface, program, frame, repeat)
            }
            Way::Tc(diversion) => diversion.try_out(frame, repeat),
        }
    }
}

impl Drop for Steering {
    fn drop(&mut self) {
        self.detach();
        if let Way::Xdp { program, slot: Some(slot), .. } = &self.way {
            lock(&program.slots).remove(slot);
        }
    }
}

/// Where the program looks for a queue's socket: `slot` is its place in a shared one.
fn key(queue: u32, slot: Option<u32>) -> u32 {
    slot.map_or(queue, |slot| queue * SLOTS + slot)
}

/// Runs a program on a frame that did not arrive, so many times.
pub(super) fn try_on<P>(
    interface: &str,
    program: &P,
    frame: &[u8],
    repeat: u32,
) -> Result<TestRunResult, XdpError>
where
    P: for<'a> TestRun<Opts<'a> = TestRunOptions<'a>, Result = TestRunResult>,
{
    let options = TestRunOptions { data_in: Some(frame), repeat, ..TestRunOptions::new() };
    let done = program.test_run(options);
    done.map_err(|error| refusal(interface, Step::TryProgram, &error))
}

/// What a program is loaded for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    /// All packets of one interface.
    Everything,
    /// What the maps name of one interface's.
    ByMaps,
    /// All packets of many interfaces.
    Shared,
}

impl From<Take> for Purpose {
    fn from(take: Take) -> Self {
        match take {
            Take::Everything => Purpose::Everything,
            Take::ByMaps => Purpose::ByMaps,
        }
    }
}

/// What reads the object, for each purpose. Making a loader reads all of the kernel's types (megabytes, 20 ms), which this
/// program does not refer to: it is made once, and without them.
fn loader(purpose: Purpose) -> MutexGuard<'static, EbpfLoader<'static>> {
    static LOADERS: [OnceLock<Mutex<EbpfLoader<'static>>>; 3] = [const { OnceLock::new() }; 3];
    let make = || {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        if !matches!(purpose, Purpose::ByMaps) {
            loader.override_global("take_all", &1_u8, true);
            for map in ["destinations", "sources", "services", "addresses", "fragments"] {
                loader.map_max_entries(map, UNUSED);
            }
        }
        if matches!(purpose, Purpose::Shared) {
            const { assert!(SLOTS.is_power_of_two()) };
            loader.override_global("slot_mask", &const { SLOTS - 1 }, true);
            loader.map_max_entries("sockets", SLOTS * SHARED_QUEUES);
        }
        Mutex::new(loader)
    };
    lock(LOADERS[purpose as usize].get_or_init(make))
}

fn aya_mode(mode: XdpMode) -> aya::programs::XdpMode {
    if mode == XdpMode::Generic { aya::programs::XdpMode::Skb } else { aya::programs::XdpMode::Driver }
}

pub(super) fn refusal(interface: &str, step: Step, error: &dyn Error) -> XdpError {
    XdpError::Program { interface: interface.to_owned(), step, reason: chain(error) }
}

fn missing(interface: &str, what: &str) -> XdpError {
    let reason = format!("the object has no {what}");
    XdpError::Program { interface: interface.to_owned(), step: Step::LoadProgram, reason }
}

fn program<'a>(object: &'a mut Ebpf, flavour: Flavour, interface: &str) -> Result<&'a mut Xdp, XdpError> {
    let name = flavour.name();
    let program = object.program_mut(name).ok_or_else(|| missing(interface, &format!("program {name}")))?;
    program.try_into().map_err(|error| refusal(interface, Step::LoadProgram, &error))
}

/// The maps of claims of an object that includes `bpf/claims.h`.
pub(super) fn claim_maps(object: &mut Ebpf, interface: &str) -> Result<ClaimMaps, XdpError> {
    Ok(ClaimMaps::new(
        take_map(object, interface, "destinations")?,
        take_map(object, interface, "sources")?,
        take_map(object, interface, "services")?,
        take_map(object, interface, "addresses")?,
    ))
}

fn take_map<M>(object: &mut Ebpf, interface: &str, name: &str) -> Result<M, XdpError>
where
    M: TryFrom<Map, Error: Error>,
{
    let map = object.take_map(name).ok_or_else(|| missing(interface, name))?;
    M::try_from(map).map_err(|error| refusal(interface, Step::LoadProgram, &error))
}

/// A panic while the lock was held leaves nothing half done here: each call is one system call.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
