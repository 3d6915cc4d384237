//! Pods' veths: one end in the pod, with all that the kernel offers, the other here.
//!
//! ```text
//!  pod ── veth ── its end here ── TAP ── queues
//!                     └─ shortcuts ── other pods, uplinks
//! ```
//!
//! Programs of traffic control lead what comes from the pod to a TAP of this process, whole, and what is written to that to the pod.
//! Established TCP connections can be carried past the TAP ([`Shortcuts`]).

use crate::batch::{Batches, Outlet, Promptness};
use crate::device::{Device, Link, Opened};
use crate::interface::Probe;
use crate::mbuf::Mbuf;
use crate::shortcut::{Named, ShortcutError, Shortcuts, Way};
use crate::tap::{Carries, HiddenTap, TapError, TapPools, TapQueue};
use millrace_fastpath::port::{PortCounters, PortQueue};
use std::io;
use std::sync::Arc;
use thiserror::Error;

/// Why a veth could not be opened.
#[derive(Debug, Error)]
pub enum VethError {
    /// There is no such interface in this network namespace.
    #[error("veth {interface}: {source}")]
    NoInterface {
        /// The name asked for.
        interface: String,
        /// From `if_nametoindex(3)`.
        source: io::Error,
    },
    /// The TAP could not be made by which it is read.
    #[error("veth {interface}: {source}")]
    Tap {
        /// The interface.
        interface: String,
        /// What failed.
        source: TapError,
    },
    /// The programs could not be attached.
    #[error("veth {0}")]
    Programs(#[from] ShortcutError),
}

/// A pod's veth, by its end in the calling thread's network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct VethConfig {
    /// The name of that end.
    pub interface: String,
    /// Queues, 1 to 256.
    pub queues: u32,
}

/// Opens a veth whose end is here, and up.
///
/// # Errors
/// [`VethError`], with interface and the kernel's answer; nothing is left behind then.
pub fn open(
    config: &VethConfig,
    pools: &TapPools,
    counters: &Arc<PortCounters>,
    shortcuts: &Arc<Shortcuts>,
    batches: &Arc<Batches>,
) -> Result<Opened, VethError> {
    let interface = || config.interface.clone();
    let gone = |source| VethError::NoInterface { interface: interface(), source };
    let end = Named::find(&config.interface).map_err(gone)?;
    let probe = Probe::here().map_err(gone)?;
    let tap = HiddenTap::open(end.ifindex, config.queues, Carries::TcpAndUdp)
        .map_err(|source| VethError::Tap { interface: interface(), source })?;
    let way = shortcuts.join(end, Named { name: &tap.name, ifindex: tap.ifindex })?;
    let queue = |(number, file): (u32, &Arc<_>)| {
        let outlet = Outlet::open(batches, end, number, Promptness::Given);
        let queue = TapQueue::new(Arc::clone(file), pools, counters.clone());
        Box::new(queue.with_outlet(outlet)) as Box<dyn PortQueue<Mbuf>>
    };
    let queues = (0..).zip(&tap.files).map(queue).collect();
    let device = VethDevice { interface: interface(), counters: counters.clone(), probe, way, tap };
    Ok(Opened { device: Box::new(device), queues })
}

/// A veth without its queues. The programs go before the TAP that they lead to.
struct VethDevice {
    interface: String,
    counters: Arc<PortCounters>,
    probe: Probe,
    way: Way,
    tap: HiddenTap,
}

impl Device for VethDevice {
    fn kind(&self) -> &'static str {
        "veth"
    }

    /// Also brings into the port's counters what the kernel has lost or carried.
    fn link(&self) -> Link {
        self.tap.count_losses(&self.probe, &self.counters);
        self.way.count(&self.counters);
        for interface in [&self.interface, &self.tap.name] {
            let reason = match self.probe.flags(interface) {
                Err(error) => format!("interface {interface}: {error}"),
                Ok(flags) if flags & libc::IFF_UP == 0 => format!("interface {interface} is down"),
                Ok(flags) if flags & libc::IFF_RUNNING == 0 => {
                    format!("interface {interface} has no carrier")
                }
                Ok(_) => continue,
            };
            return Link::Down { reason };
        }
        Link::Up
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        vec![
            ("interface", self.interface.clone()),
            ("queues", self.tap.files.len().to_string()),
            ("tap", self.tap.name.clone()),
            ("carried-by-kernel", self.way.told()),
        ]
    }

    fn shortcut_end(&self) -> Option<u32> {
        Some(self.way.ifindex())
    }
}
