//! Deletions that the daemon could not be told: files that it does when it is back.

use millrace_api::{AttachmentId, QueuedDeletion};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Keeps a deletion. When this returns it survives a crash of the machine. The file appears with all its content.
pub(crate) fn keep(
    state_directory: &Path,
    deletion: &QueuedDeletion,
) -> Result<PathBuf, (PathBuf, io::Error)> {
    let path = QueuedDeletion::path(state_directory, &deletion.id);
    write(&path, deletion).map_err(|error| (path.clone(), error)).map(|()| path)
}

/// Forgets a kept deletion, if there is one; says whether there was.
pub(crate) fn forget(state_directory: &Path, id: &AttachmentId) -> io::Result<bool> {
    match fs::remove_file(QueuedDeletion::path(state_directory, id)) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether a deletion is kept.
pub(crate) fn holds(state_directory: &Path, id: &AttachmentId) -> bool {
    QueuedDeletion::path(state_directory, id).exists()
}

fn write(path: &Path, deletion: &QueuedDeletion) -> io::Result<()> {
    let directory = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    // Of another name than the daemon looks for, and of another one for each process.
    let temporary = path.with_extension(format!("{}.new", std::process::id()));
    let outcome = fill(&temporary, deletion).and_then(|()| fs::rename(&temporary, path));
    if outcome.is_err() {
        // What is wrong has been found already.
        let _ = fs::remove_file(&temporary);
    }
    outcome?;
    File::open(directory)?.sync_all()
}

fn fill(path: &Path, deletion: &QueuedDeletion) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(&serde_json::to_vec(deletion)?)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn deletion(container: &str) -> QueuedDeletion {
        QueuedDeletion {
            id: AttachmentId { container_id: container.parse().unwrap(), if_name: "eth0".parse().unwrap() },
            network: "pods".to_owned(),
        }
    }

    #[test]
    fn a_deletion_is_kept_whole_and_only_once() {
        let state = tempfile::tempdir().unwrap();
        for _ in 0..2 {
            let path = keep(state.path(), &deletion("c.1")).unwrap();
            let read: QueuedDeletion = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
            assert_eq!(read, deletion("c.1"));
        }
        let names: Vec<_> = fs::read_dir(state.path().join("deletions"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name())
            .collect();
        assert_eq!(names, ["c.1:eth0.json"]);
    }

    #[test]
    fn a_kept_deletion_can_be_forgotten() {
        let state = tempfile::tempdir().unwrap();
        let id = deletion("c").id;
        assert!(!holds(state.path(), &id) && !forget(state.path(), &id).unwrap());
        keep(state.path(), &deletion("c")).unwrap();
        assert!(holds(state.path(), &id) && forget(state.path(), &id).unwrap());
        assert!(!holds(state.path(), &id));
    }

    #[test]
    fn a_place_that_cannot_be_written_is_named() {
        let state = tempfile::tempdir().unwrap();
        fs::write(state.path().join("deletions"), "a file in the way").unwrap();
        let (path, _) = keep(state.path(), &deletion("c")).unwrap_err();
        assert_eq!(path, state.path().join("deletions/c:eth0.json"));
    }
}
