//! How an uplink is received from behind the kernel's receive offload.
//!
//! ```text
//!  NIC ── GRO ─┬─ millrace_hear ─── packet sockets ─── their rings ──────────┬── rx_burst
//!              └─ millrace_take ─┬─ TAP ────────────── its queues' files ────┘
//!                                └─ to the kernel
//!  NIC ◄─ millrace_give ◄── TAP ◄── TCP in tunnels (large)
//! ```

use super::error::{Step, StepError, XdpError};
use super::merging::Merging;
use super::packet::PacketSocket;
use super::packet_ring::PacketRing;
use crate::interface::Probe;
use crate::tap::{Carries, HiddenTap};
use millrace_fastpath::port::{DropReason, PortCounters};
use std::sync::Arc;

/// The TAP and the sockets.
#[derive(Debug)]
pub(super) struct Intake {
    /// With one file for each queue.
    pub(super) tap: HiddenTap,
    /// One for each queue.
    pub(super) sockets: Vec<Arc<PacketSocket>>,
    /// The largest MTU that their rings have room for.
    pub(super) mtu: u32,
    /// Where tunnels' frames come whole, too.
    _merging: Option<Merging>,
}

impl Intake {
    /// Makes TAP and sockets for the NIC with this number and MTU, in the calling thread's network namespace, and gives the sockets'
    /// rings. `tunnel_port`: the UDP port of tunnels; 0 for none.
    pub(super) fn open(
        interface: &str,
        nic: u32,
        mtu: u32,
        queues: u32,
        tunnel_port: u16,
    ) -> Result<(Intake, Vec<PacketRing>), XdpError> {
        let at = |source| XdpError::Intake { interface: interface.to_owned(), source };
        let (mut sockets, mut rings, mut most) = (Vec::new(), Vec::new(), u32::MAX);
        for queue in 0..queues {
            let prepared = PacketRing::prepare(mtu, queues)
                .map_err(|source| StepError::new(Step::PacketSocket, source).at(interface, queue))?;
            most = most.min(prepared.mtu);
            sockets.push(prepared.socket);
            rings.push(prepared.ring);
        }
        let tap = HiddenTap::open(nic, queues, Carries::TcpAndTunnels).map_err(at)?;
        // Without it a tunnel's packets come one by one, as they do where the kernel could not hand them on otherwise.
        let merges = tunnel_port != 0 && tap.files.iter().all(|file| file.carries_tunnels());
        let merging = merges.then(|| Merging::at(tunnel_port)).and_then(|merging| {
            merging
                .inspect_err(|error| tracing::info!(interface, tunnel_port, %error, "tunnels' packets come one by one"))
                .ok()
        });
        Ok((Intake { tap, sockets, mtu: most, _merging: merging }, rings))
    }

    /// Adds to `counters` what has come since the last call and found no room. `probe`: of the NIC's network namespace.
    pub(super) fn count_losses(&self, probe: &Probe, counters: &PortCounters) {
        let unheard = self.sockets.iter().filter_map(|socket| socket.losses().ok()).sum();
        if unheard > 0 {
            counters.dropped(DropReason::NoBuffer, unheard);
        }
        self.tap.count_losses(probe, counters);
    }
}
