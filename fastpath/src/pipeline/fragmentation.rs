//! Stage: what is larger than the MTU of its way out leaves in parts, where IPv4 allows it.
//!
//! Comes in: a packet on its way, rewritten already. Goes out: the packet itself if it fits; its fragments (RFC 791,
//! section 3.2); a large TCP frame that is to be cut smaller; or the datagrams of a large UDP frame, in fragments. Drops: no
//! buffer for a fragment, headers that are not where they should be. IPv6 packets and those that must not be fragmented
//! never come here: [`Fit::of`] says so before, and their sender is told the MTU.

use super::brief::Brief;
use super::encapsulate::Exit;
use super::forward::fits;
use super::{Egress, Pipeline, WorkerCounter};
use crate::port::{Checksum, DropReason, Frame, Gso, GsoKind, Offload};
use crate::tables::{Adjacency, TableSet};
use crate::wire::parse::L4Kind;
use crate::wire::{Sum, ethernet, ipv4};

/// Headers of a part, at most: Ethernet's, IPv4's with all its options, UDP's.
const HEADERS: usize = ethernet::LEN + ipv4::MAX_LEN + UDP;
/// Bytes of a UDP header, and where its length and checksum are in it.
const UDP: usize = 8;
const UDP_LENGTH: usize = 4;
const UDP_CHECKSUM: u16 = 6;
/// Where IPv4 keeps length, identification, fragment word and checksum, from the frame's start.
const LENGTH: usize = ethernet::LEN + 2;
const IDENTIFICATION: usize = ethernet::LEN + 4;
const FRAGMENT: usize = ethernet::LEN + 6;
const CHECKSUM: usize = ethernet::LEN + ipv4::CHECKSUM_OFFSET;

/// How a packet gets through a way out of some MTU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fit {
    /// As it is.
    Whole,
    /// In parts.
    InParts,
    /// Not at all: its sender has to send less.
    Never,
}

impl Fit {
    /// How this packet gets through a way out of `mtu` bytes.
    pub(super) fn of<F: Frame>(frame: &F, packet: &Brief, mtu: u16) -> Fit {
        if packet.ip_total <= u32::from(mtu) || fits(frame, packet, mtu) {
            return Fit::Whole;
        }
        let may_be_cut = !packet.v6 && word(frame.head(), FRAGMENT) & ipv4::DO_NOT_FRAGMENT == 0;
        if may_be_cut { Fit::InParts } else { Fit::Never }
    }
}

impl Pipeline {
    /// Sends a rewritten packet by its way out, in parts if it must.
    pub(super) fn send<F: Frame>(
        &mut self,
        frame: F,
        packet: &Brief,
        exit: (&TableSet, &Adjacency, u64),
        egress: &mut impl Egress<F>,
    ) {
        let (tables, way, hash) = exit;
        let is_whole = Fit::of(&frame, packet, way.mtu) == Fit::Whole;
        if !is_whole {
            self.counters.add(WorkerCounter::Fragmented, 1);
        }
        let way = &self.exit(tables, way, hash);
        if is_whole {
            return way.send(frame, egress);
        }
        match frame.offload().gso {
            None => fragments(frame, packet, way, egress),
            Some(gso @ Gso { kind: GsoKind::Udp, .. }) => {
                if let Err(reason) = datagrams(&frame, packet, gso, way, egress) {
                    egress.drop_frame(reason, frame);
                }
            }
            Some(gso) => smaller_segments(frame, packet, gso, way, egress),
        }
    }
}

/// Cuts a packet into fragments that are as large as may be.
fn fragments<F: Frame>(mut frame: F, packet: &Brief, way: &Exit<'_>, egress: &mut impl Egress<F>) {
    let data = usize::from(packet.l4);
    if data > ethernet::LEN + ipv4::MAX_LEN || data > frame.head().len() || !frame.complete_checksum() {
        return egress.drop_frame(DropReason::Truncated, frame);
    }
    let mut space = [0; HEADERS];
    let headers = &mut space[..data];
    headers.copy_from_slice(&frame.head()[..data]);
    let original = word(headers, FRAGMENT);
    let len = (packet.ip_total as usize + ethernet::LEN).saturating_sub(data);
    let most = (usize::from(way.way.mtu) + ethernet::LEN).saturating_sub(data) & !7;
    let mut done = 0;
    while done < len && most > 0 {
        let bytes = most.min(len - done);
        let more = if done + bytes < len { ipv4::MORE_FRAGMENTS } else { original & ipv4::MORE_FRAGMENTS };
        let offset =
            (original & ipv4::FRAGMENT_OFFSET).wrapping_add((done / 8) as u16) & ipv4::FRAGMENT_OFFSET;
        put(headers, LENGTH, (data - ethernet::LEN + bytes) as u16);
        put(headers, FRAGMENT, offset | more);
        fill_checksum(headers);
        let Some(fragment) = frame.piece(headers, data + done, bytes) else {
            // What has left already is lost, too: the receiver cannot put it together.
            return egress.drop_frame(DropReason::NoBuffer, frame);
        };
        way.send(fragment, egress);
        done += bytes;
        keep_copied_options(&mut headers[ethernet::LEN + ipv4::LEN..]);
    }
}

/// Options that are not to be copied into every fragment are blanked out: the header keeps its length
/// (RFC 791, section 3.1; Linux's `ip_options_fragment`).
fn keep_copied_options(mut options: &mut [u8]) {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const COPIED: u8 = 0x80;
    while let Some(&kind) = options.first() {
        let len = match kind {
            END => return,
            NO_OPERATION => 1,
            _ => options.get(1).map_or(0, |&len| usize::from(len)),
        };
        if len == 0 || len > options.len() || (len == 1 && kind != NO_OPERATION) {
            return;
        }
        let (option, rest) = options.split_at_mut(len);
        if kind & COPIED == 0 {
            option.fill(NO_OPERATION);
        }
        options = rest;
    }
}

/// A large TCP frame is to be cut into segments that fit. They are not what its sender meant them to be, and TCP
/// does not care.
fn smaller_segments<F: Frame>(
    mut frame: F,
    packet: &Brief,
    gso: Gso,
    way: &Exit<'_>,
    egress: &mut impl Egress<F>,
) {
    let header = frame.head().get(usize::from(packet.l4) + 12).map(|offset| u16::from(offset >> 4) * 4);
    let before = packet.l4 - ethernet::LEN as u16;
    let size = header.and_then(|header| way.way.mtu.checked_sub(before + header)).filter(|&size| size > 0);
    let Some(size) = size else { return egress.drop_frame(DropReason::Truncated, frame) };
    let checksum = frame.offload().checksum;
    frame.set_offload(Offload { checksum, gso: Some(Gso { size, ..gso }), outer: 0 });
    way.send(frame, egress);
}

/// Makes the datagrams that a large UDP frame stands for, and fragments of each.
fn datagrams<F: Frame>(
    frame: &F,
    packet: &Brief,
    gso: Gso,
    way: &Exit<'_>,
    egress: &mut impl Egress<F>,
) -> Result<(), DropReason> {
    let (l4, data) = (usize::from(packet.l4), usize::from(packet.l4) + UDP);
    let mut space = [0; HEADERS];
    let (original, headers) = match (frame.head().get(..data), space.get_mut(..data)) {
        (Some(original), Some(headers)) if packet.kind == L4Kind::Udp => (original, headers),
        _ => return Err(DropReason::Truncated),
    };
    headers.copy_from_slice(original);
    let end = packet.ip_total as usize + ethernet::LEN;
    let first = word(headers, IDENTIFICATION);
    for (index, from) in (data..end).step_by(usize::from(gso.size.max(1))).enumerate() {
        let bytes = usize::from(gso.size).min(end - from);
        let (ip_total, udp) = ((data - ethernet::LEN + bytes) as u16, (UDP + bytes) as u16);
        put(headers, LENGTH, ip_total);
        put(headers, IDENTIFICATION, first.wrapping_add(index as u16));
        fill_checksum(headers);
        put(headers, l4 + UDP_LENGTH, udp);
        let ip = ipv4::Header::new_checked(&headers[ethernet::LEN..]).map_err(|_| DropReason::Truncated)?;
        let seed = ip.pseudo_header(udp).partial();
        let field = l4 + usize::from(UDP_CHECKSUM);
        headers[field..field + 2].copy_from_slice(&seed);
        let mut datagram = frame.piece(headers, from, bytes).ok_or(DropReason::NoBuffer)?;
        let checksum = Checksum::Partial { start: packet.l4, offset: UDP_CHECKSUM };
        datagram.set_offload(Offload { checksum, gso: None, outer: 0 });
        let packet = Brief { ip_total: u32::from(ip_total), ..*packet };
        match ip_total <= way.way.mtu {
            true => way.send(datagram, egress),
            false => fragments(datagram, &packet, way, egress),
        }
    }
    Ok(())
}

fn fill_checksum(headers: &mut [u8]) {
    put(headers, CHECKSUM, 0);
    let end = ethernet::LEN + usize::from(headers[ethernet::LEN] & 0xf) * 4;
    let checksum = Sum::of(&headers[ethernet::LEN..end.min(headers.len())]).checksum();
    headers[CHECKSUM..CHECKSUM + 2].copy_from_slice(&checksum);
}

/// The 16 bits at this place, or 0 where there are none.
fn word(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |field| u16::from_be_bytes(*field))
}

fn put(headers: &mut [u8], at: usize, value: u16) {
    headers[at..at + 2].copy_from_slice(&value.to_be_bytes());
}
