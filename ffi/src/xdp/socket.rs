//! One AF_XDP socket: the system calls, each with its name in the error.

use super::error::{Step, StepError};
use super::ring::{Consumer, Place, Producer};
use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// `XDP_MAX_TX_SKB_BUDGET` (Linux 6.17): frames that one system call may send in copy mode; 32 unless set.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

/// How long a queue that its last socket has left may stay busy.
const RELEASE: Duration = Duration::from_millis(500);

/// Slots of the rings of one socket; powers of two.
#[derive(Clone, Copy, Debug)]
pub(super) struct RingSizes {
    pub(super) fill: u32,
    pub(super) completion: u32,
    pub(super) rx: u32,
    pub(super) tx: u32,
}

/// The four rings of one socket.
#[derive(Debug)]
pub(super) struct Rings {
    pub(super) fill: Producer<u64>,
    pub(super) completion: Consumer<u64>,
    pub(super) rx: Consumer<libc::xdp_desc>,
    pub(super) tx: Producer<libc::xdp_desc>,
}

/// How a socket comes to its packet memory and mode.
#[derive(Clone, Copy, Debug)]
pub(super) enum Binding {
    /// By its own registration; the driver writes packets itself.
    OwnZeroCopy {
        /// Whether a frame may be several descriptors.
        long: bool,
    },
    /// By its own registration; the kernel copies.
    OwnCopy {
        /// Whether a frame may be several descriptors.
        long: bool,
    },
    /// By the registration of another bound socket, in its mode and with frames as long as it has.
    SharedWith(RawFd),
}

/// An AF_XDP socket, closed when dropped.
#[derive(Debug)]
pub(super) struct Socket(OwnedFd);

impl Socket {
    /// A fresh socket, closed on exec.
    pub(super) fn create() -> Result<Socket, StepError> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(StepError::new(Step::Create, io::Error::last_os_error()));
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(Socket(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Registers `len` bytes at `base` as packet memory in chunks of `chunk` bytes.
    pub(super) fn register(&self, base: *const u8, len: usize, chunk: u32) -> Result<(), StepError> {
        let region = libc::xdp_umem_reg {
            addr: base as u64,
            len: len as u64,
            chunk_size: chunk,
            // The kernel leaves XDP_PACKET_HEADROOM (256 bytes) before a packet in any case.
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        self.set(libc::XDP_UMEM_REG, &region).map_err(|source| StepError::new(Step::RegisterUmem, source))
    }

    /// Sets the rings' sizes.
    pub(super) fn size_rings(&self, sizes: RingSizes) -> Result<(), StepError> {
        let rings = [
            (libc::XDP_UMEM_FILL_RING, sizes.fill),
            (libc::XDP_UMEM_COMPLETION_RING, sizes.completion),
            (libc::XDP_RX_RING, sizes.rx),
            (libc::XDP_TX_RING, sizes.tx),
        ];
        for (ring, slots) in rings {
            self.set(ring, &slots).map_err(|source| StepError::new(Step::SizeRings, source))?;
        }
        // Kernels that do not know it send 32 frames a call; the sender repeats the call then.
        let _older_kernel = self.set(XDP_MAX_TX_SKB_BUDGET, &sizes.tx);
        Ok(())
    }

    /// Maps the rings.
    pub(super) fn map_rings(&self, sizes: RingSizes) -> Result<Rings, StepError> {
        let offsets: libc::xdp_mmap_offsets =
            self.get(libc::XDP_MMAP_OFFSETS).map_err(|source| StepError::new(Step::MapRings, source))?;
        let failed = |source| StepError::new(Step::MapRings, source);
        let place = |offset: i64, layout, slots| Place { offset, layout, slots };
        let fill = place(libc::XDP_UMEM_PGOFF_FILL_RING as i64, offsets.fr, sizes.fill);
        let completion = place(libc::XDP_UMEM_PGOFF_COMPLETION_RING as i64, offsets.cr, sizes.completion);
        let rx = place(libc::XDP_PGOFF_RX_RING, offsets.rx, sizes.rx);
        let tx = place(libc::XDP_PGOFF_TX_RING, offsets.tx, sizes.tx);
        Ok(Rings {
            fill: Producer::map(self.fd(), fill).map_err(failed)?,
            completion: Consumer::map(self.fd(), completion).map_err(failed)?,
            rx: Consumer::map(self.fd(), rx).map_err(failed)?,
            tx: Producer::map(self.fd(), tx).map_err(failed)?,
        })
    }

    /// Binds to a queue of an interface. The kernel lets go of a queue only some time after its last socket was
    /// closed (it waits for its own readers, `xp_put_pool` in `net/xdp/xsk_buff_pool.c`), so a busy queue is tried
    /// again for a while.
    pub(super) fn bind(&self, ifindex: u32, queue: u32, binding: Binding) -> Result<(), StepError> {
        let end = Instant::now() + RELEASE;
        loop {
            match self.bind_once(ifindex, queue, binding) {
                Err(StepError { source, .. })
                    if source.raw_os_error() == Some(libc::EBUSY) && Instant::now() < end =>
                {
                    std::thread::sleep(Duration::from_millis(2));
                }
                outcome => return outcome,
            }
        }
    }

    fn bind_once(&self, ifindex: u32, queue: u32, binding: Binding) -> Result<(), StepError> {
        let several = |long| if long { libc::XDP_USE_SG } else { 0 };
        let (flags, parent) = match binding {
            Binding::OwnZeroCopy { long } => {
                (libc::XDP_ZEROCOPY | libc::XDP_USE_NEED_WAKEUP | several(long), 0)
            }
            Binding::OwnCopy { long } => (libc::XDP_COPY | libc::XDP_USE_NEED_WAKEUP | several(long), 0),
            // The mode must not be said again: it is the other socket's.
            Binding::SharedWith(parent) => (libc::XDP_SHARED_UMEM, parent.cast_unsigned()),
        };
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: parent,
        };
        self.bind_to(&address).map_err(|source| StepError::new(Step::Bind, source))
    }

    fn bind_to(&self, address: &libc::sockaddr_xdp) -> io::Result<()> {
        let len = size_of::<libc::sockaddr_xdp>() as libc::socklen_t;
        // SAFETY: `address` is a whole sockaddr_xdp of `len` bytes that lives over the call.
        let failed = unsafe { libc::bind(self.raw(), ptr::from_ref(address).cast(), len) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// What the kernel has counted on this socket.
    pub(super) fn statistics(&self) -> io::Result<libc::xdp_statistics> {
        self.get(libc::XDP_STATISTICS)
    }

    /// Whether the driver reads and writes the packet memory itself.
    pub(super) fn is_zero_copy(&self) -> bool {
        let options: io::Result<libc::xdp_options> = self.get(libc::XDP_OPTIONS);
        options.is_ok_and(|options| options.flags & libc::XDP_OPTIONS_ZEROCOPY != 0)
    }

    /// The descriptor.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// The descriptor's number.
    pub(super) fn raw(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    fn set<T: Copy>(&self, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        let at = ptr::from_ref(value).cast();
        // SAFETY: the kernel reads `len` bytes at `at`, which is all of `value`.
        let failed = unsafe { libc::setsockopt(self.raw(), libc::SOL_XDP, option, at, len) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Reads one of the kernel's all-integer structures; fields that an older kernel does not know are 0.
    fn get<T: Copy>(&self, option: libc::c_int) -> io::Result<T> {
        let mut value = mem::MaybeUninit::<T>::zeroed();
        let mut len = size_of::<T>() as libc::socklen_t;
        let at = value.as_mut_ptr().cast();
        // SAFETY: the kernel writes at most `len` bytes at `at`, which is all of `value`.
        let failed = unsafe { libc::getsockopt(self.raw(), libc::SOL_XDP, option, at, &raw mut len) };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: zeroed and overwritten in part, and callers ask for structures of integers only.
        Ok(unsafe { value.assume_init() })
    }
}

/// Whether the kernel's AF_XDP takes frames that are several descriptors (Linux 6.6). One that does not refuses the flag before
/// it looks for the interface, of which there is none with this number (`xsk_bind` in net/xdp/xsk.c).
pub(super) fn takes_long_frames() -> bool {
    static TAKES: OnceLock<bool> = OnceLock::new();
    *TAKES.get_or_init(|| {
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: libc::XDP_COPY | libc::XDP_USE_SG,
            sxdp_ifindex: 0,
            sxdp_queue_id: 0,
            sxdp_shared_umem_fd: 0,
        };
        let refused = Socket::create().map(|socket| socket.bind_to(&address));
        matches!(refused, Ok(Err(error)) if error.raw_os_error() == Some(libc::ENODEV))
    })
}

/// Asks the kernel to send what is in the transmit ring of `socket`.
///
/// # Errors
/// `EAGAIN`, `EBUSY` and `ENOBUFS` mean: not all of it yet.
pub(super) fn wake_transmitter(socket: RawFd) -> io::Result<()> {
    // SAFETY: sends no bytes of ours: buffer and address are absent.
    let sent = unsafe { libc::sendto(socket, ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Asks a zero-copy driver to look at the fill ring of `socket` again.
pub(super) fn wake_receiver(socket: RawFd) {
    // SAFETY: receives no bytes: buffer and address are absent.
    unsafe {
        libc::recvfrom(socket, ptr::null_mut(), 0, libc::MSG_DONTWAIT, ptr::null_mut(), ptr::null_mut())
    };
}
