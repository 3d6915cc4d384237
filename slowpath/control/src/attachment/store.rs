//! Attachments on disk: one file each, written in one step.

use super::ipam::Memory;
use millrace_api::{Attachment, AttachmentRequest};
use millrace_config::{InterfaceName, PortName};
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use thiserror::Error;

/// The directory in the state directory.
const DIRECTORY: &str = "attachments";
/// What is remembered of addresses, in the state directory.
const MEMORY: &str = "addresses.json";
/// What the names of attachments' files end in.
const SUFFIX: &str = ".json";
/// What is added to the name of a file that cannot be read.
const DAMAGED: &str = "damaged";

/// What is written down of an attachment.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Stored {
    /// How far it came.
    pub(super) state: State,
    /// What was asked for.
    pub(super) request: AttachmentRequest,
    /// What was given.
    pub(super) attachment: Attachment,
    /// The name of the node's end, for kinds that have one.
    pub(super) host_end: InterfaceName,
    /// Who is to own a vhost-user socket; absent: root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) uid: Option<u32>,
}

/// How far an attachment came.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// It is being made: who asked has no answer yet.
    Adding,
    /// It is there.
    Done,
}

/// Why the store cannot be used.
#[derive(Debug, Error)]
#[error("{}: {what}: {source}", .path.display())]
pub struct StoreError {
    path: PathBuf,
    what: &'static str,
    source: io::Error,
}

/// A file that holds no attachment, and was put aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Damaged {
    /// Where it is now.
    pub(super) path: PathBuf,
    /// What is wrong with it.
    pub(super) reason: String,
}

/// The files.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    memory: PathBuf,
}

impl Store {
    /// The store in `state_directory`, made if need be.
    pub(super) fn open(state_directory: &Path) -> Result<Self, StoreError> {
        let directory = state_directory.join(DIRECTORY);
        fs::create_dir_all(&directory).map_err(failed(&directory, "making it"))?;
        Ok(Store { directory, memory: state_directory.join(MEMORY) })
    }

    /// All attachments, and the files that could not be read: those are renamed, so that nothing is lost and nothing is
    /// reported twice. Beginnings of files are removed.
    pub(super) fn read(&self) -> Result<(Vec<Stored>, Vec<Damaged>), StoreError> {
        let (mut stored, mut damaged) = (Vec::new(), Vec::new());
        let entries = fs::read_dir(&self.directory).map_err(failed(&self.directory, "reading it"))?;
        for entry in entries {
            let path = entry.map_err(failed(&self.directory, "reading it"))?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.ends_with(".new") {
                // Its writer did not come to the end: the file of the final name, if any, is what holds.
                let _ = fs::remove_file(&path);
            } else if name.ends_with(SUFFIX) {
                match self.read_one(&path) {
                    Ok(one) => stored.push(one),
                    Err(reason) => damaged.push(set_aside(path, reason)?),
                }
            }
        }
        stored.sort_by(|a, b| a.request.id.cmp(&b.request.id));
        Ok((stored, damaged))
    }

    fn read_one(&self, path: &Path) -> Result<Stored, String> {
        let bytes = fs::read(path).map_err(|error| error.to_string())?;
        let stored: Stored = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        match self.path(&stored.attachment.port) == path {
            true => Ok(stored),
            false => Err(format!("it holds the attachment of port {}", stored.attachment.port)),
        }
    }

    /// Writes an attachment down, before anything is made for it: after a crash the file has the old or the new content.
    pub(super) fn write(&self, stored: &Stored) -> Result<(), StoreError> {
        let path = self.path(&stored.attachment.port);
        let bytes = serde_json::to_vec(stored)
            .map_err(|error| failed(&path, "writing it")(io::Error::other(error)))?;
        replace(&path, &bytes, true)?;
        self.settle()
    }

    /// Forgets an attachment, as the last step of its removal.
    pub(super) fn remove(&self, port: &PortName) -> Result<(), StoreError> {
        let path = self.path(port);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed(&path, "removing it")(error)),
            _ => self.settle(),
        }
    }

    /// What an earlier run remembered of addresses. A file that cannot be read means nothing is remembered: what is taken
    /// follows from the attachments.
    pub(super) fn read_memory(&self) -> Memory {
        let bytes = fs::read(&self.memory).unwrap_or_default();
        serde_json::from_slice(&bytes).unwrap_or_default()
    }

    /// Remembers. Not forced to disk: it decides about the order of addresses only.
    pub(super) fn write_memory(&self, memory: &Memory) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(memory)
            .map_err(|error| failed(&self.memory, "writing it")(io::Error::other(error)))?;
        replace(&self.memory, &bytes, false)
    }

    fn path(&self, port: &PortName) -> PathBuf {
        self.directory.join(format!("{port}{SUFFIX}"))
    }

    /// Forces the directory to disk.
    fn settle(&self) -> Result<(), StoreError> {
        let directory = File::open(&self.directory).and_then(|directory| directory.sync_all());
        directory.map_err(failed(&self.directory, "forcing it to disk"))
    }
}

/// Replaces a file in one step.
pub(super) fn replace(path: &Path, bytes: &[u8], durable: bool) -> Result<(), StoreError> {
    let next = path.with_extension("json.new");
    let written = File::create(&next).and_then(|mut file| {
        file.write_all(bytes)?;
        if durable { file.sync_data() } else { Ok(()) }
    });
    written.map_err(failed(&next, "writing it"))?;
    fs::rename(&next, path).map_err(failed(path, "replacing it"))
}

fn set_aside(path: PathBuf, reason: String) -> Result<Damaged, StoreError> {
    let mut aside = path.clone().into_os_string();
    aside.push(format!(".{DAMAGED}"));
    let aside = PathBuf::from(aside);
    fs::rename(&path, &aside).map_err(failed(&path, "putting it aside"))?;
    Ok(Damaged { path: aside, reason })
}

pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |source| StoreError { path, what, source }
}

#[cfg(test)]
mod tests;
