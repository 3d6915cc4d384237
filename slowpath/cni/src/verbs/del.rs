//! `DEL`: no interface any more.

use super::together;
use crate::arguments::{DelCall, Verb};
use crate::config::NetworkConfig;
use crate::daemon::{Daemon, Detached};
use crate::error::CniError;
use std::io::Write;

/// Removes the attachment, or has its removal kept for the daemon, and lets the delegated plugin take its addresses
/// back; one failing does not keep the other from it. What does not exist is removed already.
pub(crate) fn del(call: &DelCall, config: &NetworkConfig, log: &mut dyn Write) -> Result<(), CniError> {
    let own = Daemon::of(config).detach(&call.id).map(|outcome| {
        if let Detached::Kept(path, error) = outcome {
            // The deletion counts, not the log.
            let _ = writeln!(log, "millrace-cni: {error}; deletion kept in {}", path.display());
        }
    });
    let delegated = config.delegate.as_ref().map_or(Ok(()), |plugin| plugin.pass_on(Verb::Del));
    together([own, delegated])
}
