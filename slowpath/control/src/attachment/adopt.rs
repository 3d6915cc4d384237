//! Going on with the attachments of an earlier instance.

use super::AttachError;
use super::store::{State, Stored};
use crate::control::Control;
use millrace_api::AttachmentId;
use millrace_fastpath::port::Frame;

impl<F: Frame> Control<F> {
    /// Does the deletions that came meanwhile, opens the ports of attachments whose containers are still there, and removes
    /// those whose are not. From now on requests are taken.
    pub fn adopt_attachments(&mut self) {
        self.do_queued_deletions();
        let ids: Vec<AttachmentId> = self.attachments.entries.keys().cloned().collect();
        for id in ids {
            let Some(stored) = self.attachments.entries.get(&id).cloned() else { continue };
            if let Some(reason) = self.is_orphan(&stored) {
                tracing::info!(attachment = %id, port = %stored.attachment.port, reason, "removing an orphan");
                if let Err(error) = self.detach(&id) {
                    tracing::error!(%error, "an orphan is not removed");
                }
            } else if let Err(error) = self.adopt(stored) {
                tracing::error!(%error, "not adopted");
                self.attachments.lost.insert(id, error.to_string());
            }
        }
        self.attachments.adopted = true;
    }

    /// Why nobody can want an attachment any more.
    fn is_orphan(&self, stored: &Stored) -> Option<&'static str> {
        if stored.state == State::Adding {
            return Some("who asked for it had no answer");
        }
        (!self.plumbing.has_namespace(&stored.attachment.netns)).then_some("its network namespace is gone")
    }

    /// Opens the port over what the container has. If that is gone, it is made again as it was.
    fn adopt(&mut self, mut stored: Stored) -> Result<(), AttachError> {
        let Err(reason) = self.add_attached_port(&stored, true) else { return Ok(()) };
        tracing::warn!(%reason, "cannot be adopted, and is made again");
        self.undo_unopened(&stored)?;
        let routes = self.add_attached_port(&stored, false)?;
        stored.attachment.routes = routes;
        let id = stored.request.id.clone();
        self.attachments
            .store
            .write(&stored)
            .map_err(|source| AttachError::Store { id: id.clone(), source })?;
        self.attachments.entries.insert(id, stored);
        Ok(())
    }
}
