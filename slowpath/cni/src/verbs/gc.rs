//! `GC`: removal of what the runtime no longer knows.

use super::together;
use crate::arguments::Verb;
use crate::config::NetworkConfig;
use crate::daemon::Daemon;
use crate::error::CniError;
use millrace_api::GarbageRequest;
use std::io::Write;

/// Removes this network's attachments that are not listed, and lets the delegated plugin do the same; one failing
/// does not keep the other from it.
pub(crate) fn gc(config: &NetworkConfig, log: &mut dyn Write) -> Result<(), CniError> {
    let request = GarbageRequest { network: config.name.clone(), valid: config.valid_attachments()? };
    let own = Daemon::of(config).collect_garbage(&request).map(|list| {
        for id in &list.removed {
            // The removal counts, not the log.
            let _ = writeln!(log, "millrace-cni: {id} was removed: no valid attachment of {}", config.name);
        }
    });
    let delegated = config.delegate.as_ref().map_or(Ok(()), |plugin| plugin.pass_on(Verb::Gc));
    together([own, delegated])
}
