//! One packet and its offload state.

use super::Offload;

/// One Ethernet frame without FCS, and its [`Offload`] state.
///
/// A frame may be a chain of segments. The first, the *head*, is contiguous and holds all headers up to and
/// including layer 4 whenever the port that received the frame could see to it; code that parses takes
/// [`head`](Frame::head) and treats what is not in it as not there.
pub trait Frame: Sized + Send {
    /// Bytes of the first segment, from the Ethernet header on.
    fn head(&self) -> &[u8];

    /// Bytes of the first segment, to be rewritten in place.
    fn head_mut(&mut self) -> &mut [u8];

    /// Bytes of the whole frame, over all segments.
    fn total_len(&self) -> usize;

    /// What is still to be done to this frame, or was already done for it.
    fn offload(&self) -> Offload;

    /// Replaces the offload state.
    fn set_offload(&mut self, offload: Offload);

    /// Grows the frame by `bytes` at its front; their content is arbitrary. False, and no change, when the
    /// headroom does not suffice.
    fn prepend(&mut self, bytes: usize) -> bool;

    /// Takes `bytes` off the front of the head. False, and no change, when the head is shorter.
    fn trim_front(&mut self, bytes: usize) -> bool;

    /// Grows the last segment by `bytes` of zeroes. False, and no change, when the tailroom does not suffice.
    fn append(&mut self, bytes: usize) -> bool;

    /// Cuts the frame down to `len` bytes in all; does nothing when it is not longer.
    fn truncate(&mut self, len: usize);

    /// A new frame, of `headers` and of `len` bytes of this one from its byte `from` on, without offload state. Nothing when
    /// there is no memory, or this frame is shorter.
    fn piece(&self, headers: &[u8], from: usize, len: usize) -> Option<Self>;

    /// Completes a checksum that the offload state leaves open, and clears that state. False when the field is not in the
    /// head.
    fn complete_checksum(&mut self) -> bool;

    /// The internet checksum's sum over `len` bytes from byte `from` on, over all segments, folded and not complemented, in
    /// network order. Nothing when the frame is shorter.
    fn sum(&self, from: usize, len: usize) -> Option<u16>;

    /// Asks the CPU for the head's first line, ahead of [`head`](Frame::head). A hint: may do nothing.
    fn prefetch(&self) {}
}
