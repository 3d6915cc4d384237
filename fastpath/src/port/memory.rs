//! Frames in plain memory and a queue of them, for tests, benchmarks and fuzzing.

use super::{Burst, Frame, Offload, PortQueue};
use std::collections::VecDeque;

/// Bytes that a [`BufferFrame`] keeps free before the packet: as much as an mbuf does (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: usize = 128;

/// A frame in ordinary memory: one segment, with headroom and tailroom.
#[derive(Clone, Debug)]
pub struct BufferFrame {
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    offload: Offload,
}

impl BufferFrame {
    /// A frame with the content `packet`, 128 bytes of headroom before it and 64 bytes behind it.
    pub fn new(packet: &[u8]) -> Self {
        let mut buffer = vec![0; HEADROOM + packet.len() + 64].into_boxed_slice();
        buffer[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
        BufferFrame { buffer, start: HEADROOM, end: HEADROOM + packet.len(), offload: Offload::NONE }
    }

    /// The same, with offload state.
    pub fn with_offload(packet: &[u8], offload: Offload) -> Self {
        BufferFrame { offload, ..BufferFrame::new(packet) }
    }

    /// Overwrites the content in place, without allocating; the headroom is 128 bytes of headroom again. The content is
    /// cut where the buffer ends.
    pub fn refill(&mut self, packet: &[u8]) {
        let len = packet.len().min(self.buffer.len() - HEADROOM);
        self.buffer[HEADROOM..HEADROOM + len].copy_from_slice(&packet[..len]);
        (self.start, self.end) = (HEADROOM, HEADROOM + len);
        self.offload = Offload::NONE;
    }
}

impl Frame for BufferFrame {
    fn head(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    fn head_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start..self.end]
    }

    fn total_len(&self) -> usize {
        self.end - self.start
    }

    fn offload(&self) -> Offload {
        self.offload
    }

    fn set_offload(&mut self, offload: Offload) {
        self.offload = offload;
    }

    fn prepend(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.start;
        if enough {
            self.start -= bytes;
        }
        enough
    }

    fn trim_front(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.end - self.start;
        if enough {
            self.start += bytes;
        }
        enough
    }

    fn append(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.buffer.len() - self.end;
        if enough {
            self.buffer[self.end..self.end + bytes].fill(0);
            self.end += bytes;
        }
        enough
    }

    fn truncate(&mut self, len: usize) {
        self.end = self.end.min(self.start + len);
    }
}

/// A queue in plain memory: what is pushed to `arrived` is received, what is sent lands in `sent`.
#[derive(Debug, Default)]
pub struct MemoryQueue<F> {
    /// Frames that wait to be received.
    pub arrived: VecDeque<F>,
    /// Frames that were sent, in order.
    pub sent: Vec<F>,
}

impl<F: Frame> PortQueue<F> for MemoryQueue<F> {
    fn rx_burst(&mut self, into: &mut Burst<F>) -> usize {
        let count = self.arrived.len().min(into.remaining_capacity());
        into.extend(self.arrived.drain(..count));
        count
    }

    fn tx_burst(&mut self, frames: &mut Burst<F>) -> usize {
        let count = frames.len();
        self.sent.extend(frames.drain(..));
        count
    }
}
