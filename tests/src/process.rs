//! Programs: run to their end, or kept as long as a guard lives.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Child as StdChild, Command, ExitStatus};
use std::time::{Duration, Instant};

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a program to its end.
pub fn run(program: &str, args: &[&str]) -> Output {
    let output = Command::new(program)
        .args(args)
        .output()
        .unwrap_or_else(|error| panic!("{program} does not start ({error}); run scripts/setup --test"));
    Output {
        success: output.status.success(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a program that must succeed; its standard output.
pub(crate) fn must(program: &str, args: &[&str]) -> String {
    let output = run(program, args);
    assert!(output.success, "{program} {args:?} failed: {}{}", output.stdout, output.stderr);
    output.stdout
}

/// A running program that ends with this value.
#[derive(Debug)]
pub struct Child(StdChild);

impl Child {
    /// Starts it.
    pub fn spawn(command: &mut Command) -> Self {
        Child(command.spawn().unwrap_or_else(|error| panic!("{command:?} does not start: {error}")))
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// The process itself.
    pub fn inner(&mut self) -> &mut StdChild {
        &mut self.0
    }

    /// The status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("our own child can be waited for")
    }

    /// Asks it to end with `signal`; its status, or nothing if it has not ended within `limit`.
    pub fn end(&mut self, signal: Signal, limit: Duration) -> Option<ExitStatus> {
        if let Some(status) = self.ended() {
            return Some(status);
        }
        let pid = Pid::from_raw(i32::try_from(self.id()).expect("pids fit"));
        // It may have ended just now.
        let _ = kill(pid, signal);
        let begin = Instant::now();
        while begin.elapsed() < limit {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.end(Signal::SIGTERM, Duration::from_secs(10)).is_none() {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}
