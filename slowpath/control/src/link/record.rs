//! What would be left behind if the daemon were killed, written down before it is made.

use millrace_config::InterfaceName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use thiserror::Error;

/// Name of the file in the state directory.
const FILE: &str = "leftovers.json";

/// Something outside the process that its end does not remove.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leftover {
    /// The host's end of a veth pair.
    Veth(String),
    /// A Unix socket that a vhost-user server made.
    Socket(PathBuf),
}

/// Why the record cannot be kept.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The file is not what an earlier run wrote.
    #[error("{path}: not a record of interfaces: {source}")]
    Content {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
}

/// The record, and its file.
#[derive(Debug)]
pub struct Record {
    path: PathBuf,
    entries: BTreeSet<Leftover>,
}

impl Record {
    /// The record in `state_directory`, with what an earlier instance left in it.
    pub fn open(state_directory: &Path) -> Result<Self, RecordError> {
        let path = state_directory.join(FILE);
        let entries = match std::fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes)
                .map_err(|source| RecordError::Content { path: path.clone(), source })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(source) => return Err(RecordError::File { path, source }),
        };
        Ok(Record { path, entries })
    }

    /// What is written down.
    pub fn entries(&self) -> impl Iterator<Item = &Leftover> {
        self.entries.iter()
    }

    /// Writes down something that is about to be made.
    pub fn add(&mut self, leftover: Leftover) -> Result<(), RecordError> {
        if self.entries.insert(leftover) { self.write() } else { Ok(()) }
    }

    /// Forgets something that has been removed.
    pub fn remove(&mut self, leftover: &Leftover) -> Result<(), RecordError> {
        if self.entries.remove(leftover) { self.write() } else { Ok(()) }
    }

    /// Removes what is written down and forgets it. What cannot be removed stays, and is given back with the reason.
    pub fn clear(&mut self) -> Result<Vec<(Leftover, String)>, RecordError> {
        let mut kept = Vec::new();
        for leftover in std::mem::take(&mut self.entries) {
            if let Err(reason) = remove(&leftover) {
                self.entries.insert(leftover.clone());
                kept.push((leftover, reason));
            }
        }
        self.write()?;
        Ok(kept)
    }

    /// Replaces the file in one step, so that a reader sees the old or the new content. Not forced to disk: what
    /// is recorded does not survive the kernel either.
    fn write(&self) -> Result<(), RecordError> {
        let failed = |source| RecordError::File { path: self.path.clone(), source };
        let bytes = serde_json::to_vec(&self.entries)
            .map_err(|source| RecordError::Content { path: self.path.clone(), source })?;
        let next = self.path.with_extension("json.new");
        std::fs::write(&next, bytes).map_err(failed)?;
        std::fs::rename(&next, &self.path).map_err(failed)
    }
}

fn remove(leftover: &Leftover) -> Result<(), String> {
    match leftover {
        Leftover::Veth(name) => {
            // A name that cannot be an interface's cannot be left over.
            let Ok(name) = name.parse::<InterfaceName>() else { return Ok(()) };
            super::remove_veth(&name).map_err(|error| error.to_string())
        }
        Leftover::Socket(path) => remove_socket(path).map_err(|error| error.to_string()),
    }
}

/// Removes a socket file. Anything else under that name is somebody else's by now.
fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match std::fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
