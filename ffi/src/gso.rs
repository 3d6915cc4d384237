//! What a way out cannot do is done here: large frames are cut and partial checksums completed.
//!
//! Why not DPDK's own library for it: `docs/decisions/0003-own-segmentation.md`.

pub(crate) mod convoy;
pub(crate) mod outer;
pub(crate) mod train;

use crate::checksum::{self, Sum};
use crate::mbuf::{Mbuf, TCP_CHECKSUM, UDP_CHECKSUM};
use crate::mempool::Mempool;
use millrace_fastpath::port::{Checksum, DropReason, Frame, Gso, GsoKind, Offload};
use std::collections::VecDeque;

/// What a way out takes as it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Caps {
    /// Partial TCP and UDP checksums.
    pub checksum: bool,
    /// Large TCP frames over IPv4.
    pub tso4: bool,
    /// Large TCP frames over IPv6.
    pub tso6: bool,
    /// Large UDP frames that are to be cut into datagrams.
    pub uso: bool,
    /// Bytes of a frame that is not cut any more, Ethernet header included, at most.
    pub max_frame: usize,
}

impl Caps {
    /// A way out that takes finished frames only, up to `max_frame` bytes.
    pub const fn none(max_frame: usize) -> Caps {
        Caps { checksum: false, tso4: false, tso6: false, uso: false, max_frame }
    }

    /// Whether a frame with this state can go out as it is, its length apart.
    pub fn takes(&self, offload: &Offload) -> bool {
        let checksum = self.checksum || !matches!(offload.checksum, Checksum::Partial { .. });
        // Nobody is asked to look for headers behind those of a tunnel.
        offload.outer == 0
            && checksum
            && match offload.gso.map(|gso| gso.kind) {
                None => true,
                Some(GsoKind::TcpV4) => self.tso4,
                Some(GsoKind::TcpV6) => self.tso6,
                Some(GsoKind::Udp) => self.uso,
            }
    }
}

/// Bytes of an IP packet, at most, and of the Ethernet header and tag before it.
pub const LARGEST_FRAME: usize = 65_535 + 18;

/// A large frame is not cut into more pieces: TCP's smallest segment size on Linux makes 1365 of 64 KiB. Smaller
/// sizes would let one frame empty the pool.
const MOST_PIECES: usize = 1400;

/// Makes `frame` fit for a way out that takes `caps`, and appends it, or the frames it was cut into, to `out`.
///
/// # Errors
/// Why the frame was dropped: [`TooBig`](DropReason::TooBig) (it, or its pieces),
/// [`NoBuffer`](DropReason::NoBuffer) (`pool` is too empty for all pieces: none is sent), or
/// [`RxMalformed`](DropReason::RxMalformed) (the state and the headers contradict each other).
pub fn settle(
    mut frame: Mbuf,
    caps: &Caps,
    pool: &Mempool,
    out: &mut VecDeque<Mbuf>,
) -> Result<(), DropReason> {
    let offload = frame.offload();
    match offload.gso {
        Some(gso) if caps.takes(&offload) && frame.headers_bear_out() => {
            if frame.total_len() > LARGEST_FRAME || gso.size == 0 {
                return Err(DropReason::RxMalformed);
            }
        }
        Some(gso) => return segment(&frame, gso, &offload, caps, pool, out),
        None if frame.total_len() > caps.max_frame => return Err(DropReason::TooBig),
        None if offload.outer != 0 => {
            if !checksum::complete_now(&mut frame) {
                return Err(DropReason::RxMalformed);
            }
        }
        None => {
            if let Checksum::Partial { start, offset } = offload.checksum
                && !(caps.checksum && frame.headers_bear_out())
            {
                if !checksum::complete(&mut frame, start, offset) {
                    return Err(DropReason::RxMalformed);
                }
                frame.set_offload(Offload::NONE);
            }
        }
    }
    out.push_back(frame);
    Ok(())
}

/// Where a large frame's headers are: bytes from its start.
struct Layout {
    /// Bytes before the inner frame of an encapsulated one, else 0.
    outer: usize,
    family: Family,
    l3: usize,
    l4: usize,
    payload: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

impl Layout {
    /// Reads the headers in `head`; nothing when they do not bear out what the offload state says.
    fn try_new(head: &[u8], kind: GsoKind, offload: &Offload) -> Option<Layout> {
        let Checksum::Partial { start, .. } = offload.checksum else { return None };
        let outer = usize::from(offload.outer);
        let link = if head.get(outer + 12..outer + 14)? == [0x81, 0x00] { 18 } else { 14 };
        let (l3, l4) = (outer + link, usize::from(start));
        let family = match head.get(l3)? >> 4 {
            4 if l4 >= l3 + 20 && kind != GsoKind::TcpV6 => Family::V4,
            6 if l4 >= l3 + 40 && kind != GsoKind::TcpV4 => Family::V6,
            _ => return None,
        };
        let l4_len = match kind {
            GsoKind::Udp => 8,
            GsoKind::TcpV4 | GsoKind::TcpV6 => usize::from(head.get(l4 + 12)? >> 4) * 4,
        };
        let enough = l4_len >= if kind == GsoKind::Udp { 8 } else { 20 };
        (enough && head.len() >= l4 + l4_len).then_some(Layout {
            outer,
            family,
            l3,
            l4,
            payload: l4 + l4_len,
        })
    }

    /// Refuses what makes too many pieces, or pieces of more than `longest` bytes.
    fn check(&self, frame: &Mbuf, gso: Gso, longest: usize) -> Result<(), DropReason> {
        let (size, payload) = (usize::from(gso.size), frame.total_len() - self.payload);
        if frame.total_len() > LARGEST_FRAME || size == 0 || payload.div_ceil(size) > MOST_PIECES {
            return Err(DropReason::RxMalformed);
        }
        if self.payload + size.min(payload) > longest {
            return Err(DropReason::TooBig);
        }
        Ok(())
    }

    /// The same without the first `bytes`, which are no more than a tunnel's headers.
    fn moved(&self, bytes: usize) -> Layout {
        let Layout { outer, family, l3, l4, payload } = *self;
        let moved = |at: usize| at.saturating_sub(bytes);
        Layout { outer: moved(outer), family, l3: moved(l3), l4: moved(l4), payload: moved(payload) }
    }
}

/// Whether somebody else may cut a large frame: its headers bear out what its state says, it makes two pieces or more, and
/// none has more than `longest` bytes.
pub(crate) fn can_be_cut(frame: &Mbuf, longest: usize) -> bool {
    let offload = frame.offload();
    let Some(gso) = offload.gso else { return false };
    Layout::try_new(frame.head(), gso.kind, &offload).is_some_and(|layout| {
        layout.check(frame, gso, longest).is_ok()
            && frame.total_len() > layout.payload + usize::from(gso.size)
    })
}

fn segment(
    frame: &Mbuf,
    gso: Gso,
    offload: &Offload,
    caps: &Caps,
    pool: &Mempool,
    out: &mut VecDeque<Mbuf>,
) -> Result<(), DropReason> {
    let layout = Layout::try_new(frame.head(), gso.kind, offload).ok_or(DropReason::RxMalformed)?;
    layout.check(frame, gso, caps.max_frame)?;
    let (size, payload) = (usize::from(gso.size), frame.total_len() - layout.payload);
    let before = out.len();
    let mut reader = Reader::new(frame.segments(), layout.payload);
    let mut done = 0;
    for index in 0..payload.div_ceil(size).max(1) {
        let bytes = size.min(payload - done);
        let headers = &frame.head()[..layout.payload];
        let Some(mut piece) = copy_piece(headers, &mut reader, bytes, || pool.alloc()) else {
            out.truncate(before);
            return Err(DropReason::NoBuffer);
        };
        let position = Position { index, done, bytes, last: done + bytes == payload };
        finish_piece(&mut piece, &layout, gso.kind, &position, caps.checksum);
        out.push_back(piece);
        done += bytes;
    }
    Ok(())
}

/// Which piece of a large frame.
struct Position {
    index: usize,
    /// Payload bytes in the pieces before.
    done: usize,
    /// Payload bytes in this one.
    bytes: usize,
    last: bool,
}

/// A frame of `headers` and `len` bytes of `frame` from `from` on, in buffers of the pool that `frame` came from. Nothing
/// when that is empty, or `frame` shorter.
pub(crate) fn piece(frame: &Mbuf, headers: &[u8], from: usize, len: usize) -> Option<Mbuf> {
    if from.checked_add(len).is_none_or(|end| end > frame.total_len()) {
        return None;
    }
    copy_piece(headers, &mut Reader::new(frame.segments(), from), len, || frame.another())
}

/// Headers and the next `bytes` of payload in frames that `alloc` gives.
fn copy_piece<'a>(
    headers: &[u8],
    reader: &mut Reader<'a, impl Iterator<Item = &'a [u8]>>,
    bytes: usize,
    alloc: impl Fn() -> Option<Mbuf>,
) -> Option<Mbuf> {
    let mut piece = alloc()?;
    if !piece.extend_from_slice(headers) {
        return None;
    }
    let mut left = bytes;
    while left > 0 {
        let room = piece.tailroom();
        if room == 0 {
            piece.chain(alloc()?).ok()?;
            if piece.tailroom() == 0 {
                return None;
            }
            continue;
        }
        let step = left.min(room);
        piece.extend_with(step, |into| reader.read(into));
        left -= step;
    }
    Some(piece)
}

/// Writes what differs from piece to piece into the copied headers (as Linux's `tcp_gso_segment` and
/// `__udp_gso_segment` do).
fn finish_piece(piece: &mut Mbuf, layout: &Layout, kind: GsoKind, at: &Position, leave_checksum: bool) {
    let (start, offset) = finish_headers(piece.head_mut(), layout, kind, at);
    piece.set_offload(Offload::NONE);
    let checksum = Checksum::Partial { start, offset };
    if layout.outer > 0 {
        piece.set_offload(Offload { checksum, gso: None, outer: layout.outer as u16 });
        let datagram = piece.total_len() - outer::udp_offset(layout.outer);
        outer::renumber(piece.head_mut(), layout.outer, datagram as u16, at.index);
        checksum::complete_now(piece);
        return;
    }
    let plain = Offload { checksum, gso: None, outer: 0 };
    if leave_checksum {
        piece.set_offload(plain);
        if piece.headers_bear_out() {
            return;
        }
        piece.set_offload(Offload::NONE);
    }
    checksum::complete(piece, start, offset);
}

/// Writes into the headers of a piece what is its own, but for those of a tunnel, and the pseudo-header's sum where layer 4
/// has its checksum. Gives where layer 4 begins, and where in it that is.
fn finish_headers(head: &mut [u8], layout: &Layout, kind: GsoKind, at: &Position) -> (u16, u16) {
    let (l3, l4) = (layout.l3, layout.l4);
    let l4_bytes = (layout.payload - l4 + at.bytes) as u16;
    match layout.family {
        Family::V4 => {
            put(head, l3 + 2, (layout.payload - l3 + at.bytes) as u16);
            let id = get(head, l3 + 4).wrapping_add(at.index as u16);
            put(head, l3 + 4, id);
            put(head, l3 + 10, 0);
            let mut sum = Sum::default();
            sum.add(&head[l3..l4]);
            put(head, l3 + 10, sum.checksum());
        }
        Family::V6 => put(head, l3 + 4, (layout.payload - l3 - 40 + at.bytes) as u16),
    }
    let (protocol, offset) = match kind {
        GsoKind::Udp => {
            put(head, l4 + 4, l4_bytes);
            (17, UDP_CHECKSUM)
        }
        GsoKind::TcpV4 | GsoKind::TcpV6 => {
            move_tcp(&mut head[l4..], at);
            (6, TCP_CHECKSUM)
        }
    };
    let mut pseudo = Sum::default();
    pseudo.add(match layout.family {
        Family::V4 => &head[l3 + 12..l3 + 20],
        Family::V6 => &head[l3 + 8..l3 + 40],
    });
    pseudo.add_number(protocol);
    pseudo.add_number(l4_bytes);
    put(head, l4 + usize::from(offset), pseudo.folded());
    (l4 as u16, offset)
}

/// The sequence number moves on; FIN and PSH belong to the last piece, CWR to the first (RFC 3168, 6.1.2).
fn move_tcp(tcp: &mut [u8], at: &Position) {
    const FIN_PSH: u8 = 0x09;
    const CWR: u8 = 0x80;
    let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]).wrapping_add(at.done as u32);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    if !at.last {
        tcp[13] &= !FIN_PSH;
    }
    if at.index > 0 {
        tcp[13] &= !CWR;
    }
}

/// A number of the packet.
pub(crate) fn get(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

/// Writes a number of the packet.
pub(crate) fn put(bytes: &mut [u8], at: usize, value: u16) {
    bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
}

/// Reads a frame's bytes on from some place, over its segments.
struct Reader<'a, I> {
    segments: I,
    current: &'a [u8],
}

impl<'a, I: Iterator<Item = &'a [u8]>> Reader<'a, I> {
    /// Of a frame with these segments, from this byte on.
    fn new(mut segments: I, mut from: usize) -> Self {
        let mut current = segments.next().unwrap_or_default();
        while from > current.len() {
            from -= current.len();
            let Some(next) = segments.next() else { break };
            current = next;
        }
        Reader { segments, current: current.get(from..).unwrap_or_default() }
    }

    /// Gives the next `bytes`, as far as the frame goes, where they lie.
    fn take(&mut self, mut bytes: usize, mut each: impl FnMut(&'a [u8])) {
        while bytes > 0 {
            if self.current.is_empty() {
                let Some(next) = self.segments.next() else { return };
                self.current = next;
            }
            let (now, later) = self.current.split_at(self.current.len().min(bytes));
            each(now);
            self.current = later;
            bytes -= now.len();
        }
    }

    /// Fills `into`, as far as the frame goes.
    fn read(&mut self, into: &mut [u8]) {
        let mut filled = 0;
        while filled < into.len() {
            if self.current.is_empty() {
                match self.segments.next() {
                    Some(next) => self.current = next,
                    None => return into[filled..].fill(0),
                }
            }
            let step = self.current.len().min(into.len() - filled);
            let (now, later) = self.current.split_at(step);
            into[filled..filled + step].copy_from_slice(now);
            self.current = later;
            filled += step;
        }
    }
}
