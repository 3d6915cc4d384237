//! What is left of a port that goes.

use super::Port;
use crate::driver::Refusal;
use crate::plumbing::{Site, Undoing};
use millrace_config::Attachment;
use millrace_fastpath::port::PortQueue;

/// A port that no table and no worker knows any more. The kernel takes some 20 ms to remove an interface (it waits for all
/// of its own readers), which need not be the control thread's.
pub(crate) struct Remains<F> {
    pub(super) port: Port,
    pub(super) queues: Vec<Box<dyn PortQueue<F>>>,
    /// Removes the host's side, where that may be done beside the control thread.
    pub(super) undoing: Option<Undoing>,
}

/// A port of which nothing is left but its number, or the reason why not.
pub(crate) struct Cleared {
    pub(super) port: Port,
    pub(super) outcome: Result<(), Refusal>,
}

impl<F> Remains<F> {
    /// Whether [`clear`](Self::clear) can do all of it.
    pub(crate) fn can_be_cleared_elsewhere(&self) -> bool {
        self.undoing.is_some()
    }

    /// Removes everything, on any thread.
    pub(crate) fn clear(mut self) -> Cleared {
        let undoing = self.undoing.take();
        self.clear_with(|_| undoing.map_or(Ok(()), |undoing| undoing()))
    }

    /// Removes everything, the host's side by `undo`.
    pub(super) fn clear_with(mut self, undo: impl FnOnce(&Site<'_>) -> Result<(), Refusal>) -> Cleared {
        let to_undo = self.port.prepared && !self.port.site().is_adopted();
        // A socket whose interface is gone is closed at once, one whose interface is there waits for the kernel's readers.
        let is_veth = matches!(
            self.port.config.attachment,
            Attachment::AfXdp { netns: Some(_), .. } | Attachment::Veth { .. }
        );
        let outcome = match (to_undo, is_veth) {
            (true, true) => {
                let outcome = undo(&self.port.site());
                self.close_device(true);
                outcome
            }
            (true, false) => {
                self.close_device(true);
                undo(&self.port.site())
            }
            (false, _) => {
                self.close_device(false);
                Ok(())
            }
        };
        Cleared { port: self.port, outcome }
    }

    /// Closes queues and device; with `all`, also what the pod has of it does not last.
    fn close_device(&mut self, all: bool) {
        if let (Some(device), true) = (&self.port.device, all && self.port.lasting.is_some())
            && let Err(error) = device.set_lasting(false)
        {
            tracing::debug!(%error, port = %self.port.config.name, "its interface is gone already");
        }
        self.queues.clear();
        drop(self.port.device.take());
    }
}
