//! Many frames that an interface of the kernel's sends, handed over in one system call.
//!
//! AF_XDP in copy mode and TAPs give the kernel each frame by itself, and where an interface hands packets over in the sender's
//! context, as a veth does, the receiver's work begins anew for each. A program of traffic control may send as many packets as it likes,
//! and `BPF_PROG_TEST_RUN` has it run when this process says (`bpf/batch.c`). What leaves goes through the interface's egress like
//! anything that the kernel sends, and is told to be lost if it is.
//!
//! Why: `docs/decisions/0022-frames-by-the-batch.md`.

mod area;

use crate::interface::{Probe, VETH};
use crate::mbuf::Mbuf;
use crate::netns;
use crate::shortcut::Named;
use crate::xdp::{chain, lock};
use area::{Area, Interfaces};
use millrace_fastpath::port::{BURST, Burst, DropReason, Frame, PortCounters};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

/// Frames of a batch, at most and at least: fewer cost less one by one.
const MOST_FRAMES: usize = BURST;
const LEAST_FRAMES: usize = 8;

/// Bytes of a frame, at most.
const LONGEST: usize = 2_048;

/// Where an Ethernet header has its type.
const ETHER_TYPE: Range<usize> = 12..14;

/// Frames that are sent otherwise after the kernel has refused a batch, before one is tried again.
const REST: usize = 1 << 16;

/// `NET_XMIT_CN` (linux/netdevice.h): a queueing discipline has dropped this or another packet; and so says an interface that is down
/// (`noop_enqueue` in net/sched/sch_generic.c).
const CONGESTED: i32 = 2;

/// What batches are sent with; shared by all ports. Nothing is loaded before the first of them has need of it.
pub struct Batches {
    workers: usize,
    loaded: OnceLock<Result<Loaded, String>>,
}

struct Loaded {
    /// One for each worker, so that there is always one that nobody has.
    areas: Vec<Mutex<Area>>,
    interfaces: Mutex<Interfaces>,
}

impl std::fmt::Debug for Batches {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Batches").field("workers", &self.workers).finish_non_exhaustive()
    }
}

impl Batches {
    /// For so many workers that send at a time.
    pub fn new(workers: usize) -> Batches {
        Batches { workers, loaded: OnceLock::new() }
    }

    /// Sees to it that batches can be sent by the interface of this number, for as long as it is there.
    fn prepare(&self, ifindex: u32) -> Result<(), String> {
        let loaded = self.loaded.get_or_init(|| {
            let (areas, interfaces) = area::load(self.workers)?;
            let areas = areas.into_iter().map(Mutex::new).collect();
            Ok(Loaded { areas, interfaces: Mutex::new(interfaces) })
        });
        let loaded = loaded.as_ref().map_err(Clone::clone)?;
        lock(&loaded.interfaces).insert(ifindex, ifindex, None, 0).map_err(|error| chain(&error))
    }

    /// Runs `work` with an area that nobody else has; not if there is none. Waits for nobody.
    fn with_area<T>(&self, work: impl FnOnce(&mut Area) -> T) -> Option<T> {
        let areas =
            self.loaded.get().and_then(|loaded| loaded.as_ref().ok()).map_or(&[][..], |loaded| &loaded.areas);
        let first = HERE.with(|here| here.number) % areas.len().max(1);
        let mut free = areas[first..].iter().chain(&areas[..first]).filter_map(|area| area.try_lock().ok());
        free.next().map(|mut area| work(&mut area))
    }
}

/// What a thread that sends is.
struct Here {
    /// The network namespace that it was in when it first sent, and stays in.
    namespace: Option<u64>,
    /// Another one for each thread: by which it has the same area each time.
    number: usize,
}

thread_local! {
    static HERE: Here = {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        Here { namespace: netns::cookie().ok(), number: THREADS.fetch_add(1, Ordering::Relaxed) }
    };
}

/// Whether nothing that is sent otherwise overtakes what an interface is given in batches.
#[derive(Clone, Debug)]
pub(crate) enum Promptness {
    /// All else goes by the interface's egress, too.
    Given,
    /// Other frames go past its egress: not while it has a queueing discipline, in which a batch could wait.
    Seen(Arc<AtomicBool>),
}

impl Promptness {
    /// That of the interface `name`, as it is seen now.
    pub(crate) fn of(probe: &Probe, name: &str) -> Promptness {
        let promptness = Promptness::Seen(Arc::default());
        promptness.look(probe, name);
        promptness
    }

    /// Looks at the interface again, for all that share this. One that has never been up has no discipline that sends (`noop`); a veth gets
    /// none of its own.
    pub(crate) fn look(&self, probe: &Probe, name: &str) {
        let Promptness::Seen(is_prompt) = self else { return };
        let seen = match probe.discipline(name).as_deref() {
            Ok("noqueue") => true,
            Ok("noop") => probe.driver(name).as_deref() == Some(VETH),
            _ => false,
        };
        is_prompt.store(seen, Ordering::Relaxed);
    }

    /// Whether batches may be sent now.
    pub(crate) fn holds(&self) -> bool {
        match self {
            Promptness::Given => true,
            Promptness::Seen(is_prompt) => is_prompt.load(Ordering::Relaxed),
        }
    }
}

/// One queue's way for batches.
pub(crate) struct Outlet {
    batches: Arc<Batches>,
    interface: String,
    ifindex: u32,
    /// Of the interface's transmit queues.
    queue: u32,
    /// The network namespace that the interface is in.
    namespace: u64,
    promptness: Promptness,
    /// So many of the frames that come next are to be sent otherwise.
    otherwise: usize,
}

impl Outlet {
    /// A way to a transmit queue of an interface of the calling thread's network namespace. None where the kernel, or what the process may
    /// do, does not allow it.
    pub(crate) fn open(
        batches: &Arc<Batches>,
        to: Named<'_>,
        queue: u32,
        promptness: Promptness,
    ) -> Option<Outlet> {
        let prepared = batches.prepare(to.ifindex);
        let namespace = prepared.and_then(|()| netns::cookie().map_err(|error| chain(&error)));
        let namespace = namespace
            .inspect_err(|reason| {
                tracing::info!(interface = to.name, reason, "frames are handed to the kernel one by one");
            })
            .ok()?;
        Some(Outlet {
            batches: batches.clone(),
            interface: to.name.to_owned(),
            ifindex: to.ifindex,
            queue,
            namespace,
            promptness,
            otherwise: 0,
        })
    }

    /// How many of these frames, from the first on, are to go by one call. Nothing: the first is sent otherwise.
    pub(crate) fn takes(&mut self, frames: &VecDeque<Mbuf>) -> Option<usize> {
        if !self.promptness.holds() || HERE.with(|here| here.namespace) != Some(self.namespace) {
            return None;
        }
        if self.otherwise == 0 {
            let count = alike(frames.iter());
            if count >= LEAST_FRAMES {
                return Some(count);
            }
            self.otherwise = count;
        }
        self.otherwise = self.otherwise.saturating_sub(1);
        None
    }

    /// Has the next `count` frames sent otherwise.
    pub(crate) fn leave(&mut self, count: usize) {
        self.otherwise = count;
    }

    /// Sends the first `count` frames, which it [takes](Outlet::takes), and counts what was lost of them; gives the frames and bytes that
    /// were sent. Nothing: all are still there, and sent otherwise.
    pub(crate) fn send(
        &mut self,
        frames: &mut VecDeque<Mbuf>,
        count: usize,
        counters: &PortCounters,
    ) -> Option<(u64, u64)> {
        let (ifindex, queue) = (self.ifindex, self.queue);
        let queues = matches!(self.promptness, Promptness::Given);
        let batch = || frames.iter().take(count);
        let sent = self.batches.with_area(|area| {
            area.begin(ifindex, queue);
            if !batch().all(|frame| area.push(frame)) {
                return None;
            }
            let outcomes = area.send().map_err(|error| chain(&error));
            Some(outcomes.map(|outcomes| tally(outcomes, batch(), queues, counters)))
        });
        let sent = match sent.flatten() {
            Some(Ok(sent)) => sent,
            Some(Err(reason)) => {
                self.leave(REST);
                let interface = &self.interface;
                tracing::info!(interface, reason, "frames are handed to the kernel one by one");
                return None;
            }
            None => {
                self.leave(count);
                return None;
            }
        };
        let mut gone: Burst<Mbuf> = frames.drain(..count).collect();
        Mbuf::free_bulk(&mut gone);
        Some(sent)
    }
}

/// How many frames, from the first on, one batch can have: finished ones that are not too long, all of the same EtherType.
fn alike<'a>(frames: impl Iterator<Item = &'a Mbuf>) -> usize {
    let mut first = None;
    let fits = |frame: &&Mbuf| {
        let ether_type = ether_type(frame);
        let is_alike = ether_type.is_some() && ether_type == *first.get_or_insert(ether_type);
        is_alike && !frame.is_unfinished() && frame.total_len() <= LONGEST
    };
    frames.take(MOST_FRAMES).take_while(fits).count()
}

/// The frames and bytes that were sent. `queues`: as in [`loss`].
fn tally<'a>(
    outcomes: &[i32],
    frames: impl Iterator<Item = &'a Mbuf>,
    queues: bool,
    counters: &PortCounters,
) -> (u64, u64) {
    let (mut sent, mut bytes) = (0, 0);
    for (&outcome, frame) in outcomes.iter().zip(frames) {
        match loss(outcome, queues) {
            None => (sent, bytes) = (sent + 1, bytes + frame.total_len() as u64),
            Some(reason) => counters.dropped(reason, 1),
        }
    }
    (sent, bytes)
}

/// Why a frame was not sent. `queues`: whether the interface may have a queueing discipline.
fn loss(outcome: i32, queues: bool) -> Option<DropReason> {
    match outcome {
        0 => None,
        CONGESTED if !queues => Some(DropReason::LinkDown),
        1.. => Some(DropReason::TxQueueFull),
        error => Some(match error.wrapping_neg() {
            libc::ENOMEM => DropReason::NoBuffer,
            // It is gone, or going down.
            libc::ENODEV | libc::EINVAL | libc::ENETDOWN => DropReason::LinkDown,
            _ => DropReason::TxError,
        }),
    }
}

/// As it is on the wire.
fn ether_type(frame: &Mbuf) -> Option<[u8; 2]> {
    frame.head().get(ETHER_TYPE)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_of_a_frame_is_a_reason_or_none() {
        let told = [
            (0, None),
            (1, Some(DropReason::TxQueueFull)),
            (CONGESTED, Some(DropReason::LinkDown)),
            (-libc::ENODEV, Some(DropReason::LinkDown)),
            (-libc::ENETDOWN, Some(DropReason::LinkDown)),
            (-libc::ENOMEM, Some(DropReason::NoBuffer)),
            (-libc::EMSGSIZE, Some(DropReason::TxError)),
            (i32::MIN, Some(DropReason::TxError)),
        ];
        for (outcome, reason) in told {
            assert_eq!(loss(outcome, false), reason, "{outcome}");
        }
        assert_eq!(loss(CONGESTED, true), Some(DropReason::TxQueueFull));
    }
}
