//! The ring of a packet socket: packets that the kernel has copied into memory which both share (`TPACKET_V2`, packet(7);
//! Documentation/networking/packet_mmap.rst).
//!
//! ```text
//!  slot: tpacket2_hdr │ sockaddr_ll │ … │ virtio-net header │ the packet from its Ethernet header on
//!        tp_status: whose it is         ^ 10 bytes          ^ tp_mac
//! ```

use super::packet::PacketSocket;
use crate::mapping::Mapping;
use crate::virtio_header::HEADER_LEN;
use std::io;
use std::os::fd::AsFd;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// Bytes of a slot before the packet, at most: `TPACKET2_HDRLEN` and an Ethernet header, both rounded up, and the virtio-net header
/// (`tpacket_rcv` in net/packet/af_packet.c).
const BEFORE: usize = (libc::TPACKET2_HDRLEN + 16).next_multiple_of(16) + HEADER_LEN;

/// Bytes of an Ethernet header, and of a VLAN tag that the kernel may leave in.
const LINK: u32 = 14 + 4;

/// Bytes of all slots of an interface's rings, about, and how many slots a ring has at least.
const BYTES: u32 = 8 << 20;
const LEAST_SLOTS: u32 = 512;

/// The kernel takes the slots' memory in blocks of this size, or of a slot's if that is more.
const BLOCK: u32 = 64 << 10;

/// `ETH_P_ALL`.
const EVERYTHING: u16 = 3;

/// A ring that is read.
#[derive(Debug)]
pub(super) struct PacketRing {
    memory: Mapping,
    slot_len: usize,
    slots: usize,
    /// The slot that the kernel fills next, or has filled first.
    next: usize,
    /// Keeps the ring; the mapping alone would, too, and with it the packets.
    _socket: Arc<PacketSocket>,
}

// SAFETY: the memory is the kernel's and of who has the ring; nothing is bound to a thread.
unsafe impl Send for PacketRing {}

/// A packet in its slot, which is the kernel's again when this is dropped.
pub(super) struct Slot<'a> {
    status: &'a AtomicU32,
    /// The virtio-net header before the packet.
    pub(super) header: &'a [u8; HEADER_LEN],
    /// The packet, or as much of it as had room.
    pub(super) bytes: &'a [u8],
    /// Whether it is all of it.
    pub(super) is_whole: bool,
}

/// The socket of a ring, and bytes of the largest MTU that its slots have room for.
pub(super) struct Prepared {
    pub(super) socket: Arc<PacketSocket>,
    pub(super) ring: PacketRing,
    pub(super) mtu: u32,
}

impl PacketRing {
    /// A socket for one of so many queues, with a ring whose slots hold what this MTU allows. Nothing comes before it is
    /// [started](start).
    ///
    /// # Errors
    /// Those of [`PacketSocket::unbound`], `setsockopt(2)` and `mmap(2)`.
    pub(super) fn prepare(mtu: u32, queues: u32) -> io::Result<Prepared> {
        let socket = PacketSocket::unbound()?;
        let set = |option, value: u32| socket.set(libc::SOL_PACKET, option, &value);
        set(libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as u32)?;
        // What we send ourselves is not to come back; Linux 4.20, and before that no claim is on it.
        let _older_kernel = set(libc::PACKET_IGNORE_OUTGOING, 1);
        let slot_len = (BEFORE as u32 + LINK + mtu).next_power_of_two();
        let slots = (BYTES / queues / slot_len).next_power_of_two().max(LEAST_SLOTS);
        let block = BLOCK.max(slot_len);
        let request = libc::tpacket_req {
            tp_block_size: block,
            tp_block_nr: slots * slot_len / block,
            tp_frame_size: slot_len,
            tp_frame_nr: slots,
        };
        socket.set(libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let memory = Mapping::shared(socket.as_fd(), (slots * slot_len) as usize, 0)?;
        let socket = Arc::new(socket);
        let (slot_len, slots) = (slot_len as usize, slots as usize);
        let ring = PacketRing { memory, slot_len, slots, next: 0, _socket: socket.clone() };
        Ok(Prepared { socket, ring, mtu: (slot_len - BEFORE) as u32 - LINK })
    }

    /// The next packet; nothing when there is none.
    pub(super) fn next(&mut self) -> Option<Slot<'_>> {
        let at = self.next * self.slot_len;
        // SAFETY: the slot lies within the mapping, which has so many of them.
        let slot = unsafe { self.memory.base().add(at) };
        let status = self.status(slot);
        if status.load(Ordering::Acquire) & libc::TP_STATUS_USER == 0 {
            return None;
        }
        self.next = (self.next + 1) % self.slots;
        // SAFETY: a slot begins with this structure of integers, and is ours until its status is the kernel's.
        let told = unsafe { slot.cast::<libc::tpacket2_hdr>().read() };
        let (from, len) = (usize::from(told.tp_mac), told.tp_snaplen as usize);
        if from < HEADER_LEN || from + len > self.slot_len {
            // The kernel has never said such a thing.
            status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
            return None;
        }
        // SAFETY: this and the bytes from there on lie within the slot, as was just looked at.
        let packet = unsafe { slot.add(from) };
        // SAFETY: so do the bytes before.
        let header = unsafe { packet.sub(HEADER_LEN) }.cast::<[u8; HEADER_LEN]>();
        // SAFETY: they are ours like the slot, and any bytes are a value.
        let header = unsafe { header.as_ref() };
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(packet.as_ptr(), len) };
        Some(Slot { status, header, bytes, is_whole: told.tp_len == told.tp_snaplen })
    }

    /// Whether no packet waits.
    pub(super) fn is_empty(&self) -> bool {
        // SAFETY: the slot lies within the mapping, which has so many of them.
        let slot = unsafe { self.memory.base().add(self.next * self.slot_len) };
        self.status(slot).load(Ordering::Acquire) & libc::TP_STATUS_USER == 0
    }

    /// The first word of a slot, by which it changes hands.
    fn status<'a>(&self, slot: NonNull<u8>) -> &'a AtomicU32 {
        debug_assert!(slot.addr() >= self.memory.base().addr(), "a slot of this ring");
        // SAFETY: a slot begins with an aligned word that the kernel and we only touch atomically; the callers give the reference
        // no longer life than the ring's.
        unsafe { slot.cast::<AtomicU32>().as_ref() }
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.status.store(libc::TP_STATUS_KERNEL, Ordering::Release);
    }
}

/// Has packets of the interface come: those that each socket's filter lets pass, spread over the sockets by the queues that they were
/// received on.
///
/// # Errors
/// Those of `bind(2)` and [`PacketSocket::share_with`].
pub(super) fn start(sockets: &[Arc<PacketSocket>], ifindex: u32) -> io::Result<()> {
    let Some((first, others)) = sockets.split_first() else { return Ok(()) };
    first.bind(ifindex, EVERYTHING)?;
    if !others.is_empty() {
        first.share_with(None)?;
    }
    others.iter().try_for_each(|socket| {
        socket.bind(ifindex, EVERYTHING)?;
        socket.share_with(Some(first))
    })
}
