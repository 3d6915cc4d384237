//! What can go wrong with a TAP port.

use crate::mempool::MempoolError;
use std::fmt;
use std::io;
use thiserror::Error;

/// Why a TAP port could not be opened.
#[derive(Debug, Error)]
pub enum TapError {
    /// No interface can have this name.
    #[error("tap {name:?}: an interface's name has 1 to 15 bytes")]
    Name {
        /// The name asked for.
        name: String,
    },
    /// The kernel has no TAP with so many queues.
    #[error("tap {name}: {queues} queues are not possible: 1 to 256")]
    Queues {
        /// The interface.
        name: String,
        /// The number asked for.
        queues: u32,
    },
    /// A system call failed.
    #[error("tap {name} queue {queue}: {step}: {source}")]
    System {
        /// The interface.
        name: String,
        /// The queue, counted from 0.
        queue: u32,
        /// What was being done.
        step: TapStep,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The pool of large buffers could not be made.
    #[error("large buffers for TAP ports: {0}")]
    LargePool(#[from] MempoolError),
}

/// One step of opening a TAP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TapStep {
    /// `setns(2)`.
    Enter,
    /// `open("/dev/net/tun")`.
    Open,
    /// `TUNSETIFF`.
    Attach,
    /// `TUNSETVNETHDRSZ` and `TUNSETVNETLE`.
    Header,
    /// `TUNSETOFFLOAD`.
    Offloads,
    /// `if_nametoindex(3)`.
    Index,
    /// `SIOCSIFMTU`, `SIOCSIFTXQLEN` and `SIOCSIFFLAGS`.
    Up,
}

impl fmt::Display for TapStep {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            TapStep::Enter => "entering the network namespace",
            TapStep::Open => "opening /dev/net/tun",
            TapStep::Attach => "creating the interface (CAP_NET_ADMIN? is the name free?)",
            TapStep::Header => "setting the virtio-net header",
            TapStep::Offloads => "setting the offloads",
            TapStep::Index => "finding the interface's index",
            TapStep::Up => "setting the interface up",
        })
    }
}
