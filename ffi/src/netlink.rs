//! The kernel's interfaces by netlink (rtnetlink(7)): one request, one answer.

use netlink_packet_core::{NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;
use std::io;
use std::sync::{Mutex, PoisonError};

/// Bytes of the longest answer: an interface with all that its kind has to tell.
const ANSWER: usize = 32 << 10;

/// A socket of one network namespace: the one that the thread which made it was in.
#[derive(Debug)]
pub(crate) struct Netlink(Mutex<Asking>);

#[derive(Debug)]
struct Asking {
    socket: Socket,
    /// The number of the last request, which its answer has, too.
    number: u32,
}

impl Netlink {
    /// Asks in the calling thread's network namespace from now on.
    ///
    /// # Errors
    /// Those of `socket(2)` and `bind(2)`.
    pub(crate) fn here() -> io::Result<Netlink> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        Ok(Netlink(Mutex::new(Asking { socket, number: 0 })))
    }

    /// The interface `name`, with all that the kernel tells of it.
    ///
    /// # Errors
    /// The kernel's: `ENODEV` when there is none.
    pub(crate) fn link(&self, name: &str) -> io::Result<LinkMessage> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        match self.ask(RouteNetlinkMessage::GetLink(message), 0)? {
            Some(RouteNetlinkMessage::NewLink(link)) => Ok(link),
            other => Err(io::Error::other(format!("the kernel has answered with {other:?}"))),
        }
    }

    /// Sends a request with these flags (`NLM_F_…`) and takes the one answer; none if that says that it is done.
    ///
    /// # Errors
    /// Those of the socket, and what the answer says.
    pub(crate) fn ask(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Option<RouteNetlinkMessage>> {
        // A panic while the lock was held may leave an answer unread: it has another number.
        match self.0.lock().unwrap_or_else(PoisonError::into_inner).ask(message, flags)? {
            NetlinkPayload::Error(refusal) if refusal.code.is_some() => Err(refusal.to_io()),
            NetlinkPayload::InnerMessage(message) => Ok(Some(message)),
            _ => Ok(None),
        }
    }
}

impl Asking {
    fn ask(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
        self.number = self.number.wrapping_add(1);
        let mut request = NetlinkMessage::from(message);
        (request.header.flags, request.header.sequence_number) = (NLM_F_REQUEST | flags, self.number);
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        loop {
            let mut answer = Vec::with_capacity(ANSWER);
            self.socket.recv(&mut answer, 0)?;
            let answer = NetlinkMessage::deserialize(&answer).map_err(io::Error::other)?;
            if answer.header.sequence_number == self.number {
                return Ok(answer.payload);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::interface::Probe;

    #[test]
    fn an_interface_is_told_of_and_one_that_is_not_there_is_an_error() {
        let probe = Probe::here().unwrap();
        assert_eq!(probe.discipline("lo").unwrap(), "noqueue");
        assert!(probe.transmit_drops("lo").is_ok());
        assert_eq!(probe.discipline("mr-nobody").unwrap_err().raw_os_error(), Some(libc::ENODEV));
        assert_eq!(probe.discipline("lo").unwrap(), "noqueue", "the answer to this, not to what was before");
    }
}
