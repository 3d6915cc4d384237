//! TAPs that only programs lead to: this process reads by them what the kernel has at another interface.
//!
//! Such a TAP belongs to this process and goes with it. Nobody else is to use it: it has no address, and the kernel's own packets
//! (neighbour and router discovery) are kept from it where the process may say so; else the data path drops them.

use super::{Carries, TapConfig, TapError, TapFile, TapStep, open_files};
use crate::interface::Probe;
use millrace_fastpath::port::{DropReason, PortCounters};
use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The largest MTU that a TAP takes: frames come as the other interface's kernel has put them together.
const MTU: u32 = 65_521;

/// Frames that each queue keeps until they are read. A worker that shares its core is away for some milliseconds at times.
const QUEUE_LEN: u32 = 2_048;

/// The TAP of another interface.
#[derive(Debug)]
pub(crate) struct HiddenTap {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// One for each queue.
    pub(crate) files: Vec<Arc<TapFile>>,
    /// How much of what the TAP has dropped the counters know already.
    known: AtomicU64,
}

impl HiddenTap {
    /// Makes the TAP of the interface with this number, in the calling thread's network namespace.
    ///
    /// # Errors
    /// [`TapError`]; nothing is left behind then.
    pub(crate) fn open(of: u32, queues: u32, carries: Carries) -> Result<HiddenTap, TapError> {
        let name = format!("mr-in{of}");
        let (files, ifindex) = open_files(&TapConfig::here(&name, queues), carries)?;
        let failed = |source| TapError::System { name: name.clone(), queue: 0, step: TapStep::Up, source };
        set_up(&name).map_err(failed)?;
        Ok(HiddenTap { name, ifindex, files, known: AtomicU64::new(0) })
    }

    /// Adds to `counters` what has come since the last call and found no room. `probe`: of the TAP's network namespace.
    pub(crate) fn count_losses(&self, probe: &Probe, counters: &PortCounters) {
        let Ok(dropped) = probe.transmit_drops(&self.name) else { return };
        let known = self.known.fetch_max(dropped, Ordering::Relaxed);
        if dropped > known {
            counters.dropped(DropReason::NoBuffer, dropped - known);
        }
    }
}

/// Sets the interface up.
fn set_up(name: &str) -> io::Result<()> {
    let probe = Probe::here()?;
    probe.set_mtu(name, MTU)?;
    probe.set_queue_len(name, QUEUE_LEN)?;
    // What the kernel would say there by itself is dropped in the data path, if it must be.
    if let Err(error) = fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1") {
        tracing::debug!(interface = name, %error, "IPv6 stays on");
    }
    probe.set_up(name)
}
