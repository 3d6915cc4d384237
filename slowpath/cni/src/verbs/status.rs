//! `STATUS`: whether `ADD` would work.

use super::together;
use crate::arguments::Verb;
use crate::config::NetworkConfig;
use crate::daemon::Daemon;
use crate::error::CniError;
use millrace_api::AttachmentStatus;

/// Asks the daemon, without waiting for it, and the delegated plugin.
pub(crate) fn status(config: &NetworkConfig) -> Result<(), CniError> {
    // Without the daemon nobody carries the packets of the containers that there are.
    let own = match Daemon::of(config).status() {
        Ok(status) => ready(&status.attachments, config.delegate.is_some()),
        Err(error) => Err(CniError::Down(error)),
    };
    let delegated = config.delegate.as_ref().map_or(Ok(()), |plugin| plugin.pass_on(Verb::Status));
    together([own, delegated])
}

fn ready(status: &AttachmentStatus, addresses_are_delegated: bool) -> Result<(), CniError> {
    if !status.ready {
        let reason = status.reason.clone().unwrap_or_else(|| "the daemon is not ready yet".to_owned());
        return Err(CniError::NotReady(reason));
    }
    if addresses_are_delegated {
        return Ok(());
    }
    let left = [("IPv4", status.ipv4_left), ("IPv6", status.ipv6_left)];
    if left.iter().all(|(_, left)| left.is_none()) {
        let reason = "this node has no range of pod addresses yet (spec.podCIDRs of its Node object)";
        return Err(CniError::NotReady(reason.to_owned()));
    }
    match left.into_iter().find(|(_, left)| *left == Some(0)) {
        Some((family, _)) => {
            let reason = format!(
                "no {family} address is left in the node's ranges; {} attachments have theirs",
                status.attachments
            );
            Err(CniError::NotReady(reason))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(status: AttachmentStatus, addresses_are_delegated: bool) -> Option<String> {
        ready(&status, addresses_are_delegated).err().map(|error| {
            assert_eq!(error.code(), 50);
            error.to_string()
        })
    }

    #[test]
    fn a_daemon_that_serves_is_ready() {
        let status = AttachmentStatus { ready: true, ipv4_left: Some(1), ..AttachmentStatus::default() };
        assert_eq!(reason(status, false), None);
    }

    #[test]
    fn without_any_range_nothing_can_be_added_unless_another_plugin_gives_addresses() {
        let status = AttachmentStatus { ready: true, ..AttachmentStatus::default() };
        assert!(reason(status.clone(), false).is_some_and(|reason| reason.contains("spec.podCIDRs")));
        assert_eq!(reason(status, true), None);
    }

    #[test]
    fn without_addresses_of_one_family_nothing_can_be_added() {
        let status = AttachmentStatus {
            ready: true,
            attachments: 250,
            ipv4_left: Some(0),
            ipv6_left: Some(9),
            ..AttachmentStatus::default()
        };
        let told = reason(status.clone(), false).unwrap();
        assert!(told.contains("IPv4") && told.contains("250"), "{told}");
        assert_eq!(reason(status, true), None);
    }

    #[test]
    fn a_daemon_that_is_not_ready_says_why() {
        let status = AttachmentStatus { reason: Some("no ranges".into()), ..AttachmentStatus::default() };
        assert_eq!(reason(status, false).unwrap(), "no ranges");
        assert!(reason(AttachmentStatus::default(), true).is_some());
    }
}
