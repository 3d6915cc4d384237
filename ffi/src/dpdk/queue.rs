//! What a worker polls of a DPDK port.

use crate::gso::{self, Caps, LARGEST_FRAME};
use crate::mbuf::Mbuf;
use crate::mempool::Mempool;
use crate::open_checksum;
use dpdk_sys as sys;
use millrace_fastpath::port::{BURST, Burst, DropReason, Frame, PortCounters, PortQueue};
use std::collections::VecDeque;
use std::sync::Arc;

/// One receive and one transmit queue.
pub(super) struct DpdkQueue {
    pub(super) port: u16,
    pub(super) queue: u16,
    pub(super) caps: Caps,
    /// Whether the device takes chains of segments.
    pub(super) chains: bool,
    /// Whether packets may come without their checksums.
    pub(super) open_checksums: bool,
    pub(super) pool: Mempool,
    pub(super) counters: Arc<PortCounters>,
    pub(super) pending: VecDeque<Mbuf>,
}

impl DpdkQueue {
    fn goes_as_it_is(&self, frame: &Mbuf) -> bool {
        let whole = self.chains || frame.segment_count() == 1;
        whole && !frame.is_unfinished() && frame.total_len() <= self.caps.max_frame
    }

    /// Gives the device as many frames from the front as it takes, and removes them.
    fn transmit(&self, frames: &mut Burst<Mbuf>) -> usize {
        let total = frames.len();
        let bytes: usize = frames.iter().map(Frame::total_len).sum();
        let start = frames.as_mut_ptr().cast::<*mut sys::rte_mbuf>();
        // SAFETY: `total` frames; a started port; this queue has one user. The device takes over the first `sent`.
        let sent = unsafe { sys::millrace_eth_tx_burst(self.port, self.queue, start, total as u16) };
        let sent = usize::from(sent).min(total);
        Mbuf::forget_front(frames, sent);
        let left: usize = frames.iter().map(Frame::total_len).sum();
        if sent > 0 {
            self.counters.sent(sent as u64, (bytes - left) as u64);
        }
        sent
    }

    #[cold]
    fn settle_and_transmit(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let mut taken = 0;
        while self.pending.len() < BURST && !frames.is_empty() {
            let Some(frame) = frames.pop_at(0) else { break };
            taken += 1;
            let before = self.pending.len();
            match gso::settle(frame, &self.caps, &self.pool, &mut self.pending) {
                Ok(()) => self.prepare(before),
                Err(reason) => self.counters.dropped(reason, 1),
            }
        }
        self.transmit_pending();
        taken
    }

    /// Does to the settled frames from `from` on what this device's driver wants done.
    fn prepare(&mut self, from: usize) {
        let mut index = from;
        while index < self.pending.len() {
            let Some(mut frame) = self.pending.remove(index) else { return };
            if !self.chains && frame.segment_count() > 1 {
                match self.pool.alloc_with(&frame.to_vec()) {
                    Some(copy) if copy.segment_count() == 1 && !frame.is_unfinished() => frame = copy,
                    _ => {
                        self.counters.dropped(DropReason::TxUnsupported, 1);
                        continue;
                    }
                }
            }
            if frame.is_unfinished() && !self.prepare_offload(&mut frame) {
                self.counters.dropped(DropReason::TxUnsupported, 1);
                continue;
            }
            self.pending.insert(index, frame);
            index += 1;
        }
    }

    fn prepare_offload(&self, frame: &mut Mbuf) -> bool {
        if frame.offload().gso.is_some_and(|gso| gso.kind == millrace_fastpath::port::GsoKind::TcpV4) {
            frame.request_ipv4_checksum();
        }
        let mut pointer = frame.as_ptr();
        // SAFETY: one frame whose headers are in its head; the driver may rewrite checksums in it.
        unsafe { sys::millrace_eth_tx_prepare(self.port, self.queue, &raw mut pointer, 1) == 1 }
    }

    fn transmit_pending(&mut self) {
        while !self.pending.is_empty() {
            let count = self.pending.len().min(BURST);
            let mut burst: Burst<Mbuf> = self.pending.drain(..count).collect();
            self.transmit(&mut burst);
            if !burst.is_empty() {
                burst.into_iter().rev().for_each(|frame| self.pending.push_front(frame));
                return;
            }
        }
    }
}

impl PortQueue<Mbuf> for DpdkQueue {
    fn rx_burst(&mut self, into: &mut Burst<Mbuf>) -> usize {
        let (before, room) = (into.len(), into.remaining_capacity());
        let end = into.as_mut_ptr().wrapping_add(before).cast::<*mut sys::rte_mbuf>();
        // SAFETY: room for `room` pointers at `end`; a started port; this queue has one user.
        let count = unsafe { sys::millrace_eth_rx_burst(self.port, self.queue, end, room as u16) };
        let count = usize::from(count).min(room);
        // SAFETY: within the capacity, and `count` more elements were written; an `Mbuf` is a pointer.
        unsafe { into.set_len(before + count) };
        if count == 0 {
            return 0;
        }
        let bytes: usize = into[before..].iter().map(Frame::total_len).sum();
        self.counters.received(count as u64, bytes as u64);
        if into[before..].iter().any(|frame| !is_sound(frame)) {
            let mut index = 0;
            into.retain(|frame| {
                index += 1;
                index <= before || is_sound(frame)
            });
            self.counters.dropped(DropReason::RxMalformed, (before + count - into.len()) as u64);
        }
        if self.open_checksums {
            into[before..].iter_mut().for_each(open_checksum::close);
        }
        into.len() - before
    }

    fn tx_burst(&mut self, frames: &mut Burst<Mbuf>) -> usize {
        let direct = self.pending.is_empty() && frames.iter().all(|frame| self.goes_as_it_is(frame));
        if direct { self.transmit(frames) } else { self.settle_and_transmit(frames) }
    }

    fn flush(&mut self) {
        self.transmit_pending();
    }
}

/// Whether the rest of the program may see a frame from a device.
fn is_sound(frame: &Mbuf) -> bool {
    frame.head().len() >= 14 && frame.total_len() <= LARGEST_FRAME
}
