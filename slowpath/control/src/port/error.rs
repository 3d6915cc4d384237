//! Why a port could not be added or removed.

use crate::driver::Refusal;
use millrace_api::{AttachmentId, ErrorCode};
use millrace_config::{PodRef, PortName, Prefix};
use std::error::Error;
use std::fmt;
use std::io;
use thiserror::Error;

/// A step in the life of a port.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Making its interface or socket.
    Prepare,
    /// Opening the device.
    Open,
    /// Moving the device's interface to the pod.
    Finish,
    /// Giving its queues to workers.
    Attach,
    /// Taking its queues back from workers.
    Detach,
    /// Removing its interface or socket.
    Undo,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Step::Prepare => "preparing the host's side",
            Step::Open => "opening the device",
            Step::Finish => "setting up the pod's side",
            Step::Attach => "giving its queues to workers",
            Step::Detach => "taking its queues from workers",
            Step::Undo => "removing the host's side",
        })
    }
}

/// Why a port could not be added or removed.
#[derive(Debug, Error)]
pub enum PortError {
    /// There is a port of this name.
    #[error("port {0} exists already")]
    Exists(PortName),
    /// There is no port of this name.
    #[error("there is no port {0}")]
    Unknown(PortName),
    /// Another port uses the same interface, socket or device.
    #[error("port {port}: {place} is already used by port {owner}")]
    PlaceTaken {
        /// The port that was to be added.
        port: PortName,
        /// What both want.
        place: String,
        /// The port that has it.
        owner: PortName,
    },
    /// Another port owns the address.
    #[error("port {port}: {address} already belongs to port {owner}")]
    AddressTaken {
        /// The port that was to be added.
        port: PortName,
        /// What both want.
        address: Prefix,
        /// The port that has it.
        owner: PortName,
    },
    /// The address is the node's own.
    #[error("port {port}: {address} holds an address of the gateway")]
    GatewayAddress {
        /// The port that was to be added.
        port: PortName,
        /// What it wants.
        address: Prefix,
    },
    /// The pod that the port's addresses are to come from is not known.
    #[error(
        "port {port}: no manifest of pod {pod} with a status.podIPs, and the port has no addresses of its own"
    )]
    UnknownPod {
        /// The port.
        port: PortName,
        /// The pod.
        pod: PodRef,
    },
    /// It is an attachment's.
    #[error("port {port} belongs to attachment {id}: its container runtime removes it")]
    Attached {
        /// The port.
        port: PortName,
        /// What it belongs to.
        id: AttachmentId,
    },
    /// There are as many ports as can be.
    #[error("port {0}: all port numbers are in use")]
    TooMany(PortName),
    /// A step failed; all steps before it were undone.
    #[error("port {port}: {step}: {source}")]
    Step {
        /// The port.
        port: PortName,
        /// What failed.
        step: Step,
        /// Why.
        source: Refusal,
    },
}

impl PortError {
    pub(crate) fn step(port: &PortName, step: Step, source: impl Into<Refusal>) -> Self {
        PortError::Step { port: port.clone(), step, source: source.into() }
    }

    /// The kind of refusal for the admin API.
    pub fn code(&self) -> ErrorCode {
        match self {
            PortError::Exists(_)
            | PortError::PlaceTaken { .. }
            | PortError::AddressTaken { .. }
            | PortError::Attached { .. } => ErrorCode::Conflict,
            PortError::Unknown(_) => ErrorCode::NotFound,
            PortError::UnknownPod { .. } | PortError::GatewayAddress { .. } => ErrorCode::Invalid,
            PortError::TooMany(_) => ErrorCode::Unavailable,
            PortError::Step { source, .. } if is_taken(&**source) => ErrorCode::Conflict,
            PortError::Step { .. } => ErrorCode::Failed,
        }
    }
}

/// Whether something of somebody else's is where the port was to be, as an interface of the same name.
fn is_taken(error: &(dyn Error + 'static)) -> bool {
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(kind, Some(io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy))
        || error.source().is_some_and(is_taken)
}
