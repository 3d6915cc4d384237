//! Stage: a packet that leaves through a tunnel gets its outer headers (VXLAN, RFC 7348).
//!
//! Comes in: a frame with its inner Ethernet header, rewritten. Goes out: the same behind Ethernet, IP, UDP and VXLAN
//! headers. A frame that is still to be cut, or whose checksum is still to be made, stays so: [`Offload::outer`] says how
//! many bytes were put before it, and the port it leaves by finishes both. Drops: no headroom, no such tunnel.

use super::{Egress, Pipeline, WorkerCounter, WorkerCounters};
use crate::port::{Checksum, DropReason, Frame, Offload};
use crate::tables::{Adjacency, TableSet, Tunnel};
use crate::wire::{IpProtocol, Sum, ethernet, ipv4, ipv6, udp, vxlan};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Bytes before the inner frame, over IPv4 and over IPv6.
pub(super) const OVERHEAD_V4: usize = ethernet::LEN + ipv4::LEN + udp::LEN + vxlan::LEN;
pub(super) const OVERHEAD_V6: usize = ethernet::LEN + ipv6::LEN + udp::LEN + vxlan::LEN;

/// The bits of IP's traffic class that say whether congestion was met (RFC 3168).
const ECN: u8 = 3;

/// The way out of the packets of one flow.
pub(super) struct Exit<'a> {
    pub(super) way: &'a Adjacency,
    tables: &'a TableSet,
    counters: &'a WorkerCounters,
    hash: u64,
    identification: u16,
}

impl Pipeline {
    /// The way out of packets of the flow with this hash.
    #[inline]
    pub(super) fn exit<'a>(&'a mut self, tables: &'a TableSet, way: &'a Adjacency, hash: u64) -> Exit<'a> {
        let identification = if way.tunnel.is_some() { self.next_random() as u16 } else { 0 };
        Exit { way, tables, counters: &self.counters, hash, identification }
    }
}

impl Pipeline {
    /// Sends a packet of a known flow that leaves through a tunnel. Apart, so that others do not pay for it.
    #[inline(never)]
    pub(super) fn send_by_tunnel<F: Frame>(
        &mut self,
        tables: &TableSet,
        way: &Adjacency,
        hash: u64,
        frame: F,
        egress: &mut impl Egress<F>,
    ) {
        self.exit(tables, way, hash).send(frame, egress);
    }
}

impl Exit<'_> {
    /// Sends a frame that has the neighbour's Ethernet header.
    #[inline]
    pub(super) fn send<F: Frame>(&self, mut frame: F, egress: &mut impl Egress<F>) {
        let Some(id) = self.way.tunnel else { return egress.send(self.way.port, frame) };
        let tunnel = self.tables.tunnels.get(id).ok_or(DropReason::PortGone);
        let done = tunnel.and_then(|tunnel| {
            encapsulate(&mut frame, tunnel, self.hash, self.identification).map(|()| tunnel.port)
        });
        match done {
            Ok(port) => {
                self.counters.add(WorkerCounter::Encapsulated, 1);
                egress.send(port, frame);
            }
            Err(reason) => egress.drop_frame(reason, frame),
        }
    }
}

/// Puts a frame into a tunnel.
pub(super) fn encapsulate<F: Frame>(
    frame: &mut F,
    tunnel: &Tunnel,
    hash: u64,
    identification: u16,
) -> Result<(), DropReason> {
    let (inner_len, offload) = (frame.total_len(), frame.offload());
    let ecn = traffic_class(frame.head()).ok_or(DropReason::Truncated)? & ECN;
    let ends = ends(tunnel).ok_or(DropReason::PortGone)?;
    let overhead = if tunnel.remote.is_v4() { OVERHEAD_V4 } else { OVERHEAD_V6 };
    let datagram = match u16::try_from(inner_len + udp::LEN + vxlan::LEN) {
        Ok(len) if usize::from(len) <= usize::from(u16::MAX) - ipv4::LEN => len,
        // Each of its pieces gets its own.
        _ if offload.gso.is_some() => 0,
        _ => return Err(DropReason::TooBig),
    };
    if !frame.prepend(overhead) {
        return Err(DropReason::NoHeadroom);
    }
    let outer = Outer { tunnel, ends, datagram, ecn, identification, source_port: source_port(hash) };
    outer.write(frame.head_mut()).ok_or(DropReason::Truncated)?;
    frame.set_offload(behind(offload, overhead as u16, tunnel.checksum));
    Ok(())
}

/// What is left to be done once there are headers before the frame.
fn behind(inner: Offload, overhead: u16, with_checksum: bool) -> Offload {
    match inner.checksum {
        Checksum::Partial { start, offset } => {
            let checksum = Checksum::Partial { start: start.saturating_add(overhead), offset };
            Offload { checksum, gso: inner.gso, outer: overhead }
        }
        // What somebody has vouched for is hidden now.
        _ if with_checksum => Offload { outer: overhead, ..Offload::NONE },
        _ => Offload::NONE,
    }
}

/// The flow's mark on the outer packet, by which routers and NICs spread flows (RFC 7348, section 5).
pub(super) fn source_port(hash: u64) -> u16 {
    // The upper bits choose the next hop: others are taken.
    (hash >> 8) as u16 | 0x8000
}

/// The tunnel's ends in one family.
#[derive(Clone, Copy)]
enum Ends {
    V4(Ipv4Addr, Ipv4Addr),
    V6(Ipv6Addr, Ipv6Addr),
}

fn ends(tunnel: &Tunnel) -> Option<Ends> {
    match (tunnel.local.to_ip(), tunnel.remote.to_ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => Some(Ends::V4(local, remote)),
        (IpAddr::V6(local), IpAddr::V6(remote)) => Some(Ends::V6(local, remote)),
        _ => None,
    }
}

struct Outer<'a> {
    tunnel: &'a Tunnel,
    ends: Ends,
    /// Bytes of the UDP datagram; 0 when it is yet to be cut.
    datagram: u16,
    ecn: u8,
    identification: u16,
    source_port: u16,
}

impl Outer<'_> {
    /// Writes the headers to the front of a frame that has room for them there.
    fn write(&self, head: &mut [u8]) -> Option<()> {
        let (link, rest) = head.split_first_chunk_mut::<{ ethernet::LEN }>()?;
        link[..6].copy_from_slice(&self.tunnel.destination_mac.0);
        link[6..12].copy_from_slice(&self.tunnel.source_mac.0);
        let (datagram, pseudo) = match self.ends {
            Ends::V4(source, destination) => {
                link[12..].copy_from_slice(&[0x08, 0x00]);
                let (ip, datagram) = rest.split_first_chunk_mut::<{ ipv4::LEN }>()?;
                let header = ipv4::Fields {
                    source,
                    destination,
                    protocol: IpProtocol::UDP,
                    ttl: ipv4::DEFAULT_TTL,
                    traffic_class: self.ecn,
                    identification: self.identification,
                    do_not_fragment: true,
                    payload_len: self.datagram,
                };
                header.emit(ip);
                (datagram, Sum::pseudo_v4(source, destination, IpProtocol::UDP, self.datagram))
            }
            Ends::V6(source, destination) => {
                link[12..].copy_from_slice(&[0x86, 0xdd]);
                let (ip, datagram) = rest.split_first_chunk_mut::<{ ipv6::LEN }>()?;
                let header = ipv6::Fields {
                    source,
                    destination,
                    next_header: IpProtocol::UDP,
                    hop_limit: ipv6::DEFAULT_HOP_LIMIT,
                    traffic_class: self.ecn,
                    payload_len: self.datagram,
                };
                header.emit(ip);
                (datagram, Sum::pseudo_v6(source, destination, IpProtocol::UDP, self.datagram.into()))
            }
        };
        let (header, rest) = datagram.split_first_chunk_mut::<{ udp::LEN }>()?;
        let (source_port, destination_port) = (self.source_port, self.tunnel.udp_port);
        udp::Fields { source_port, destination_port, len: self.datagram }.emit(header);
        if self.tunnel.checksum {
            header[udp::CHECKSUM_OFFSET..].copy_from_slice(&pseudo.partial());
        }
        let vxlan = rest.first_chunk_mut::<{ vxlan::LEN }>()?;
        *vxlan = vxlan::header(self.tunnel.vni.get());
        Some(())
    }
}

/// The traffic class of an untagged IP packet; 0 of anything else.
fn traffic_class(head: &[u8]) -> Option<u8> {
    let [kind @ .., first, second] = *head.get(12..)?.first_chunk::<4>()?;
    Some(match kind {
        [0x08, 0x00] => second,
        [0x86, 0xdd] => first << 4 | second >> 4,
        _ => 0,
    })
}
