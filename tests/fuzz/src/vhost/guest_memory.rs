//! The guest's memory: a memfd that both sides map, written here by the file's descriptor.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::random::Random;

/// Bytes of memory.
pub(super) const SIZE: u64 = 1 << 20;
/// Where the guest says that it lies, to its devices.
pub(super) const GUEST_ADDRESS: u64 = 0x4000_0000;
/// Where the front end says that it has mapped it.
pub(super) const USER_ADDRESS: u64 = 0x7000_0000_0000;
/// Entries of each ring.
pub(super) const RING: u16 = 256;

/// Descriptors of a ring, from its start; or all of a packed ring.
pub(super) const DESCRIPTORS: u64 = 0;
/// The available ring, or the driver's event area.
pub(super) const AVAILABLE: u64 = 0x4000;
/// The used ring, or the device's event area.
pub(super) const USED: u64 = 0x8000;
/// Bytes from one ring to the next.
pub(super) const RING_STRIDE: u64 = 0x10000;
/// Rings: to the guest, and from it.
pub(super) const RINGS: u64 = 2;

/// Where packets are.
const DATA: u64 = 0x40000;
/// Bytes for each of them.
const CELL: u64 = 2048;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const PACKED_AVAILABLE: u16 = 1 << 7;
const PACKED_USED: u16 = 1 << 15;

/// The memory.
#[derive(Clone)]
pub(super) struct GuestMemory {
    file: Arc<File>,
    packed: bool,
    /// One in so many things is odd. A ring stops at the first that is too odd, so guests differ in this.
    odd: u64,
}

impl GuestMemory {
    /// Memory full of descriptors that mostly make sense, and of frames.
    pub(super) fn try_new(packed: bool, random: &mut Random) -> io::Result<Self> {
        let file = File::from(memfd_create(c"millrace-fuzz-guest", MFdFlags::MFD_CLOEXEC)?);
        file.set_len(SIZE)?;
        let memory = GuestMemory { file: Arc::new(file), packed, odd: random.pick(&[2, 10, 100, 1000]) };
        for cell in 0..(SIZE - DATA) / CELL {
            memory.write_cell(cell, random);
        }
        for ring in 0..RINGS {
            for index in 0..RING {
                memory.write_descriptor(ring, index, random);
            }
            if !packed {
                let entries: Vec<u8> = (0..RING).flat_map(u16::to_le_bytes).collect();
                memory.write(ring * RING_STRIDE + AVAILABLE + 4, &entries);
                memory.write(ring * RING_STRIDE + AVAILABLE + 2, &RING.to_le_bytes());
            }
        }
        Ok(memory)
    }

    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let room = usize::try_from(SIZE.saturating_sub(offset)).unwrap_or(0).min(bytes.len());
        // Within the file, which is memory: there is nothing that could fail.
        let _ = self.file.write_all_at(&bytes[..room], offset);
    }

    /// Changes a few things, as a guest does between two looks of its device.
    pub(super) fn mutate(&self, random: &mut Random) {
        for _ in 0..random.below(16) {
            let ring = random.below(RINGS);
            match random.below(8) {
                0..=2 => {
                    let index = random.below(u64::from(RING)) as u16;
                    self.write_descriptor(ring, index, random);
                }
                3 => self.write_cell(random.below((SIZE - DATA) / CELL), random),
                4 | 5 => self.advance(ring, random),
                6 => {
                    // An entry of the available ring, or a driver's event word.
                    let at = ring * RING_STRIDE + AVAILABLE + 2 * random.below(u64::from(RING) + 3);
                    let value =
                        if random.one_in(4) { random.next() as u16 } else { random.below(256) as u16 };
                    self.write(at, &value.to_le_bytes());
                }
                _ => {
                    // What belongs to the device: the used ring.
                    let at = ring * RING_STRIDE + USED + random.below(2100);
                    self.write(at, &random.next().to_le_bytes());
                }
            }
        }
    }

    /// Says that more descriptors are there; sometimes impossibly many.
    fn advance(&self, ring: u64, random: &mut Random) {
        let at = ring * RING_STRIDE + AVAILABLE + 2;
        let mut now = [0; 2];
        let _ = self.file.read_exact_at(&mut now, at);
        let now = u16::from_le_bytes(now);
        let next = match random.below(12) {
            _ if !random.one_in(self.odd) => now.wrapping_add(random.below(64) as u16),
            0 => random.next() as u16,
            1 => now.wrapping_sub(random.below(300) as u16),
            2 => now.wrapping_add(random.below(2000) as u16),
            _ => now.wrapping_add(random.below(64) as u16),
        };
        self.write(at, &next.to_le_bytes());
    }

    /// A descriptor of either kind of ring: address, length, then flags and next, or id and flags.
    fn write_descriptor(&self, ring: u64, index: u16, random: &mut Random) {
        let odd = random.one_in(self.odd);
        let address = if odd { address(random) } else { cell_address(random) };
        let sizes = [0, 1, 10, 12, 13, 26, 60, 72, 1526, 2048, 65_535, 65_562, u32::MAX, 1 << 31, 4096];
        let len = if odd { random.pick(&sizes) } else { 72 + random.below(1900) as u32 };
        let mut flags = if ring == 0 { WRITE } else { 0 };
        if random.one_in(6) {
            flags |= NEXT;
        }
        if odd {
            let any = random.next() as u16;
            flags = random.pick(&[NEXT, WRITE, INDIRECT, INDIRECT, NEXT | INDIRECT, any]);
        }
        let next = if odd { random.next() as u16 } else { random.below(u64::from(RING)) as u16 };
        let tail = if self.packed {
            // Available is the wrap counter, used is not: in the first round of the ring, and later in every other.
            flags |= if random.one_in(3) { PACKED_USED } else { PACKED_AVAILABLE };
            [next.to_le_bytes(), flags.to_le_bytes()].concat()
        } else {
            [flags.to_le_bytes(), next.to_le_bytes()].concat()
        };
        let bytes = [&address.to_le_bytes()[..], &len.to_le_bytes(), &tail].concat();
        self.write(ring * RING_STRIDE + DESCRIPTORS + 16 * u64::from(index), &bytes);
    }

    /// A packet behind its `virtio_net_hdr`, or a table of indirect descriptors.
    fn write_cell(&self, cell: u64, random: &mut Random) {
        let mut bytes = [0; CELL as usize];
        if random.one_in(4) {
            for descriptor in bytes.chunks_exact_mut(16).take(random.below(64) as usize) {
                descriptor[..8].copy_from_slice(&address(random).to_le_bytes());
                descriptor[8..12].copy_from_slice(&(random.below(3000) as u32).to_le_bytes());
                descriptor[12] = random.pick(&[0, 1, 1, 1, 2, 3, 4, 5]);
                descriptor[14..].copy_from_slice(&(random.below(70) as u16).to_le_bytes());
            }
        } else {
            let (header, packet) = bytes.split_at_mut(12);
            header[0] = random.pick(&[0, 0, 1, 1, 2, 3, 0xff]);
            header[1] = random.pick(&[0, 0, 1, 3, 4, 5, 0x81, 0x84, 0xff]);
            for field in header[2..].chunks_exact_mut(2) {
                let values = [0, 14, 16, 34, 42, 54, 66, 1448, 0xffff, random.next() as u16];
                field.copy_from_slice(&random.pick(&values).to_le_bytes());
            }
            let frames = crate::frames::seed_frames();
            let (_, frame) = &frames[random.below(frames.len() as u64) as usize];
            packet[..frame.len()].copy_from_slice(frame);
            for _ in 0..random.below(4) {
                let at = random.below(80) as usize;
                packet[at] = random.next() as u8;
            }
        }
        self.write(DATA + cell * CELL, &bytes);
    }

    /// A thread that writes to the memory while the device reads it, until the guard is dropped. Only for some seeds.
    pub(super) fn scribble_beside(&self, seed: u64) -> Option<Scribbler> {
        if seed & 1 == 0 {
            return None;
        }
        let stop = Arc::new(AtomicBool::new(false));
        let (memory, stopped) = (self.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let mut random = Random::new(seed);
            while !stopped.load(Ordering::Relaxed) {
                memory.mutate(&mut random);
            }
        });
        Some(Scribbler { stop, thread: Some(thread) })
    }
}

/// Mostly a cell of packets; sometimes the end of memory, outside of it, or the rings themselves.
fn address(random: &mut Random) -> u64 {
    match random.below(20) {
        0 => random.next(),
        1 => GUEST_ADDRESS + SIZE - random.below(64),
        2 => GUEST_ADDRESS + SIZE + random.below(1 << 20),
        3 => GUEST_ADDRESS + random.below(DATA),
        4 => GUEST_ADDRESS.wrapping_sub(random.below(4096)),
        5 => u64::MAX - random.below(4096),
        _ => cell_address(random),
    }
}

fn cell_address(random: &mut Random) -> u64 {
    GUEST_ADDRESS + DATA + CELL * random.below((SIZE - DATA) / CELL)
}

/// Stops its thread when dropped.
pub(super) struct Scribbler {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Scribbler {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
