//! Configured ports that cannot be opened yet.
//!
//! A port of the configuration that fails does not stop the daemon: its pod's namespace or manifest may come later. It is
//! reported and tried again, at first after a second and then ever more rarely; at once when the model changes, if
//! what it waits for is its pod.

use super::PortError;
use crate::control::Control;
use millrace_config::{PortConfig, PortName};
use millrace_fastpath::port::Frame;
use std::time::{Duration, Instant};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// A configured port that is not open.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) config: PortConfig,
    /// Why it is not.
    pub(crate) error: PortError,
    due: Instant,
    wait: Duration,
}

impl<F: Frame> Control<F> {
    /// Opens the configuration's ports. Those that fail are kept and tried again.
    pub fn open_configured_ports(&mut self) {
        for config in std::mem::take(&mut self.config.ports) {
            if let Err(error) = self.add_port(config.clone()) {
                self.pending.push(Pending { config, error, due: Instant::now() + FIRST, wait: FIRST });
            }
        }
    }

    /// Tries those again that are due.
    pub(crate) fn retry_pending(&mut self, now: Instant) {
        for mut pending in std::mem::take(&mut self.pending) {
            if pending.due > now {
                self.pending.push(pending);
            } else if let Err(error) = self.add_port(pending.config.clone()) {
                pending.wait = (pending.wait * 2).min(LONGEST);
                pending.due = now + pending.wait;
                pending.error = error;
                self.pending.push(pending);
            }
        }
    }

    /// Tries those again that wait for a pod.
    pub(crate) fn retry_waiting_for_pods(&mut self) {
        let now = Instant::now();
        for pending in &mut self.pending {
            if matches!(pending.error, PortError::UnknownPod { .. }) {
                pending.due = now;
            }
        }
        self.retry_pending(now);
    }

    /// Gives a configured port up. False when there is none of this name.
    pub(crate) fn forget_pending(&mut self, name: &PortName) -> bool {
        let before = self.pending.len();
        self.pending.retain(|pending| pending.config.name != *name);
        self.pending.len() < before
    }
}
