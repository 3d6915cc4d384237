//! What is done with hostile input, one module per target. A target that returns has found nothing.

#[cfg(feature = "control")]
pub mod admin_api;
#[cfg(feature = "frames")]
pub mod frames;
#[cfg(feature = "control")]
pub mod manifests;
#[cfg(feature = "frames")]
pub mod tunnel_end;
#[cfg(feature = "vhost")]
pub mod vhost;

use std::io;
use std::path::Path;

/// Has `write` write the inputs to start from to the directory that the environment's `SEEDS` names, if it does. The
/// fuzzer calls it before it reads its corpus.
pub fn seeds(write: impl FnOnce(&Path) -> io::Result<()>) {
    if let Some(directory) = std::env::var_os("SEEDS")
        && let Err(error) = write(directory.as_ref())
    {
        panic!("seeds cannot be written to {}: {error}", Path::new(&directory).display());
    }
}
