//! How frames go out: through the ring, or past it.

use super::XdpQueue;
use crate::gso;
use crate::mbuf::Mbuf;
use crate::xdp::arena::{LONGEST_SENT, Lent};
use crate::xdp::large::{Handed, Large};
use crate::xdp::socket::wake_transmitter;
use arrayvec::IntoIter;
use millrace_fastpath::port::{BURST, DropReason, Frame};
use std::ops::ControlFlow;

/// System calls that one wake-up makes at most, on kernels that send only 32 frames a call.
const CALLS_PER_WAKE: usize = 4;

/// What became of the first frames that waited: they wait on, or so many frames and bytes were taken. None may have been: then they
/// are not there any more as they were, or go another way.
type Step = ControlFlow<(), (u64, u64)>;

impl XdpQueue {
    /// Has the kernel send what it was handed, if it waits to be told. Keeps `unsent` when it could not take all.
    pub(super) fn wake(&mut self) {
        let Some(rings) = &mut self.rings else { return };
        for _ in 0..CALLS_PER_WAKE {
            if !rings.tx.wants_wakeup() {
                self.unsent = false;
                return;
            }
            let outcome = wake_transmitter(self.fd);
            if outcome.is_ok() || !rings.tx.pending() {
                self.unsent = false;
                return;
            }
            // EAGAIN: 32 frames are done, go on. Anything else: the device is busy or down, try in the next poll.
            if outcome.is_err_and(|error| error.raw_os_error() != Some(libc::EAGAIN)) {
                return;
            }
        }
    }

    /// True when the transmit ring has so many slots free, which is seen to if need be.
    pub(super) fn has_room(&mut self, slots: u32) -> bool {
        let Some(rings) = &mut self.rings else { return false };
        if rings.tx.free(slots) >= slots {
            return true;
        }
        rings.tx.publish();
        self.wake();
        self.reap();
        self.rings.as_mut().is_some_and(|rings| rings.tx.free(slots) >= slots)
    }

    /// Puts a finished frame into the transmit ring, which has room; gives its bytes. `None`: it was dropped and
    /// counted.
    fn put(&mut self, frame: Mbuf) -> Option<u64> {
        let outcome = match self.arena.lend(frame) {
            Ok(lent) => Ok(lent),
            Err(other) if other.total_len() > LONGEST_SENT as usize => return self.put_long(other),
            Err(foreign) => self.copy(&foreign),
        };
        match outcome {
            Ok(lent) => {
                self.push(lent, 0);
                Some(u64::from(lent.len))
            }
            Err(reason) => {
                self.counters.dropped(reason, 1);
                None
            }
        }
    }

    /// The same for a frame that takes several slots, for which there is room.
    fn put_long(&mut self, frame: Mbuf) -> Option<u64> {
        let (arena, reach) = (self.arena.clone(), self.reach);
        match reach.lend(&arena, frame, || self.chunk()) {
            Ok(parts) => {
                let last = parts.len().saturating_sub(1);
                let more = |at| if at == last { 0 } else { libc::XDP_PKT_CONTD };
                parts.iter().enumerate().for_each(|(at, lent)| self.push(*lent, more(at)));
                Some(parts.iter().map(|lent| u64::from(lent.len)).sum())
            }
            Err(reason) => {
                self.counters.dropped(reason, 1);
                None
            }
        }
    }

    /// A fresh chunk.
    fn chunk(&mut self) -> Option<Mbuf> {
        let fresh = self.arena.pool().alloc();
        if fresh.is_some() {
            return fresh;
        }
        self.reap();
        self.arena.pool().alloc()
    }

    /// Copies a frame of another pool, or of several segments, into a chunk and lends that.
    fn copy(&mut self, frame: &Mbuf) -> Result<Lent, DropReason> {
        let mut copy = self.chunk().ok_or(DropReason::NoBuffer)?;
        for segment in frame.segments() {
            if !copy.extend_from_slice(segment) {
                return Err(DropReason::TooBig);
            }
        }
        self.arena.lend(copy).map_err(|_| DropReason::TxError)
    }

    /// Hands a chunk over to be sent.
    fn push(&mut self, lent: Lent, options: u32) {
        self.custody.hand_over(lent.chunk);
        self.sending += 1;
        self.unsent = true;
        let descriptor = libc::xdp_desc { addr: lent.address, len: lent.len, options };
        let put = self.rings.as_mut().is_some_and(|rings| rings.tx.push(descriptor));
        debug_assert!(put, "the caller has seen to it that there is room");
    }

    /// Sends one frame, with nothing waiting before it: a large one, or where there is no way for those one of whatever state
    /// ([`gather`](Self::gather) has taken the others). Gives the frames and bytes that were taken.
    pub(super) fn send(&mut self, mut frame: Mbuf) -> (u64, u64) {
        if !frame.is_unfinished() && frame.total_len() <= LONGEST_SENT as usize {
            return self.put(frame).map_or((0, 0), |bytes| (1, bytes));
        }
        if self.large.as_mut().is_some_and(|large| large.takes(&mut frame)) {
            self.pieces.push_back(frame);
        } else {
            self.settle(frame);
        }
        self.send_pieces()
    }

    /// Has the frames wait that are next and go by the ring, where they may have company.
    pub(super) fn gather(&mut self, frames: &mut IntoIter<Mbuf, BURST>) {
        if self.large.is_none() && self.outlet.is_none() {
            return;
        }
        let is_tunnelled = |frame: &Mbuf| self.large.as_ref().is_some_and(|large| large.is_tunnelled(frame));
        let is_for_ring =
            |frame: &Mbuf| !frame.is_unfinished() || (frame.offload().gso.is_none() && !is_tunnelled(frame));
        let count = frames.as_slice().iter().take_while(|frame| is_for_ring(frame)).count();
        frames.take(count).for_each(|frame| self.settle(frame));
    }

    /// Has a frame wait, cut if need be.
    fn settle(&mut self, frame: Mbuf) {
        if let Err(reason) = gso::settle(frame, &self.caps, self.arena.pool(), &mut self.pieces) {
            self.counters.dropped(reason, 1);
        }
    }

    /// Sends what waits, as far as it can go; gives the frames and bytes that were taken.
    pub(super) fn send_pieces(&mut self) -> (u64, u64) {
        let (mut frames, mut bytes) = (0, 0);
        while !self.pieces.is_empty() {
            let (waiting, is_large) = (self.pieces.len(), self.has_large_waiting());
            let together = if is_large { None } else { self.together() };
            let step = match together {
                Some(count) => self.hand_over_together(count),
                None if is_large || self.large_is_busy() => self.hand_over(is_large),
                None => match self.outlet.as_mut().and_then(|outlet| outlet.takes(&self.pieces)) {
                    Some(count) => self.hand_over_batch(count),
                    None => self.put_first(),
                },
            };
            if !is_large {
                self.alone = self.alone.saturating_sub(waiting - self.pieces.len());
            }
            match step {
                ControlFlow::Break(()) => break,
                ControlFlow::Continue((more_frames, more_bytes)) => {
                    (frames, bytes) = (frames + more_frames, bytes + more_bytes);
                }
            }
        }
        (frames, bytes)
    }

    /// How many of the frames that wait, from the first on, are to go together.
    fn together(&mut self) -> Option<usize> {
        let large = self.large.as_mut().filter(|_| self.alone == 0)?;
        match large.takes_together(self.pieces.iter()) {
            Ok(count) => Some(count),
            Err(alone) => {
                self.alone = alone;
                None
            }
        }
    }

    /// Gives the first frames that wait to the way for large ones, or else they go each by itself.
    fn hand_over_together(&mut self, count: usize) -> Step {
        let handed = match self.is_drained() {
            true => self.large.as_mut().map(|large| large.send_together(self.pieces.iter().take(count))),
            false => None,
        };
        match handed {
            Some(Handed::Later) => ControlFlow::Break(()),
            Some(Handed::Whole) => self.taken(count),
            Some(Handed::Lost(reason)) => self.lost(count, reason),
            Some(Handed::Refused(_)) | None => {
                self.alone = count;
                ControlFlow::Continue((0, 0))
            }
        }
    }

    /// Sends the first frames that wait by one call, or else they go by the ring.
    fn hand_over_batch(&mut self, count: usize) -> Step {
        let is_drained = self.is_drained();
        let Some(outlet) = &mut self.outlet else { return ControlFlow::Continue((0, 0)) };
        if !is_drained {
            outlet.leave(count);
            return ControlFlow::Continue((0, 0));
        }
        let sent = outlet.send(&mut self.pieces, count, &self.counters);
        ControlFlow::Continue(sent.unwrap_or_default())
    }

    /// The first frames that waited have gone.
    fn taken(&mut self, count: usize) -> Step {
        let bytes = self.pieces.drain(..count).map(|frame| frame.total_len() as u64).sum();
        ControlFlow::Continue((count as u64, bytes))
    }

    /// They have not, and will not.
    fn lost(&mut self, count: usize, reason: DropReason) -> Step {
        self.counters.dropped(reason, count as u64);
        self.pieces.drain(..count);
        ControlFlow::Continue((0, 0))
    }

    /// Whether the next frame that waits is to go out whole, past the ring.
    fn has_large_waiting(&self) -> bool {
        self.pieces.front().is_some_and(Mbuf::is_unfinished)
    }

    /// Puts the first frame that waits into the ring.
    fn put_first(&mut self) -> Step {
        let Some(first) = self.pieces.front() else { return ControlFlow::Break(()) };
        let slots = self.reach.slots(&self.arena, first);
        if !self.has_room(slots) {
            return ControlFlow::Break(());
        }
        let put = self.pieces.pop_front().and_then(|piece| self.put(piece));
        ControlFlow::Continue(put.map_or((0, 0), |bytes| (1, bytes)))
    }

    /// Gives the first frame that waits to the way for large ones. What the ring was given before it goes first, or else it
    /// takes the same way, cut.
    fn hand_over(&mut self, is_large: bool) -> Step {
        let (amid, by_tap) = match (&self.large, self.pieces.front()) {
            (Some(large), Some(first)) => (large.is_amid(), is_large && large.goes_by_tap(first)),
            _ => (false, false),
        };
        if by_tap && !amid && self.unsent {
            // What was finished by others before may be of the same connection. It is sent by the call.
            self.publish();
            self.wake();
        }
        if is_large && !amid && !by_tap && !self.is_drained() {
            return self.cut_first(0);
        }
        let (Some(large), Some(first)) = (&mut self.large, self.pieces.front()) else {
            return self.cut_first(0);
        };
        match large.send(first) {
            Handed::Later => ControlFlow::Break(()),
            Handed::Refused(done) => self.cut_first(done),
            Handed::Lost(reason) => self.lost(1, reason),
            Handed::Whole => self.taken(1),
        }
    }

    /// Cuts the large frame that waits, and alone does. Its first pieces have gone out.
    fn cut_first(&mut self, gone: usize) -> Step {
        if let Some(frame) = self.pieces.pop_front() {
            self.settle(frame);
            self.pieces.drain(..gone.min(self.pieces.len()));
        }
        ControlFlow::Continue((0, 0))
    }

    /// Has all that the ring was given sent; true when it was.
    fn is_drained(&mut self) -> bool {
        self.publish();
        self.wake_and_reap();
        !self.unsent && self.sending == 0
    }

    /// Shows the kernel all that it was handed.
    pub(super) fn publish(&self) {
        if let Some(rings) = &self.rings {
            rings.tx.publish();
        }
    }

    /// Has the kernel go on with what it was shown, and takes back what it has sent.
    pub(super) fn wake_and_reap(&mut self) {
        if self.unsent {
            self.wake();
        }
        if self.sending > 0 {
            self.reap();
        }
    }

    /// Sends what waits, as far as it can go, counts it and shows it to the kernel.
    pub(super) fn send_waiting(&mut self) {
        if !self.pieces.is_empty() {
            let (frames, bytes) = self.send_pieces();
            self.counters.sent(frames, bytes);
            self.publish();
        }
    }

    /// Whether what went past the ring may be on its way still.
    fn large_is_busy(&mut self) -> bool {
        self.large.as_mut().is_some_and(Large::is_busy)
    }
}
