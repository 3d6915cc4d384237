//! Datagrams of one flow, one behind the other: together they are one large datagram, which the kernel or the NIC cuts again.
//!
//! What is cut again gives the same packets, but for the identification of IPv4 packets that nobody may fragment, and the UDP
//! checksum of tunnels' packets, which all of them have then.

use super::train::{MOST_BYTES, MOST_PIECES, Parts, UDP};
use super::{get, outer};
use crate::checksum::{self, Sum};
use crate::mbuf::{ETHERNET, Mbuf, UDP_CHECKSUM};
use arrayvec::ArrayVec;
use millrace_fastpath::port::{Checksum, Frame, Gso, GsoKind, Offload};
use std::io::IoSlice;

const L3: usize = ETHERNET as usize;
const V4_HEADER: usize = 20;
const V6_HEADER: usize = 40;
/// "Do not fragment", in the upper byte of IPv4's fragment field.
const DONT_FRAGMENT: u8 = 0x40;

/// Headers up to UDP's, of either family.
pub(crate) type Head = ArrayVec<u8, { L3 + V6_HEADER + UDP }>;

/// A UDP datagram that is a whole frame, and behind the only IP header.
#[derive(Clone, Copy)]
struct Datagram {
    /// Where UDP begins.
    l4: usize,
    /// Bytes from there on.
    bytes: usize,
}

impl Datagram {
    fn try_new(frame: &Mbuf) -> Option<Datagram> {
        if frame.is_unfinished() {
            return None;
        }
        let head = frame.head();
        let (l4, says) = match head.get(12..15)? {
            [0x08, 0x00, 0x45] if *head.get(L3 + 9)? == 17 => {
                let [flags, rest] = *head.get(L3 + 6..)?.first_chunk()?;
                if flags & !DONT_FRAGMENT != 0 || rest != 0 {
                    return None;
                }
                (L3 + V4_HEADER, usize::from(get(head, L3 + 2)))
            }
            [0x86, 0xdd, version] if version >> 4 == 6 && *head.get(L3 + 6)? == 17 => {
                (L3 + V6_HEADER, usize::from(get(head, L3 + 4)) + V6_HEADER)
            }
            _ => return None,
        };
        let udp: &[u8; UDP] = head.get(l4..)?.first_chunk()?;
        let bytes = usize::from(u16::from_be_bytes([udp[4], udp[5]]));
        let whole = L3 + says == frame.total_len() && l4 + bytes == frame.total_len() && bytes > UDP;
        whole.then_some(Datagram { l4, bytes })
    }

    /// Whether the frame `index` places behind the first one, whose headers are `first`, belongs to it.
    fn is_like(&self, first: &[u8], head: &[u8], index: usize) -> bool {
        let same = |from: usize, to: usize| head.get(from..to) == first.get(from..to);
        let ip = if self.l4 == L3 + V4_HEADER {
            let counts = first[L3 + 6] & DONT_FRAGMENT != 0
                || get(head, L3 + 4) == get(first, L3 + 4).wrapping_add(index as u16);
            counts && same(0, L3 + 2) && same(L3 + 6, L3 + 10) && same(L3 + 12, self.l4)
        } else {
            same(0, L3 + 4) && same(L3 + 6, self.l4)
        };
        ip && same(self.l4, self.l4 + 4)
    }

    /// Whether its checksum can be made anew: it is right, so that no damage is covered up, or it is a tunnel's own packet.
    fn is_sound(&self, frame: &Mbuf, tunnel_port: u16) -> bool {
        let head = frame.head();
        if get(head, self.l4 + usize::from(UDP_CHECKSUM)) == 0 {
            return tunnel_port != 0 && get(head, self.l4 + 2) == tunnel_port;
        }
        let mut pseudo = Sum::default();
        let from = if self.l4 == L3 + V4_HEADER { L3 + 12 } else { L3 + 8 };
        pseudo.add(&head[from..self.l4]);
        pseudo.add_number(17);
        pseudo.add_number(self.bytes as u16);
        checksum::sum(frame, self.l4, self.bytes).is_some_and(|sum| {
            pseudo.add_number(sum);
            pseudo.folded() == 0xffff
        })
    }
}

/// How many frames, from the first on, are finished datagrams of one flow that could go as one: at least 1, if there are any.
/// Whether their checksums are right is looked at if there are `least`. `tunnel_port`: the UDP port of packets that have no checksum
/// and may be given one, or 0.
pub(crate) fn count<'a>(
    frames: impl Iterator<Item = &'a Mbuf> + Clone,
    least: usize,
    tunnel_port: u16,
) -> usize {
    let count = count_alike(frames.clone());
    if count < least {
        return count;
    }
    let is_sound = |frame: &&Mbuf| {
        Datagram::try_new(frame).is_some_and(|datagram| datagram.is_sound(frame, tunnel_port))
    };
    frames.take(count).take_while(is_sound).count().max(1)
}

/// The same by the headers alone.
fn count_alike<'a>(frames: impl Iterator<Item = &'a Mbuf>) -> usize {
    let mut frames = frames.take(MOST_PIECES);
    let Some(first) = frames.next() else { return 0 };
    let Some(lead) = Datagram::try_new(first) else { return 1 };
    let (mut count, mut carried) = (1, lead.bytes - UDP);
    for frame in frames {
        let fits = Datagram::try_new(frame).filter(|next| {
            next.l4 == lead.l4
                && next.bytes <= lead.bytes
                && carried + next.bytes - UDP <= MOST_BYTES
                && lead.is_like(first.head(), frame.head(), count)
        });
        let Some(next) = fits else { break };
        (count, carried) = (count + 1, carried + next.bytes - UDP);
        // Only the last piece may be shorter.
        if next.bytes < lead.bytes {
            break;
        }
    }
    count
}

/// The headers of what so many frames are together ([`count`] says that they can be), and its offload state.
pub(crate) fn head<'a>(frames: impl Iterator<Item = &'a Mbuf> + Clone) -> Option<(Head, Offload)> {
    let first = frames.clone().next()?;
    let Datagram { l4, bytes } = Datagram::try_new(first)?;
    let carried: usize = frames.map(|frame| frame.total_len() - l4 - UDP).sum();
    let mut head = Head::new();
    head.try_extend_from_slice(first.head().get(..l4 + UDP)?).ok()?;
    outer::renumber_with_checksum(&mut head, l4, (UDP + carried) as u16, 0);
    let offload = Offload {
        checksum: Checksum::Partial { start: l4 as u16, offset: UDP_CHECKSUM },
        gso: Some(Gso { kind: GsoKind::Udp, size: (bytes - UDP) as u16 }),
        outer: 0,
    };
    Some((head, offload))
}

/// Adds what the frames carry behind headers of so many bytes. False when that is in too many pieces of memory.
pub(crate) fn lay_out<'parts, 'frames: 'parts>(
    frames: impl Iterator<Item = &'frames Mbuf>,
    headers: usize,
    parts: &mut Parts<'parts>,
) -> bool {
    let mut fits = true;
    for frame in frames {
        let mut skip = headers;
        for segment in frame.segments() {
            if let Some(part) = segment.get(skip..).filter(|part| !part.is_empty()) {
                fits &= parts.try_push(IoSlice::new(part)).is_ok();
            }
            skip = skip.saturating_sub(segment.len());
        }
    }
    fits
}
