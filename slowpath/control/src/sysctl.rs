//! The kernel's settings of the network (`/proc/sys/net`).

use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// Where they are. What is read and written there is of the calling thread's network namespace.
const OWN: &str = "/proc/sys/net";
/// Where a container has them once more: its own `/proc/sys` is read-only, unless it is privileged.
const MOUNTED: &str = "/host/proc/sys/net";

/// The file of a setting, as in `ipv4/ip_local_reserved_ports`.
pub fn file(setting: &str) -> PathBuf {
    static PLACE: OnceLock<&str> = OnceLock::new();
    let is_mounted = || statfs(MOUNTED).is_ok_and(|found| found.filesystem_type() == PROC_SUPER_MAGIC);
    let place = PLACE.get_or_init(|| if is_mounted() { MOUNTED } else { OWN });
    Path::new(place).join(setting)
}
