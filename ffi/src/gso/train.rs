//! Large frames of a tunnel, as datagrams that the kernel cuts.
//!
//! The kernel's header for large frames has no word for one in a tunnel before Linux 6.17, and none for packet sockets since.
//! It has one for a large UDP datagram, and to it a tunnel's packets are that: equal pieces behind the same outer headers, of
//! which the last may be shorter.
//!
//! ```text
//!  frame: outer Ethernet, IP, UDP, VXLAN | inner Ethernet, IP, TCP | payload
//!  train: outer Ethernet, IP, UDP | VXLAN, inner headers, payload | VXLAN, inner headers, payload | …
//!                                   ^ gso_size bytes                ^ gso_size bytes
//! ```
//!
//! The inner headers are finished here, checksums included; the kernel makes the outer ones of each piece, with a UDP checksum
//! in any case (`__udp_gso_segment` in net/ipv4/udp_offload.c). RFC 7348 (section 4.1) has a receiver accept that.

use super::{Layout, Position, Reader, finish_headers, outer, put};
use crate::checksum::{Sum, on_the_wire};
use crate::mbuf::{Mbuf, UDP_CHECKSUM};
use arrayvec::ArrayVec;
use millrace_fastpath::port::{Checksum, Frame, Gso, GsoKind, Offload};
use std::io::IoSlice;

/// Bytes of the UDP header. A piece begins with VXLAN's.
pub(super) const UDP: usize = 8;

/// Bytes of UDP's payload that an IPv4 packet holds; IPv6 holds more.
pub(super) const MOST_BYTES: usize = 65_507;

/// Pieces that every kernel has a UDP socket's datagram cut into (`UDP_MAX_SEGMENTS`, 64 before Linux 6.9 and 128 since).
pub(super) const MOST_PIECES: usize = 64;

/// Pieces of memory that one system call takes (`UIO_MAXIOV`).
pub(crate) const MOST_PARTS: usize = 1024;

/// Where a packet lies, in order.
pub(crate) type Parts<'a> = ArrayVec<IoSlice<'a>, MOST_PARTS>;

/// How far a large frame has gone out.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Progress {
    /// Pieces.
    pub(crate) pieces: usize,
    /// Bytes of payload in them.
    pub(crate) bytes: usize,
}

/// Makes trains; keeps the memory that their headers are in.
#[derive(Debug, Default)]
pub(crate) struct Trains {
    /// The outer headers, and behind them those of each piece.
    headers: Vec<u8>,
    /// Bytes of these, and of those.
    outer: usize,
    inner: usize,
    /// Bytes of payload of each piece but the last, and of the frame.
    size: usize,
    all: usize,
    began: Progress,
    ended: Progress,
}

impl Trains {
    /// Makes the headers of the train that takes an encapsulated large frame on from `began`. Nothing when it is none, or all
    /// of it has gone.
    pub(crate) fn make(&mut self, frame: &Mbuf, began: Progress) -> Option<Offload> {
        let offload = frame.offload();
        let gso = offload.gso.filter(|gso| gso.size > 0 && offload.outer > 0)?;
        let layout = Layout::try_new(frame.head(), gso.kind, &offload)?;
        let udp = outer::udp_offset(layout.outer);
        let outer = udp + UDP;
        let (size, inner) = (usize::from(gso.size), layout.payload.checked_sub(outer)?);
        let all = frame.total_len() - layout.payload;
        let left = all.checked_sub(began.bytes).filter(|&left| left > 0)?;
        let pieces = left.div_ceil(size).min(MOST_PIECES).min(MOST_BYTES / (inner + size)).max(1);
        (self.outer, self.inner, self.size, self.all) = (outer, inner, size, all);
        self.began = began;
        self.headers.clear();
        self.headers.extend_from_slice(&frame.head()[..outer]);
        self.ended = self.finish_pieces(frame, &layout.moved(outer), gso.kind, pieces);
        let carried = pieces * inner + self.ended.bytes - began.bytes;
        outer::renumber_with_checksum(&mut self.headers, udp, (UDP + carried) as u16, began.pieces);
        let checksum = Checksum::Partial { start: udp as u16, offset: UDP_CHECKSUM };
        let gso = (pieces > 1).then_some(Gso { kind: GsoKind::Udp, size: (inner + size) as u16 });
        Some(Offload { checksum, gso, outer: 0 })
    }

    /// Adds the headers of so many pieces, whose headers `layout` tells from VXLAN's on.
    fn finish_pieces(&mut self, frame: &Mbuf, layout: &Layout, kind: GsoKind, pieces: usize) -> Progress {
        let mut reader = Reader::new(frame.segments(), self.outer + self.inner + self.began.bytes);
        let headers = &frame.head()[self.outer..self.outer + self.inner];
        let mut ended = self.began;
        for _ in 0..pieces {
            let bytes = self.size.min(self.all - ended.bytes);
            let last = ended.bytes + bytes == self.all;
            let at = Position { index: ended.pieces, done: ended.bytes, bytes, last };
            let from = self.headers.len();
            self.headers.extend_from_slice(headers);
            finish(&mut self.headers[from..], layout, kind, &at, &mut reader);
            ended = Progress { pieces: ended.pieces + 1, bytes: ended.bytes + bytes };
        }
        ended
    }

    /// The outer headers of the train made last.
    pub(crate) fn outer(&self) -> &[u8] {
        &self.headers[..self.outer]
    }

    /// How far the frame has gone out when the train has.
    pub(crate) fn ended(&self) -> Progress {
        self.ended
    }

    /// Whether the train made last ends the frame.
    pub(crate) fn is_last(&self) -> bool {
        self.ended.bytes == self.all
    }

    /// Adds the parts of the train made last, of the same frame. False when they are too many.
    pub(crate) fn lay_out<'a>(&'a self, frame: &'a Mbuf, parts: &mut Parts<'a>) -> bool {
        let mut fits = parts.try_push(IoSlice::new(self.outer())).is_ok();
        let mut reader = Reader::new(frame.segments(), self.outer + self.inner + self.began.bytes);
        let mut left = self.ended.bytes - self.began.bytes;
        for headers in self.headers[self.outer..].chunks_exact(self.inner) {
            fits &= parts.try_push(IoSlice::new(headers)).is_ok();
            let bytes = left.min(self.size);
            reader.take(bytes, |part| fits &= parts.try_push(IoSlice::new(part)).is_ok());
            left -= bytes;
        }
        fits
    }
}

/// Makes the headers of one piece, whose payload `reader` comes to next.
fn finish<'a>(
    head: &mut [u8],
    layout: &Layout,
    kind: GsoKind,
    at: &Position,
    reader: &mut Reader<'a, impl Iterator<Item = &'a [u8]>>,
) {
    let (start, offset) = finish_headers(head, layout, kind, at);
    let mut sum = Sum::default();
    sum.add(&head[usize::from(start)..]);
    reader.take(at.bytes, |part| sum.add(part));
    put(head, usize::from(start + offset), on_the_wire(sum.checksum(), offset));
}
