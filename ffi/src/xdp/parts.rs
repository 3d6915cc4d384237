//! Frames that are longer than a chunk.
//!
//! Such a frame is several descriptors of a ring, one for each chunk, all but the last marked `XDP_PKT_CONTD`
//! (Documentation/networking/af_xdp.rst, "Multi-Buffer Support"; Linux 6.6). The kernel shows and takes whole frames only.

use super::arena::{Arena, CHUNK, LONGEST_RECEIVED, LONGEST_SENT, Lent};
use super::config::XdpConfig;
use crate::mbuf::Mbuf;
use arrayvec::ArrayVec;
use millrace_fastpath::port::{DropReason, Frame};

/// Descriptors of one frame that every kernel sends in copy mode: as many fragments as a socket buffer has at least
/// (`MAX_SKB_FRAGS`, 17 to 45; `xsk_build_skb` in net/xdp/xsk.c). Of a frame with more it forgets the chunks.
const MOST_PARTS: usize = 17;

/// Bytes of an Ethernet header with one VLAN tag: what a frame is longer than the MTU by.
const ETHERNET: u32 = 18;

/// What a frame was lent as, in order.
pub(super) type Parts = ArrayVec<Lent, MOST_PARTS>;

/// How many chunks one frame may take, and so how long it may be.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Reach(usize);

impl Reach {
    /// One chunk a frame.
    pub(super) const ONE: Reach = Reach(1);

    /// As many chunks as the kernel allows and the rings of a port have slots for.
    pub(super) fn most(config: &XdpConfig) -> Reach {
        Reach(MOST_PARTS.min(config.fill as usize).min(config.tx as usize))
    }

    /// No more than `parts` chunks.
    pub(super) fn at_most(self, parts: u32) -> Reach {
        Reach(self.0.min(parts.max(1) as usize))
    }

    /// The largest MTU of an interface whose frames fit, bytes.
    pub(super) fn mtu(self) -> u32 {
        self.0 as u32 * LONGEST_RECEIVED - ETHERNET
    }

    /// Bytes of the longest frame to receive from an interface with this MTU. No less than a chunk takes: what arrives may be
    /// larger than what may be sent.
    pub(super) fn longest_of(self, mtu: u32) -> u32 {
        mtu.min(self.mtu()).saturating_add(ETHERNET).max(LONGEST_RECEIVED)
    }

    /// Bytes of the longest frame to send.
    pub(super) fn longest_sent(self) -> usize {
        self.0 * LONGEST_SENT as usize
    }

    /// Slots of the transmit ring that a finished frame takes.
    pub(super) fn slots(self, arena: &Arena, frame: &Mbuf) -> u32 {
        if frame.total_len() <= LONGEST_SENT as usize {
            return 1;
        }
        arena.parts_of(frame, self.0).unwrap_or_else(|| frame.total_len().div_ceil(LONGEST_SENT as usize))
            as u32
    }

    /// Lends a frame that is longer than a chunk, in as many as it takes [`slots`](Reach::slots): as it is if it lies in the arena
    /// and has not too many segments, and otherwise a copy in chunks that `alloc` gives.
    ///
    /// # Errors
    /// [`DropReason::TooBig`] when it takes more chunks than it may, [`DropReason::NoBuffer`] when there are too few.
    pub(super) fn lend(
        self,
        arena: &Arena,
        frame: Mbuf,
        mut alloc: impl FnMut() -> Option<Mbuf>,
    ) -> Result<Parts, DropReason> {
        let frame = match arena.lend_parts(frame, self.0) {
            Ok(parts) => return Ok(parts),
            Err(other) => other,
        };
        if frame.total_len() > self.longest_sent() {
            return Err(DropReason::TooBig);
        }
        let mut copies: ArrayVec<Mbuf, MOST_PARTS> = ArrayVec::new();
        for mut segment in frame.segments() {
            while !segment.is_empty() {
                let room =
                    copies.last().map_or(0, |copy| (LONGEST_SENT as usize).saturating_sub(copy.total_len()));
                if room == 0 {
                    copies.try_push(alloc().ok_or(DropReason::NoBuffer)?).map_err(|_| DropReason::TooBig)?;
                    continue;
                }
                let (now, later) = segment.split_at(segment.len().min(room));
                if !copies.last_mut().is_some_and(|copy| copy.extend_from_slice(now)) {
                    return Err(DropReason::TooBig);
                }
                segment = later;
            }
        }
        copies.into_iter().map(|copy| arena.lend(copy).map_err(|_| DropReason::TxError)).collect()
    }
}

/// What can be put together of parts.
pub(super) trait Join: Sized {
    /// This one with `tail` behind it; nothing when that is more than it can hold.
    fn join(self, tail: Self) -> Option<Self>;
}

impl Join for Mbuf {
    fn join(mut self, tail: Mbuf) -> Option<Mbuf> {
        self.chain(tail).is_ok().then_some(self)
    }
}

/// What has become of a received descriptor.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Arrival<F> {
    /// It was a frame's last.
    Frame(F),
    /// More of its frame is to come, or it belongs to one that is counted already.
    Part,
    /// A frame is lost.
    Malformed,
}

/// Puts received chunks together.
#[derive(Debug, Default)]
pub(super) enum Assembly<F> {
    /// The next descriptor begins a frame.
    #[default]
    Idle,
    /// A frame whose end is to come.
    Open(F),
    /// What belongs to a frame that was given up is thrown away.
    Skipping,
}

impl<F: Join> Assembly<F> {
    /// Whether the next descriptor begins a frame.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        matches!(self, Assembly::Idle)
    }

    /// Takes in a chunk (nothing if its descriptor says what cannot be), and whether it is its frame's last.
    pub(super) fn add(&mut self, part: Option<F>, is_last: bool) -> Arrival<F> {
        let joined = match (std::mem::take(self), part) {
            (Assembly::Skipping, _) => {
                *self = if is_last { Assembly::Idle } else { Assembly::Skipping };
                return Arrival::Part;
            }
            (Assembly::Idle, part) => part,
            (Assembly::Open(frame), Some(part)) => frame.join(part),
            (Assembly::Open(_), None) => None,
        };
        match (joined, is_last) {
            (Some(frame), true) => Arrival::Frame(frame),
            (Some(frame), false) => {
                *self = Assembly::Open(frame);
                Arrival::Part
            }
            (None, is_last) => {
                *self = if is_last { Assembly::Idle } else { Assembly::Skipping };
                Arrival::Malformed
            }
        }
    }

    /// Nothing more is there. True when a frame is lost with that: the kernel shows whole ones only.
    pub(super) fn end(&mut self) -> bool {
        let is_open = matches!(self, Assembly::Open(_));
        if is_open {
            *self = Assembly::Skipping;
        }
        is_open
    }
}

const _: () = assert!(LONGEST_SENT < CHUNK && LONGEST_RECEIVED <= LONGEST_SENT);

#[cfg(test)]
mod tests;
