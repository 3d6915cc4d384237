//! A file descriptor that becomes readable when a guest kicks, the same one for a queue's whole life.
//!
//! A guest brings its own descriptors, replaces them and takes them along; and they may be anything. So they are
//! only ever watched, edge by edge, and never read.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Watches the rings of one queue.
#[derive(Debug)]
pub(super) struct Waker {
    watcher: OwnedFd,
    /// Written when a guest comes or goes, so that a sleeping worker looks.
    changed: OwnedFd,
    kicks: Mutex<BTreeMap<u16, OwnedFd>>,
}

impl Waker {
    pub(super) fn try_new() -> io::Result<Waker> {
        // SAFETY: takes a number; gives a new descriptor or an error.
        let watcher = owned(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?;
        // SAFETY: takes two numbers; gives a new descriptor or an error.
        let changed = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
        let waker = Waker { watcher, changed, kicks: Mutex::default() };
        waker.control(libc::EPOLL_CTL_ADD, waker.changed.as_raw_fd())?;
        Ok(waker)
    }

    /// Readable from the next kick on.
    pub(super) fn fd(&self) -> RawFd {
        self.watcher.as_raw_fd()
    }

    /// Forgets the kicks until now.
    pub(super) fn clear(&self) {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 16];
        // SAFETY: writes at most 16 events into the array; does not wait.
        unsafe { libc::epoll_wait(self.fd(), events.as_mut_ptr(), 16, 0) };
    }

    /// Makes the descriptor readable.
    pub(super) fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: reads 8 bytes. That the counter is full cannot matter: then it is readable already.
        unsafe { libc::write(self.changed.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    /// Watches a ring's kicks. A descriptor that cannot be watched is a guest that cannot wake us.
    pub(super) fn watch(&self, ring: u16, kick: RawFd) {
        self.forget(ring);
        if kick < 0 {
            return;
        }
        // SAFETY: the library keeps the descriptor open during the callback that leads here.
        let kick = unsafe { BorrowedFd::borrow_raw(kick) };
        if let Ok(kick) = kick.try_clone_to_owned()
            && self.control(libc::EPOLL_CTL_ADD, kick.as_raw_fd()).is_ok()
        {
            self.kicks().insert(ring, kick);
        }
    }

    /// Stops watching a ring. Explicitly: the guest may hold the same file open, which would keep it watched.
    pub(super) fn forget(&self, ring: u16) {
        if let Some(kick) = self.kicks().remove(&ring) {
            let _ = self.control(libc::EPOLL_CTL_DEL, kick.as_raw_fd());
        }
    }

    /// Stops watching all rings.
    pub(super) fn forget_all(&self) {
        for kick in std::mem::take(&mut *self.kicks()).into_values() {
            let _ = self.control(libc::EPOLL_CTL_DEL, kick.as_raw_fd());
        }
    }

    fn kicks(&self) -> MutexGuard<'_, BTreeMap<u16, OwnedFd>> {
        self.kicks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn control(&self, operation: i32, fd: RawFd) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLET) as u32, u64: 0 };
        // SAFETY: reads the event; both descriptors are open.
        match unsafe { libc::epoll_ctl(self.fd(), operation, fd, &raw mut event) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

fn owned(fd: RawFd) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: just made by the kernel, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
