//! Datagrams of one flow, one behind the other: together they are one large datagram, which the kernel or the NIC cuts again.
//!
//! What is cut again gives the same packets, but for the identification of IPv4 packets that nobody may fragment, and the UDP
//! checksum of tunnels' packets, which all of them have then.

use super::train::{MOST_BYTES, MOST_PIECES, Parts, UDP};
use super::{Reader, get, outer};
use crate::mbuf::{Mbuf, UDP_CHECKSUM};
use crate::plain_ip::{L3, PlainIp, V6_HEADER};
use arrayvec::ArrayVec;
use millrace_fastpath::port::{Checksum, Frame, Gso, GsoKind, Offload};
use std::io::IoSlice;

const PROTOCOL: u8 = 17;

/// Headers up to UDP's, of either family.
pub(crate) type Head = ArrayVec<u8, { L3 + V6_HEADER + UDP }>;

/// A UDP datagram that is a whole frame, and behind the only IP header.
#[derive(Clone, Copy)]
struct Datagram {
    ip: PlainIp,
    /// Bytes from UDP's header on.
    bytes: usize,
}

impl Datagram {
    fn try_new(frame: &Mbuf) -> Option<Datagram> {
        if frame.is_unfinished() {
            return None;
        }
        let head = frame.head();
        let ip = PlainIp::try_new(head, PROTOCOL)?;
        let udp: &[u8; UDP] = head.get(ip.l4..)?.first_chunk()?;
        let bytes = usize::from(get(udp, 4));
        let len = frame.total_len();
        (ip.frame_len(head) == len && ip.l4 + bytes == len && bytes > UDP).then_some(Datagram { ip, bytes })
    }

    /// Whether its checksum can be made anew: it is right, so that no damage is covered up, or it is a tunnel's own packet.
    fn is_sound(&self, frame: &Mbuf, tunnel_port: u16) -> bool {
        let (head, l4) = (frame.head(), self.ip.l4);
        if get(head, l4 + usize::from(UDP_CHECKSUM)) == 0 {
            return tunnel_port != 0 && get(head, l4 + 2) == tunnel_port;
        }
        self.ip.is_sound(frame, PROTOCOL, self.bytes)
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
            let (from, to) = (lead.ip.l4, lead.ip.l4 + 4);
            next.ip == lead.ip
                && next.bytes <= lead.bytes
                && carried + next.bytes - UDP <= MOST_BYTES
                && frame.head().get(from..to) == first.head().get(from..to)
                && lead.ip.follows(first.head(), frame.head(), count)
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
    let Datagram { ip: PlainIp { l4 }, bytes } = Datagram::try_new(first)?;
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
        let carried = frame.total_len().saturating_sub(headers);
        Reader::new(frame.segments(), headers)
            .take(carried, |part| fits &= part.is_empty() || parts.try_push(IoSlice::new(part)).is_ok());
    }
    fits
}
