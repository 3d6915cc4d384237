//! Established TCP connections and UDP flows that the kernel carries past the data path (`bpf/shortcut.c`), between interfaces of its own: pods'
//! veths and uplinks that are received by traffic control.
//!
//! The programs go with who holds the ways ([`Way`]), and with the process. Why: `docs/decisions/0021-shortcuts.md`.

mod layout;

use crate::interface;
use crate::tc::{self, SchedClassifierLink, TcAttachType, Turn};
use crate::xdp::{chain, lock};
use aya::maps::{Array, DevMapHash, HashMap, Map, MapData, MapError, PerCpuHashMap};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader};
use layout::{Carried, Key, Value, is_translated};
use millrace_fastpath::conntrack::LONGEST_UNSEEN;
use millrace_fastpath::port::{DropReason, PortCounters, Shortcut};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use thiserror::Error as ThisError;

/// The compiled programs.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/shortcut.o"));

/// The object's programs, by names that others have none of.
const LEAVE: &str = "millrace_leave";
const ENTER: &str = "millrace_enter";
const PASS: &str = "millrace_pass";

/// How long a connection's packets may pass unseen, at most.
const LONGEST_LEASE: Duration = Duration::from_secs(LONGEST_UNSEEN as u64);

/// Why the kernel does not carry.
#[derive(Debug, ThisError)]
pub enum ShortcutError {
    /// Programs of traffic control would stay when the process is killed.
    #[error("{interface}: the kernel has no links for programs of traffic control (Linux 6.6 has)")]
    Kernel {
        /// The interface.
        interface: String,
    },
    /// The programs could not be loaded or attached, or their maps not be changed.
    #[error("{interface}: {doing}: {reason}")]
    Program {
        /// The interface.
        interface: String,
        /// What was being done.
        doing: &'static str,
        /// The answer of the kernel or the verifier, down to its first cause.
        reason: String,
    },
}

/// The shortcuts of a node. Nothing is loaded before the first interface has need of it.
pub struct Shortcuts {
    lease: Duration,
    translates_v6: bool,
    loaded: Mutex<Option<Loaded>>,
}

impl std::fmt::Debug for Shortcuts {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Shortcuts").finish_non_exhaustive()
    }
}

/// The programs and their maps.
struct Loaded {
    shortcuts: HashMap<MapData, Key, Value>,
    current: Array<MapData, u32>,
    ends: DevMapHash<MapData>,
    counts: PerCpuHashMap<MapData, u32, Carried>,
    generation: u32,
    object: Ebpf,
}

/// What leads packets of an interface into shortcuts, while it lives.
pub(crate) struct Way {
    shortcuts: Arc<Shortcuts>,
    ifindex: u32,
    /// The TAP of a veth.
    tap: Option<u32>,
    /// What the port's counters know already.
    known: Mutex<Carried>,
    links: Vec<SchedClassifierLink>,
}

/// An interface by name and number.
#[derive(Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) name: &'a str,
    pub(crate) ifindex: u32,
}

impl Shortcuts {
    /// Shortcuts where connections are forgotten of which for so long nothing was seen.
    pub fn new(forgotten_after: Duration) -> Shortcuts {
        // The helper of kernels before does not keep whole the sums that a NIC has made of IPv6 packets (`BPF_F_IPV6`).
        let running = KernelVersion::current();
        let translates_v6 = running.is_ok_and(|version| version >= KernelVersion::new(6, 16, 0));
        let lease = LONGEST_LEASE.min(forgotten_after / 2);
        Shortcuts { lease, translates_v6, loaded: Mutex::new(None) }
    }

    /// Whether the kernel can carry IPv6 connections whose addresses or ports change on the way.
    pub fn translates_v6(&self) -> bool {
        self.translates_v6
    }

    /// Whether this kernel, and what the process may do, allow shortcuts and veths that are read by traffic control.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self) -> Result<(), ShortcutError> {
        self.load("shortcuts").map(drop)
    }

    /// Has all packets of a veth's end lead to a TAP, and all of the TAP to it; those that have a shortcut take that.
    ///
    /// # Errors
    /// [`ShortcutError`]; nothing is left behind then.
    pub(crate) fn join(self: &Arc<Self>, end: Named<'_>, tap: Named<'_>) -> Result<Way, ShortcutError> {
        let mut guard = self.load(end.name)?;
        let Some(loaded) = &mut *guard else { return Err(missing(end.name, "programs")) };
        let pairs = [(end.ifindex, tap.ifindex), (tap.ifindex, end.ifindex)];
        for (one, other) in pairs {
            loaded
                .ends
                .insert(one, other, None, 0)
                .map_err(|error| failed(end.name, "changing a map", &error))?;
        }
        let links = loaded
            .attach_fast(ENTER, tap.name)
            .and_then(|enter| Ok(vec![loaded.attach_fast(LEAVE, end.name)?, enter]))
            .and_then(|links| loaded.start_counting(end).map(|()| links));
        match links {
            Ok(links) => Ok(self.way(end.ifindex, Some(tap.ifindex), links)),
            Err(error) => {
                for (one, _) in pairs {
                    let _gone_with_it = loaded.ends.remove(one);
                }
                Err(error)
            }
        }
    }

    /// Has packets of an uplink that have a shortcut take that, before whatever else is there.
    ///
    /// # Errors
    /// [`ShortcutError`]; nothing is left behind then.
    pub(crate) fn pass(self: &Arc<Self>, uplink: Named<'_>) -> Result<Way, ShortcutError> {
        let mut guard = self.load(uplink.name)?;
        let Some(loaded) = &mut *guard else { return Err(missing(uplink.name, "programs")) };
        let link = loaded.attach_first(PASS, uplink.name)?;
        loaded.start_counting(uplink)?;
        Ok(self.way(uplink.ifindex, None, vec![link]))
    }

    /// Has the kernel carry one direction of a connection, for some seconds. False where its programs have no words for it.
    ///
    /// # Errors
    /// The map cannot be changed.
    pub fn add(&self, shortcut: &Shortcut) -> Result<bool, ShortcutError> {
        let mut guard = lock(&self.loaded);
        let Some(loaded) = &mut *guard else { return Ok(false) };
        if shortcut.arriving.source.is_ipv6() && is_translated(shortcut) && !self.translates_v6 {
            return Ok(false);
        }
        let until = now().saturating_add(self.lease.as_nanos() as u64);
        let value = Value::of(shortcut, until, loaded.generation);
        let done = loaded.shortcuts.insert(Key::of(shortcut), value, 0);
        done.map(|()| true).map_err(|error| changing(&format!("interface {}", shortcut.arrival), &error))
    }

    /// Ends all shortcuts: what they were made from has changed.
    ///
    /// # Errors
    /// The map cannot be changed.
    pub fn end_all(&self) -> Result<(), ShortcutError> {
        let mut guard = lock(&self.loaded);
        let Some(loaded) = &mut *guard else { return Ok(()) };
        loaded.generation = loaded.generation.wrapping_add(1);
        loaded.current.set(0, loaded.generation, 0).map_err(|error| changing("all interfaces", &error))
    }

    fn way(self: &Arc<Self>, ifindex: u32, tap: Option<u32>, links: Vec<SchedClassifierLink>) -> Way {
        Way { shortcuts: Arc::clone(self), ifindex, tap, known: Mutex::default(), links }
    }

    fn load(&self, interface: &str) -> Result<MutexGuard<'_, Option<Loaded>>, ShortcutError> {
        let mut loaded = lock(&self.loaded);
        if loaded.is_none() {
            if !tc::has_links() {
                return Err(ShortcutError::Kernel { interface: interface.to_owned() });
            }
            *loaded = Some(Loaded::load(interface)?);
        }
        Ok(loaded)
    }
}

impl Loaded {
    fn load(interface: &str) -> Result<Loaded, ShortcutError> {
        let mut loader = EbpfLoader::new();
        loader.btf(None);
        let mut object =
            loader.load(OBJECT).map_err(|error| failed(interface, "loading the programs", &error))?;
        Ok(Loaded {
            shortcuts: take(&mut object, interface, "shortcuts")?,
            current: take(&mut object, interface, "current")?,
            ends: take(&mut object, interface, "ends")?,
            counts: take(&mut object, interface, "counts")?,
            generation: 0,
            object,
        })
    }

    /// On what is there with the host: it goes with the process.
    fn attach_first(&mut self, name: &str, interface: &str) -> Result<SchedClassifierLink, ShortcutError> {
        attached(interface, tc::attach(&mut self.object, name, interface, TcAttachType::Ingress, Turn::First))
    }

    /// On what only a pod has, which waits for it. If it stays after a process that was killed, the TAP is gone that it leads to, and it
    /// takes nothing anywhere until the next process takes its place.
    fn attach_fast(&mut self, name: &str, interface: &str) -> Result<SchedClassifierLink, ShortcutError> {
        attached(interface, tc::attach_to_qdisc(&mut self.object, name, interface, TcAttachType::Ingress))
    }

    fn start_counting(&mut self, at: Named<'_>) -> Result<(), ShortcutError> {
        let cpus =
            aya::util::nr_cpus().map_err(|(_, error)| failed(at.name, "counting processors", &error))?;
        let nothing = aya::maps::PerCpuValues::try_from(vec![Carried::default(); cpus]);
        let nothing = nothing.map_err(|error| failed(at.name, "counting processors", &error))?;
        self.counts.insert(at.ifindex, nothing, 0).map_err(|error| changing(at.name, &error))
    }
}

impl Way {
    /// The number of the interface.
    pub(crate) fn ifindex(&self) -> u32 {
        self.ifindex
    }

    /// What the kernel has carried until counters were last brought up to date, for people.
    pub(crate) fn told(&self) -> String {
        let known = lock(&self.known);
        format!("{} packets in, {} out", known.packets_in, known.packets_out)
    }

    /// Adds to a port's counters what the kernel has carried since the last call.
    pub(crate) fn count(&self, counters: &PortCounters) {
        let mut known = lock(&self.known);
        let loaded = lock(&self.shortcuts.loaded);
        let Some(Ok(of_cpus)) = loaded.as_ref().map(|loaded| loaded.counts.get(&self.ifindex, 0)) else {
            return;
        };
        let sum = |what: fn(&Carried) -> u64| of_cpus.iter().map(what).sum::<u64>();
        let all = Carried {
            packets_in: sum(|carried| carried.packets_in),
            bytes_in: sum(|carried| carried.bytes_in),
            packets_out: sum(|carried| carried.packets_out),
            bytes_out: sum(|carried| carried.bytes_out),
            lost: sum(|carried| carried.lost),
        };
        counters.received(all.packets_in - known.packets_in, all.bytes_in - known.bytes_in);
        counters.sent(all.packets_out - known.packets_out, all.bytes_out - known.bytes_out);
        if all.lost > known.lost {
            counters.dropped(DropReason::NoBuffer, all.lost - known.lost);
        }
        *known = all;
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        // The programs first: what comes meanwhile is the kernel's.
        self.links.clear();
        if let Some(loaded) = &mut *lock(&self.shortcuts.loaded) {
            let _never_counted = loaded.counts.remove(&self.ifindex);
            for end in self.tap.into_iter().flat_map(|tap| [tap, self.ifindex]) {
                let _gone_already = loaded.ends.remove(end);
            }
        }
    }
}

impl<'a> Named<'a> {
    /// The interface of this name in the calling thread's network namespace.
    pub(crate) fn find(name: &'a str) -> std::io::Result<Named<'a>> {
        Ok(Named { name, ifindex: interface::index(name)? })
    }
}

/// The monotonic clock, in nanoseconds.
fn now() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is written, and nothing else.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn attached(
    interface: &str,
    outcome: Result<SchedClassifierLink, String>,
) -> Result<SchedClassifierLink, ShortcutError> {
    let doing = "attaching the programs";
    outcome.map_err(|reason| ShortcutError::Program { interface: interface.to_owned(), doing, reason })
}

fn take<M>(object: &mut Ebpf, interface: &str, name: &str) -> Result<M, ShortcutError>
where
    M: TryFrom<Map, Error = MapError>,
{
    let map = object.take_map(name).ok_or_else(|| missing(interface, name))?;
    M::try_from(map).map_err(|error| failed(interface, "loading the programs", &error))
}

fn missing(interface: &str, what: &str) -> ShortcutError {
    let reason = format!("the object has no {what}");
    ShortcutError::Program { interface: interface.to_owned(), doing: "loading the programs", reason }
}

fn changing(interface: &str, error: &MapError) -> ShortcutError {
    failed(interface, "changing a map", error)
}

fn failed(interface: &str, doing: &'static str, error: &dyn Error) -> ShortcutError {
    ShortcutError::Program { interface: interface.to_owned(), doing, reason: chain(error) }
}
