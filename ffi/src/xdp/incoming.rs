//! One queue's two ways in, behind the kernel's receive offload: the ring of a packet socket, and a TAP's queue. All packets of a
//! connection come by one of them (`bpf/take.c`), or from some packet on by the other.
//!
//! The kernel looks into every UDP packet at the tunnels' port, whoever it is for. What it has made of those that are not for an end
//! of this node's tunnels is undone here: to the data path they are UDP packets like others.

use super::packet_ring::{PacketRing, Slot};
use super::program::Steering;
use crate::gso::{self, Caps};
use crate::mbuf::{ETHERNET, Mbuf};
use crate::mempool::Mempool;
use crate::open_checksum;
use crate::plain_ip::PlainIp;
use crate::tap::TapQueue;
use crate::virtio_header;
use millrace_fastpath::port::{BURST, Burst, Checksum, DropReason, Frame, PortCounters, PortQueue};
use std::collections::VecDeque;
use std::net::IpAddr;
use std::os::fd::RawFd;
use std::sync::Arc;

/// Packets of the ring that a poll takes at most: the TAP is not to wait.
const OF_RING: usize = BURST * 3 / 4;

/// Where layer 4 of an inner packet begins at least: behind Ethernet, IPv4, UDP, VXLAN, Ethernet and IPv4.
const FIRST_INNER_L4: u16 = ETHERNET + 20 + 8 + 8 + ETHERNET + 20;

const UDP: u8 = 17;

/// The two ways.
pub(super) struct Incoming {
    ring: PacketRing,
    /// The ring's descriptor.
    ring_fd: RawFd,
    tap: TapQueue,
    steering: Arc<Steering>,
    /// Where packets of the ring are copied to.
    pool: Mempool,
    counters: Arc<PortCounters>,
    /// What was cut, and found no room yet. What has come since is behind it.
    cut: VecDeque<Mbuf>,
}

impl Incoming {
    /// Of a ring with its descriptor, and a TAP's queue. `pool`: where packets of the ring are copied to.
    pub(super) fn new(
        ring: (PacketRing, RawFd),
        tap: TapQueue,
        steering: Arc<Steering>,
        pool: Mempool,
        counters: Arc<PortCounters>,
    ) -> Incoming {
        let (ring, ring_fd) = ring;
        Incoming { ring, ring_fd, tap, steering, pool, counters, cut: VecDeque::new() }
    }

    /// As [`PortQueue::rx_burst`]. The ring first: a flow that changes ways changes from that to the TAP.
    pub(super) fn rx_burst(&mut self, into: &mut Burst<Mbuf>) -> usize {
        let before = into.len();
        self.give_cut(into);
        if self.cut.is_empty() {
            let read = into.len();
            self.rx_ring(into);
            self.tap.rx_burst(into);
            if into[read..].iter().any(|frame| self.is_foreign(frame)) {
                self.undo(into, read);
            }
        }
        into.len() - before
    }

    fn rx_ring(&mut self, into: &mut Burst<Mbuf>) {
        let (before, mut bytes) = (into.len(), 0);
        while into.len() < (before + OF_RING).min(BURST) && !self.ring.is_empty() {
            // Without a buffer the packet stays where it is: the ring is bounded, and what it has no room for is counted.
            let Some(first) = self.pool.alloc() else { break };
            let Some(slot) = self.ring.next() else { break };
            match frame(&slot, first, &self.pool) {
                Ok(frame) => {
                    bytes += frame.total_len() as u64;
                    into.push(frame);
                }
                Err(reason) => self.counters.dropped(reason, 1),
            }
        }
        let frames = into.len() - before;
        if frames > 0 {
            self.counters.received(frames as u64, bytes);
        }
    }

    /// Whether the kernel has looked into a packet that is for no end of this node's tunnels.
    #[inline]
    fn is_foreign(&self, frame: &Mbuf) -> bool {
        let offload = frame.offload();
        let is_inner =
            |checksum| matches!(checksum, Checksum::Partial { start, .. } if start >= FIRST_INNER_L4);
        if offload.outer == 0 && !is_inner(offload.checksum) {
            return false;
        }
        match destination(frame.head()) {
            Some((address, port)) => !self.steering.ends_tunnel(address, port),
            // With options or extensions, or no UDP: only what is large needs to be undone.
            None => offload.outer != 0,
        }
    }

    /// Cuts and finishes what is foreign among the frames from `first` on.
    #[cold]
    fn undo(&mut self, into: &mut Burst<Mbuf>, first: usize) {
        let caps = Caps::none(gso::LARGEST_FRAME);
        let read: Burst<Mbuf> = into.drain(first..).collect();
        for frame in read {
            if !self.is_foreign(&frame) {
                self.cut.push_back(frame);
            } else if let Err(reason) = gso::settle(frame, &caps, &self.pool, &mut self.cut) {
                self.counters.dropped(reason, 1);
            }
        }
        self.give_cut(into);
    }

    fn give_cut(&mut self, into: &mut Burst<Mbuf>) {
        while !into.is_full()
            && let Some(frame) = self.cut.pop_front()
        {
            into.push(frame);
        }
    }

    /// As [`PortQueue::arm`].
    pub(super) fn arm(&mut self) -> bool {
        self.cut.is_empty() && self.ring.is_empty() && self.tap.arm()
    }

    /// As [`PortQueue::disarm`].
    pub(super) fn disarm(&mut self) {
        self.tap.disarm();
    }

    /// As [`PortQueue::wake_fds`].
    pub(super) fn wake_fds(&self) -> Vec<RawFd> {
        let mut all = self.tap.wake_fds();
        all.push(self.ring_fd);
        all
    }
}

/// Where a UDP packet goes to.
fn destination(head: &[u8]) -> Option<(IpAddr, u16)> {
    let ip = PlainIp::try_new(head, UDP)?;
    let addresses = head.get(ip.addresses())?;
    let address = match addresses.split_at(addresses.len() / 2).1 {
        four if four.len() == 4 => IpAddr::from(*four.first_chunk::<4>()?),
        sixteen => IpAddr::from(*sixteen.first_chunk::<16>()?),
    };
    let port = head.get(ip.l4 + 2..)?.first_chunk()?;
    Some((address, u16::from_be_bytes(*port)))
}

/// A copy of a packet, in as many buffers as it takes. `NoBuffer`: there are not as many. `RxMalformed`: the slot does not hold all.
fn frame(slot: &Slot<'_>, mut frame: Mbuf, pool: &Mempool) -> Result<Mbuf, DropReason> {
    if !slot.is_whole {
        return Err(DropReason::RxMalformed);
    }
    let (head, mut rest) = slot.bytes.split_at(slot.bytes.len().min(frame.tailroom()));
    frame.extend_from_slice(head);
    while !rest.is_empty() {
        let mut more = pool.alloc().ok_or(DropReason::NoBuffer)?;
        let (part, left) = rest.split_at(rest.len().min(more.tailroom()));
        more.extend_from_slice(part);
        frame.chain(more).map_err(|_| DropReason::RxMalformed)?;
        rest = left;
    }
    match virtio_header::decode(slot.header, frame.head().len()) {
        Ok(offload) => frame.set_offload(offload),
        // SCTP's checksum is none that the header has words for.
        Err(_) => open_checksum::close(&mut frame),
    }
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_read_of_plain_udp_packets_only() {
        let mut v4 = [0; 42];
        v4[12..15].copy_from_slice(&[8, 0, 0x45]);
        v4[23] = UDP;
        v4[30..38].copy_from_slice(&[10, 1, 2, 3, 0, 9, 0x12, 0xb5]);
        assert_eq!(destination(&v4), Some(("10.1.2.3".parse().unwrap(), 4789)));
        assert_eq!(destination(&v4[..37]), None);
        let mut v6 = [0; 62];
        v6[12..15].copy_from_slice(&[0x86, 0xdd, 0x60]);
        v6[20] = UDP;
        v6[38] = 0xfd;
        v6[53] = 7;
        v6[57] = 53;
        assert_eq!(destination(&v6), Some(("fd00::7".parse().unwrap(), 53)));
        v4[23] = 6;
        assert_eq!(destination(&v4), None);
    }
}
