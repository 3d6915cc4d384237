//! A routing netlink socket without a runtime around it.

use super::KernelError;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
    socket, sockopt,
};
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What a subscriber's socket holds of notifications that wait, in bytes: tens of thousands of them.
const RECEIVE_BUFFER: usize = 8 << 20;
/// The kernel fills a datagram of a dump up to 32 KiB (net/netlink/af_netlink.c).
const DATAGRAM: usize = 64 << 10;
/// How often a dump is begun again that the kernel says is not of one piece.
const ATTEMPTS: usize = 8;

/// A message of the routing family.
pub(crate) type Message = NetlinkMessage<RouteNetlinkMessage>;

/// A message with its header filled in.
pub(crate) fn request(payload: RouteNetlinkMessage, flags: u16) -> Message {
    let mut message = Message::from(payload);
    message.header.flags = NLM_F_REQUEST | flags;
    message.finalize();
    message
}

/// A socket of one thread.
#[derive(Debug)]
pub(crate) struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Socket {
    /// In the calling thread's network namespace; told of what happens in `groups`, a mask of `RTNLGRP_…` numbers.
    pub(crate) fn open(groups: u32) -> Result<Self, KernelError> {
        let fd =
            socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)
                .map_err(KernelError::socket("opening a socket"))?;
        if groups != 0 {
            // Beyond the machine's limit only a privileged process comes; with less, more is read again.
            if setsockopt(&fd, sockopt::RcvBufForce, &RECEIVE_BUFFER).is_err() {
                let _ = setsockopt(&fd, sockopt::RcvBuf, &RECEIVE_BUFFER);
            }
        }
        bind(fd.as_raw_fd(), &NetlinkAddr::new(0, groups)).map_err(KernelError::socket("subscribing"))?;
        Ok(Socket { fd, buffer: vec![0; DATAGRAM], sequence: 0 })
    }

    /// All answers to a question for a whole table. One of several pieces, since something changed meanwhile, is asked for
    /// again.
    pub(crate) fn dump(
        &mut self,
        what: &'static str,
        question: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        for _ in 0..ATTEMPTS {
            let message = request(question.clone(), NLM_F_DUMP);
            let (answers, whole) = self.converse(message, what)?;
            if whole {
                return Ok(answers);
            }
        }
        Err(KernelError::Refused { what: what.to_owned(), source: Errno::EINTR.into() })
    }

    /// Has the kernel do something, or answer with one message.
    pub(crate) fn ask(
        &mut self,
        what: &str,
        payload: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, KernelError> {
        Ok(self.converse(request(payload, NLM_F_ACK | flags), what)?.0)
    }

    /// Has the kernel do several things, handed over at once and done in this order. Gives what it said of each.
    pub(crate) fn batch(
        &mut self,
        messages: Vec<Message>,
    ) -> Result<Vec<Result<(), io::Error>>, KernelError> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let count = messages.len();
        for mut message in messages {
            self.sequence = self.sequence.wrapping_add(1);
            message.header.flags |= NLM_F_ACK;
            message.header.sequence_number = self.sequence;
            append(&mut bytes, &mut message);
        }
        let mut outcomes: Vec<Result<(), io::Error>> = Vec::with_capacity(count);
        if count > 0 {
            self.send(&bytes)?;
        }
        while outcomes.len() < count {
            for message in self.receive()? {
                let NetlinkPayload::Error(error) = &message.payload else { continue };
                if message.header.sequence_number.wrapping_sub(first) as usize == outcomes.len() {
                    outcomes.push(if error.code.is_none() { Ok(()) } else { Err(error.to_io()) });
                }
            }
        }
        Ok(outcomes)
    }

    /// Tells the kernel something and does not wait for what it says of it.
    pub(super) fn tell(&mut self, messages: &mut [Message]) -> Result<(), KernelError> {
        let mut bytes = Vec::new();
        for message in messages {
            append(&mut bytes, message);
        }
        self.send(&bytes)
    }

    fn converse(
        &mut self,
        mut message: Message,
        what: &str,
    ) -> Result<(Vec<RouteNetlinkMessage>, bool), KernelError> {
        self.sequence = self.sequence.wrapping_add(1);
        message.header.sequence_number = self.sequence;
        let mut bytes = Vec::new();
        append(&mut bytes, &mut message);
        self.send(&bytes)?;
        let (mut answers, mut whole) = (Vec::new(), true);
        loop {
            for answer in self.receive()? {
                if answer.header.sequence_number != self.sequence {
                    continue;
                }
                whole &= answer.header.flags & NLM_F_DUMP_INTR == 0;
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => answers.push(message),
                    NetlinkPayload::Done(_) => return Ok((answers, whole)),
                    NetlinkPayload::Error(error) if error.code.is_none() => return Ok((answers, whole)),
                    NetlinkPayload::Error(error) => {
                        return Err(KernelError::Refused { what: what.to_owned(), source: error.to_io() });
                    }
                    _ => {}
                }
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), KernelError> {
        send(self.fd.as_raw_fd(), bytes, MsgFlags::empty()).map_err(KernelError::socket("sending"))?;
        Ok(())
    }

    /// The messages of the next datagram; waits for it.
    fn receive(&mut self) -> Result<Vec<Message>, KernelError> {
        self.receive_with(MsgFlags::empty()).map(Option::unwrap_or_default)
    }

    /// The messages of the next datagram, if there is one already.
    pub(super) fn try_receive(&mut self) -> Result<Option<Vec<Message>>, KernelError> {
        self.receive_with(MsgFlags::MSG_DONTWAIT)
    }

    fn receive_with(&mut self, flags: MsgFlags) -> Result<Option<Vec<Message>>, KernelError> {
        let length = loop {
            match recv(self.fd.as_raw_fd(), &mut self.buffer, flags) {
                Ok(length) => break length,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                Err(errno) => return Err(KernelError::socket("receiving")(errno)),
            }
        };
        Ok(Some(messages(&self.buffer[..length])))
    }

    /// Waits until a datagram or `other` is there, at most for so long; says whether `other` is.
    pub(super) fn wait(&self, other: BorrowedFd<'_>, timeout: PollTimeout) -> Result<bool, KernelError> {
        let mut fds =
            [PollFd::new(self.fd.as_fd(), PollFlags::POLLIN), PollFd::new(other, PollFlags::POLLIN)];
        match poll(&mut fds, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(KernelError::socket("waiting")(errno)),
        }
        Ok(fds[1].any().unwrap_or_default())
    }
}

fn append(bytes: &mut Vec<u8>, message: &mut Message) {
    message.finalize();
    let start = bytes.len();
    bytes.resize(start + message.buffer_len(), 0);
    message.serialize(&mut bytes[start..]);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The messages of a datagram. One that is not understood is left out: a kernel newer than the parser says things that are
/// not needed here.
fn messages(mut bytes: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    while let Some(length) = bytes.first_chunk().map(|length| u32::from_ne_bytes(*length) as usize) {
        let Some(message) = bytes.get(..length).filter(|message| message.len() >= 16) else { break };
        match Message::deserialize(message) {
            Ok(message) => messages.push(message),
            Err(error) => tracing::debug!(%error, "a netlink message that is not understood"),
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    messages
}
