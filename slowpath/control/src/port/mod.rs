//! The life of a port.
//!
//! Adding goes: number, model, host's side, device, pod's side, tables, workers. Removing goes the other way: tables first,
//! so that no new frame is sent there; a grace period; the workers let go of the queues; then the queues, the device
//! and the host's side go, and the number is free again. (A veth goes before its sockets: the kernel then closes them at once.) Whatever fails on the way in, the steps already taken
//! are undone in that same order.

mod add;
mod error;
mod limits;
mod number;
mod pending;
mod remains;
mod remove;

pub use error::{PortError, Step};
pub(crate) use limits::limits;
pub(crate) use number::Numbers;
pub(crate) use pending::Pending;
pub(crate) use remains::{Cleared, Remains};

use crate::attachment::Lasting;
use crate::driver::{Device, Take};
use crate::plumbing::Site;
use crate::uplink::takeover::Nic;
use ipnet::IpNet;
use millrace_api::{Bandwidth, Route};
use millrace_config::PortConfig;
use millrace_fastpath::port::{PortCounters, PortId, WorkerId};
use std::sync::Arc;

/// A port that is there, or half of one that is coming or going.
pub(crate) struct Port {
    pub(crate) id: PortId,
    pub(crate) config: PortConfig,
    /// Its own addresses and its pod's, as they were when it was made.
    pub(crate) addresses: Vec<IpNet>,
    /// Largest IP packet in bytes.
    pub(crate) mtu: u16,
    pub(crate) counters: Arc<PortCounters>,
    /// None until it is open, and again when it is closed.
    pub(crate) device: Option<Box<dyn Device>>,
    /// Which worker has which queue, by queue; empty until they are given out.
    pub(crate) workers: Vec<WorkerId>,
    /// Whether the tables know it.
    pub(crate) published: bool,
    /// Whether the host's side was made.
    pub(crate) prepared: bool,
    /// For the port of an attachment: what is different with it.
    pub(crate) lasting: Option<Lasting>,
    /// The routes that its pod got.
    pub(crate) routes: Vec<Route>,
    /// Limits of its rate.
    pub(crate) bandwidth: Option<Bandwidth>,
    /// Which packets it takes from an interface that is the kernel's.
    pub(crate) take: Take,
    /// The NIC that is taken from the kernel for it.
    pub(crate) nic: Option<Nic>,
}

impl Port {
    pub(crate) fn site(&self) -> Site<'_> {
        let Port { id, config, addresses, mtu, nic, .. } = self;
        Site { id: *id, config, addresses, mtu: *mtu, lasting: self.lasting.as_ref(), nic: nic.as_ref() }
    }
}
