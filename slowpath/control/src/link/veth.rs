//! Veth pairs: one end here for the AF_XDP socket, the other in the pod.

use super::netlink::{converse, find};
use super::{Interface, LinkError, Namespace, Step, offloads, pod};
use millrace_config::{InterfaceName, InvalidValue};
use millrace_fastpath::port::PortId;
use nix::errno::Errno;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkInfo, LinkMessage};
use std::path::Path;

/// Begins the alias of every interface that is made here: an interface without it is never removed.
const ALIAS: &str = "millrace:";

/// The name of the host's end of a port: `mr`, four digits that stand for the daemon's state directory, and the
/// port's number. Two daemons in one namespace have two state directories, so their names do not meet.
pub fn host_end_name(state_directory: &Path, port: PortId) -> Result<InterfaceName, InvalidValue> {
    // FNV-1a (Fowler, Noll, Vo), folded to 16 bits: the same in every run and build.
    let bytes = state_directory.as_os_str().as_encoded_bytes();
    let hash =
        bytes.iter().fold(0x811c_9dc5_u32, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("mr{:04x}-{}", (hash >> 16) ^ (hash & 0xffff), port.0).parse()
}

/// Makes a veth pair: `host_end` in this namespace, up and without IP, and the pod's end as `interface` says, in
/// `namespace` if one is given. All offloads that a raw frame cannot carry are off at the pod's end. On failure
/// nothing is left.
///
/// `owner` is the port's name; it is put on the host's end for people to read.
pub fn create_veth(
    host_end: &InterfaceName,
    owner: &str,
    namespace: Option<&Namespace>,
    interface: &Interface,
) -> Result<(), LinkError> {
    converse(None, async |handle| {
        let message = pair(host_end, namespace, interface);
        let value =
            format!("peer {} in {}", interface.name, namespace.map_or("this namespace", Namespace::name));
        handle
            .link()
            .add(message)
            .execute()
            .await
            .map_err(|error| LinkError::netlink(host_end.as_str(), Step::Create, value, &error))
    })?;
    let finished = finish_host_end(host_end, owner)
        .and_then(|()| offloads::turn_off(namespace, interface.name.as_str()))
        .and_then(|()| pod::configure(namespace, interface));
    if finished.is_err() {
        // The first error is the one to report; a pair that cannot be removed is still in the record.
        let _ = remove_veth(host_end);
    }
    finished
}

/// Removes a veth pair by its host's end. It being gone already, as after the end of the pod's namespace, is fine;
/// an interface of that name that was not made here is left alone.
pub fn remove_veth(host_end: &InterfaceName) -> Result<(), LinkError> {
    let removed = converse(None, async |handle| {
        let link = find(handle, host_end.as_str()).await?;
        let ours = |attribute: &LinkAttribute| matches!(attribute, LinkAttribute::IfAlias(alias) if alias.starts_with(ALIAS));
        if !link.attributes.iter().any(ours) {
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
        Err(error) if error.errno() == Some(Errno::ENODEV as i32) => Ok(()),
        result => result,
    }
}

/// The message that makes both ends in one step, the pod's end where it belongs and under its final name: no
/// moment at which half of it is elsewhere.
fn pair(host_end: &InterfaceName, namespace: Option<&Namespace>, interface: &Interface) -> LinkMessage {
    let queues = u32::from(interface.queues.max(1));
    let mut peer = vec![
        LinkAttribute::IfName(interface.name.to_string()),
        LinkAttribute::Address(interface.mac.octets().to_vec()),
        LinkAttribute::Mtu(u32::from(interface.mtu)),
        LinkAttribute::NumTxQueues(queues),
        LinkAttribute::NumRxQueues(queues),
    ];
    if let Some(namespace) = namespace {
        peer.push(LinkAttribute::NetNsFd(namespace.descriptor()));
    }
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

/// The alias first, so that whatever is left after a failure can be told to be ours; then up, without IPv6 of
/// the kernel's own on it.
fn finish_host_end(host_end: &InterfaceName, owner: &str) -> Result<(), LinkError> {
    converse(None, async |handle| {
        let name = host_end.as_str();
        let index = find(handle, name).await?.header.index;
        let alias = LinkUnspec::new_with_index(index)
            .append_extra_attribute(LinkAttribute::IfAlias(format!("{ALIAS}{owner}")))
            .build();
        let changed = handle.link().change(alias).execute().await;
        changed.map_err(|error| LinkError::netlink(name, Step::Create, owner, &error))?;
        pod::silence(name);
        let up = handle.link().change(LinkUnspec::new_with_index(index).up().build()).execute().await;
        up.map_err(|error| LinkError::netlink(name, Step::Up, "up", &error))
    })
}
