//! What can go wrong with an AF_XDP port.

use crate::tap::TapError;
use aya::maps::MapError;
use millrace_fastpath::port::Claim;
use std::fmt;
use std::io;
use thiserror::Error;

/// Why an AF_XDP port could not be opened or steered.
#[derive(Debug, Error)]
pub enum XdpError {
    /// The kernel knows no such interface in this network namespace.
    #[error("af-xdp {interface}: no such interface: {source}")]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// From `if_nametoindex(3)` or the interface's MTU.
        source: io::Error,
    },
    /// The number of queues is not possible.
    #[error("af-xdp {interface}: {queues} queues are not possible: 1 to {most}")]
    Queues {
        /// The interface.
        interface: String,
        /// The number asked for.
        queues: u32,
        /// The most that the XDP program's map holds.
        most: u32,
    },
    /// An uplink that does not receive on all queues of its NIC would miss packets that it claims, and one that wants more
    /// than there are cannot have them.
    #[error(
        "af-xdp {interface}: it receives on {has} queues, {queues} are configured: leave `queues` out, or give the NIC as \
         many (`ethtool -L {interface} combined {queues}`)"
    )]
    UplinkQueues {
        /// The interface.
        interface: String,
        /// Queues that the interface receives on.
        has: u32,
        /// Queues asked for.
        queues: u32,
    },
    /// Native XDP on a bond runs on its members, and packets that a member receives never reach a socket of the bond.
    #[error(
        "af-xdp {interface}: its driver, {driver}, has no native mode of its own: use `mode: auto` or `generic`"
    )]
    NoNativeMode {
        /// The interface.
        interface: String,
        /// Its driver: `bonding` or `team`.
        driver: String,
    },
    /// A ring's size is not a power of two that the kernel accepts.
    #[error("af-xdp {interface}: a ring of {slots} slots is not possible: a power of two from 8 to 32768")]
    RingSize {
        /// The interface.
        interface: String,
        /// The size asked for.
        slots: u32,
    },
    /// Frames of this interface do not fit into as many chunks as a frame may take.
    #[error(
        "af-xdp {interface}: its MTU of {mtu} bytes is too large: {room} at most{}",
        if *.long { "" } else { ", as this kernel's AF_XDP takes frames of one chunk only (Linux 6.6 takes longer ones)" }
    )]
    Mtu {
        /// The interface.
        interface: String,
        /// Its MTU, bytes.
        mtu: u32,
        /// The largest MTU that fits, bytes.
        room: u32,
        /// Whether frames may take several chunks.
        long: bool,
    },
    /// A socket could not be made.
    #[error("af-xdp {interface} queue {queue}: {step}: {source}")]
    Socket {
        /// The interface.
        interface: String,
        /// The queue, counted from 0.
        queue: u32,
        /// What was being done.
        step: Step,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A claim could not be made or released.
    #[error("af-xdp {interface}: claim on {claim}: {reason}")]
    Claim {
        /// The interface.
        interface: String,
        /// The claim.
        claim: Claim,
        /// Why not.
        reason: ClaimError,
    },
    /// The program that takes packets could not be loaded or attached, or its maps could not be changed.
    #[error("af-xdp {interface}: {step}: {reason}")]
    Program {
        /// The interface.
        interface: String,
        /// What was being done.
        step: Step,
        /// The answer of the kernel or the verifier, down to its first cause.
        reason: String,
    },
    /// The TAP could not be made by which the uplink is received.
    #[error("af-xdp {interface}: receiving by tc: {source}")]
    Intake {
        /// The interface.
        interface: String,
        /// What failed.
        source: TapError,
    },
    /// Only an uplink with room for large frames is received by tc.
    #[error("af-xdp {interface}: `mode: tc` is for uplinks only")]
    NoTc {
        /// The interface.
        interface: String,
    },
    /// What leads the host's own packets to a TAP could not be put in place or changed.
    #[error("{interface}: leading the host to frontends at its own addresses: {doing}: {reason}")]
    Lead {
        /// The TAP.
        interface: String,
        /// What was being done.
        doing: &'static str,
        /// The kernel's answer, down to its first cause.
        reason: String,
    },
}

/// Why a claim cannot be.
#[derive(Debug, Error)]
pub enum ClaimError {
    /// The port was opened to take everything.
    #[error("the port takes everything")]
    TakesEverything,
    /// Another claim says the opposite; it has to be released first.
    #[error("it contradicts the claim on {0}")]
    Contradicts(Claim),
    /// The first port is above the last.
    #[error("its first port is above its last")]
    NoPorts,
    /// The XDP program's map is full.
    #[error("its map is full: {most} entries")]
    Full {
        /// Entries that the map has.
        most: u32,
    },
    /// The kernel's answer.
    #[error("{}", chain(&**.0))]
    Kernel(Box<MapError>),
}

impl From<MapError> for ClaimError {
    fn from(error: MapError) -> Self {
        ClaimError::Kernel(Box::new(error))
    }
}

/// One step of opening a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// `socket(AF_XDP)`.
    Create,
    /// `XDP_UMEM_REG`.
    RegisterUmem,
    /// `XDP_RX_RING`, `XDP_TX_RING`, `XDP_UMEM_FILL_RING`, `XDP_UMEM_COMPLETION_RING`.
    SizeRings,
    /// `XDP_MMAP_OFFSETS` and `mmap(2)`.
    MapRings,
    /// `bind(2)`.
    Bind,
    /// Making a packet socket, with its ring.
    PacketSocket,
    /// Loading the program and its maps.
    LoadProgram,
    /// Attaching the program to the interface.
    AttachProgram,
    /// Entering a socket into a map.
    Enter,
    /// Running the program on a frame that did not arrive.
    TryProgram,
}

impl fmt::Display for Step {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Step::Create => "creating the socket (CAP_NET_RAW?)",
            Step::RegisterUmem => "registering the packet memory",
            Step::SizeRings => "setting the rings' sizes",
            Step::MapRings => "mapping the rings",
            Step::Bind => "binding the socket (is the queue there, and free?)",
            Step::PacketSocket => "making the packet socket (CAP_NET_RAW?)",
            Step::LoadProgram => "loading the program that takes packets (CAP_BPF and CAP_NET_ADMIN?)",
            Step::AttachProgram => "attaching the program that takes packets (is another one there?)",
            Step::Enter => "adding to the program's map",
            Step::TryProgram => "trying the program",
        })
    }
}

/// A step of making a socket that failed; interface and queue are added by the caller.
#[derive(Debug)]
pub(super) struct StepError {
    pub(super) step: Step,
    pub(super) source: io::Error,
}

impl StepError {
    /// `step` failed with `source`.
    pub(super) fn new(step: Step, source: io::Error) -> StepError {
        StepError { step, source }
    }

    /// Names where it happened.
    pub(super) fn at(self, interface: &str, queue: u32) -> XdpError {
        XdpError::Socket { interface: interface.to_owned(), queue, step: self.step, source: self.source }
    }
}

/// An error and everything it was caused by, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
