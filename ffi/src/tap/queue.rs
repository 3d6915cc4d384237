//! One queue of a TAP: what a worker polls.

use super::file::TapFile;
use super::open::TapPools;
use super::pace::Pace;
use crate::batch::Outlet;
use crate::gro;
use crate::gso::{self, Caps};
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use crate::virtio_header::{self, TUNNEL_HEADER_LEN};
use arrayvec::{ArrayVec, IntoIter};
use millrace_fastpath::port::{BURST, Burst, DropReason, Frame, PortCounters, PortQueue};
use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::sync::Arc;

/// Frames that one poll reads at most: each may hold one of the large buffers.
const READS: usize = 32;

/// Bytes after which a poll reads no more: they are to be in the processor's caches still when they are written.
const BYTES: u64 = 192 << 10;

/// Pieces of memory that one write takes: the header, and a frame of 64 KiB in buffers of 2 KiB.
const PIECES: usize = 64;

/// Bytes of an Ethernet header: a frame has at least that.
const ETHERNET: usize = 14;

/// One queue of a TAP.
pub(crate) struct TapQueue {
    file: Arc<TapFile>,
    pool: Mempool,
    large: Mempool,
    counters: Arc<PortCounters>,
    caps: Caps,
    pace: Pace,
    /// Empty buffers for the packet to come: most fit into the first alone.
    parked: Option<(Mbuf, Mbuf)>,
    /// Frames that are settled and not written yet.
    settled: VecDeque<Mbuf>,
    /// The way for many finished frames at once, if there is one.
    outlet: Option<Outlet>,
}

/// What became of a frame that was to be written.
enum Written {
    Sent(u64),
    /// The kernel cannot take it now.
    Later,
    Lost(DropReason),
}

impl TapQueue {
    /// A queue that takes its buffers from `pools`.
    pub(crate) fn new(file: Arc<TapFile>, pools: &TapPools, counters: Arc<PortCounters>) -> TapQueue {
        let (pool, large) = (pools.small().clone(), pools.large().clone());
        let uso = file.carries_large_udp();
        let caps = Caps { checksum: true, tso4: true, tso6: true, uso, max_frame: gso::LARGEST_FRAME };
        let settled = VecDeque::with_capacity(BURST);
        let pace = Pace::new();
        TapQueue { file, pool, large, counters, caps, pace, parked: None, settled, outlet: None }
    }

    /// The queue with a way for many finished frames, which leads to where those come that are written.
    pub(crate) fn with_outlet(mut self, outlet: Option<Outlet>) -> TapQueue {
        self.outlet = outlet;
        self
    }

    /// Reads one packet. Nothing when there is none, or no buffer.
    fn read(&mut self) -> Option<Result<Mbuf, DropReason>> {
        let Some((mut frame, mut tail)) = self.parked.take().or_else(|| self.buffers()) else {
            // The packet stays with the kernel, whose queue is bounded: it is not lost here.
            return None;
        };
        let mut header = [0; TUNNEL_HEADER_LEN];
        let header_len = self.file.header_len();
        let (room, more) = (frame.tailroom(), tail.tailroom());
        let mut outcome = Ok(0);
        frame.extend_with(room, |first| {
            tail.extend_with(more, |rest| {
                let into = [&mut header[..header_len], first, rest];
                outcome = self.file.read(&mut into.map(IoSliceMut::new));
            });
        });
        let Some(len) = outcome.ok().map(|bytes| bytes.saturating_sub(header_len)) else {
            frame.truncate(0);
            tail.truncate(0);
            self.parked = Some((frame, tail));
            return None;
        };
        tail.truncate(len.saturating_sub(room));
        if len > room {
            if frame.chain(tail).is_err() {
                return Some(Err(DropReason::RxMalformed));
            }
        } else {
            frame.truncate(len);
            self.parked = self.pool.alloc().map(|next| (next, tail));
        }
        let offload = self.file.decode(&header, frame.head().len());
        match offload {
            Ok(offload) if len >= ETHERNET => {
                frame.set_offload(offload);
                Some(Ok(frame))
            }
            _ => Some(Err(DropReason::RxMalformed)),
        }
    }

    fn buffers(&self) -> Option<(Mbuf, Mbuf)> {
        Some((self.pool.alloc()?, self.large.alloc()?))
    }

    fn write(&self, frame: &Mbuf) -> Written {
        let header = virtio_header::encode(frame.offload(), frame.head());
        let mut pieces: ArrayVec<IoSlice<'_>, PIECES> = ArrayVec::new();
        pieces.push(IoSlice::new(&header));
        for segment in frame.segments() {
            if pieces.try_push(IoSlice::new(segment)).is_err() {
                return Written::Lost(DropReason::TxUnsupported);
            }
        }
        match self.file.write(&pieces) {
            Ok(_) => Written::Sent(frame.total_len() as u64),
            Err(error) => refused(&error),
        }
    }

    /// Writes what is settled, up to what the kernel cannot take now; gives frames and bytes.
    fn write_settled(&mut self) -> (u64, u64) {
        let (mut frames, mut bytes) = (0, 0);
        loop {
            if let Some((more_frames, more_bytes)) = self.send_batch() {
                (frames, bytes) = (frames + more_frames, bytes + more_bytes);
                continue;
            }
            let Some(frame) = self.settled.pop_front() else { break };
            match self.write(&frame) {
                Written::Sent(len) => (frames, bytes) = (frames + 1, bytes + len),
                Written::Lost(reason) => self.counters.dropped(reason, 1),
                Written::Later => {
                    self.settled.push_front(frame);
                    break;
                }
            }
        }
        (frames, bytes)
    }

    /// Sends the first frames that are settled by one call, if they are many; gives the frames and bytes that were sent.
    fn send_batch(&mut self) -> Option<(u64, u64)> {
        let outlet = self.outlet.as_mut()?;
        let count = outlet.takes(&self.settled)?;
        outlet.send(&mut self.settled, count, &self.counters)
    }

    /// Has a frame wait, cut if need be.
    fn settle(&mut self, frame: Mbuf) {
        if self.caps.takes(&frame.offload()) {
            self.settled.push_back(frame);
        } else if let Err(reason) = gso::settle(frame, &self.caps, &self.pool, &mut self.settled) {
            self.counters.dropped(reason, 1);
        }
    }

    /// Has finished frames wait that are next, if they may go together.
    fn gather(&mut self, frames: &mut IntoIter<Mbuf, BURST>) {
        while self.outlet.is_some() && frames.as_slice().first().is_some_and(|first| !first.is_unfinished()) {
            self.settled.extend(frames.next());
        }
    }
}

fn refused(error: &io::Error) -> Written {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Written::Later,
        // The interface is not up.
        Some(libc::EIO) => Written::Lost(DropReason::LinkDown),
        _ => Written::Lost(DropReason::TxError),
    }
}

impl Drop for TapQueue {
    fn drop(&mut self) {
        self.counters.dropped(DropReason::PortGone, self.settled.len() as u64);
    }
}

impl PortQueue<Mbuf> for TapQueue {
    fn rx_burst(&mut self, into: &mut Burst<Mbuf>) -> usize {
        if !self.pace.due() {
            return 0;
        }
        let (mut frames, mut bytes) = (0, 0);
        while frames < READS && bytes < BYTES && !into.is_full() {
            match self.read() {
                None => break,
                Some(Err(reason)) => self.counters.dropped(reason, 1),
                Some(Ok(frame)) => {
                    bytes += frame.total_len() as u64;
                    frames += 1;
                    into.push(frame);
                }
            }
        }
        if frames == 0 {
            self.pace.idle();
        } else {
            self.pace.busy();
            self.counters.received(frames as u64, bytes);
        }
        frames
    }

    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let offered = frames.len();
        gro::coalesce(frames, &self.caps);
        let (mut sent, mut bytes) = self.write_settled();
        let mut waiting = std::mem::take(frames).into_iter();
        while self.settled.is_empty() && waiting.len() > 0 {
            self.gather(&mut waiting);
            if self.settled.is_empty() {
                waiting.next().into_iter().for_each(|frame| self.settle(frame));
            }
            let (more_frames, more_bytes) = self.write_settled();
            (sent, bytes) = (sent + more_frames, bytes + more_bytes);
        }
        frames.extend(waiting);
        if sent > 0 {
            self.counters.sent(sent, bytes);
        }
        offered - frames.len()
    }

    fn flush(&mut self) {
        if !self.settled.is_empty() {
            let (frames, bytes) = self.write_settled();
            self.counters.sent(frames, bytes);
        }
    }

    fn arm(&mut self) -> bool {
        // Nothing to ask for, and no need to look: the descriptor is readable for as long as a packet waits. It does not tell when the
        // kernel takes what waits here.
        self.settled.is_empty()
    }

    fn disarm(&mut self) {
        self.pace.busy();
    }

    fn wake_fds(&self) -> Vec<i32> {
        vec![self.file.raw()]
    }
}
