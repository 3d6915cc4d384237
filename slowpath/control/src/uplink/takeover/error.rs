//! What can go wrong when a NIC is taken or given back.

use crate::uplink::kernel::KernelError;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a NIC cannot be taken from the kernel, or not be given back.
#[derive(Debug, Error)]
pub enum TakeoverError {
    /// There is no such interface.
    #[error("there is no interface {0}")]
    NoInterface(String),
    /// The kernel cannot be talked to.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The kernel refused to move something.
    #[error("{what} to interface number {index}: {source}")]
    Move {
        /// What was to be moved.
        what: String,
        /// Where to.
        index: u32,
        /// What the kernel said.
        source: io::Error,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The record is not what an earlier instance wrote.
    #[error("{path}: not a record of a NIC: {source}")]
    Record {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// An address or route in the record is not one.
    #[error("the record of {interface}: {text:?} is not a message of the kernel's")]
    Content {
        /// The NIC's interface.
        interface: String,
        /// What stands in its place.
        text: String,
    },
    /// The watchdog cannot be started.
    #[error("starting the watchdog {program}: {source}")]
    Watchdog {
        /// Its program.
        program: String,
        /// What the kernel said.
        source: io::Error,
    },
}

impl TakeoverError {
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> TakeoverError {
        let path = path.into();
        move |source| TakeoverError::File { path, source }
    }
}
