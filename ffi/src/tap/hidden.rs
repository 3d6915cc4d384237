//! TAPs that only programs lead to: this process reads by them what the kernel has at another interface.
//!
//! Such a TAP belongs to this process and goes with it. Nobody else is to use it: it has no address, and the kernel's own packets
//! (neighbour and router discovery) are kept from it where the process may say so; else the data path drops them.

use super::{Carries, TapConfig, TapError, TapFile, TapStep, open_files};
use crate::interface::Probe;
use millrace_fastpath::port::{DropReason, PortCounters};
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::sync::{Arc, Mutex, PoisonError};

/// The largest MTU that a TAP takes: frames come as the other interface's kernel has put them together.
const MTU: u32 = 65_521;

/// Frames that each queue keeps until they are read. A worker that shares its core is away for some milliseconds at times.
const QUEUE_LEN: u32 = 2_048;

/// The kernel's counts of all interfaces of the calling thread's network namespace.
const TABLE: &str = "/proc/thread-self/net/dev";

/// The TAP of another interface.
#[derive(Debug)]
pub(crate) struct HiddenTap {
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// One for each queue.
    pub(crate) files: Vec<Arc<TapFile>>,
    /// Where the kernel tells what the TAP has dropped, and how much of that the counters know already.
    losses: Mutex<(File, u64)>,
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
        let losses = Mutex::new((File::open(TABLE).map_err(failed)?, 0));
        Ok(HiddenTap { name, ifindex, files, losses })
    }

    /// Adds to `counters` what has come since the last call and found no room.
    pub(crate) fn count_losses(&self, counters: &PortCounters) {
        let mut losses = self.losses.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, known) = &mut *losses;
        let Some(dropped) = dropped_by(table, &self.name).filter(|dropped| dropped > known) else { return };
        counters.dropped(DropReason::NoBuffer, dropped - *known);
        *known = dropped;
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

/// Packets that the interface's own way out has dropped, as the kernel counts them: `table` is [`TABLE`], of the namespace that it
/// was opened in.
fn dropped_by(table: &mut File, name: &str) -> Option<u64> {
    let mut text = String::new();
    table.rewind().and_then(|()| table.read_to_string(&mut text)).ok()?;
    transmit_drops(&text, name)
}

/// Of each interface: eight numbers of what came, and then of what went bytes, packets, errors and drops.
fn transmit_drops(table: &str, name: &str) -> Option<u64> {
    let numbers = table.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(':'))?;
    numbers.split_ascii_whitespace().nth(8 + 3)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drops_are_read_from_the_kernels_table() {
        let table = "Inter-|   Receive                                                |  Transmit\n \
                     face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls\n\
                         lo:    1   2    3    4    5     6          7         8   9    10   11   12   13    14      15   16\n\
                     mr-in12: 1 2 3 4 5 6 7 8 9 10 11 17 13 14 15 16\n mr-in1: 1 2 3 4 5 6 7 8 9 10 11 0 13 14 15 16\n";
        assert_eq!(transmit_drops(table, "mr-in12"), Some(17));
        assert_eq!(transmit_drops(table, "mr-in1"), Some(0));
        assert_eq!(transmit_drops(table, "mr-in2"), None);
        assert_eq!(transmit_drops("mr-in2: 1 2", "mr-in2"), None);
    }
}
