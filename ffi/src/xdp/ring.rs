//! The four rings that an AF_XDP socket shares with the kernel (Documentation/networking/af_xdp.rst).
//!
//! Each has one producer and one consumer; positions run freely through 32 bits. What a side writes becomes
//! visible to the other by a release store of its position, which the other reads with acquire.

use crate::mapping::Mapping;
use std::io;
use std::os::fd::BorrowedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

/// What can lie in a ring: plain numbers, of which any bit pattern is a value.
pub(super) trait Slot: Copy {}
impl Slot for u64 {}
impl Slot for libc::xdp_desc {}

/// One mapped ring, seen from neither side.
#[derive(Debug)]
struct Ring<T> {
    map: Mapping,
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: NonNull<T>,
    mask: u32,
}

// SAFETY: the pointers lead into `map`, which is Send; a ring is only used through `&self` or `&mut self`.
unsafe impl<T: Slot> Send for Ring<T> {}

/// Where a ring is mapped from, and its slots (a power of two).
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) offset: i64,
    pub(super) layout: libc::xdp_ring_offset,
    pub(super) slots: u32,
}

impl<T: Slot> Ring<T> {
    fn map(socket: BorrowedFd<'_>, place: Place) -> io::Result<Ring<T>> {
        let invalid = || io::Error::from_raw_os_error(libc::EINVAL);
        let at = |offset: u64, bytes: usize| -> io::Result<usize> {
            let offset = usize::try_from(offset).map_err(|_| invalid())?;
            offset.checked_add(bytes).ok_or_else(invalid)
        };
        let layout = place.layout;
        let len = at(layout.desc, place.slots as usize * size_of::<T>())?
            .max(at(layout.producer, size_of::<u32>())?)
            .max(at(layout.consumer, size_of::<u32>())?)
            .max(at(layout.flags, size_of::<u32>())?);
        if !place.slots.is_power_of_two() {
            return Err(invalid());
        }
        let map = Mapping::shared(socket, len, place.offset)?;
        // SAFETY: `len` covers this field.
        let producer = unsafe { map.base().add(layout.producer as usize) }.cast();
        // SAFETY: as above.
        let consumer = unsafe { map.base().add(layout.consumer as usize) }.cast();
        // SAFETY: as above.
        let flags = unsafe { map.base().add(layout.flags as usize) }.cast();
        // SAFETY: as above: `len` covers all slots.
        let slots = unsafe { map.base().add(layout.desc as usize) }.cast();
        Ok(Ring { map, producer, consumer, flags, slots, mask: place.slots - 1 })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: the pointer leads into `map`, which lives as long as `self`; the kernel aligns it to a cache line.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as for `producer`.
        unsafe { self.consumer.as_ref() }
    }

    fn wants_wakeup(&self) -> bool {
        // SAFETY: as for `producer`.
        let flags = unsafe { self.flags.as_ref() };
        flags.load(Ordering::Relaxed) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn slot(&self, position: u32) -> NonNull<T> {
        // SAFETY: masked, the index is below the number of slots, all of which are inside `map`.
        unsafe { self.slots.add((position & self.mask) as usize) }
    }

    fn size(&self) -> u32 {
        debug_assert!(self.map.len() > self.mask as usize);
        self.mask + 1
    }
}

/// Our end of a ring that the kernel consumes: fill and tx.
#[derive(Debug)]
pub(super) struct Producer<T> {
    ring: Ring<T>,
    /// The position that is written next; those before it may not be published yet.
    next: u32,
    /// The kernel's position when it was last read.
    consumed: u32,
}

impl<T: Slot> Producer<T> {
    /// Maps the ring of `socket` at `place`.
    ///
    /// # Errors
    /// That of `mmap(2)`.
    pub(super) fn map(socket: BorrowedFd<'_>, place: Place) -> io::Result<Producer<T>> {
        Ok(Producer { ring: Ring::map(socket, place)?, next: 0, consumed: 0 })
    }

    /// Slots that can be written now; looks at the kernel's position only when fewer than `enough` are known.
    pub(super) fn free(&mut self, enough: u32) -> u32 {
        let size = self.ring.size();
        let known = size.saturating_sub(self.next.wrapping_sub(self.consumed));
        if known >= enough.min(size) {
            return known;
        }
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        size.saturating_sub(self.next.wrapping_sub(self.consumed))
    }

    /// Writes the next slot. False, and nothing written, when the ring is full.
    pub(super) fn push(&mut self, value: T) -> bool {
        if self.free(1) == 0 {
            return false;
        }
        // SAFETY: the slot is inside the mapping and free: the kernel does not look at it before it is published.
        unsafe { self.ring.slot(self.next).write(value) };
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Hands everything written to the kernel.
    pub(super) fn publish(&self) {
        self.ring.producer().store(self.next, Ordering::Release);
    }

    /// True when the kernel has not taken everything yet.
    pub(super) fn pending(&mut self) -> bool {
        self.consumed = self.ring.consumer().load(Ordering::Acquire);
        self.consumed != self.next
    }

    /// True when the kernel looks at the ring only after a system call.
    pub(super) fn wants_wakeup(&self) -> bool {
        self.ring.wants_wakeup()
    }
}

/// Our end of a ring that the kernel produces: rx and completion.
#[derive(Debug)]
pub(super) struct Consumer<T> {
    ring: Ring<T>,
    /// The position that is read next; those before it may not be released yet.
    next: u32,
    /// The kernel's position when it was last read.
    produced: u32,
}

impl<T: Slot> Consumer<T> {
    /// Maps the ring of `socket` at `place`.
    ///
    /// # Errors
    /// That of `mmap(2)`.
    pub(super) fn map(socket: BorrowedFd<'_>, place: Place) -> io::Result<Consumer<T>> {
        Ok(Consumer { ring: Ring::map(socket, place)?, next: 0, produced: 0 })
    }

    /// True when nothing has arrived.
    pub(super) fn is_empty(&mut self) -> bool {
        if self.next == self.produced {
            self.produced = self.ring.producer().load(Ordering::Acquire);
        }
        self.next == self.produced
    }

    /// Takes the next slot's value; the slot is the kernel's again after [`release`](Consumer::release).
    pub(super) fn pop(&mut self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the slot is inside the mapping, and the kernel has published it and waits for its release.
        let value = unsafe { self.ring.slot(self.next).read() };
        self.next = self.next.wrapping_add(1);
        Some(value)
    }

    /// Gives the slots of everything popped back to the kernel.
    pub(super) fn release(&self) {
        self.ring.consumer().store(self.next, Ordering::Release);
    }
}
