//! The opposite of [`gso`](crate::gso): consecutive segments of a TCP connection become one large frame, for ways out that
//! take those. A kernel or guest then does its work once for all of them.
//!
//! The rules are those of Linux's generic receive offload (`net/ipv4/tcp_offload.c`, `tcp_gro_receive`): what is cut again
//! gives the same packets, but for the identification of IPv4 packets that nobody may fragment.

use crate::checksum::Sum;
use crate::gso::{Caps, LARGEST_FRAME, put};
use crate::mbuf::{Mbuf, TCP_CHECKSUM};
use crate::plain_ip::{L3, PlainIp, V4_HEADER};
use millrace_fastpath::port::{BURST, Burst, Checksum, Frame, Gso, GsoKind, Offload};

/// Connections of a burst that are looked at together. Of more, the oldest gets no further segments.
const FLOWS: usize = 8;

/// Buffers of one large frame, at most: a TAP's write takes so many pieces.
const MOST_BUFFERS: usize = 60;

const PROTOCOL: u8 = 6;
const TCP_HEADER: usize = 20;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;

/// Puts together what belongs together in `frames`. The order within each connection stays.
pub fn coalesce(frames: &mut Burst<Mbuf>, caps: &Caps) {
    if !(caps.tso4 || caps.tso6) {
        return;
    }
    // Most bursts have nothing to put together, and what is noted of one is some KiB.
    if frames.iter().filter(|frame| PlainIp::try_new(frame.head(), PROTOCOL).is_some()).nth(1).is_none() {
        return;
    }
    let mut found = Found::default();
    for index in 0..frames.len() {
        found.look_at(frames, index, caps);
    }
    if found.has_joined {
        found.join(frames);
    }
}

/// A plain TCP segment with payload and nothing but `ACK` and `PSH` set.
#[derive(Clone, Copy)]
struct Segment {
    ip: PlainIp,
    payload: usize,
    bytes: usize,
    sequence: u32,
    pushes: bool,
}

impl Segment {
    fn try_new(frame: &Mbuf) -> Option<Segment> {
        let (offload, head) = (frame.offload(), frame.head());
        if offload.gso.is_some() || offload.outer != 0 {
            return None;
        }
        let ip = PlainIp::try_new(head, PROTOCOL)?;
        let l4 = ip.l4;
        let tcp: &[u8; TCP_HEADER] = head.get(l4..)?.first_chunk()?;
        let payload = l4 + usize::from(tcp[12] >> 4) * 4;
        let plain = tcp[12] & 0xf == 0 && tcp[13] & !PSH == ACK;
        if !plain
            || payload < l4 + TCP_HEADER
            || payload > head.len()
            || ip.frame_len(head) != frame.total_len()
        {
            return None;
        }
        let bytes = frame.total_len() - payload;
        let sequence = u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]);
        (bytes > 0).then_some(Segment { ip, payload, bytes, sequence, pushes: tcp[13] & PSH != 0 })
    }

    fn kind(&self) -> GsoKind {
        if self.ip.is_v6() { GsoKind::TcpV6 } else { GsoKind::TcpV4 }
    }

    /// Whether `other` belongs to the same connection and differs in nothing that a large frame has but once, IP's header apart.
    fn is_like(&self, head: &[u8], other: &[u8]) -> bool {
        let same = |from: usize, to: usize| head.get(from..to) == other.get(from..to);
        // Ports; acknowledgement and offset; window; options. The flags are known to differ in PSH at most.
        let l4 = self.ip.l4;
        same(l4, l4 + 4) && same(l4 + 8, l4 + 13) && same(l4 + 14, l4 + 16) && same(l4 + 18, self.payload)
    }
}

/// Segments that become one frame.
#[derive(Clone, Copy)]
struct Run {
    first: usize,
    last: usize,
    segment: Segment,
    /// Payload bytes in all.
    bytes: usize,
    segments: usize,
    buffers: usize,
    pushes: bool,
    open: bool,
}

/// What belongs together in a burst.
struct Found {
    runs: [Option<Run>; FLOWS],
    /// The oldest place in `runs`.
    oldest: usize,
    /// What each frame is appended to, if that is another one, without so many bytes of headers.
    before: [Option<(u8, u16)>; BURST],
    /// Of the first frame of each finished run: what it becomes.
    large: [Option<Run>; BURST],
    has_joined: bool,
}

impl Default for Found {
    fn default() -> Self {
        Found {
            runs: [None; FLOWS],
            oldest: 0,
            before: [None; BURST],
            large: [None; BURST],
            has_joined: false,
        }
    }
}

impl Found {
    fn look_at(&mut self, frames: &[Mbuf], index: usize, caps: &Caps) {
        let frame = &frames[index];
        let Some(segment) = Segment::try_new(frame) else { return self.close_same(frames, index) };
        if !(if segment.ip.is_v6() { caps.tso6 } else { caps.tso4 }) {
            return;
        }
        let head = frame.head();
        for run in self.runs.iter_mut().flatten() {
            let first = frames[run.first].head();
            if !is_same_connection(first, head, run.segment.ip) {
                continue;
            }
            let buffers = frame.segment_count();
            if run.buffers + buffers <= MOST_BUFFERS
                && run.takes(&segment, first, head)
                && is_sound(frame, &segment)
                && (run.segments > 1 || is_sound(&frames[run.first], &run.segment))
            {
                self.before[index] = Some((run.last as u8, segment.payload as u16));
                self.has_joined = true;
                run.append(index, &segment, buffers);
                self.large[run.first] = Some(*run);
            } else {
                *run = Run::new(index, segment, buffers);
            }
            return;
        }
        self.runs[self.oldest] = Some(Run::new(index, segment, frame.segment_count()));
        self.oldest = (self.oldest + 1) % FLOWS;
    }

    /// What is no plain segment ends the runs between its hosts, since its ports may be anywhere: nothing overtakes it.
    fn close_same(&mut self, frames: &[Mbuf], index: usize) {
        let head = frames[index].head();
        for run in self.runs.iter_mut().flatten() {
            if is_between_same(frames[run.first].head(), head, run.segment.ip) {
                run.open = false;
            }
        }
    }

    /// Chains the segments of each run and gives its first frame the headers of all.
    fn join(&self, frames: &mut Burst<Mbuf>) {
        let mut all: [Option<Mbuf>; BURST] = [const { None }; BURST];
        for (place, frame) in all.iter_mut().zip(frames.drain(..)) {
            *place = Some(frame);
        }
        for index in (0..BURST).rev() {
            let Some((before, headers)) = self.before[index] else { continue };
            let (earlier, later) = all.split_at_mut(index);
            let Some(mut frame) = later[0].take() else { continue };
            let Some(before) = &mut earlier[usize::from(before)] else { continue };
            frame.trim_front(usize::from(headers));
            // A burst has fewer segments than a chain can count.
            let _ = before.chain(frame);
        }
        for (frame, run) in all.into_iter().zip(&self.large) {
            let Some(mut frame) = frame else { continue };
            if let Some(run) = run {
                run.finish(&mut frame);
            }
            let _ = frames.try_push(frame);
        }
    }
}

impl Run {
    fn new(index: usize, segment: Segment, buffers: usize) -> Run {
        let (bytes, pushes) = (segment.bytes, segment.pushes);
        Run { first: index, last: index, segment, bytes, segments: 1, buffers, pushes, open: !pushes }
    }

    fn takes(&self, next: &Segment, first: &[u8], head: &[u8]) -> bool {
        let expected = self.segment.sequence.wrapping_add(self.bytes as u32);
        self.open
            && next.sequence == expected
            && next.payload == self.segment.payload
            && next.bytes <= self.segment.bytes
            && self.segment.payload + self.bytes + next.bytes <= LARGEST_FRAME - 4
            && self.segment.ip.follows(first, head, self.segments)
            && self.segment.is_like(first, head)
    }

    fn append(&mut self, index: usize, next: &Segment, buffers: usize) {
        self.last = index;
        self.buffers += buffers;
        self.bytes += next.bytes;
        self.segments += 1;
        self.pushes |= next.pushes;
        // Only the last piece of a large frame may be shorter, and only it pushes.
        self.open = !next.pushes && next.bytes == self.segment.bytes;
    }

    /// Lengths, checksums and flags for all segments, in the first one's headers.
    fn finish(&self, frame: &mut Mbuf) {
        let Segment { ip, payload, bytes, .. } = self.segment;
        let (kind, l4) = (self.segment.kind(), ip.l4);
        let l4_len = (payload - l4 + self.bytes) as u16;
        let head = frame.head_mut();
        if ip.is_v6() {
            put(head, L3 + 4, l4_len);
        } else {
            put(head, L3 + 2, l4_len + V4_HEADER as u16);
            put(head, L3 + 10, 0);
            let mut sum = Sum::default();
            sum.add(&head[L3..l4]);
            put(head, L3 + 10, sum.checksum());
        }
        let sum = ip.pseudo(head, PROTOCOL, l4_len);
        put(head, l4 + usize::from(TCP_CHECKSUM), sum.folded());
        head[l4 + 13] |= if self.pushes { PSH } else { 0 };
        frame.set_offload(Offload {
            checksum: Checksum::Partial { start: l4 as u16, offset: TCP_CHECKSUM },
            gso: Some(Gso { kind, size: bytes as u16 }),
            outer: 0,
        });
    }
}

/// Whether two frames have the same addresses and ports, when both have these headers.
fn is_same_connection(one: &[u8], other: &[u8], ip: PlainIp) -> bool {
    // Ports first: they differ soonest.
    one.get(ip.l4..ip.l4 + 4) == other.get(ip.l4..ip.l4 + 4) && is_between_same(one, other, ip)
}

/// Whether two frames have the same family and addresses.
fn is_between_same(one: &[u8], other: &[u8], ip: PlainIp) -> bool {
    one.get(ip.addresses()) == other.get(ip.addresses()) && one.get(12..14) == other.get(12..14)
}

/// Whether nothing was damaged on the way: in a large frame nobody looks any more.
fn is_sound(frame: &Mbuf, segment: &Segment) -> bool {
    let l4_len = segment.payload - segment.ip.l4 + segment.bytes;
    frame.offload().checksum != Checksum::Complete || segment.ip.is_sound(frame, PROTOCOL, l4_len)
}
