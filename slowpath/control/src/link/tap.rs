//! TAPs: made by the driver, in the pod or here; made ready, moved, removed.

use super::netlink::{converse, find};
use super::pod::Dress;
use super::veth::{ALIAS, is_ours};
use super::{Interface, LinkError, Namespace, Step, pod};
use millrace_api::Route;
use millrace_config::InterfaceName;
use rtnetlink::LinkUnspec;

/// Moves the TAP `name` of this namespace into `namespace`, if one is given, and makes it look as `interface` says; gives the
/// routes that were set.
///
/// There is nothing to undo: the interface goes when its driver closes it, wherever it is by then.
pub fn move_tap(
    name: &str,
    namespace: Option<&Namespace>,
    interface: &Interface,
) -> Result<Vec<Route>, LinkError> {
    let wanted = interface.name.as_str();
    converse(None, async |handle| {
        let index = find(handle, name).await?.header.index;
        // Only an interface that is down can be renamed.
        let down = handle.link().change(LinkUnspec::new_with_index(index).down().build()).execute().await;
        down.map_err(|error| LinkError::netlink(name, Step::Move, "down", &error))?;
        let mut message = LinkUnspec::new_with_index(index).name(wanted);
        if let Some(namespace) = namespace {
            message = message.setns_by_fd(namespace.descriptor());
        }
        let value = format!("as {wanted} to {}", namespace.map_or("this namespace", Namespace::name));
        let moved = handle.link().change(message.build()).execute().await;
        moved.map_err(|error| LinkError::netlink(name, Step::Move, value, &error))
    })?;
    pod::configure(namespace, interface, Dress { alias: None, offloads: true })
}

/// Makes a TAP look as `interface` says that is where it belongs already; gives the routes that were set. `owner`, the port's
/// name, is put on it: by that [`remove_tap`] knows it again.
pub fn dress_tap(namespace: &Namespace, owner: &str, interface: &Interface) -> Result<Vec<Route>, LinkError> {
    let alias = format!("{ALIAS}{owner}");
    pod::configure(Some(namespace), interface, Dress { alias: Some(&alias), offloads: true })
}

/// Removes a TAP that lasts and that nobody has open. It being gone already is fine; an interface of that name that was not
/// made here for `owner` is left alone.
pub fn remove_tap(namespace: &Namespace, name: &InterfaceName, owner: &str) -> Result<(), LinkError> {
    converse(Some(namespace), async |handle| {
        let link = match find(handle, name.as_str()).await {
            Err(error) if error.is_missing() => return Ok(()),
            link => link?,
        };
        if !is_ours(&link, Some(owner)) {
            return Ok(());
        }
        let removed = handle.link().del(link.header.index).execute().await;
        removed.map_err(|error| LinkError::netlink(name.as_str(), Step::Remove, name, &error))
    })
}
