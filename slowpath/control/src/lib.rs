//! Ports, workers and publication: what the control thread does.
//!
//! [`Control`] is the state of the node and everything that changes it, [`ControlLoop`] the thread around it,
//! [`ControlHandle`] the way to it from elsewhere. Opening devices is left to a [`Driver`] and the host's side of ports to
//! a [`Plumbing`], so all of this runs in tests over plain memory. [`KernelPlumbing`] is the real one, over [`link`].

#![forbid(unsafe_code)]

mod attachment;
mod clock;
mod control;
mod driver;
mod frontage;
mod histogram;
mod host_leg;
mod host_stack;
pub mod link;
mod message;
mod plumbing;
mod port;
mod programming;
mod progress;
mod publish;
mod read;
mod serve;
mod shortcuts;
mod sync;
pub mod sysctl;
#[cfg(test)]
mod tests;
pub mod uplink;
mod worker;

pub use attachment::{
    AttachError, Attachments, Departure, Family, IpamError, Lasting, Leaving, Left, StoreError,
};
pub use clock::now;
pub use control::{Control, Parts};
pub use driver::{Device, Driver, Link, OpenRequest, Opened, Place, Refusal, Take};
pub use histogram::Histogram;
pub use host_stack::{HostStack, KernelStack};
pub use plumbing::{KernelPlumbing, Plumbing, Site, Undoing};
pub use port::{PortError, Step};
pub use progress::{Progress, ProxyHealth};
pub use read::{TraceError, WorkerReading};
pub use serve::{Busy, ControlHandle, ControlLoop};
pub use sync::{HealthChecks, SyncReading};
pub use worker::{Load, WorkerError, WorkerHandle};
