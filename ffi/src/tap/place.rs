//! Where a TAP is made or found.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

/// The network namespace that the calling thread is in.
const THREAD: &str = "/proc/thread-self/ns/net";

/// Runs `work` with the calling thread in the network namespace of `file`, or here without one, and takes the thread back.
/// Not a thread of its own: on a busy machine each change of threads may take as long as a tick of the scheduler.
pub(super) fn within<T>(file: Option<&PathBuf>, work: impl FnOnce() -> T) -> io::Result<T> {
    let Some(file) = file else { return Ok(work()) };
    let namespace = File::open(file)?;
    let home = File::open(THREAD)?;
    enter(&namespace)?;
    // From here on: who has not left home need not come back.
    let home = Home(home);
    let outcome = work();
    drop(home);
    Ok(outcome)
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: takes numbers only, and changes where this thread opens sockets and devices from now on.
    let failed = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Where a thread comes back to when this is dropped.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(error) = enter(&self.0) {
            // All that this thread did from now on would be done to a pod. A namespace that is held open cannot refuse.
            tracing::error!(%error, "the thread cannot leave a pod's namespace: the process ends");
            std::process::abort();
        }
    }
}
