//! What a source tells.

use millrace_model::{Kind, Object, ObjectName};
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

/// A change, and when the source heard of it.
#[derive(Clone, PartialEq, Debug)]
pub struct News {
    /// What has changed.
    pub change: Change,
    /// When that was heard of, before anything was done with it.
    pub heard: Instant,
}

/// One thing that a source has to say.
#[derive(Clone, PartialEq, Debug)]
pub enum Change {
    /// An object is new or different.
    Apply(Box<Object>),
    /// An object is gone.
    Delete(Kind, ObjectName),
    /// All problems that there are now; replaces what was told before.
    Problems(Vec<Problem>),
    /// Everything that was there at the start has been told.
    Synced,
}

/// An object or file that could not be used.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Problem {
    /// The file, or the server's address.
    pub file: PathBuf,
    /// Which document of the file, from 0; absent when the whole file is meant.
    pub document: Option<usize>,
    /// Kind and name, as far as they could be read.
    pub object: Option<String>,
    /// What is wrong, with field and value.
    pub reason: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}", self.file.display())?;
        if let Some(document) = self.document {
            write!(out, ": document {document}")?;
        }
        if let Some(object) = &self.object {
            write!(out, ": {object}")?;
        }
        write!(out, ": {}", self.reason)
    }
}
