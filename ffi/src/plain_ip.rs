//! Packets with one IP header that has no options or extensions, right behind Ethernet's, and that are no fragments: those that may
//! be put together or cut.

use crate::checksum::{self, Sum};
use crate::gso::get;
use crate::mbuf::{ETHERNET, Mbuf};
use millrace_fastpath::port::Frame;
use std::ops::Range;

/// Where IP begins.
pub(crate) const L3: usize = ETHERNET as usize;
pub(crate) const V4_HEADER: usize = 20;
pub(crate) const V6_HEADER: usize = 40;
/// "Do not fragment", in the upper byte of IPv4's fragment field.
const DONT_FRAGMENT: u8 = 0x40;

/// Where such a packet's headers are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct PlainIp {
    /// Where layer 4 begins: it follows from the family alone.
    pub(crate) l4: usize,
}

impl PlainIp {
    /// Of a frame that begins with these bytes, if it is such a packet of this protocol.
    #[inline]
    pub(crate) fn try_new(head: &[u8], protocol: u8) -> Option<PlainIp> {
        let (found, l4) = match head.get(12..15)? {
            [0x08, 0x00, 0x45] => {
                let [flags, rest] = *head.get(L3 + 6..)?.first_chunk()?;
                if flags & !DONT_FRAGMENT != 0 || rest != 0 {
                    return None;
                }
                (*head.get(L3 + 9)?, L3 + V4_HEADER)
            }
            [0x86, 0xdd, version] if version >> 4 == 6 => (*head.get(L3 + 6)?, L3 + V6_HEADER),
            _ => return None,
        };
        (found == protocol).then_some(PlainIp { l4 })
    }

    pub(crate) fn is_v6(self) -> bool {
        self.l4 == L3 + V6_HEADER
    }

    /// Bytes of the frame by what the IP header says.
    pub(crate) fn frame_len(self, head: &[u8]) -> usize {
        match self.is_v6() {
            true => L3 + V6_HEADER + usize::from(get(head, L3 + 4)),
            false => L3 + usize::from(get(head, L3 + 2)),
        }
    }

    /// Where the addresses are.
    pub(crate) fn addresses(self) -> Range<usize> {
        (if self.is_v6() { L3 + 8 } else { L3 + 12 })..self.l4
    }

    /// Whether `head` is, as far as IP is concerned, the packet `index` places behind that of `first`, if both are cut from one.
    pub(crate) fn follows(self, first: &[u8], head: &[u8], index: usize) -> bool {
        let same = |from: usize, to: usize| head.get(from..to) == first.get(from..to);
        if self.is_v6() {
            return same(0, L3 + 4) && same(L3 + 6, self.l4);
        }
        // Of packets that nobody may fragment the identification means nothing (RFC 6864).
        let counts = first[L3 + 6] & DONT_FRAGMENT != 0
            || get(head, L3 + 4) == get(first, L3 + 4).wrapping_add(index as u16);
        counts && same(0, L3 + 2) && same(L3 + 6, L3 + 10) && same(L3 + 12, self.l4)
    }

    /// The sum over the pseudo-header of so many bytes of layer 4.
    pub(crate) fn pseudo(self, head: &[u8], protocol: u8, l4_len: u16) -> Sum {
        let mut sum = Sum::default();
        sum.add(&head[self.addresses()]);
        sum.add_number(protocol.into());
        sum.add_number(l4_len);
        sum
    }

    /// Whether the checksum of layer 4, which has so many bytes, is right.
    pub(crate) fn is_sound(self, frame: &Mbuf, protocol: u8, l4_len: usize) -> bool {
        let mut sum = self.pseudo(frame.head(), protocol, l4_len as u16);
        checksum::sum(frame, self.l4, l4_len).is_some_and(|all| {
            sum.add_number(all);
            sum.folded() == 0xffff
        })
    }
}
