//! Having the kernel look for a neighbour.

use super::socket::Message;
use super::{KernelError, Socket, request};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourHeader, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use std::net::IpAddr;

/// Messages that are handed to the kernel at once, at most.
const BATCH: usize = 256;

/// Has the kernel treat neighbours as if the host itself had something to send to them: one that it does not know, or that did
/// not answer, is asked for at once; one that it has not heard of for long is asked whether it is still there; and none
/// of them is dropped as unused. (`NTF_USE`: `neigh_add` calls `neigh_event_send`, net/core/neighbour.c.) Each is given with
/// the number of its interface.
///
/// Not to be used for permanent neighbours: it would make them ordinary ones (`__neigh_update`).
pub fn solicit(neighbours: &[(u32, IpAddr)]) -> Result<(), KernelError> {
    let mut socket = Socket::open(0)?;
    for batch in neighbours.chunks(BATCH) {
        let mut messages: Vec<Message> =
            batch.iter().map(|&(index, address)| usage(index, address)).collect();
        socket.tell(&mut messages)?;
    }
    Ok(())
}

fn usage(index: u32, address: IpAddr) -> Message {
    let (family, destination) = match address {
        IpAddr::V4(ip) => (AddressFamily::Inet, NeighbourAddress::Inet(ip)),
        IpAddr::V6(ip) => (AddressFamily::Inet6, NeighbourAddress::Inet6(ip)),
    };
    let mut message = NeighbourMessage::default();
    message.header = NeighbourHeader {
        family,
        ifindex: index,
        state: NeighbourState::None,
        flags: NeighbourFlags::Use,
        ..NeighbourHeader::default()
    };
    message.attributes.push(NeighbourAttribute::Destination(destination));
    request(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
}
