//! The control thread's side of a TAP.

use super::file::TapFile;
use super::lead::Lead;
use super::link::{self, Window};
use crate::device::{Device, Link};
use crate::xdp::XdpError;
use millrace_fastpath::port::ClaimChanges;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

/// A TAP without its queues: the interface goes when both are gone, unless it is to last.
pub(super) struct TapDevice {
    pub(super) file: Arc<TapFile>,
    pub(super) queues: u32,
    pub(super) window: Mutex<Option<Window>>,
    /// For the host's own leg: what brings it the host's packets to itself.
    pub(super) lead: Option<Lead>,
}

impl Device for TapDevice {
    fn kind(&self) -> &'static str {
        "tap"
    }

    fn link(&self) -> Link {
        let down = |reason: String| Link::Down { reason };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        match link::flags(&self.file, &mut window) {
            Err(error) => down(format!("the interface is gone: {error}")),
            Ok(flags) if flags & libc::IFF_UP == 0 => down("the interface is down".to_owned()),
            Ok(flags) if flags & libc::IFF_RUNNING == 0 => down("the interface has no carrier".to_owned()),
            Ok(_) => Link::Up,
        }
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let name = self.file.name().unwrap_or_else(|error| error.to_string());
        let udp = if self.file.carries_large_udp() { ", uso" } else { "" };
        vec![
            ("interface", name),
            ("queues", self.queues.to_string()),
            ("offloads", format!("checksum, tso4, tso6{udp}")),
        ]
    }

    fn steer(&self, changes: &ClaimChanges) -> Result<(), XdpError> {
        self.lead.as_ref().map_or(Ok(()), |lead| lead.steer(changes))
    }

    fn set_lasting(&self, lasting: bool) -> io::Result<()> {
        self.file.set_lasting(lasting)
    }
}
