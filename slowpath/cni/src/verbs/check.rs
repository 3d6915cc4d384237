//! `CHECK`: whether the attachment is as `ADD` left it.

use super::together;
use crate::arguments::{CheckCall, Verb, identity};
use crate::config::NetworkConfig;
use crate::daemon::Daemon;
use crate::error::CniError;
use crate::result::NetworkResult;
use millrace_api::Attachment;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// Lets the delegated plugin look at its part, and compares what the runtime remembers with what the daemon finds.
/// The daemon itself looks whether interface, addresses and routes are there.
pub(crate) fn check(call: &CheckCall, config: &NetworkConfig) -> Result<(), CniError> {
    let expected = config
        .previous()?
        .ok_or_else(|| CniError::config("prevResult", "it is missing; there is nothing to compare with"))?;
    let delegated = config.delegate.as_ref().map_or(Ok(()), |plugin| plugin.pass_on(Verb::Check));
    together([delegated, own(call, config, &expected)])
}

fn own(call: &CheckCall, config: &NetworkConfig, expected: &NetworkResult) -> Result<(), CniError> {
    let differs = |reason: String| CniError::Differs { id: call.id.clone(), reason };
    match Daemon::of(config).find(&call.id)? {
        Some(attachment) => compare(call, &config.name, expected, &attachment).map_err(differs),
        // Code 3 tells the runtime that nothing is to be cleaned up: not so where another plugin has addresses.
        None if config.delegate.is_some() => {
            Err(differs("the daemon knows of no such attachment".to_owned()))
        }
        None => Err(CniError::UnknownContainer(call.id.clone())),
    }
}

/// MTU and routes are not compared: later plugins of the chain may change them.
fn compare(
    call: &CheckCall,
    network: &str,
    expected: &NetworkResult,
    found: &Attachment,
) -> Result<(), String> {
    if found.network != network {
        return Err(format!("it belongs to the network {}, not {network}", found.network));
    }
    let same_netns = match (identity(&call.netns), identity(&found.netns)) {
        (Ok(told), Ok(used)) => told == used,
        // The daemon may see other paths than we do.
        _ => true,
    };
    if !same_netns {
        return Err(format!("it lies in {}, not {}", found.netns.display(), call.netns.display()));
    }
    let position = expected
        .position(call.id.if_name.as_str())
        .ok_or_else(|| format!("prevResult has no interface {} in a sandbox", call.id.if_name))?;
    let mac = &expected.interfaces[position].mac;
    if !mac.is_empty() && !mac.eq_ignore_ascii_case(&found.mac.to_string()) {
        return Err(format!("its MAC address is {}, not {mac}", found.mac));
    }
    compare_addresses(expected, position, found)
}

fn compare_addresses(expected: &NetworkResult, position: usize, found: &Attachment) -> Result<(), String> {
    let ours = i64::try_from(position).ok();
    let expected: BTreeSet<IpAddr> = expected
        .ips
        .iter()
        .filter(|ip| ip.interface == ours)
        .map(|ip| ip.ip().map_err(|reason| format!("prevResult: {reason}")))
        .collect::<Result<_, _>>()?;
    let found: BTreeSet<IpAddr> = found.addresses.iter().copied().collect();
    if expected == found {
        return Ok(());
    }
    let list = |addresses: &BTreeSet<IpAddr>| {
        let texts: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
        if texts.is_empty() { "none".to_owned() } else { texts.join(", ") }
    };
    Err(format!("its addresses are {}, not {}", list(&found), list(&expected)))
}

#[cfg(test)]
mod tests;
