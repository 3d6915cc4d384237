//! The API's Unix socket.

use crate::StartError;
use nix::sys::stat::{Mode, umask};
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A listening socket whose file goes with it.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    path: PathBuf,
    listener: UnixListener,
}

impl ApiSocket {
    /// Listens at `path`, with mode 0600. A socket that nobody listens on any more is replaced.
    pub(crate) fn bind(path: &Path) -> Result<Self, StartError> {
        let failed = |source: io::Error| StartError::Socket { path: path.to_owned(), source };
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).map_err(failed)?;
        }
        remove_stale(path).map_err(failed)?;
        // The mode is that of the socket from its first moment on: a `chmod` would come too late. No other
        // thread makes files yet.
        let former = umask(Mode::from_bits_truncate(0o177));
        let bound = UnixListener::bind(path);
        umask(former);
        let listener = bound.map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(ApiSocket { path: path.to_owned(), listener })
    }

    /// The listener for the runtime of the calling thread.
    pub(crate) fn listener(&self) -> Result<tokio::net::UnixListener, StartError> {
        let failed = |source: io::Error| StartError::Socket { path: self.path.clone(), source };
        let listener = self.listener.try_clone().map_err(failed)?;
        tokio::net::UnixListener::from_std(listener).map_err(failed)
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let metadata = match std::fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !metadata.file_type().is_socket() {
        return Err(io::Error::other("exists and is not a socket"));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(io::Error::other("another process listens on it")),
        Err(_) => std::fs::remove_file(path),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_socket_is_for_its_owner_only_and_goes_with_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run/millrace.sock");
        let socket = ApiSocket::bind(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(ApiSocket::bind(&path).unwrap_err().to_string().contains("another process"));
        drop(socket);
        assert!(!path.exists());
    }

    #[test]
    fn a_stale_socket_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let stale = directory.path().join("stale");
        drop(UnixListener::bind(&stale).unwrap());
        assert!(stale.exists());
        ApiSocket::bind(&stale).unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, "precious").unwrap();
        assert!(ApiSocket::bind(&file).unwrap_err().to_string().contains("not a socket"));
        assert_eq!(std::fs::read(&file).unwrap(), b"precious");
    }
}
