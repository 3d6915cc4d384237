//! vhost-user ports: virtual machines and DPDK network functions, over shared memory.
//!
//! Built on DPDK's vhost *library*: its ethdev is limited to 32 ports, the library to 1024 sockets, which one
//! thread of its own serves. Frames are copied once, between guest memory and mbufs.
//!
//! # What is asked of the library
//! | flag or feature | | why |
//! |---|---|---|
//! | `RTE_VHOST_USER_CLIENT` | by configuration | who listens and who connects; a client connects again by itself |
//! | `…_NET_COMPLIANT_OL_FLAGS` | off | then a guest's frame carries the flags with which it can go out again |
//! | `…_LINEARBUF_SUPPORT`, `…_EXTBUF_SUPPORT` | off | large frames come as chains from the pool, not as allocations |
//! | `…_IOMMU_SUPPORT`, `…_POSTCOPY_SUPPORT`, `…_ASYNC_COPY` | off | a lock, a page fault handler and DMA that nothing here uses |
//! | `VIRTIO_F_RING_PACKED` | by configuration | the guest chooses when both are possible |
//! | `…_HOST_UFO`, `…_GUEST_UFO` | off | fragmenting, not the UDP segmentation that frames here know |
//! | `…_HOST_ECN`, `…_GUEST_ECN` | off | the library forgets the mark on the way in |
//! | checksum, TSO, mergeable buffers, multiqueue, indirect, event index, in order | on | |
//!
//! # Threads
//! A worker reads one atomic a burst to learn whether there is a guest, and which. When the guest goes, the
//! library's thread takes the word back and waits, by [`Domain::synchronize`], until each worker has finished the
//! poll in which it may have read it: the library frees the device afterwards and may hand its number out again.
//! So whoever polls a queue must be an online reader of the domain.
//!
//! # What a guest can do
//! The library checks descriptors and lengths; what it lets through is checked again here
//! ([`RxMalformed`](millrace_fastpath::port::DropReason::RxMalformed)). A guest that gives no buffers, or too
//! small ones, loses its own frames. One whose library messages are at fault is disconnected. The library's
//! messages about single packets are not logged, so that a guest cannot fill the disk.
//!
//! A guest that accepts TSO gets large frames whose pseudo-header sum leaves the length out: the library writes it
//! so. That is harmless to a guest's own TCP, which does not look; one that forwards such frames by cutting them
//! should not accept `VIRTIO_NET_F_GUEST_TSO4/6`.

mod device;
mod queue;
mod registry;
mod shared;
mod wake;

pub use device::open;

#[cfg(doc)]
use millrace_fastpath::sync::Domain;
use std::ffi::NulError;
use std::io;
use std::path::PathBuf;

/// A vhost-user port.
#[derive(Clone, Debug)]
pub struct VhostConfig {
    /// The socket's path, 107 bytes at most.
    pub path: PathBuf,
    /// Who listens.
    pub role: Role,
    /// Queues to be polled, 1 to 64. A guest may use fewer or more pairs of rings: all of them are served.
    pub queues: u16,
    /// Whether the guest may use packed rings.
    pub packed: bool,
    /// Whether the guest may leave checksums and segmentation to us, and we to it.
    pub offloads: bool,
}

/// Who listens on the socket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// We do; the guest's side connects.
    Server,
    /// The guest's side does; we connect, again and again when it goes.
    Client,
}

impl VhostConfig {
    /// A server with one queue and everything allowed.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        VhostConfig { path: path.into(), role: Role::Server, queues: 1, packed: true, offloads: true }
    }
}

/// Why a vhost-user port could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum VhostError {
    /// A path that cannot be given to C.
    #[error("the socket's path has a zero byte in it")]
    Path(#[from] NulError),
    /// Longer than the kernel takes.
    #[error("the socket's path {0:?} has more than 107 bytes")]
    PathTooLong(PathBuf),
    /// None, or more than there may be.
    #[error("{0} queues: 1 to 64 are possible")]
    Queues(u16),
    /// Another port, or another process, has it.
    #[error("socket {0:?} is in use")]
    InUse(PathBuf),
    /// Something that is not ours to remove.
    #[error("{0:?} exists and is not a socket")]
    NotASocket(PathBuf),
    /// The file system or the kernel refused.
    #[error("socket {path:?}: {error}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the kernel says.
        error: io::Error,
    },
    /// The library refused.
    #[error("DPDK's vhost library refused to {step} socket {path:?}")]
    Library {
        /// What was to be done.
        step: &'static str,
        /// The socket.
        path: PathBuf,
    },
}
