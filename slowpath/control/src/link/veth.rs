//! Veth pairs: one end here for the driver, the other in the pod.

use super::netlink::{converse, find};
use super::pod::Dress;
use super::{Interface, LinkError, Namespace, Step, pod};
use millrace_api::Route;
use millrace_config::{InterfaceName, InvalidValue};
use millrace_fastpath::port::PortId;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};
use std::path::Path;

/// Begins the alias of every interface that is made here: an interface without it is never removed.
pub(super) const ALIAS: &str = "millrace:";

/// Whether an interface was made here; for `owner`, if one is given.
pub(super) fn is_ours(link: &LinkMessage, owner: Option<&str>) -> bool {
    link.attributes.iter().any(|attribute| match attribute {
        LinkAttribute::IfAlias(alias) => {
            alias.strip_prefix(ALIAS).is_some_and(|found| owner.is_none_or(|owner| owner == found))
        }
        _ => false,
    })
}

/// Whether it can be a pair whose maker was ended before it could say whose it is: the kernel takes no alias with the message that
/// makes an interface. Only asked of what has a name of ours.
fn is_half_made(link: &LinkMessage) -> bool {
    let is_veth = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::LinkInfo(info) if info.contains(&LinkInfo::Kind(InfoKind::Veth)));
    let has_alias = link.attributes.iter().any(|attribute| matches!(attribute, LinkAttribute::IfAlias(_)));
    !has_alias && !link.header.flags.contains(LinkFlags::Up) && link.attributes.iter().any(is_veth)
}

/// The name of the host's end of a port: `mr`, four digits that stand for the daemon's state directory, and the
/// port's number. Two daemons in one namespace have two state directories, so their names do not meet.
pub fn host_end_name(state_directory: &Path, port: PortId) -> Result<InterfaceName, InvalidValue> {
    // FNV-1a (Fowler, Noll, Vo), folded to 16 bits: the same in every run and build.
    let bytes = state_directory.as_os_str().as_encoded_bytes();
    let hash =
        bytes.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("mr{:04x}-{}", (hash >> 16) ^ (hash & 0xffff), port.0).parse()
}

/// Makes a veth pair: `host_end` in this namespace and without IP, and the pod's end under its name, MAC address and MTU in
/// `namespace`. Both are down until [`dress_veth`]. On failure nothing is left.
///
/// `owner` is the port's name; it is put on the host's end for people to read.
pub fn create_veth(
    host_end: &InterfaceName,
    owner: &str,
    namespace: &Namespace,
    interface: &Interface,
) -> Result<(), LinkError> {
    let mut exists = false;
    let made = converse(None, async |handle| {
        let value = format!("peer {} in {}", interface.name, namespace.name());
        let created = handle.link().add(pair(host_end, namespace, interface)).execute().await;
        created.map_err(|error| LinkError::netlink(host_end.as_str(), Step::Create, value, &error))?;
        exists = true;
        // First of all, so that whatever is left after a failure can be told to be ours.
        let index = find(handle, host_end.as_str()).await?.header.index;
        let alias = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::IfAlias(format!("{ALIAS}{owner}")))
            .build();
        let named = handle.link().change(alias).execute().await;
        named.map_err(|error| LinkError::netlink(host_end.as_str(), Step::Create, owner, &error))
    });
    if made.is_err() && exists {
        // The first error is the one to report; a pair that cannot be removed is still in the record.
        let _ = remove_veth(host_end);
    }
    made
}

/// Sets both ends up, the pod's end with everything that it is to have; gives the routes that were set. Without `offloads`
/// all those that a raw frame cannot carry are turned off at the pod's end. What is there stays on failure: it is for the caller
/// to remove.
pub fn dress_veth(
    host_end: &InterfaceName,
    namespace: &Namespace,
    interface: &Interface,
    offloads: bool,
) -> Result<Vec<Route>, LinkError> {
    set_host_end_up(host_end)?;
    pod::configure(Some(namespace), interface, Dress { alias: None, offloads })
}

/// Removes a veth pair by its host's end. It being gone already, as after the end of the pod's namespace, is fine;
/// an interface of that name that was not made here is left alone. One that is down and says nothing of itself was.
pub fn remove_veth(host_end: &InterfaceName) -> Result<(), LinkError> {
    let removed = converse(None, async |handle| {
        let link = find(handle, host_end.as_str()).await?;
        if !is_ours(&link, None) && !is_half_made(&link) {
            return Ok(());
        }
        handle
            .link()
            .del(link.header.index)
            .execute()
            .await
            .map_err(|error| LinkError::netlink(host_end.as_str(), Step::Remove, host_end, &error))
    });
    match removed {
        Err(error) if error.is_missing() => Ok(()),
        result => result,
    }
}

/// The message that makes both ends in one step, the pod's end where it belongs and under its final name: no
/// moment at which half of it is elsewhere.
fn pair(host_end: &InterfaceName, namespace: &Namespace, interface: &Interface) -> LinkMessage {
    let queues = u32::from(interface.queues.max(1));
    let peer = vec![
        LinkAttribute::IfName(interface.name.to_string()),
        LinkAttribute::Address(interface.mac.octets().to_vec()),
        LinkAttribute::Mtu(u32::from(interface.mtu)),
        LinkAttribute::NumTxQueues(queues),
        LinkAttribute::NumRxQueues(queues),
        LinkAttribute::NetNsFd(namespace.descriptor()),
    ];
    message(vec![
        LinkAttribute::IfName(host_end.to_string()),
        LinkAttribute::Mtu(u32::from(interface.mtu)),
        LinkAttribute::NumTxQueues(queues),
        LinkAttribute::NumRxQueues(queues),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(message(peer)))),
        ]),
    ])
}

fn message(attributes: Vec<LinkAttribute>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = attributes;
    message
}

/// Up, without IPv6 of the kernel's own on it. While no daemon takes what comes, the host neither answers nor forwards there.
fn set_host_end_up(host_end: &InterfaceName) -> Result<(), LinkError> {
    let name = host_end.as_str();
    pod::silence(name);
    pod::ignore(name);
    converse(None, async |handle| {
        let index = find(handle, name).await?.header.index;
        let up = handle.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await;
        up.map_err(|error| LinkError::netlink(name, Step::Up, "up", &error))
    })
}
