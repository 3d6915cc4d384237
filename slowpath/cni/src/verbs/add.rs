//! `ADD`: an interface for a container.

use crate::arguments::{AddCall, Verb};
use crate::config::{NetworkConfig, Wishes};
use crate::daemon::{AttachFailure, Daemon, Detached};
use crate::delegate::Delegate;
use crate::error::CniError;
use crate::queue;
use crate::result::{Dns, Interface, IpEntry, NetworkResult, RouteEntry};
use millrace_api::{AddressSource, Attachment, AttachmentId, AttachmentRequest, Route};
use std::io::Write;
use std::net::IpAddr;

/// Asks the daemon for the interface. Whatever fails, nothing is left behind.
pub(crate) fn add(
    call: &AddCall,
    config: &NetworkConfig,
    log: &mut dyn Write,
) -> Result<NetworkResult, CniError> {
    let wishes = Wishes::read(config, &call.extra)?;
    let previous = config.previous()?.unwrap_or_default();
    if previous.position(call.id.if_name.as_str()).is_some() {
        return Err(CniError::Exists(call.id.clone()));
    }
    let daemon = Daemon::of(config);
    forget_old_deletion(&daemon, config, &call.id)?;
    let (attachment, dns) = match &config.delegate {
        None => {
            let addresses = AddressSource::Own { requested: wishes.ips.clone() };
            let request = request(call, config, &wishes, addresses, wishes.routes.clone());
            (attach(&daemon, &request, log)?, Dns::default())
        }
        Some(delegate) => {
            // Whoever is there already has addresses, which an addition that fails would take away.
            if daemon.find(&call.id)?.is_some() {
                return Err(CniError::Exists(call.id.clone()));
            }
            let lease = Lease::take(delegate)?;
            let addresses = AddressSource::Given { addresses: lease.addresses.clone() };
            let request = request(call, config, &wishes, addresses, lease.routes.clone());
            let attachment = attach(&daemon, &request, log).inspect_err(|_| lease.give_back(log))?;
            (attachment, lease.dns)
        }
    };
    let dns = [wishes.dns, dns].into_iter().find(|dns| *dns != Dns::default());
    Ok(result(previous, &attachment, &call.netns.display().to_string(), dns))
}

/// A deletion that waits for the daemon is of an attachment before this one, and must not hit this one: it is done
/// now. (A daemon that finds the file first holds the attachment's lock until it has removed the file.)
fn forget_old_deletion(
    daemon: &Daemon<'_>,
    config: &NetworkConfig,
    id: &AttachmentId,
) -> Result<(), CniError> {
    if !queue::holds(&config.state_directory, id) {
        return Ok(());
    }
    daemon.detach_now(id)?;
    queue::forget(&config.state_directory, id).map(drop).map_err(|source| CniError::Queue {
        daemon: format!("the old deletion of {id} is done, but would be done again"),
        path: config.state_directory.clone(),
        source,
    })
}

fn request(
    call: &AddCall,
    config: &NetworkConfig,
    wishes: &Wishes,
    addresses: AddressSource,
    routes: Option<Vec<Route>>,
) -> AttachmentRequest {
    AttachmentRequest {
        id: call.id.clone(),
        netns: call.netns.clone(),
        network: config.name.clone(),
        pod: call.extra.pod.clone(),
        kind: wishes.kind,
        mac: wishes.mac,
        mtu: wishes.mtu,
        addresses,
        routes,
        bandwidth: wishes.bandwidth,
        host_ports: wishes.host_ports.clone(),
    }
}

fn attach(
    daemon: &Daemon<'_>,
    request: &AttachmentRequest,
    log: &mut dyn Write,
) -> Result<Attachment, CniError> {
    daemon.attach(request).map_err(|AttachFailure { error, may_exist }| {
        if may_exist {
            let undone = match daemon.detach(&request.id) {
                Ok(Detached::Done) => "it has been removed".to_owned(),
                Ok(Detached::Kept(path, _)) => format!("deletion kept in {}", path.display()),
                Err(error) => error.to_string(),
            };
            // The runtime gets the first error; it asks for a deletion by itself, too.
            let _ = writeln!(log, "millrace-cni: {} may have been made: {undone}", request.id);
        }
        error
    })
}

/// Addresses of another plugin, which must go back to it if they are not used.
struct Lease<'a> {
    delegate: &'a Delegate,
    addresses: Vec<IpAddr>,
    routes: Option<Vec<Route>>,
    dns: Dns,
}

impl<'a> Lease<'a> {
    fn take(delegate: &'a Delegate) -> Result<Self, CniError> {
        let result = delegate.add()?;
        let read = || -> Result<(Vec<IpAddr>, Vec<Route>), String> {
            let addresses: Vec<_> = result.ips.iter().map(IpEntry::ip).collect::<Result<_, _>>()?;
            if addresses.is_empty() {
                return Err("no address at all".to_owned());
            }
            Ok((addresses, result.routes.iter().map(RouteEntry::wished).collect::<Result<_, _>>()?))
        };
        match read() {
            Ok((addresses, routes)) => {
                // A plugin that says nothing of routes leaves them to us.
                let routes = (!routes.is_empty()).then_some(routes);
                Ok(Lease { delegate, addresses, routes, dns: result.dns })
            }
            Err(reason) => {
                // What matters is why the addresses cannot be used.
                let _ = delegate.pass_on(Verb::Del);
                Err(CniError::config(format!("ipam: the result of {}", delegate.name()), reason))
            }
        }
    }

    fn give_back(&self, log: &mut dyn Write) {
        if let Err(error) = self.delegate.pass_on(Verb::Del) {
            // The runtime gets the first error; it asks for a deletion by itself, too.
            let _ = writeln!(log, "millrace-cni: addresses could not be given back: {error}");
        }
    }
}

/// What plugins before us have made, and then ours.
fn result(
    mut result: NetworkResult,
    attachment: &Attachment,
    sandbox: &str,
    dns: Option<Dns>,
) -> NetworkResult {
    if let Some(host) = &attachment.host_interface {
        result.interfaces.push(Interface {
            name: host.name.to_string(),
            mac: host.mac.map(|mac| mac.to_string()).unwrap_or_default(),
            mtu: Some(attachment.mtu.get().into()),
            ..Interface::default()
        });
    }
    let position = result.interfaces.len();
    result.interfaces.push(Interface {
        name: attachment.id.if_name.to_string(),
        mac: attachment.mac.to_string(),
        mtu: Some(attachment.mtu.get().into()),
        sandbox: sandbox.to_owned(),
        socket_path: attachment.vhost_user.as_ref().map(|files| files.socket.display().to_string()),
        ..Interface::default()
    });
    for &address in &attachment.addresses {
        let gateway =
            attachment.gateways.iter().copied().find(|gateway| gateway.is_ipv4() == address.is_ipv4());
        result.ips.push(IpEntry::host(address, gateway, position));
    }
    result.routes.extend(attachment.routes.iter().map(RouteEntry::from));
    if let Some(dns) = dns {
        result.dns = dns;
    }
    result
}

#[cfg(test)]
mod tests;
