//! Removing what nobody wants any more.

use crate::control::Control;
use millrace_api::{AttachmentId, DELETIONS_DIRECTORY, GarbageRequest, QueuedDeletion};
use millrace_fastpath::port::Frame;
use std::path::{Path, PathBuf};

impl<F: Frame> Control<F> {
    /// The attachments of a network that are not said to be valid.
    pub fn garbage(&self, request: &GarbageRequest) -> Vec<AttachmentId> {
        let of_network =
            self.attachments.entries.iter().filter(|(_, stored)| stored.request.network == request.network);
        of_network.map(|(id, _)| id).filter(|id| !request.valid.contains(id)).cloned().collect()
    }

    /// Does the deletions that could not be told to the daemon. Each stays until it is done.
    pub fn do_queued_deletions(&mut self) {
        let directory = self.attachments.state_directory.join(DELETIONS_DIRECTORY);
        let Ok(entries) = std::fs::read_dir(&directory) else { return };
        let is_finished = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().ends_with(QueuedDeletion::SUFFIX))
        };
        for path in entries.flatten().map(|entry| entry.path()).filter(is_finished) {
            match read(&path) {
                Ok(deletion) => self.do_deletion(&deletion.id, &path),
                Err(reason) => {
                    tracing::error!(file = %path.display(), reason, "not a deletion, and put aside");
                    let _ = std::fs::rename(&path, path.with_extension("damaged"));
                }
            }
        }
    }

    /// Does the deletion that waits for this attachment, if there is one.
    pub(super) fn do_queued_deletion(&mut self, id: &AttachmentId) {
        let path = QueuedDeletion::path(&self.attachments.state_directory, id);
        if path.exists() {
            self.do_deletion(id, &path);
        }
    }

    fn do_deletion(&mut self, id: &AttachmentId, path: &Path) {
        let done = self.detach(id).map_err(|error| error.to_string());
        let forgotten = done.and_then(|()| std::fs::remove_file(path).map_err(|error| error.to_string()));
        if let Err(error) = forgotten {
            tracing::error!(error, attachment = %id, "a deletion that waited is not done");
        }
    }
}

fn read(path: &Path) -> Result<QueuedDeletion, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}
