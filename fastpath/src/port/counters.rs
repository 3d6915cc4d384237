//! What a port has carried and lost.

use super::drops::{DROP_REASONS, DropReason};
use core::sync::atomic::{AtomicU64, Ordering};

/// Counters of one port. Any thread may add; reading never disturbs. All counts are since the port was made.
#[derive(Debug)]
#[repr(align(128))]
pub struct PortCounters {
    rx_frames: AtomicU64,
    rx_bytes: AtomicU64,
    tx_frames: AtomicU64,
    tx_bytes: AtomicU64,
    drops: [AtomicU64; DROP_REASONS],
}

/// One reading of [`PortCounters`].
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PortTotals {
    /// Frames received from the port.
    pub rx_frames: u64,
    /// Bytes received, without FCS.
    pub rx_bytes: u64,
    /// Frames sent to the port.
    pub tx_frames: u64,
    /// Bytes sent, without FCS.
    pub tx_bytes: u64,
}

impl Default for PortCounters {
    fn default() -> Self {
        PortCounters {
            rx_frames: AtomicU64::new(0),
            rx_bytes: AtomicU64::new(0),
            tx_frames: AtomicU64::new(0),
            tx_bytes: AtomicU64::new(0),
            drops: [const { AtomicU64::new(0) }; DROP_REASONS],
        }
    }
}

impl PortCounters {
    /// Counts a received burst.
    pub fn received(&self, frames: u64, bytes: u64) {
        self.rx_frames.fetch_add(frames, Ordering::Relaxed);
        self.rx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts a sent burst.
    pub fn sent(&self, frames: u64, bytes: u64) {
        self.tx_frames.fetch_add(frames, Ordering::Relaxed);
        self.tx_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts frames that were lost at this port.
    pub fn dropped(&self, reason: DropReason, frames: u64) {
        self.drops[reason.index()].fetch_add(frames, Ordering::Relaxed);
    }

    /// The traffic carried until now.
    pub fn totals(&self) -> PortTotals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PortTotals {
            rx_frames: read(&self.rx_frames),
            rx_bytes: read(&self.rx_bytes),
            tx_frames: read(&self.tx_frames),
            tx_bytes: read(&self.tx_bytes),
        }
    }

    /// The frames lost until now for `reason`.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops[reason.index()].load(Ordering::Relaxed)
    }
}
