//! Frames that leave by a queue of another worker.

use crate::port::PortId;
use core::sync::atomic::{AtomicBool, Ordering, fence};
use rtrb::{Consumer, Producer, RingBuffer};
use std::sync::Arc;

/// Wakes a sleeping worker; may be called from any thread.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// One worker's ends of the rings to and from all others: single producer, single consumer, no lock.
pub struct Handover<F> {
    outgoing: Vec<Option<Outgoing<F>>>,
    incoming: Vec<Consumer<(PortId, F)>>,
    asleep: Arc<AtomicBool>,
}

struct Outgoing<F> {
    ring: Producer<(PortId, F)>,
    asleep: Arc<AtomicBool>,
    waker: Waker,
    /// Whether something was given since the last [`Handover::wake`].
    given: bool,
}

/// The rings between workers, each of `capacity` frames: one [`Handover`] for each worker, in the order of `wakers`,
/// which has one entry for each.
pub fn handover_mesh<F>(wakers: &[Waker], capacity: usize) -> Vec<Handover<F>> {
    let mut ends: Vec<Handover<F>> = wakers
        .iter()
        .map(|_| Handover {
            outgoing: Vec::new(),
            incoming: Vec::new(),
            asleep: Arc::new(AtomicBool::new(false)),
        })
        .collect();
    for from in 0..wakers.len() {
        for (to, waker) in wakers.iter().enumerate() {
            if from == to {
                ends[from].outgoing.push(None);
                continue;
            }
            let (ring, consumer) = RingBuffer::new(capacity);
            let asleep = Arc::clone(&ends[to].asleep);
            let waker = Arc::clone(waker);
            ends[from].outgoing.push(Some(Outgoing { ring, asleep, waker, given: false }));
            ends[to].incoming.push(consumer);
        }
    }
    ends
}

impl<F> Handover<F> {
    /// Gives a frame to another worker, which sends it by `port`; gives it back when the ring is full.
    pub(super) fn give(&mut self, worker: usize, port: PortId, frame: F) -> Result<(), F> {
        let Some(Some(to)) = self.outgoing.get_mut(worker) else { return Err(frame) };
        to.given = true;
        to.ring.push((port, frame)).map_err(|rtrb::PushError::Full((_, frame))| frame)
    }

    /// Wakes the workers that were given something and sleep. At the end of every poll.
    pub(super) fn wake(&mut self) {
        for to in self.outgoing.iter_mut().flatten().filter(|to| to.given) {
            to.given = false;
            // Pairs with the fence in `set_asleep`: either we see that it sleeps, or it sees the frame.
            fence(Ordering::SeqCst);
            if to.asleep.load(Ordering::Relaxed) {
                (to.waker)();
            }
        }
    }

    /// Says whether this worker is to be woken; true when a frame waits already.
    pub(super) fn set_asleep(&self, asleep: bool) -> bool {
        self.asleep.store(asleep, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        self.incoming.iter().any(|ring| !ring.is_empty())
    }

    /// The next frame from the worker in this position among those that give to us.
    pub(super) fn take(&mut self, position: usize) -> Option<(PortId, F)> {
        self.incoming.get_mut(position)?.pop().ok()
    }

    /// How many workers give to us.
    pub(super) fn givers(&self) -> usize {
        self.incoming.len()
    }
}
