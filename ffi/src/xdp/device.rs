//! The control thread's side of an AF_XDP port.

use super::below::Unmerged;
use super::config::XdpMode;
use super::error::{ClaimError, XdpError};
use super::handle::SharedSocket;
use super::parts::Reach;
use super::program::Steering;
use super::socket::takes_long_frames;
use crate::device::{Device, Link};
use crate::interface::Probe;
use millrace_fastpath::port::{ClaimChanges, PortCounters};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::sync::Arc;

/// An AF_XDP port without its queues. When it is dropped, the interface is the kernel's again.
pub(super) struct XdpDevice {
    pub(super) interface: String,
    pub(super) mode: XdpMode,
    pub(super) steering: Arc<Steering>,
    pub(super) sockets: Vec<Arc<SharedSocket>>,
    pub(super) counters: Arc<PortCounters>,
    pub(super) probe: Probe,
    /// Chunks that a frame may take: on all queues, and by the program.
    pub(super) reach: Reach,
    /// As long as the port is open.
    pub(super) _unmerged: Option<Unmerged>,
}

impl XdpDevice {
    fn count_losses(&self) {
        for socket in &self.sockets {
            socket.count_losses(&self.counters);
        }
    }
}

impl Device for XdpDevice {
    fn kind(&self) -> &'static str {
        "af-xdp"
    }

    /// Also brings what the kernel has lost on the sockets into the port's counters.
    fn link(&self) -> Link {
        self.count_losses();
        let down = |reason: String| Link::Down { reason };
        match self.probe.flags(&self.interface) {
            Err(error) => down(format!("interface {}: {error}", self.interface)),
            Ok(flags) if flags & libc::IFF_UP == 0 => down(format!("interface {} is down", self.interface)),
            Ok(flags) if flags & libc::IFF_RUNNING == 0 => {
                down(format!("interface {} has no carrier", self.interface))
            }
            Ok(_) => Link::Up,
        }
    }

    /// What is new is claimed before anything is released, so that a packet that one claim gives up to another comes all the
    /// time; only what that does not allow comes last.
    fn steer(&self, changes: &ClaimChanges) -> Result<(), XdpError> {
        let mut last = Vec::new();
        for claim in &changes.claimed {
            match self.steering.claim(claim) {
                Err(XdpError::Claim {
                    reason: ClaimError::Contradicts(_) | ClaimError::Full { .. }, ..
                }) => {
                    last.push(claim);
                }
                outcome => outcome?,
            }
        }
        changes.released.iter().try_for_each(|claim| self.steering.release(claim))?;
        last.into_iter().try_for_each(|claim| self.steering.claim(claim))
    }

    fn mac(&self) -> Option<MacAddr> {
        self.probe.mac(&self.interface).ok().flatten()
    }

    fn mtu(&self) -> Option<u16> {
        self.probe.mtu(&self.interface).ok().and_then(|mtu| u16::try_from(mtu).ok())
    }

    /// More than the program or the sockets were made for takes others, where there are any.
    fn follow_mtu(&self, mtu: u16) -> Result<bool, XdpError> {
        let mtu = mtu.into();
        if mtu > self.reach.mtu() && self.reach == Reach::ONE && takes_long_frames() {
            return Ok(false);
        }
        self.steering.set_mtu(mtu, self.reach)?;
        Ok(true)
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        self.count_losses();
        let mode = if self.mode == XdpMode::Native { "native" } else { "generic" };
        let zero_copy = !self.sockets.is_empty() && self.sockets.iter().all(|socket| socket.is_zero_copy());
        vec![
            ("interface", self.interface.clone()),
            ("queues", self.sockets.len().to_string()),
            ("xdp", mode.to_owned()),
            ("copy", if zero_copy { "zero-copy" } else { "copy" }.to_owned()),
            ("largest-mtu", self.reach.mtu().to_string()),
        ]
    }
}

impl Drop for XdpDevice {
    fn drop(&mut self) {
        // Others may hold the steering still: the program goes with the port all the same.
        self.steering.detach();
    }
}
