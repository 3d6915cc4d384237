//! Where a TAP is made or found.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;

/// Runs `work` in the network namespace of `file`, or here without one. A thread of its own changes over: a namespace is a
/// thread's, and the way back may fail.
pub(super) fn within<T: Send>(file: Option<&PathBuf>, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let Some(file) = file else { return Ok(work()) };
    let namespace = File::open(file)?;
    let enter_and_work = move || {
        // SAFETY: takes numbers only; the thread ends right after.
        let failed = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(work()) }
    };
    thread::scope(|scope| {
        let thread =
            thread::Builder::new().name("tap-open".to_owned()).spawn_scoped(scope, enter_and_work)?;
        thread.join().map_err(|_| io::Error::other("the thread in the interface's namespace failed"))?
    })
}
