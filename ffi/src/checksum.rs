//! The internet checksum (RFC 1071) over frames of any number of segments.

use crate::gso::outer;
use crate::mbuf::{Mbuf, UDP_CHECKSUM};
use millrace_fastpath::port::{Checksum, Frame, Offload};

/// A one's complement sum in the making. Pieces may have any length: an odd one shifts those after it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sum {
    /// Of 16-bit words as this machine reads them: their order may be put right at the end (RFC 1071, section 2, B).
    total: u64,
    odd: bool,
}

impl Sum {
    /// Adds `bytes` as the next part of the data.
    pub(crate) fn add(&mut self, mut bytes: &[u8]) {
        if self.odd
            && let Some((first, rest)) = bytes.split_first()
        {
            self.total += u64::from(u16::from_ne_bytes([0, *first]));
            self.odd = false;
            bytes = rest;
        }
        let (blocks, rest) = bytes.as_chunks::<32>();
        // Words of 32 bits, several sums beside each other: the halves fold together at the end. A frame has too few to
        // overflow 64 bits.
        let mut sums = [0_u64; 8];
        for block in blocks {
            for (sum, word) in sums.iter_mut().zip(block.as_chunks::<4>().0) {
                *sum += u64::from(u32::from_ne_bytes(*word));
            }
        }
        self.total += sums.iter().sum::<u64>();
        let (pairs, last) = rest.as_chunks::<2>();
        self.total += pairs.iter().map(|pair| u64::from(u16::from_ne_bytes(*pair))).sum::<u64>();
        if let [last] = last {
            self.total += u64::from(u16::from_ne_bytes([*last, 0]));
            self.odd = true;
        }
    }

    /// Adds a 16-bit number that is not part of the data.
    pub(crate) fn add_number(&mut self, number: u16) {
        self.total += u64::from(number.to_be());
    }

    /// The sum in 16 bits, not complemented.
    pub(crate) fn folded(self) -> u16 {
        let mut total = self.total;
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        u16::from_be(total as u16)
    }

    /// The checksum: the sum's complement.
    pub(crate) fn checksum(self) -> u16 {
        !self.folded()
    }
}

/// Completes a partial checksum in place: what is stored at `start + offset` becomes the checksum over everything
/// from `start` on. False, and no change, when the field is not in the frame's head.
pub(crate) fn complete(frame: &mut Mbuf, start: u16, offset: u16) -> bool {
    let (start, field) = (usize::from(start), usize::from(start) + usize::from(offset));
    if frame.head().len() < field + 2 {
        return false;
    }
    let mut sum = Sum::default();
    let mut skip = start;
    for segment in frame.segments() {
        sum.add(segment.get(skip..).unwrap_or_default());
        skip = skip.saturating_sub(segment.len());
    }
    let checksum = on_the_wire(sum.checksum(), offset);
    frame.head_mut()[field..field + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

/// The sum over `len` bytes of a frame from byte `from` on, folded. Nothing when it is shorter.
pub(crate) fn sum(frame: &Mbuf, from: usize, len: usize) -> Option<u16> {
    if from.checked_add(len)? > frame.total_len() {
        return None;
    }
    let (mut sum, mut skip, mut left) = (Sum::default(), from, len);
    for segment in frame.segments() {
        let part = segment.get(skip..).unwrap_or_default();
        let part = part.get(..left).unwrap_or(part);
        sum.add(part);
        left -= part.len();
        skip = skip.saturating_sub(segment.len());
    }
    Some(sum.folded())
}

/// Completes the checksum that the frame's offload state leaves open, if it does. False when its field is not in the
/// head.
pub(crate) fn complete_now(frame: &mut Mbuf) -> bool {
    let Offload { checksum, outer, .. } = frame.offload();
    let inner = match checksum {
        Checksum::Partial { start, offset } => complete(frame, start, offset),
        Checksum::Complete | Checksum::Verified => true,
    };
    let done = inner && (outer == 0 || complete_outer(frame, outer));
    frame.set_offload(Offload::NONE);
    done
}

/// Makes the outer UDP checksum of an encapsulated frame, if it is to have one: over what is inside, which is finished.
fn complete_outer(frame: &mut Mbuf, outer: u16) -> bool {
    let start = outer::udp_offset(usize::from(outer));
    let field = start + usize::from(UDP_CHECKSUM);
    match frame.head().get(field..field + 2) {
        None => false,
        Some([0, 0]) => true,
        Some(_) => complete(frame, start as u16, UDP_CHECKSUM),
    }
}

/// UDP says "none" by zero, and sends zero as its other form (RFC 768).
pub(crate) fn on_the_wire(checksum: u16, offset: u16) -> u16 {
    if checksum == 0 && offset == UDP_CHECKSUM { 0xffff } else { checksum }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071, section 4.1, word by word.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn the_sum_is_the_same_however_the_data_is_cut() {
        let data: Vec<u8> = (0..997u32).map(|i| (i * 7 + i / 13) as u8).collect();
        for first in [0, 1, 2, 3, 17, 500, 997] {
            for second in [0, 1, 5, 64] {
                let (a, rest) = data.split_at(first);
                let (b, c) = rest.split_at(second.min(rest.len()));
                let mut sum = Sum::default();
                [a, b, c].iter().for_each(|piece| sum.add(piece));
                assert_eq!(sum.checksum(), reference(&data), "cut at {first} and {second}");
            }
        }
    }
}
