//! The program puts itself where container runtimes look for it.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Why it is not where it should be.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct InstallError {
    path: PathBuf,
    source: io::Error,
}

/// Copies this program into `directory` under the name that network configurations call it by. Who runs it meanwhile
/// gets the old one or the new one, never a part: it is renamed into place, which a running program does not hinder.
///
/// # Errors
/// The operating system's, with the file.
pub fn install(directory: &Path) -> Result<PathBuf, InstallError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| InstallError { path, source }
    };
    let program = std::env::current_exe().map_err(at(Path::new("/proc/self/exe")))?;
    fs::create_dir_all(directory).map_err(at(directory))?;
    let place = directory.join("millrace-cni");
    let unfinished = directory.join(format!(".millrace-cni.{}", std::process::id()));
    let copied = copy(&program, &unfinished).and_then(|()| fs::rename(&unfinished, &place));
    copied.map_err(|error| {
        let _ = fs::remove_file(&unfinished);
        at(&place)(error)
    })?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))?;
    Ok(place)
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    File::open(to)?.sync_all()
}
