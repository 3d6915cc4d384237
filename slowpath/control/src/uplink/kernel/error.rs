//! What can go wrong between us and the kernel's routing netlink.

use std::io;
use thiserror::Error;

/// Why the kernel's tables could not be read or followed.
#[derive(Debug, Error)]
pub enum KernelError {
    /// A socket cannot be made or used.
    #[error("netlink: {what}: {source}")]
    Socket {
        /// What was being done.
        what: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// The kernel refused a request.
    #[error("netlink: {what}: {source}")]
    Refused {
        /// What was asked for.
        what: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// More was to be told than the socket holds: what was followed has to be read again.
    #[error("netlink: notifications were lost")]
    Overrun,
    /// The thread that follows the kernel cannot be started.
    #[error("the thread that follows the kernel: {0}")]
    Thread(io::Error),
}

impl KernelError {
    pub(super) fn socket(what: &'static str) -> impl FnOnce(nix::errno::Errno) -> KernelError {
        move |errno| match errno {
            nix::errno::Errno::ENOBUFS => KernelError::Overrun,
            errno => KernelError::Socket { what, source: errno.into() },
        }
    }

    /// What the kernel said, if it refused.
    pub(crate) fn errno(&self) -> Option<nix::errno::Errno> {
        match self {
            KernelError::Socket { source, .. } | KernelError::Refused { source, .. } => {
                source.raw_os_error().map(nix::errno::Errno::from_raw)
            }
            KernelError::Overrun | KernelError::Thread(_) => None,
        }
    }
}
