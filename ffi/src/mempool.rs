//! Pools of mbufs.

use crate::eal::{Eal, last_error};
use crate::mbuf::Mbuf;
use dpdk_sys as sys;
use millrace_fastpath::port::Burst;
use std::any::Any;
use std::ffi::{CString, NulError, c_char, c_int};
use std::fmt;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Bytes before the packet in a fresh mbuf.
pub const HEADROOM: u16 = sys::RTE_PKTMBUF_HEADROOM as u16;

/// Bytes of a pool's mbuf that hold an Ethernet frame of 1500 bytes' payload, its headroom, and a tunnel's headers.
pub const DEFAULT_DATA_ROOM: u16 = 2048 + HEADROOM;

/// What a pool is made of.
#[derive(Clone, Debug)]
pub struct MempoolConfig {
    /// Unlike that of any other pool in the process; 25 bytes at most.
    pub name: String,
    /// Mbufs in it. One less than a power of two wastes no memory.
    pub count: u32,
    /// Bytes of buffer in each mbuf, [`HEADROOM`] included.
    pub data_room: u16,
    /// Mbufs that each registered thread keeps to itself, at most 512 and `count` / 1.5; 0 for none.
    pub cache: u32,
    /// Which of the free mbufs comes next.
    pub next: Next,
}

/// Which of the free mbufs of a pool comes next, where no thread's cache has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The one that has been free for longest: threads do not get in each other's way.
    Oldest,
    /// The one that was freed last, whose memory is in the processor's caches: for large buffers.
    Latest,
}

impl Next {
    /// DPDK's driver for it (`rte_mempool_set_ops_byname`); none for the one that is best on the machine.
    const fn driver(self) -> *const c_char {
        match self {
            Next::Oldest => ptr::null(),
            Next::Latest => c"stack".as_ptr(),
        }
    }
}

impl MempoolConfig {
    /// A pool of `count` mbufs of [`DEFAULT_DATA_ROOM`], with caches of up to 256.
    pub fn new(name: impl Into<String>, count: u32) -> Self {
        let (data_room, cache) = (DEFAULT_DATA_ROOM, (count / 4).min(256));
        MempoolConfig { name: name.into(), count, data_room, cache, next: Next::Oldest }
    }
}

/// Memory from elsewhere that a pool's buffers are to lie in.
pub struct ExternalMemory {
    /// Its first byte.
    pub start: NonNull<u8>,
    /// Its bytes.
    pub length: usize,
    /// Bytes from one buffer to the next; the buffers start at `start`.
    pub stride: u16,
    /// Keeps the memory. Dropped after the pool.
    pub owner: Arc<dyn Any + Send + Sync>,
}

/// Why a pool could not be made.
#[derive(Debug, thiserror::Error)]
pub enum MempoolError {
    /// The name has a zero byte in it.
    #[error("a pool's name has a zero byte in it")]
    Name(#[from] NulError),
    /// The buffers would not fit.
    #[error("{count} buffers of {stride} bytes do not fit in {length} bytes")]
    DoesNotFit {
        /// Buffers wanted.
        count: u32,
        /// Bytes of each.
        stride: u16,
        /// Bytes that there are.
        length: usize,
    },
    /// DPDK refused.
    #[error("pool {name:?} of {count} mbufs with {data_room} bytes each: {reason}")]
    Create {
        /// The pool's name.
        name: String,
        /// Mbufs wanted.
        count: u32,
        /// Bytes of buffer wanted in each.
        data_room: u16,
        /// DPDK's word for the error.
        reason: String,
    },
}

/// A pool of mbufs, fixed in size. Clones share it. Any thread may take and give back.
#[derive(Clone)]
pub struct Mempool(Arc<Pool>);

struct Pool {
    raw: NonNull<sys::rte_mempool>,
    capacity: u32,
    data_room: u16,
    /// What buffers lie in, when it is not the pool's own memory.
    memory: Option<Arc<dyn Any + Send + Sync>>,
    #[expect(dead_code, reason = "keeps the environment while there is a pool")]
    eal: Eal,
}

// SAFETY: rte_mempool's calls may be made from any thread: its ring is multi-producer and multi-consumer, and its
// caches are only used by the thread that they belong to.
unsafe impl Send for Pool {}
// SAFETY: as above; `&Pool` gives nothing but such calls.
unsafe impl Sync for Pool {}

impl Drop for Pool {
    fn drop(&mut self) {
        // SAFETY: the pool is alive until it is freed below.
        let out = unsafe { sys::rte_mempool_in_use_count(self.raw.as_ptr()) };
        if out == 0 {
            // SAFETY: no handle is left that could allocate, and no mbuf is out that could come back.
            unsafe { sys::rte_mempool_free(self.raw.as_ptr()) };
        } else {
            // Frames hold a plain pointer to their pool. Better to keep the memory than to let them dangle.
            tracing::warn!(out, "a packet pool is kept: not all of its frames came back");
            std::mem::forget(self.memory.take());
        }
    }
}

impl Mempool {
    /// Makes a pool in DPDK's memory.
    ///
    /// # Errors
    /// [`MempoolError`]: a name that is taken, too large a cache, or no memory.
    pub fn try_new(eal: &Eal, config: &MempoolConfig) -> Result<Mempool, MempoolError> {
        let name = CString::new(config.name.as_str())?;
        let create = |next: Next| {
            // SAFETY: reads the C strings only; checks all numbers itself.
            unsafe {
                sys::rte_pktmbuf_pool_create_by_ops(
                    name.as_ptr(),
                    config.count,
                    config.cache,
                    0,
                    config.data_room,
                    ANY_SOCKET,
                    next.driver(),
                )
            }
        };
        let mut raw = create(config.next);
        if raw.is_null() && config.next == Next::Latest {
            // Its driver is a library of its own, which may not be there.
            raw = create(Next::Oldest);
        }
        Mempool::own(eal, config, raw, None)
    }

    /// Makes a pool whose buffers lie in `memory`, one in every `stride` bytes; only the mbufs themselves are in
    /// DPDK's memory. `config.data_room` is not used: it is the stride.
    ///
    /// # Errors
    /// [`MempoolError`]: as [`try_new`](Mempool::try_new), and when the buffers do not fit.
    ///
    /// # Safety
    /// `length` bytes from `start` on are readable and writable while `owner` lives, and used by nobody but
    /// through mbufs of this pool, or by those to whom their holder has lent them.
    pub unsafe fn try_new_over(
        eal: &Eal,
        config: &MempoolConfig,
        memory: ExternalMemory,
    ) -> Result<Mempool, MempoolError> {
        let name = CString::new(config.name.as_str())?;
        let stride = memory.stride;
        if (memory.length / usize::from(stride.max(1))) < config.count as usize {
            return Err(MempoolError::DoesNotFit { count: config.count, stride, length: memory.length });
        }
        let area = sys::rte_pktmbuf_extmem {
            buf_ptr: memory.start.as_ptr().cast(),
            buf_iova: memory.start.as_ptr() as u64,
            buf_len: memory.length,
            elt_size: stride,
        };
        // SAFETY: `area` is read during the call only; the memory it names is the caller's promise.
        let raw = unsafe {
            sys::rte_pktmbuf_pool_create_extbuf(
                name.as_ptr(),
                config.count,
                config.cache,
                0,
                stride,
                ANY_SOCKET,
                &raw const area,
                1,
            )
        };
        Mempool::own(eal, config, raw, Some(memory.owner))
    }

    fn own(
        eal: &Eal,
        config: &MempoolConfig,
        raw: *mut sys::rte_mempool,
        memory: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Result<Mempool, MempoolError> {
        let Some(raw) = NonNull::new(raw) else {
            return Err(MempoolError::Create {
                name: config.name.clone(),
                count: config.count,
                data_room: config.data_room,
                reason: last_error(),
            });
        };
        // SAFETY: a pool of mbufs, just made.
        let data_room = unsafe { sys::millrace_pool_data_room(raw.as_ptr()) };
        Ok(Mempool(Arc::new(Pool { raw, capacity: config.count, data_room, memory, eal: eal.clone() })))
    }

    /// An empty frame of one segment, or nothing when the pool is empty.
    pub fn alloc(&self) -> Option<Mbuf> {
        // SAFETY: the pool is alive while `self` is.
        let raw = unsafe { sys::millrace_mbuf_alloc(self.as_ptr()) };
        // SAFETY: a fresh mbuf that nobody else holds.
        NonNull::new(raw).map(|raw| unsafe { Mbuf::from_raw(raw) })
    }

    /// Appends `count` empty frames to `into`, or none: false when the pool has fewer, or `into` no room.
    pub fn alloc_bulk(&self, into: &mut Burst<Mbuf>, count: usize) -> bool {
        if count > into.remaining_capacity() {
            return false;
        }
        let end = into.as_mut_ptr().wrapping_add(into.len()).cast::<*mut sys::rte_mbuf>();
        // SAFETY: there is room for `count` pointers at `end`, as just checked, and an `Mbuf` is such a pointer.
        let failed = unsafe { sys::millrace_mbuf_alloc_bulk(self.as_ptr(), end, count as u32) } != 0;
        if !failed {
            // SAFETY: within the capacity, and the elements up to there are valid now.
            unsafe { into.set_len(into.len() + count) };
        }
        !failed
    }

    /// A frame of one or more segments with the content `packet`, or nothing when the pool is too empty.
    pub fn alloc_with(&self, packet: &[u8]) -> Option<Mbuf> {
        let room = usize::from(self.data_room().saturating_sub(HEADROOM).max(1));
        let mut chunks = packet.chunks(room);
        let mut frame = self.alloc()?;
        frame.extend_from_slice(chunks.next().unwrap_or_default());
        for chunk in chunks {
            let mut segment = self.alloc()?;
            segment.extend_from_slice(chunk);
            frame.chain(segment).ok()?;
        }
        Some(frame)
    }

    /// Mbufs that are not in the pool. Walks all threads' caches: for tests and metrics, not per packet. Exact
    /// when no other thread takes or gives back meanwhile.
    pub fn in_use(&self) -> usize {
        // SAFETY: the pool is alive while `self` is.
        unsafe { sys::rte_mempool_in_use_count(self.as_ptr()) as usize }
    }

    /// Mbufs in all.
    pub fn capacity(&self) -> usize {
        self.0.capacity as usize
    }

    /// Bytes of buffer in each mbuf, [`HEADROOM`] included.
    pub fn data_room(&self) -> u16 {
        self.0.data_room
    }

    /// DPDK's pool, alive while this handle is.
    pub(crate) fn as_ptr(&self) -> *mut sys::rte_mempool {
        self.0.raw.as_ptr()
    }
}

/// `SOCKET_ID_ANY`.
const ANY_SOCKET: c_int = -1;

impl fmt::Debug for Mempool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mempool")
            .field("capacity", &self.0.capacity)
            .field("data_room", &self.0.data_room)
            .finish()
    }
}
