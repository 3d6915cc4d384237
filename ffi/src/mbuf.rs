//! DPDK's packet buffers as owned frames.
//!
//! The offload state is kept in DPDK's transmit flags, as DPDK's vhost library itself sets them for a frame from
//! a guest, so a frame goes from guest to guest without translation:
//!
//! | [`Offload`] | flags | lengths |
//! |---|---|---|
//! | partial TCP or UDP checksum | `TX_TCP_CKSUM` or `TX_UDP_CKSUM`, `TX_IPV4` or `TX_IPV6` | `l2_len` + `l3_len` = `start` |
//! | TCP segmentation | `TX_TCP_SEG` and the above | `tso_segsz` |
//! | UDP segmentation | `TX_UDP_SEG` and the above | `tso_segsz` |
//! | encapsulation | `TX_TUNNEL_VXLAN` and the above | `outer_l2_len` + `outer_l3_len` + `l2_len` + `l3_len` = `start`; `l2_len` begins at the outer UDP header |
//! | verified checksum | `RX_L4_CKSUM_GOOD` | |

mod state;

use crate::checksum;
use crate::gso;
use dpdk_sys as sys;
use millrace_fastpath::port::{Burst, Checksum, Frame, Offload};
use std::fmt;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;

/// Bytes of an Ethernet header without tags.
pub(crate) const ETHERNET: u16 = 14;
/// Where TCP keeps its checksum, and UDP.
pub(crate) const TCP_CHECKSUM: u16 = 16;
pub(crate) const UDP_CHECKSUM: u16 = 6;

/// DPDK's mark of a frame in a VXLAN tunnel.
pub(crate) const TX_TUNNEL: u64 = sys::MILLRACE_TX_TUNNEL_VXLAN;

const TX_FLAGS: u64 = sys::MILLRACE_TX_TCP_SEG
    | sys::MILLRACE_TX_UDP_SEG
    | sys::MILLRACE_TX_L4_MASK
    | sys::MILLRACE_TX_IP_CKSUM
    | sys::MILLRACE_TX_IPV4
    | sys::MILLRACE_TX_IPV6
    | TX_TUNNEL;
const STATE_FLAGS: u64 = TX_FLAGS | sys::MILLRACE_RX_L4_CKSUM_MASK;

/// One frame: a chain of mbufs that nobody else refers to. Dropping it gives the whole chain back to its pool.
#[repr(transparent)]
pub struct Mbuf(NonNull<sys::rte_mbuf>);

const _: () = assert!(size_of::<Option<Mbuf>>() == size_of::<*mut sys::rte_mbuf>());

// SAFETY: an mbuf belongs to no thread; its pool takes it back from any.
unsafe impl Send for Mbuf {}

impl Drop for Mbuf {
    fn drop(&mut self) {
        // SAFETY: the owner of the chain, giving it back once.
        unsafe { sys::millrace_mbuf_free(self.0.as_ptr()) };
    }
}

impl Mbuf {
    /// Takes ownership of a chain.
    ///
    /// # Safety
    /// `raw` is the first of a well-formed chain of mbufs with reference count 1 that nobody else refers to:
    /// each segment's data lies within its buffer, and `nb_segs` and `pkt_len` are right.
    pub(crate) unsafe fn from_raw(raw: NonNull<sys::rte_mbuf>) -> Self {
        Mbuf(raw)
    }

    /// Gives up ownership: whoever takes the pointer frees it, or makes it an `Mbuf` again.
    #[allow(dead_code, reason = "for drivers that keep frames in rings of their own")]
    pub(crate) fn into_raw(self) -> NonNull<sys::rte_mbuf> {
        ManuallyDrop::new(self).0
    }

    fn raw(&self) -> &sys::rte_mbuf {
        // SAFETY: alive and unaliased while this owner is, and only `self` gives references to it.
        unsafe { self.0.as_ref() }
    }

    fn raw_mut(&mut self) -> &mut sys::rte_mbuf {
        // SAFETY: as for `raw`, and borrowed exclusively.
        unsafe { self.0.as_mut() }
    }

    /// DPDK's flags.
    pub(crate) fn flags(&self) -> u64 {
        self.raw().ol_flags
    }

    /// Whether something is left to be done to the frame before it is on the wire's terms.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.raw().ol_flags & TX_FLAGS != 0
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        usize::from(self.raw().nb_segs)
    }

    /// The segments' contents, in order.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        self.raw_segments().map(contents)
    }

    /// The segments' mbufs, in order.
    pub(crate) fn raw_segments(&self) -> impl Iterator<Item = &sys::rte_mbuf> {
        std::iter::successors(Some(self.raw()), |segment| {
            // SAFETY: the chain's next segment, or null; owned by `self` like the first.
            unsafe { segment.next.as_ref() }
        })
    }

    /// Takes the chain apart: each segment is a frame of its own.
    pub(crate) fn into_segments(self) -> impl Iterator<Item = Mbuf> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let mut head = rest.take()?;
            let raw = head.raw_mut();
            let next = NonNull::new(std::mem::replace(&mut raw.next, std::ptr::null_mut()));
            let (left, bytes) = (raw.nb_segs - 1, raw.pkt_len - u32::from(raw.data_len));
            (raw.nb_segs, raw.pkt_len) = (1, raw.data_len.into());
            rest = next.map(|mut next| {
                // SAFETY: the next segment of the chain that was owned, and nobody else's.
                let raw = unsafe { next.as_mut() };
                (raw.nb_segs, raw.pkt_len) = (left, bytes);
                // SAFETY: the rest of the chain, cut off just now, with its counts put right.
                unsafe { Mbuf::from_raw(next) }
            });
            Some(head)
        })
    }

    /// The whole frame in one piece, for tests and for what is not done per packet.
    pub fn to_vec(&self) -> Vec<u8> {
        self.segments().flatten().copied().collect()
    }

    /// Bytes that can still be prepended.
    pub fn headroom(&self) -> usize {
        usize::from(self.raw().data_off)
    }

    /// Bytes that can still be appended to the last segment.
    pub fn tailroom(&self) -> usize {
        tailroom(self.last())
    }

    /// Appends `bytes` to the last segment. False, and no change, when the tailroom does not suffice.
    pub fn extend_from_slice(&mut self, bytes: &[u8]) -> bool {
        self.extend_with(bytes.len(), |room| room.copy_from_slice(bytes))
    }

    /// Appends `length` bytes to the last segment and has `fill` write them. False, and no change, when the
    /// tailroom does not suffice.
    pub fn extend_with(&mut self, length: usize, fill: impl FnOnce(&mut [u8])) -> bool {
        let last = self.last_mut();
        if length > tailroom(last) {
            return false;
        }
        let end = usize::from(last.data_off) + usize::from(last.data_len);
        let start = last.buf_addr.cast::<u8>().wrapping_add(end);
        // SAFETY: `length` bytes of tailroom, within this frame's own buffer.
        fill(unsafe { std::slice::from_raw_parts_mut(start, length) });
        last.data_len += length as u16;
        self.raw_mut().pkt_len += length as u32;
        true
    }

    /// Appends `tail`'s segments.
    ///
    /// # Errors
    /// Gives `tail` back when the chain would have more segments, or bytes, than an mbuf can count.
    pub fn chain(&mut self, tail: Mbuf) -> Result<(), Mbuf> {
        let segments = self.segment_count() + tail.segment_count();
        let bytes = u64::from(self.raw().pkt_len) + u64::from(tail.raw().pkt_len);
        let (Ok(segments), Ok(bytes)) = (u16::try_from(segments), u32::try_from(bytes)) else {
            return Err(tail);
        };
        let tail = ManuallyDrop::new(tail);
        self.last_mut().next = tail.0.as_ptr();
        let head = self.raw_mut();
        (head.nb_segs, head.pkt_len) = (segments, bytes);
        Ok(())
    }

    /// An empty frame of one segment from the pool that this one came from, or nothing when that is empty.
    pub(crate) fn another(&self) -> Option<Mbuf> {
        // SAFETY: a pool lives as long as one of its mbufs is out, and this one is.
        let raw = unsafe { sys::millrace_mbuf_alloc(self.raw().pool) };
        // SAFETY: fresh from its pool: one segment, nobody else's.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Gives all frames back at once, which costs less than one by one.
    pub fn free_bulk(frames: &mut Burst<Mbuf>) {
        let count = frames.len();
        // SAFETY: a shorter length is always valid; the frames are taken over by the next call.
        unsafe { frames.set_len(0) };
        // SAFETY: `count` pointers that the burst owned and has just given up.
        unsafe { sys::rte_pktmbuf_free_bulk(frames.as_mut_ptr().cast(), count as u32) };
    }

    /// Forgets the first `count` frames, which somebody else has taken over, and moves the others to the front.
    pub(crate) fn forget_front(frames: &mut Burst<Mbuf>, count: usize) {
        let (length, start) = (frames.len(), frames.as_mut_ptr());
        let count = count.min(length);
        // SAFETY: a shorter length is always valid; the elements are moved below.
        unsafe { frames.set_len(0) };
        // SAFETY: both ranges lie within the burst's `length` elements.
        unsafe { std::ptr::copy(start.wrapping_add(count), start, length - count) };
        // SAFETY: so many elements were moved to the front, and none of them is anywhere else.
        unsafe { frames.set_len(length - count) };
    }

    /// DPDK's pointer, which stays ours.
    pub(crate) fn as_ptr(&mut self) -> *mut sys::rte_mbuf {
        self.0.as_ptr()
    }

    /// Gives the first `count` frames back and moves the others to the front.
    pub(crate) fn free_front(frames: &mut Burst<Mbuf>, count: usize) {
        let count = count.min(frames.len());
        // SAFETY: `count` pointers that the burst owns and forgets next.
        unsafe { sys::rte_pktmbuf_free_bulk(frames.as_mut_ptr().cast(), count as u32) };
        Mbuf::forget_front(frames, count);
    }

    /// Asks for the IPv4 header's checksum too, as devices that cut TCP want it.
    pub(crate) fn request_ipv4_checksum(&mut self) {
        self.raw_mut().ol_flags |= sys::MILLRACE_TX_IP_CKSUM;
    }

    fn last(&self) -> &sys::rte_mbuf {
        let mut segment = self.raw();
        // SAFETY: the chain's next segment, or null; owned by `self` like the first.
        while let Some(next) = unsafe { segment.next.as_ref() } {
            segment = next;
        }
        segment
    }

    fn last_mut(&mut self) -> &mut sys::rte_mbuf {
        let mut at = self.0;
        // SAFETY: a segment of the chain that `self` owns; read through the pointer, so no reference outlives this.
        while let Some(next) = NonNull::new(unsafe { (*at.as_ptr()).next }) {
            at = next;
        }
        // SAFETY: as above, and borrowed exclusively with `self`.
        unsafe { at.as_mut() }
    }
}

fn contents(segment: &sys::rte_mbuf) -> &[u8] {
    let start = segment.buf_addr.cast::<u8>().wrapping_add(usize::from(segment.data_off));
    // SAFETY: a segment's data lies within its buffer, which is initialised memory that its owner alone uses.
    unsafe { std::slice::from_raw_parts(start, usize::from(segment.data_len)) }
}

fn tailroom(segment: &sys::rte_mbuf) -> usize {
    usize::from(segment.buf_len)
        .saturating_sub(usize::from(segment.data_off))
        .saturating_sub(usize::from(segment.data_len))
}

impl Frame for Mbuf {
    #[inline]
    fn head(&self) -> &[u8] {
        contents(self.raw())
    }

    #[inline]
    fn head_mut(&mut self) -> &mut [u8] {
        let raw = self.raw_mut();
        let start = raw.buf_addr.cast::<u8>().wrapping_add(usize::from(raw.data_off));
        // SAFETY: a segment's data lies within its buffer, and `self` is borrowed exclusively.
        unsafe { std::slice::from_raw_parts_mut(start, usize::from(raw.data_len)) }
    }

    #[inline]
    fn total_len(&self) -> usize {
        self.raw().pkt_len as usize
    }

    #[inline]
    fn offload(&self) -> Offload {
        let flags = self.flags() & STATE_FLAGS;
        if flags == 0 { Offload::NONE } else { self.decode(flags) }
    }

    fn set_offload(&mut self, offload: Offload) {
        self.raw_mut().ol_flags &= !STATE_FLAGS;
        if offload.outer != 0 {
            return self.encode_tunnelled(&offload);
        }
        match offload.checksum {
            Checksum::Complete => {}
            Checksum::Verified => self.raw_mut().ol_flags |= sys::MILLRACE_RX_L4_CKSUM_GOOD,
            Checksum::Partial { start, offset } => {
                if !self.encode_partial(start, offset, offload.gso) {
                    // A protocol that the flags have no word for: it is settled here and now.
                    checksum::complete(self, start, offset);
                }
            }
        }
    }

    #[inline]
    fn prepend(&mut self, bytes: usize) -> bool {
        let raw = self.raw_mut();
        let fits =
            bytes <= usize::from(raw.data_off) && bytes + usize::from(raw.data_len) <= usize::from(u16::MAX);
        if fits {
            raw.data_off -= bytes as u16;
            raw.data_len += bytes as u16;
            raw.pkt_len += bytes as u32;
        }
        fits
    }

    #[inline]
    fn trim_front(&mut self, bytes: usize) -> bool {
        let raw = self.raw_mut();
        let fits = bytes <= usize::from(raw.data_len);
        if fits {
            raw.data_off += bytes as u16;
            raw.data_len -= bytes as u16;
            raw.pkt_len -= bytes as u32;
        }
        fits
    }

    fn append(&mut self, bytes: usize) -> bool {
        self.extend_with(bytes, |room| room.fill(0))
    }

    fn truncate(&mut self, len: usize) {
        if len >= self.total_len() {
            return;
        }
        let (mut at, mut left, mut kept) = (self.0, len, 1);
        loop {
            // SAFETY: a segment of the chain that `self` owns and has borrowed exclusively.
            let segment = unsafe { at.as_mut() };
            if left <= usize::from(segment.data_len) {
                segment.data_len = left as u16;
                let rest = NonNull::new(std::mem::replace(&mut segment.next, std::ptr::null_mut()));
                self.raw_mut().nb_segs = kept;
                self.raw_mut().pkt_len = len as u32;
                if let Some(rest) = rest {
                    // SAFETY: the rest of the chain, cut off just now; freeing follows `next` alone.
                    drop(unsafe { Mbuf::from_raw(rest) });
                }
                return;
            }
            left -= usize::from(segment.data_len);
            kept += 1;
            let Some(next) = NonNull::new(segment.next) else { return };
            at = next;
        }
    }

    fn piece(&self, headers: &[u8], from: usize, len: usize) -> Option<Self> {
        gso::piece(self, headers, from, len)
    }

    fn complete_checksum(&mut self) -> bool {
        checksum::complete_now(self)
    }

    fn sum(&self, from: usize, len: usize) -> Option<u16> {
        checksum::sum(self, from, len)
    }

    #[inline]
    fn prefetch(&self) {
        millrace_fastpath::sync::prefetch(self.raw());
    }
}

impl fmt::Debug for Mbuf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mbuf")
            .field("length", &self.total_len())
            .field("segments", &self.segment_count())
            .field("offload", &self.offload())
            .finish()
    }
}
