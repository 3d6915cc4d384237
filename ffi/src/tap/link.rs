//! The state of a TAP's link, wherever the interface has been moved to.

use super::file::TapFile;
use crate::interface::Probe;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread;

/// A look into the network namespace of the interface.
#[derive(Debug)]
pub(super) struct Window {
    probe: Probe,
    /// Device and inode of the namespace's file.
    namespace: (u64, u64),
}

/// The flags (`IFF_…`) of `file`'s interface. `window` is kept from call to call and replaced when the interface moves.
pub(super) fn flags(file: &TapFile, window: &mut Option<Window>) -> io::Result<i32> {
    let namespace = file.namespace()?;
    let identity = identity(&namespace)?;
    let here = match window.take().filter(|window| window.namespace == identity) {
        Some(here) => here,
        None => Window { probe: probe_in(namespace)?, namespace: identity },
    };
    let flags = here.probe.flags(&file.name()?);
    *window = Some(here);
    flags
}

fn identity(file: &OwnedFd) -> io::Result<(u64, u64)> {
    // SAFETY: a stat is made of integers, for which zero is a value.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: fstat writes one stat, which `status` is.
    let failed = unsafe { libc::fstat(file.as_raw_fd(), &raw mut status) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok((status.st_dev, status.st_ino)) }
}

/// A thread of its own changes over: a namespace is a thread's.
fn probe_in(namespace: OwnedFd) -> io::Result<Probe> {
    let make = move || {
        // SAFETY: takes numbers only; the thread ends right after.
        let failed = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Probe::here() }
    };
    let thread = thread::Builder::new().name("tap-link".to_owned()).spawn(make)?;
    thread.join().map_err(|_| io::Error::other("the thread in the interface's namespace failed"))?
}
