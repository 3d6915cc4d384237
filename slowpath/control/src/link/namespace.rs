//! Network namespaces by name.

use super::LinkError;
use millrace_config::Netns;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// An open network namespace. It stays reachable through this, even when its name is removed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Opens a namespace.
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        let name = netns.to_string();
        match File::open(netns.path()) {
            Ok(file) => Ok(Namespace { name, file }),
            Err(source) => Err(LinkError::Namespace { name, source }),
        }
    }

    /// As it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For the kernel's attributes that name a namespace by descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Runs `work` with the calling thread in the namespace, and takes the thread back. Not a thread of its own: on a busy
    /// machine each change of threads may take as long as a tick of the scheduler.
    pub(super) fn within<T>(&self, work: impl FnOnce() -> T) -> Result<T, LinkError> {
        let failed = |source: io::Error| LinkError::Namespace { name: self.name.clone(), source };
        let home = File::open(THREAD).map_err(failed)?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).map_err(|errno| failed(errno.into()))?;
        // From here on: who has not left home need not come back.
        let home = Home(home);
        let outcome = work();
        drop(home);
        Ok(outcome)
    }
}

/// The network namespace that the calling thread is in.
const THREAD: &str = "/proc/thread-self/ns/net";

/// Where a thread comes back to when this is dropped.
struct Home(File);

impl Drop for Home {
    fn drop(&mut self) {
        if let Err(errno) = setns(&self.0, CloneFlags::CLONE_NEWNET) {
            // All that this thread did from now on would be done to a pod. A namespace that is held open cannot refuse.
            tracing::error!(%errno, "the thread cannot leave a pod's namespace: the process ends");
            std::process::abort();
        }
    }
}
