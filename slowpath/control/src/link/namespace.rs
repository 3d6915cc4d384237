//! Network namespaces by name.

use super::LinkError;
use millrace_config::Netns;
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

/// An open network namespace. It stays reachable through this, even when its name is removed.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
}

impl Namespace {
    /// Opens a namespace.
    pub fn open(netns: &Netns) -> Result<Self, LinkError> {
        let name = netns.to_string();
        match File::open(netns.path()) {
            Ok(file) => Ok(Namespace { name, file }),
            Err(source) => Err(LinkError::Namespace { name, source }),
        }
    }

    /// As it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// For the kernel's attributes that name a namespace by descriptor.
    pub(super) fn descriptor(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Moves the calling thread into the namespace, for the rest of its life: call it on a thread of its own.
    pub(super) fn enter(&self) -> Result<(), LinkError> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| LinkError::Namespace { name: self.name.clone(), source: io::Error::from(errno) })
    }
}
