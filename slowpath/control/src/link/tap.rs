//! TAPs: made by the driver here, moved into the pod.

use super::netlink::{converse, find};
use super::{Interface, LinkError, Namespace, Step, pod};
use rtnetlink::LinkUnspec;

/// Moves the TAP `name` of this namespace into `namespace`, if one is given, and makes it look as `interface` says.
///
/// There is nothing to undo: the interface goes when its driver closes it, wherever it is by then.
pub fn move_tap(name: &str, namespace: Option<&Namespace>, interface: &Interface) -> Result<(), LinkError> {
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
    converse(namespace, async |handle| {
        let index = find(handle, wanted).await?.header.index;
        let shape = LinkUnspec::new_with_index(index)
            .address(interface.mac.octets().to_vec())
            .mtu(u32::from(interface.mtu))
            .build();
        let value = format!("{}, {}", interface.mac, interface.mtu);
        let shaped = handle.link().change(shape).execute().await;
        shaped.map_err(|error| LinkError::netlink(wanted, Step::Shape, value, &error))
    })?;
    pod::configure(namespace, interface)
}
