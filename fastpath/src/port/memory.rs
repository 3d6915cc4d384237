//! Frames in plain memory and a queue of them, for tests, benchmarks and fuzzing.

use super::{Burst, Checksum, Frame, Offload, PortQueue};
use crate::wire::Sum;
use std::collections::VecDeque;

/// Bytes that a [`BufferFrame`] keeps free before the packet: as much as an mbuf does (`RTE_PKTMBUF_HEADROOM`).
const HEADROOM: usize = 128;

/// A frame in ordinary memory: one segment, with headroom and tailroom.
///
/// Like an mbuf it is one pointer, so that moving it costs what it costs in production.
#[derive(Clone, Debug)]
pub struct BufferFrame(Box<Buffer>);

#[derive(Clone, Debug)]
struct Buffer {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
    offload: Offload,
}

impl BufferFrame {
    /// A frame with the content `packet`, 128 bytes of headroom before it and 64 bytes behind it.
    pub fn new(packet: &[u8]) -> Self {
        BufferFrame::with_offload(packet, Offload::NONE)
    }

    /// The same, with offload state.
    pub fn with_offload(packet: &[u8], offload: Offload) -> Self {
        let mut memory = vec![0; HEADROOM + packet.len() + 64].into_boxed_slice();
        memory[HEADROOM..HEADROOM + packet.len()].copy_from_slice(packet);
        BufferFrame(Box::new(Buffer { memory, start: HEADROOM, end: HEADROOM + packet.len(), offload }))
    }

    /// Overwrites the content in place, without allocating; the headroom is 128 bytes again. The content is cut
    /// where the buffer ends.
    pub fn refill(&mut self, packet: &[u8]) {
        let buffer = &mut *self.0;
        let len = packet.len().min(buffer.memory.len() - HEADROOM);
        buffer.memory[HEADROOM..HEADROOM + len].copy_from_slice(&packet[..len]);
        (buffer.start, buffer.end) = (HEADROOM, HEADROOM + len);
        buffer.offload = Offload::NONE;
    }
}

impl Frame for BufferFrame {
    #[inline]
    fn head(&self) -> &[u8] {
        &self.0.memory[self.0.start..self.0.end]
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let buffer = &mut *self.0;
        &mut buffer.memory[buffer.start..buffer.end]
    }

    #[inline]
    fn total_len(&self) -> usize {
        self.0.end - self.0.start
    }

    #[inline]
    fn offload(&self) -> Offload {
        self.0.offload
    }

    fn set_offload(&mut self, offload: Offload) {
        self.0.offload = offload;
    }

    fn prepend(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.0.start;
        if enough {
            self.0.start -= bytes;
        }
        enough
    }

    fn trim_front(&mut self, bytes: usize) -> bool {
        let enough = bytes <= self.total_len();
        if enough {
            self.0.start += bytes;
        }
        enough
    }

    fn append(&mut self, bytes: usize) -> bool {
        let buffer = &mut *self.0;
        let enough = bytes <= buffer.memory.len() - buffer.end;
        if enough {
            buffer.memory[buffer.end..buffer.end + bytes].fill(0);
            buffer.end += bytes;
        }
        enough
    }

    fn truncate(&mut self, len: usize) {
        self.0.end = self.0.end.min(self.0.start + len);
    }

    fn piece(&self, headers: &[u8], from: usize, len: usize) -> Option<Self> {
        let part = self.head().get(from..from.checked_add(len)?)?;
        Some(BufferFrame::new(&[headers, part].concat()))
    }

    fn sum(&self, from: usize, len: usize) -> Option<u16> {
        let bytes = self.head().get(from..from.checked_add(len)?)?;
        Some(u16::from_be_bytes(Sum::of(bytes).partial()))
    }

    fn complete_checksum(&mut self) -> bool {
        let Offload { checksum, outer, .. } = self.offload();
        self.set_offload(Offload::NONE);
        let inner = match checksum {
            Checksum::Partial { start, offset } => self.complete(start.into(), offset.into(), false),
            Checksum::Complete | Checksum::Verified => true,
        };
        // Before the inner frame are UDP's header and VXLAN's, 8 bytes each.
        inner && (outer == 0 || self.complete(usize::from(outer) - 16, 6, true))
    }
}

impl BufferFrame {
    /// Makes the checksum at `start + offset` over all from `start` on; with `unless_none` only if the field is not zero.
    fn complete(&mut self, start: usize, offset: usize, unless_none: bool) -> bool {
        let Some(layer) = self.head_mut().get_mut(start..) else { return false };
        // UDP says "none" by zero, and sends zero as its other form.
        let sum = Sum::of(layer);
        let checksum = if offset == 6 { sum.checksum_udp() } else { sum.checksum() };
        layer.get_mut(offset..offset + 2).is_some_and(|field| {
            if !unless_none || *field != [0, 0] {
                field.copy_from_slice(&checksum);
            }
            true
        })
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
