//! The control thread's side of an AF_XDP port.

use super::below::Unmerged;
use super::config::XdpMode;
use super::error::XdpError;
use super::handle::SharedSocket;
use super::intake::Intake;
use super::parts::Reach;
use super::program::Steering;
use super::socket::takes_long_frames;
use super::waiting::Waiting;
use crate::batch::Promptness;
use crate::device::{Device, Link};
use crate::interface::Probe;
use crate::shortcut::Way;
use millrace_fastpath::port::{Claim, ClaimChanges, PortCounters};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// An AF_XDP port without its queues. When it is dropped, the interface is the kernel's again.
pub(super) struct XdpDevice {
    pub(super) interface: String,
    pub(super) mode: XdpMode,
    pub(super) steering: Arc<Steering>,
    pub(super) sockets: Vec<Arc<SharedSocket>>,
    pub(super) counters: Arc<PortCounters>,
    pub(super) probe: Probe,
    /// Shared with the queues, where they have ways for many small frames.
    pub(super) promptness: Option<Promptness>,
    /// Chunks that a frame may take: on all queues, and by the program.
    pub(super) reach: Reach,
    /// What there is no room for.
    pub(super) waiting: Mutex<Waiting>,
    /// Where packets come in, if not by the sockets.
    pub(super) intake: Option<Intake>,
    /// As long as the port is open.
    pub(super) unmerged: Option<Unmerged>,
    /// What leads packets past the data path, where that is possible.
    pub(super) way: Option<Way>,
}

impl XdpDevice {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A panic leaves claims in it that are made or wait: none is lost.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_losses(&self) {
        for socket in &self.sockets {
            socket.count_losses(&self.counters);
        }
        if let Some(intake) = &self.intake {
            intake.count_losses(&self.probe, &self.counters);
        }
        if let Some(way) = &self.way {
            way.count(&self.counters);
        }
    }
}

impl Device for XdpDevice {
    fn kind(&self) -> &'static str {
        "af-xdp"
    }

    /// Also brings what the kernel has lost on the sockets into the port's counters, and tells the queues whether the interface has a
    /// queueing discipline.
    fn link(&self) -> Link {
        self.count_losses();
        if let Some(promptness) = &self.promptness {
            promptness.look(&self.probe, &self.interface);
        }
        let down = |reason: String| Link::Down { reason };
        match self.probe.flags(&self.interface) {
            Err(error) => down(format!("interface {}: {error}", self.interface)),
            Ok(flags) if flags & libc::IFF_UP == 0 => down(format!("interface {} is down", self.interface)),
            Ok(flags) if flags & libc::IFF_RUNNING == 0 => {
                down(format!("interface {} has no carrier", self.interface))
            }
            Ok(_) => {
                match self
                    .intake
                    .as_ref()
                    .map(|intake| (&intake.tap.name, self.probe.flags(&intake.tap.name)))
                {
                    Some((name, Err(error))) => down(format!("interface {name}: {error}")),
                    Some((name, Ok(flags))) if flags & libc::IFF_UP == 0 => {
                        down(format!("interface {name} is down"))
                    }
                    _ => Link::Up,
                }
            }
        }
    }

    fn steer(&self, changes: &ClaimChanges) -> Result<(), XdpError> {
        let (claim, release) =
            (|claim: &Claim| self.steering.claim(claim), |claim: &Claim| self.steering.release(claim));
        self.waiting().make(changes, claim, release)
    }

    fn unclaimed(&self) -> Option<String> {
        self.waiting().told()
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
        if self.intake.as_ref().is_some_and(|intake| mtu > intake.mtu) {
            return Ok(false);
        }
        if mtu > self.reach.mtu() && self.reach == Reach::ONE && takes_long_frames() {
            return Ok(false);
        }
        self.steering.set_mtu(mtu, self.reach)?;
        let (room, interface) = (self.reach.mtu(), self.interface.clone());
        if mtu > room {
            Err(XdpError::Mtu { interface, mtu, room, long: takes_long_frames() })
        } else {
            Ok(true)
        }
    }

    fn shortcut_end(&self) -> Option<u32> {
        self.way.as_ref().map(Way::ifindex)
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        self.count_losses();
        let mode = match (&self.intake, self.mode) {
            (Some(intake), _) => format!("off (tc and {})", intake.tap.name),
            (None, XdpMode::Native) => "native".to_owned(),
            _ => "generic".to_owned(),
        };
        let zero_copy = !self.sockets.is_empty() && self.sockets.iter().all(|socket| socket.is_zero_copy());
        let batches = self.promptness.as_ref().is_some_and(Promptness::holds);
        let carried = self.way.as_ref().map(|way| ("carried-by-kernel", way.told()));
        let all = [
            ("interface", self.interface.clone()),
            ("queues", self.sockets.len().to_string()),
            ("xdp", mode),
            ("copy", if zero_copy { "zero-copy" } else { "copy" }.to_owned()),
            ("batches", if batches { "yes" } else { "no" }.to_owned()),
            ("largest-mtu", self.reach.mtu().to_string()),
        ];
        all.into_iter().chain(carried).collect()
    }
}

impl Drop for XdpDevice {
    fn drop(&mut self) {
        // Others may hold the steering still: the program goes with the port all the same.
        self.steering.detach();
    }
}
