//! The Millrace daemon: puts the pieces together and keeps them running until it is told to stop.
//!
//! Threads: one for the admin API, metrics and signals (this one); the control thread, through which every change
//! goes; one for the source; and the workers, which carry packets.

#![forbid(unsafe_code)]

mod cni_conf;
mod control_end;
mod data_path;
mod drivers;
mod error;
mod flows;
mod http;
mod kept;
mod kube_proxy;
mod logging;
mod memory;
mod metrics;
mod objects;
mod readiness;
mod reserved_ports;
mod run;
mod state_directory;
mod worker;

pub use error::StartError;

use clap::Parser;
use kept::Kept;
use millrace_control::uplink::takeover;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// The network of a Kubernetes node, outside the kernel.
#[derive(Parser, Debug)]
#[command(name = "millraced", version)]
pub struct Arguments {
    /// Configuration file.
    #[arg(long, value_name = "FILE", default_value = millrace_config::DEFAULT_FILE)]
    pub config: PathBuf,

    /// Removes from the node what says that it has a network (cni.confFile), and what is kept of connections for a next daemon,
    /// and ends. Containers keep what they have.
    #[arg(long)]
    pub uninstall: bool,

    /// Least level of messages on stderr: error, warn, info, debug or trace; or a list of directives like
    /// `info,millrace_control=debug`. The environment variable MILLRACE_LOG is used when this is absent.
    #[arg(long, value_name = "LEVEL")]
    pub log: Option<String>,

    /// Not for people: watches over the daemon that started it, and gives back to the kernel what that had taken.
    #[arg(long, hide = true, num_args = 2, value_names = ["DIRECTORY", "TOKEN"])]
    pub watchdog: Option<Vec<String>>,
}

/// Runs the daemon until it is told to stop. Exit status: 0 after a clean end, 2 for a configuration that cannot be
/// used, 1 for anything else; the last line on stderr says what and why.
pub fn main(arguments: &Arguments) -> ExitCode {
    let work = || match arguments.watchdog.as_deref() {
        Some([records, token]) => Ok(takeover::watch(Path::new(records), token)?),
        _ if arguments.uninstall => uninstall(&arguments.config),
        _ => run::run(&arguments.config),
    };
    match logging::start(arguments.log.as_deref()).and_then(|()| work()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("millraced: {error}");
            error.exit_code()
        }
    }
}

fn uninstall(file: &Path) -> Result<(), StartError> {
    let config = millrace_config::load(file)?;
    Kept::of(&config).remove_all();
    cni_conf::remove(&config)
}
