//! A process that outlives the daemon, to give back what the daemon can no longer give back.
//!
//! It is started before the first NIC is taken and holds the reading end of a pipe. When the pipe closes, the daemon is no more,
//! however it ended: what is still recorded as this daemon's is given back. A daemon that has taken a NIC and does not come
//! up is ended.

use super::TakeoverError;
use super::record::Records;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{Pid, getppid};
use std::ffi::{OsStr, OsString};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The first argument of a watchdog; the directory of records and the daemon's token follow.
pub const WATCHDOG_FLAG: &str = "--watchdog";
/// How long a daemon may take to come up after it began to take a NIC.
const COME_UP: Duration = Duration::from_secs(20);
/// How often giving back is tried, and how long after a failure again.
const ATTEMPTS: u32 = 60;
const AGAIN: Duration = Duration::from_secs(1);

/// The daemon's side.
#[derive(Debug)]
pub(super) struct Watchdog {
    child: Child,
    pipe: Option<ChildStdin>,
    token: String,
}

impl Watchdog {
    /// Starts `program` in a process group of its own: what ends the daemon's group leaves it alone.
    pub(super) fn start(program: &OsStr, records: &Path) -> Result<Self, TakeoverError> {
        let failed =
            |source| TakeoverError::Watchdog { program: program.to_string_lossy().into_owned(), source };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let token = format!("{}-{}", std::process::id(), now.as_nanos());
        let mut child = Command::new(program)
            .args([OsString::from(WATCHDOG_FLAG), records.into(), token.clone().into()])
            .arg0("millraced")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .process_group(0)
            .spawn()
            .map_err(failed)?;
        let pipe = child.stdin.take();
        Ok(Watchdog { child, pipe, token })
    }

    /// By this the watchdog knows the records of this process.
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    /// The host speaks through its leg.
    pub(super) fn say_up(&mut self) {
        if let Some(pipe) = &mut self.pipe
            && let Err(error) = pipe.write_all(b"u")
        {
            tracing::error!(%error, "the watchdog is gone: nobody gives the NIC back if this process is killed");
        }
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        drop(self.pipe.take());
        let _ = self.child.wait();
    }
}

/// The watchdog's side: runs until the process at the other end of the standard input has ended, and then until what it had
/// taken is given back. Only one thread may be running.
pub fn watch(records: &Path, token: &str) -> Result<(), TakeoverError> {
    watch_for(records, token, COME_UP)
}

/// The same, with a daemon that may take so long to come up.
pub(super) fn watch_for(records: &Path, token: &str, patience: Duration) -> Result<(), TakeoverError> {
    // Whoever ends the daemon with all that belongs to it asks this process to end, too.
    let mut signals = SigSet::empty();
    signals.extend([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGPIPE]);
    let _ = signals.thread_block();
    let daemon = getppid();
    if !comes_up(patience) {
        tracing::error!("the daemon has taken a NIC and does not come up: it is ended");
        end(daemon);
    }
    let mut rest = Vec::new();
    let _ = std::io::stdin().read_to_end(&mut rest);
    let records = Records::at(records);
    let mut attempt = 0;
    loop {
        match records.give_back_all(Some(token)) {
            Ok(given) => {
                for interface in given {
                    tracing::warn!(interface, "given back to the kernel after the daemon's end");
                }
                return Ok(());
            }
            Err(error) if attempt >= ATTEMPTS => return Err(error),
            Err(error) => {
                tracing::error!(%error, "giving a NIC back");
                attempt += 1;
                std::thread::sleep(AGAIN);
            }
        }
    }
}

/// Waits until the daemon says that it is up, or has ended. False if it does neither in time.
fn comes_up(patience: Duration) -> bool {
    let stdin = std::io::stdin();
    let mut fds = [PollFd::new(stdin.as_fd(), PollFlags::POLLIN)];
    let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
    !matches!(poll(&mut fds, timeout), Ok(0))
}

/// Ends the daemon if it is still the parent of this process: its number may be another's by now.
fn end(daemon: Pid) {
    if getppid() == daemon {
        let _ = kill(daemon, Signal::SIGKILL);
    }
}
