//! The state directory, owned by one daemon at a time.

use crate::StartError;
use nix::fcntl::{Flock, FlockArg};
use std::fs::File;
use std::io;
use std::path::Path;

/// Keeps other daemons away from a state directory; the kernel releases it however the process ends.
#[derive(Debug)]
pub(crate) struct StateDirectory(#[expect(dead_code, reason = "held for its lock")] Flock<File>);

impl StateDirectory {
    /// Makes the directory if need be, and takes it.
    pub(crate) fn take(path: &Path) -> Result<Self, StartError> {
        let failed = |source: io::Error| StartError::StateDirectory { path: path.to_owned(), source };
        std::fs::create_dir_all(path).map_err(failed)?;
        let file = File::create(path.join("lock")).map_err(failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(StateDirectory(lock)),
            Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(StartError::StateInUse(path.to_owned())),
            Err((_, errno)) => Err(failed(errno.into())),
        }
    }
}
