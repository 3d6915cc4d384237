//! The packet memory that AF_XDP sockets share: an mbuf pool whose buffers are the kernel's UMEM, too.
//!
//! A frame therefore goes from one AF_XDP port to another as it is: its mbuf moves. Each chunk belongs to one
//! mbuf for good, and is at any time either in the pool, in an [`Mbuf`] that somebody owns, or with the kernel; the
//! last is noted in the [`Custody`](super::custody::Custody) of the socket that handed it over.

use super::custody::Chunk;
use super::error::{Step, StepError};
use super::parts::Parts;
use super::socket::{Binding, Socket, takes_long_frames};
use crate::eal::Eal;
use crate::mapping::{Mapping, Pages};
use crate::mbuf::Mbuf;
use crate::mempool::{ExternalMemory, HEADROOM, Mempool, MempoolConfig, MempoolError};
use dpdk_sys as sys;
use millrace_fastpath::port::Frame;
use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use thiserror::Error;

/// Bytes of a chunk: the size that fits two into a page, and one MTU of 1,500 with all headroom.
pub(super) const CHUNK: u32 = 2048;

/// Bytes that the kernel leaves before a packet that it receives (`XDP_PACKET_HEADROOM`): more than the 128 that other
/// ports leave.
pub(super) const RECEIVED_AT: u32 = 256;

/// Bytes of a frame that a chunk holds when it is sent: a chunk with the headroom of a fresh mbuf.
pub(super) const LONGEST_SENT: u32 = CHUNK - HEADROOM as u32;

/// Bytes of a frame that the kernel puts into a chunk when it is received.
pub(super) const LONGEST_RECEIVED: u32 = CHUNK - RECEIVED_AT;

/// What an arena is made of.
#[derive(Clone, Debug)]
pub struct ArenaConfig {
    /// Unlike that of any other pool in the process; 25 bytes at most.
    pub name: String,
    /// Chunks of 2 KiB. The kernel takes 128 bytes per chunk from its own memory for *each* queue of each port that
    /// shares the arena.
    pub chunks: u32,
    /// Whether to use huge pages when there are enough of them.
    pub huge_pages: bool,
}

impl ArenaConfig {
    /// An arena for a node's pods: 16,384 chunks, 32 MiB.
    pub fn pods(name: impl Into<String>) -> ArenaConfig {
        ArenaConfig { name: name.into(), chunks: 16_384, huge_pages: true }
    }
}

/// Why an arena could not be made.
#[derive(Debug, Error)]
pub enum ArenaError {
    /// The kernel has no memory for it.
    #[error("packet arena {name}: {bytes} bytes of memory: {source}")]
    Memory {
        /// The arena's name.
        name: String,
        /// The size asked for.
        bytes: usize,
        /// The kernel's answer.
        source: io::Error,
    },
    /// DPDK made no pool over it.
    #[error("packet arena: {0}")]
    Pool(#[from] MempoolError),
    /// DPDK laid the pool out in a way that does not match the chunks.
    #[error("packet arena {name}: the pool does not cover chunk {chunk}")]
    Layout {
        /// The arena's name.
        name: String,
        /// The first chunk without an mbuf.
        chunk: usize,
    },
}

/// A frame that the kernel owns now.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lent {
    pub(super) chunk: Chunk,
    /// Of its first byte, counted from the arena's start.
    pub(super) address: u64,
    pub(super) len: u32,
}

/// Packet memory for AF_XDP ports. Clones share it; it lives until the last port that uses it is closed.
#[derive(Clone)]
pub struct Arena(Arc<Inner>);

struct Inner {
    pool: Mempool,
    memory: Arc<Mapping>,
    pages: Pages,
    /// The mbuf of each chunk.
    frames: Box<[NonNull<sys::rte_mbuf>]>,
    /// Bound sockets in copy mode that a further one can share the kernel's registration with.
    bound: Mutex<Vec<RawFd>>,
}

// SAFETY: the pointers are read-only here; what they lead to is only used by the one who owns the mbuf.
unsafe impl Send for Inner {}
// SAFETY: as above.
unsafe impl Sync for Inner {}

impl Arena {
    /// Makes an arena.
    ///
    /// # Errors
    /// [`ArenaError`]: no memory, or a pool of this name is there already.
    pub fn try_new(eal: &Eal, config: &ArenaConfig) -> Result<Arena, ArenaError> {
        let bytes = config.chunks as usize * CHUNK as usize;
        let (memory, pages) = Mapping::anonymous(bytes, config.huge_pages)
            .map_err(|source| ArenaError::Memory { name: config.name.clone(), bytes, source })?;
        let memory = Arc::new(memory);
        let pool_config = MempoolConfig::new(config.name.clone(), config.chunks);
        let external = ExternalMemory {
            start: memory.base(),
            length: bytes,
            stride: CHUNK as u16,
            owner: memory.clone(),
        };
        // SAFETY: the mapping is readable and writable, at least `bytes` long, and nobody else uses it but the
        // kernel, to which this module lends chunks by their mbufs.
        let pool = unsafe { Mempool::try_new_over(eal, &pool_config, external) }?;
        let frames = frames_by_chunk(&pool, &memory, config)?;
        Ok(Arena(Arc::new(Inner { pool, memory, pages, frames, bound: Mutex::default() })))
    }

    /// The pool: frames of it are sent by AF_XDP ports without a copy.
    pub fn pool(&self) -> &Mempool {
        &self.0.pool
    }

    /// What pages it lies in.
    pub fn pages(&self) -> Pages {
        self.0.pages
    }

    /// Chunks in all.
    pub fn chunks(&self) -> u32 {
        self.0.frames.len() as u32
    }

    /// Hands a frame over to the kernel, if that can read it in place: of one segment, in this arena, and shared with
    /// nobody. It comes back by [`reclaim`](Arena::reclaim) only.
    pub(super) fn lend(&self, frame: Mbuf) -> Result<Lent, Mbuf> {
        let raw = frame.into_raw();
        // SAFETY: a valid mbuf that this function owns.
        let mbuf = unsafe { raw.as_ref() };
        let plain = mbuf.pool == self.0.pool.as_ptr() && mbuf.nb_segs == 1 && mbuf.refcnt == 1;
        if !plain || sharers(mbuf) != 1 {
            // SAFETY: taken apart just now, and nothing was changed.
            return Err(unsafe { Mbuf::from_raw(raw) });
        }
        let offset = mbuf.buf_addr.addr() - self.0.memory.base().addr().get();
        let address = offset as u64 + u64::from(mbuf.data_off);
        Ok(Lent { chunk: Chunk((offset / CHUNK as usize) as u32), address, len: u32::from(mbuf.data_len) })
    }

    /// How many chunks a frame would be lent as by [`lend_parts`](Arena::lend_parts); nothing if it would not.
    pub(super) fn parts_of(&self, frame: &Mbuf, most: usize) -> Option<usize> {
        let mut parts = 0;
        for segment in frame.raw_segments() {
            let is_own = segment.pool == self.0.pool.as_ptr() && segment.refcnt == 1;
            if !is_own || sharers(segment) != 1 {
                return None;
            }
            parts += usize::from(segment.data_len > 0);
        }
        (1..=most).contains(&parts).then_some(parts)
    }

    /// As [`lend`](Arena::lend), for a frame of up to `most` segments.
    pub(super) fn lend_parts(&self, frame: Mbuf, most: usize) -> Result<Parts, Mbuf> {
        if self.parts_of(&frame, most.min(Parts::new_const().capacity())).is_none() {
            return Err(frame);
        }
        Ok(frame
            .into_segments()
            .filter(|segment| segment.total_len() > 0)
            .flat_map(|part| self.lend(part))
            .collect())
    }

    /// The frame of a chunk that the kernel has filled with `len` bytes from `offset` on.
    ///
    /// # Safety
    /// The chunk was lent, and has come back just now: nobody else has it, and it is given only once.
    pub(super) unsafe fn reclaim(&self, chunk: Chunk, offset: u32, len: u32) -> Mbuf {
        let raw = self.0.frames[chunk.0 as usize];
        // SAFETY: the mbuf lives as long as the pool, and is the caller's alone.
        let mbuf = unsafe { &mut *raw.as_ptr() };
        mbuf.data_off = offset as u16;
        mbuf.data_len = len as u16;
        mbuf.pkt_len = len;
        // SAFETY: a valid mbuf of one segment that nobody else holds.
        unsafe { Mbuf::from_raw(raw) }
    }

    /// The chunk and the offset in it that a kernel's address means; nothing when it is outside.
    pub(super) fn locate(&self, address: u64) -> Option<(Chunk, u32)> {
        let chunk = u32::try_from(address / u64::from(CHUNK)).ok()?;
        (chunk < self.chunks()).then_some((Chunk(chunk), (address % u64::from(CHUNK)) as u32))
    }

    /// Registers the memory with the kernel by `socket`.
    pub(super) fn register(&self, socket: &Socket) -> Result<(), StepError> {
        let bytes = self.chunks() as usize * CHUNK as usize;
        socket.register(self.0.memory.base().as_ptr(), bytes, CHUNK)
    }

    /// Binds a socket in copy mode, sharing the kernel's registration with one that is bound already. The first one, and
    /// one that finds all others' interfaces gone, registers anew.
    pub(super) fn bind_shared(&self, socket: &Socket, ifindex: u32, queue: u32) -> Result<(), StepError> {
        let mut bound = self.0.bound.lock().unwrap_or_else(PoisonError::into_inner);
        for &parent in bound.iter() {
            match socket.bind(ifindex, queue, Binding::SharedWith(parent)) {
                Ok(()) => {
                    bound.push(socket.raw());
                    return Ok(());
                }
                // The parent's interface was removed under it.
                Err(StepError { step: Step::Bind, source }) if source.raw_os_error() == Some(libc::EBADF) => {
                }
                Err(error) => return Err(error),
            }
        }
        self.register(socket)?;
        // Those that share the registration share this, too.
        socket.bind(ifindex, queue, Binding::OwnCopy { long: takes_long_frames() })?;
        bound.push(socket.raw());
        Ok(())
    }

    /// Forgets a socket that is about to be closed.
    pub(super) fn unbind(&self, socket: RawFd) {
        self.0.bound.lock().unwrap_or_else(PoisonError::into_inner).retain(|&bound| bound != socket);
    }
}

impl fmt::Debug for Arena {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Arena").field("chunks", &self.chunks()).field("pages", &self.0.pages).finish()
    }
}

/// Who refer to the buffer of an arena's mbuf; mbufs of other pools must not be asked about.
fn sharers(mbuf: &sys::rte_mbuf) -> u16 {
    // SAFETY: mbufs of a pool with external buffers have this structure for good.
    unsafe { (*mbuf.shinfo).refcnt }
}

/// Finds the mbuf of each chunk, by taking all of them out of the fresh pool once.
fn frames_by_chunk(
    pool: &Mempool,
    memory: &Mapping,
    config: &ArenaConfig,
) -> Result<Box<[NonNull<sys::rte_mbuf>]>, ArenaError> {
    let mut frames = vec![None; config.chunks as usize];
    let mut taken = Vec::with_capacity(frames.len());
    while let Some(frame) = pool.alloc() {
        let raw = frame.into_raw();
        // SAFETY: a valid mbuf that this function owns.
        let buffer = unsafe { raw.as_ref() }.buf_addr;
        let chunk = (buffer.addr().wrapping_sub(memory.base().addr().get())) / CHUNK as usize;
        if let Some(slot) = frames.get_mut(chunk) {
            *slot = Some(raw);
        }
        // SAFETY: taken apart just above.
        taken.push(unsafe { Mbuf::from_raw(raw) });
    }
    let missing = |chunk| ArenaError::Layout { name: config.name.clone(), chunk };
    frames.into_iter().enumerate().map(|(chunk, frame)| frame.ok_or_else(|| missing(chunk))).collect()
}
