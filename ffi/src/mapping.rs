//! Owners of mapped memory.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{self, NonNull};

/// Bytes of a huge page on every machine that Millrace supports.
const HUGE_PAGE: usize = 2 << 20;

/// Memory that was mapped and is unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a mapping belongs to the process, not to the thread that made it; access goes through raw pointers only.
unsafe impl Send for Mapping {}
// SAFETY: the methods only give out numbers and pointers, they never touch the memory.
unsafe impl Sync for Mapping {}

/// What backs anonymous memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pages {
    /// Huge pages of 2 MiB.
    Huge,
    /// The machine's ordinary pages.
    Ordinary,
}

impl Mapping {
    /// Fresh memory of at least `len` bytes, in huge pages when `huge` is asked for and there are enough of them, otherwise
    /// in ordinary ones. A child process does not inherit it.
    ///
    /// # Errors
    /// That of `mmap(2)` for ordinary pages.
    pub(crate) fn anonymous(len: usize, huge: bool) -> io::Result<(Mapping, Pages)> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        if huge {
            let whole = len.next_multiple_of(HUGE_PAGE);
            if let Ok(mapping) = Mapping::map(whole, flags | libc::MAP_HUGETLB, -1, 0) {
                return Ok((mapping.not_inherited()?, Pages::Huge));
            }
        }
        Ok((Mapping::map(len, flags, -1, 0)?.not_inherited()?, Pages::Ordinary))
    }

    /// What the kernel shares by a descriptor: a ring of an AF_XDP or packet socket, or a program's map. A child process does not
    /// inherit it: its copy would keep the socket open after the parent has closed it.
    ///
    /// # Errors
    /// That of `mmap(2)` or `madvise(2)`.
    pub(crate) fn shared(by: BorrowedFd<'_>, len: usize, offset: i64) -> io::Result<Mapping> {
        let flags = libc::MAP_SHARED | libc::MAP_POPULATE;
        Mapping::map(len, flags, by.as_raw_fd(), offset)?.not_inherited()
    }

    fn map(len: usize, flags: i32, fd: i32, offset: i64) -> io::Result<Mapping> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without MAP_FIXED the kernel picks unused addresses, so no memory of ours is affected.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, protection, flags, fd, offset) };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Mapping { base, len })
    }

    fn not_inherited(self) -> io::Result<Mapping> {
        // SAFETY: the range is exactly this mapping; MADV_DONTFORK does not change its content.
        let failed = unsafe { libc::madvise(self.base.as_ptr().cast(), self.len, libc::MADV_DONTFORK) };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(self)
    }

    /// The first byte.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range is exactly this mapping, and whoever holds pointers into it keeps the owner alive.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
