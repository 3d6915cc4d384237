//! TCP's maximum segment size is lowered to what a connection's way takes whole.
//!
//! A packet that opens a connection announces how large the segments of the opposite direction may be. Where routers on the
//! way keep their ICMP errors to themselves this is the only thing that helps (Linux: `TCPMSS --clamp-mss-to-pmtu`). It is
//! never raised.

use super::brief::Brief;
use super::run::Context;
use crate::conntrack::Entry;
use crate::port::{Checksum, Frame};
use crate::wire::Delta;
use crate::wire::parse::L4Kind;
use crate::wire::tcp::{self, Flags};

/// Bytes of headers without options: IP's and TCP's.
const HEADERS_V4: u16 = 40;
const HEADERS_V6: u16 = 60;
/// No way is too narrow for this (RFC 9293, section 3.7.1).
const LEAST: u16 = 536;
/// The kinds of options of one byte, and of this one.
const END: u8 = 0;
const NO_OPERATION: u8 = 1;
const MAXIMUM_SEGMENT_SIZE: u8 = 2;

/// Lowers what a SYN announces to what both ways of its connection take; does nothing to other packets.
#[inline(never)]
pub(super) fn clamp<F: Frame>(
    context: &Context<'_>,
    frame: &mut F,
    packet: &Brief,
    entry: &Entry<'_>,
    peer: &Entry<'_>,
) {
    if packet.kind != L4Kind::Tcp {
        return;
    }
    let mtu = |entry: &Entry<'_>| context.tables.routes.adjacency(entry.adjacency()).map(|way| way.mtu);
    let Some(mtu) = [mtu(entry), mtu(peer)].into_iter().flatten().min() else { return };
    let headers = if packet.v6 { HEADERS_V6 } else { HEADERS_V4 };
    let most = mtu.saturating_sub(headers).max(LEAST);
    let is_partial = matches!(frame.offload().checksum, Checksum::Partial { .. });
    let segment = frame.head_mut().get_mut(usize::from(packet.l4)..).unwrap_or_default();
    lower(segment, most, is_partial);
}

/// Lowers the option of the segment that begins here to `most`, if it has one that is larger.
fn lower(segment: &mut [u8], most: u16, is_partial: bool) -> Option<()> {
    let header = segment.first_chunk::<{ tcp::LEN }>()?;
    if !Flags(header[13]).contains(Flags::SYN) {
        return None;
    }
    let end = usize::from(header[12] >> 4) * 4;
    let mut at = tcp::LEN;
    while at < end {
        let len = match *segment.get(at)? {
            END => return None,
            NO_OPERATION => 1,
            MAXIMUM_SEGMENT_SIZE if segment.get(at + 1) == Some(&4) && at + 4 <= end => break,
            _ => usize::from(*segment.get(at + 1)?).max(2),
        };
        at += len;
    }
    let field = segment.get_mut(at + 2..at + 4).filter(|_| at < end)?;
    let old = u16::from_be_bytes([field[0], field[1]]);
    if old <= most {
        return None;
    }
    field.copy_from_slice(&most.to_be_bytes());
    // A partial checksum is made over the new value; it stands for the pseudo-header alone.
    if !is_partial {
        // At an odd place in the segment both bytes belong to different words.
        let swap = |value: u16| if at.is_multiple_of(2) { value } else { value.swap_bytes() };
        let change = Delta::of_u16(swap(old), swap(most));
        let checksum = change.apply([segment[16], segment[17]]);
        segment[16..18].copy_from_slice(&checksum);
    }
    Some(())
}
