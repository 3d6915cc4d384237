//! The workers' side of a vhost-user port.

use super::shared::{Shared, Sink};
use crate::gro;
use crate::gso::{self, Caps, LARGEST_FRAME};
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use dpdk_sys as sys;
use millrace_fastpath::port::{BURST, Burst, DropReason, Frame, PortCounters, PortQueue};
use std::collections::VecDeque;
use std::ffi::c_int;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};

/// Frames that the library moves in one call, at most (its `MAX_PKT_BURST`).
const LIBRARY_BURST: usize = 32;

/// Segments of a frame from a guest, at most: 64 KiB in the smallest buffers that a pool may have, and some.
const MOST_SEGMENTS: usize = 128;

/// Bytes of an Ethernet header: a shorter frame is none.
const SHORTEST_FRAME: usize = 14;

/// One queue: rings `2 · index` and `2 · index + 1` of the guest, and those of every `queues`-th pair after it.
pub(super) struct VhostQueue {
    shared: Arc<Shared>,
    index: usize,
    pool: Mempool,
    counters: Arc<PortCounters>,
    /// Frames that wait to be sent: pieces of large ones, and what came with them.
    pending: VecDeque<Mbuf>,
    /// A frame that `arm` came upon.
    early: Option<Mbuf>,
}

impl VhostQueue {
    pub(super) fn new(shared: Arc<Shared>, index: usize, pool: Mempool, counters: Arc<PortCounters>) -> Self {
        VhostQueue { shared, index, pool, counters, pending: VecDeque::new(), early: None }
    }

    /// Takes what the rings of this queue have, unchecked.
    fn dequeue(&self, into: &mut Burst<Mbuf>, room: usize) {
        let Some(source) = self.shared.source() else { return };
        let limit = (into.len() + room).min(into.capacity());
        for pair in (self.index as u16..source.pairs).step_by(self.shared.wakers.len()) {
            while into.len() < limit {
                let want = (limit - into.len()).min(LIBRARY_BURST);
                let end = into.as_mut_ptr().wrapping_add(into.len()).cast::<*mut sys::rte_mbuf>();
                // SAFETY: room for `want` pointers at `end`. The guest stays while this poll lasts: `source` was
                // read in it. The library writes pointers to whole frames that it allocated.
                let count = unsafe {
                    sys::rte_vhost_dequeue_burst(
                        c_int::from(source.vid),
                        pair * 2 + 1,
                        self.pool.as_ptr(),
                        end,
                        want as u16,
                    )
                };
                let count = usize::from(count).min(want);
                // SAFETY: within the capacity, and `count` more elements were written; an `Mbuf` is a pointer.
                unsafe { into.set_len(into.len() + count) };
                if count < want {
                    break;
                }
            }
        }
    }

    /// Whether `frame` can be given to the guest as it is.
    fn goes_as_it_is(frame: &Mbuf, caps: &Caps) -> bool {
        if !frame.is_unfinished() {
            return frame.total_len() <= caps.max_frame;
        }
        let offload = frame.offload();
        let limit = if offload.gso.is_some() { LARGEST_FRAME } else { caps.max_frame };
        caps.takes(&offload) && frame.headers_bear_out() && frame.total_len() <= limit
    }

    /// Gives the guest as many frames from the front as it takes, and removes them.
    fn enqueue(&self, sink: &Sink, frames: &mut Burst<Mbuf>) {
        let mut sent = 0;
        while sent < frames.len() {
            let want = (frames.len() - sent).min(LIBRARY_BURST);
            let start = frames.as_mut_ptr().wrapping_add(sent).cast::<*mut sys::rte_mbuf>();
            // SAFETY: `want` frames at `start`, whose headers are in their heads if they have work left to be done.
            // The guest stays while this poll lasts: `sink` was read in it. The library copies them.
            let count =
                unsafe { sys::rte_vhost_enqueue_burst(c_int::from(sink.vid), sink.ring, start, want as u16) };
            let count = usize::from(count).min(want);
            sent += count;
            if count < want {
                break;
            }
        }
        let bytes: usize = frames[..sent].iter().map(Frame::total_len).sum();
        Mbuf::free_front(frames, sent);
        if sent > 0 {
            self.counters.sent(sent as u64, bytes as u64);
        }
    }

    /// Sends frames of which some must be settled first. All pass through `pending`, in order.
    #[cold]
    fn settle_and_enqueue(&mut self, sink: &Sink, frames: &mut Burst<Mbuf>) {
        // What waits is bounded: by a burst, and by the pieces of one large frame.
        while self.pending.len() < BURST && !frames.is_empty() {
            let Some(frame) = frames.pop_at(0) else { break };
            if Self::goes_as_it_is(&frame, &sink.caps) {
                self.pending.push_back(frame);
            } else if let Err(reason) = gso::settle(frame, &sink.caps, &self.pool, &mut self.pending) {
                self.counters.dropped(reason, 1);
            }
        }
        self.enqueue_pending(sink);
    }

    fn enqueue_pending(&mut self, sink: &Sink) {
        while !self.pending.is_empty() {
            let count = self.pending.len().min(BURST);
            let mut burst: Burst<Mbuf> = self.pending.drain(..count).collect();
            self.enqueue(sink, &mut burst);
            if !burst.is_empty() {
                burst.into_iter().rev().for_each(|frame| self.pending.push_front(frame));
                return;
            }
        }
    }

    fn lose(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let count = frames.len();
        self.counters.dropped(DropReason::LinkDown, (count + self.pending.len()) as u64);
        self.pending.clear();
        Mbuf::free_bulk(frames);
        count
    }

    fn notify(&self, enable: c_int) {
        let Some(source) = self.shared.source() else { return };
        for pair in (self.index as u16..source.pairs).step_by(self.shared.wakers.len()) {
            // SAFETY: the guest stays while this poll lasts; the library checks the ring.
            unsafe {
                sys::rte_vhost_enable_guest_notification(c_int::from(source.vid), pair * 2 + 1, enable)
            };
        }
    }
}

impl PortQueue<Mbuf> for VhostQueue {
    fn rx_burst(&mut self, into: &mut Burst<Mbuf>) -> usize {
        let before = into.len();
        if let Some(early) = self.early.take() {
            match into.try_push(early) {
                Ok(()) => {}
                Err(full) => self.early = Some(full.element()),
            }
        }
        self.dequeue(into, BURST);
        if into.len() == before {
            return 0;
        }
        let mut bytes = 0;
        let mut sound = true;
        for frame in &into[before..] {
            bytes += frame.total_len();
            sound &= is_sound(frame);
        }
        let received = into.len() - before;
        self.counters.received(received as u64, bytes as u64);
        if !sound {
            drop_unsound(into, before, &self.counters);
        }
        into.len() - before
    }

    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let Some(sink) = self.shared.sink(self.index) else { return self.lose(frames) };
        let offered = frames.len();
        gro::coalesce(frames, &sink.caps);
        let direct =
            self.pending.is_empty() && frames.iter().all(|frame| Self::goes_as_it_is(frame, &sink.caps));
        if direct {
            self.enqueue(&sink, frames);
        } else {
            self.settle_and_enqueue(&sink, frames);
        }
        offered - frames.len()
    }

    fn flush(&mut self) {
        if !self.pending.is_empty()
            && let Some(sink) = self.shared.sink(self.index)
        {
            self.enqueue_pending(&sink);
        }
    }

    fn arm(&mut self) -> bool {
        if self.early.is_some() || !self.pending.is_empty() {
            return false;
        }
        self.shared.wakers[self.index].clear();
        self.notify(1);
        // The guest looks at the flag after it has filled the ring, and we at the ring after we have set the flag.
        fence(Ordering::SeqCst);
        // The library's own count knows split rings only; so a frame is taken to see whether there is one.
        let mut found = Burst::new();
        self.dequeue(&mut found, 1);
        self.early = found.pop();
        if self.early.is_some() {
            self.notify(0);
        }
        self.early.is_none()
    }

    fn disarm(&mut self) {
        self.notify(0);
        self.shared.wakers[self.index].clear();
    }

    fn wake_fds(&self) -> Vec<i32> {
        vec![self.shared.wakers[self.index].fd()]
    }
}

/// Whether the rest of the program may see a frame from a guest.
fn is_sound(frame: &Mbuf) -> bool {
    let (length, flags) = (frame.total_len(), frame.flags());
    let l4 = flags & sys::MILLRACE_TX_L4_MASK;
    // Neither SCTP's checksum nor UDP fragmentation was offered.
    let offered = flags & sys::MILLRACE_TX_UDP_SEG == 0 && l4 != sys::MILLRACE_TX_SCTP_CKSUM;
    (SHORTEST_FRAME..=LARGEST_FRAME).contains(&length)
        && frame.head().len() >= SHORTEST_FRAME
        && frame.segment_count() <= MOST_SEGMENTS
        && offered
}

#[cold]
fn drop_unsound(frames: &mut Burst<Mbuf>, from: usize, counters: &PortCounters) {
    let mut index = 0;
    let before = frames.len();
    frames.retain(|frame| {
        index += 1;
        index <= from || is_sound(frame)
    });
    counters.dropped(DropReason::RxMalformed, (before - frames.len()) as u64);
}
