//! One queue of an AF_XDP port: what a worker polls.

mod sending;

use super::arena::{Arena, CHUNK, Lent};
use super::custody::Custody;
use super::handle::SharedSocket;
use super::incoming::Incoming;
use super::large::Large;
use super::parts::{Arrival, Assembly, Reach};
use super::program::Steering;
use super::socket::{Rings, wake_receiver};
use crate::batch::Outlet;
use crate::gso::Caps;
use crate::mbuf::Mbuf;
use crate::open_checksum;
use millrace_fastpath::port::{BURST, Burst, DropReason, Frame, PortCounters, PortQueue};
use std::collections::VecDeque;
use std::os::fd::RawFd;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

/// How long closing waits for frames that a driver is still reading.
const LAST_FRAMES: Duration = Duration::from_millis(100);

/// Chunks that are posted to the fill ring in one go, at least.
const REFILL: usize = 16;

/// What a queue is made from.
pub(super) struct Parts {
    pub(super) queue: u32,
    pub(super) arena: Arena,
    pub(super) counters: Arc<PortCounters>,
    pub(super) steering: Arc<Steering>,
    pub(super) socket: Arc<SharedSocket>,
    pub(super) fd: RawFd,
    pub(super) rings: Rings,
    /// Chunks to keep with the kernel for packets to come, at most the fill ring's slots.
    pub(super) ready: u32,
    /// Whether packets may come without their checksums.
    pub(super) open_checksums: bool,
    /// Chunks that a frame may take.
    pub(super) reach: Reach,
    /// The way for large frames, where they are not cut first.
    pub(super) large: Option<Large>,
    /// The way for many small frames at once, if there is one.
    pub(super) outlet: Option<Outlet>,
    /// Where packets come in, if not by the socket.
    pub(super) incoming: Option<Incoming>,
}

/// One queue. Each chunk is either a frame that somebody owns, or in `custody`.
pub(super) struct XdpQueue {
    queue: u32,
    arena: Arena,
    counters: Arc<PortCounters>,
    steering: Arc<Steering>,
    socket: Arc<SharedSocket>,
    fd: RawFd,
    /// `None` only at the end: they are unmapped before the socket is closed.
    rings: Option<Rings>,
    custody: Custody,
    ready: usize,
    /// Chunks with the kernel for sending; the rest of `custody` is for receiving.
    sending: usize,
    /// Frames were handed over since the kernel was last woken.
    unsent: bool,
    /// What could not go out yet: pieces of a large frame, or one frame that waits for `large`.
    pieces: VecDeque<Mbuf>,
    /// So many of them, from the first on, are known to go each by itself.
    alone: usize,
    large: Option<Large>,
    outlet: Option<Outlet>,
    incoming: Option<Incoming>,
    open_checksums: bool,
    reach: Reach,
    /// What the kernel takes: finished frames.
    caps: Caps,
    /// A frame of which a part has arrived.
    assembly: Assembly<Mbuf>,
}

impl XdpQueue {
    /// A queue whose fill ring is filled.
    pub(super) fn new(parts: Parts) -> XdpQueue {
        let custody = Custody::new(parts.arena.chunks());
        let mut queue = XdpQueue {
            queue: parts.queue,
            arena: parts.arena,
            counters: parts.counters,
            steering: parts.steering,
            socket: parts.socket,
            fd: parts.fd,
            rings: Some(parts.rings),
            custody,
            ready: parts.ready as usize,
            sending: 0,
            unsent: false,
            pieces: VecDeque::with_capacity(2 * BURST),
            alone: 0,
            large: parts.large,
            outlet: parts.outlet,
            incoming: parts.incoming,
            open_checksums: parts.open_checksums,
            reach: parts.reach,
            caps: Caps::none(parts.reach.longest_sent()),
            assembly: Assembly::Idle,
        };
        while queue.refill() {}
        queue
    }

    /// Posts chunks for packets to come. False when there was nothing to do or the arena is empty.
    fn refill(&mut self) -> bool {
        let missing = (self.ready + self.sending).saturating_sub(self.custody.held());
        if missing < REFILL.min(self.ready) {
            return false;
        }
        let Some(rings) = &mut self.rings else { return false };
        // The kernel shows received packets first, and then that their slots in the fill ring are free (`xsk_flush`).
        let missing = missing.min(rings.fill.free(missing as u32) as usize);
        if missing == 0 {
            return false;
        }
        let mut fresh = Burst::new();
        // The last few chunks of an almost empty arena are better than none.
        if !self.arena.pool().alloc_bulk(&mut fresh, missing.min(BURST))
            && !self.arena.pool().alloc_bulk(&mut fresh, 1)
        {
            return false;
        }
        for frame in fresh {
            let Ok(Lent { chunk, .. }) = self.arena.lend(frame) else { continue };
            let posted = self.custody.hand_over(chunk) && rings.fill.push(u64::from(chunk.0 * CHUNK));
            debug_assert!(posted, "there is a slot for each chunk");
        }
        rings.fill.publish();
        true
    }

    /// Turns a received descriptor into a frame; nothing when the kernel says what cannot be.
    fn accept(&mut self, descriptor: libc::xdp_desc) -> Option<Mbuf> {
        let (chunk, offset) = self.arena.locate(descriptor.addr)?;
        if !self.custody.take_back(chunk) {
            return None;
        }
        let len = if descriptor.len <= CHUNK - offset { descriptor.len } else { 0 };
        // SAFETY: the chunk was in custody until just now, so it was lent and nobody else has it.
        let frame = unsafe { self.arena.reclaim(chunk, offset, len) };
        (len != 0).then_some(frame)
    }

    /// What a received descriptor makes.
    #[inline]
    fn arrival(&mut self, descriptor: libc::xdp_desc) -> Arrival<Mbuf> {
        let is_last = descriptor.options & libc::XDP_PKT_CONTD == 0;
        let part = self.accept(descriptor);
        if is_last && self.assembly.is_idle() {
            return part.map_or(Arrival::Malformed, Arrival::Frame);
        }
        self.assembly.add(part, is_last)
    }

    /// Takes back what the kernel has sent.
    fn reap(&mut self) {
        let Some(rings) = &mut self.rings else { return };
        let mut done: Burst<Mbuf> = Burst::new();
        while let Some(address) = rings.completion.pop() {
            let Some((chunk, offset)) = self.arena.locate(address) else { continue };
            if !self.custody.take_back(chunk) {
                continue;
            }
            self.sending -= 1;
            // SAFETY: the chunk was in custody until just now, so it was lent and nobody else has it.
            done.push(unsafe { self.arena.reclaim(chunk, offset, 0) });
            if done.is_full() {
                Mbuf::free_bulk(&mut done);
            }
        }
        rings.completion.release();
        if !done.is_empty() {
            Mbuf::free_bulk(&mut done);
        }
    }

    /// Gives everything back. Only when the kernel has let go of the chunks may they be used again.
    fn close(&mut self) {
        self.steering.leave(self.queue);
        self.send_waiting();
        self.counters.dropped(DropReason::PortGone, self.pieces.len() as u64);
        self.pieces.clear();
        let deadline = Instant::now() + LAST_FRAMES;
        while self.sending > 0 && Instant::now() < deadline {
            self.wake();
            self.reap();
            if self.sending > 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        self.socket.count_losses(&self.counters);
        self.arena.unbind(self.fd);
        // A mapping keeps the socket open, and an open socket keeps the queue busy.
        self.rings = None;
        self.socket.close();
        for chunk in self.custody.drain() {
            // SAFETY: the chunk was in custody until just now, and with the socket the kernel's last use has ended.
            drop(unsafe { self.arena.reclaim(chunk, 0, 0) });
        }
    }
}

impl PortQueue<Mbuf> for XdpQueue {
    fn rx_burst(&mut self, into: &mut Burst<Mbuf>) -> usize {
        if let Some(incoming) = &mut self.incoming {
            return incoming.rx_burst(into);
        }
        let (before, mut bytes, mut malformed, mut taken) = (into.len(), 0, 0, 0);
        while !into.is_full() {
            let Some(descriptor) = self.rings.as_mut().and_then(|rings| rings.rx.pop()) else { break };
            taken += 1;
            match self.arrival(descriptor) {
                Arrival::Frame(frame) => {
                    bytes += frame.total_len() as u64;
                    into.push(frame);
                }
                Arrival::Part => {}
                Arrival::Malformed => malformed += 1,
            }
        }
        malformed += u64::from(self.assembly.end());
        let frames = into.len() - before;
        if taken > 0 {
            if let Some(rings) = &self.rings {
                rings.rx.release();
            }
            self.counters.received(frames as u64, bytes);
        }
        if self.open_checksums {
            into[before..].iter_mut().for_each(open_checksum::close);
        }
        if malformed > 0 {
            self.counters.dropped(DropReason::RxMalformed, malformed);
        }
        while self.refill() && taken > BURST {
            taken -= BURST;
        }
        frames
    }

    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let offered = frames.len();
        let (mut sent, mut bytes) = self.send_pieces();
        let mut waiting = std::mem::take(frames).into_iter();
        while self.pieces.is_empty() && waiting.len() > 0 && self.has_room(1) {
            self.gather(&mut waiting);
            let (more_frames, more_bytes) = match self.pieces.is_empty() {
                true => waiting.next().map_or((0, 0), |frame| self.send(frame)),
                false => self.send_pieces(),
            };
            (sent, bytes) = (sent + more_frames, bytes + more_bytes);
        }
        frames.extend(waiting);
        self.publish();
        if sent > 0 {
            self.counters.sent(sent, bytes);
        }
        offered - frames.len()
    }

    fn flush(&mut self) {
        self.send_waiting();
        self.wake_and_reap();
        if self.rings.as_ref().is_some_and(|rings| rings.fill.wants_wakeup()) {
            wake_receiver(self.fd);
        }
    }

    fn arm(&mut self) -> bool {
        // The descriptor is readable while the ring is not empty: nothing to be asked for, and nothing to be lost.
        // The socket for large frames tells nobody when it has room again.
        let waits = !self.pieces.is_empty() || (self.large.is_some() && self.unsent);
        if let Some(incoming) = &mut self.incoming {
            return !waits && incoming.arm();
        }
        !waits && self.rings.as_mut().is_some_and(|rings| rings.rx.is_empty())
    }

    fn disarm(&mut self) {
        if let Some(incoming) = &mut self.incoming {
            incoming.disarm();
        }
    }

    fn wake_fds(&self) -> Vec<i32> {
        self.incoming.as_ref().map_or_else(|| vec![self.fd], Incoming::wake_fds)
    }
}

impl Drop for XdpQueue {
    fn drop(&mut self) {
        self.close();
    }
}
