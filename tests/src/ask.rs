//! One question to a server, over any protocol: who are you, and who am I to you?

use crate::pod::Pod;
use crate::raw::ask_sctp_as;
use crate::traffic::{WHO, connect, read_greeting};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage};
use nix::sys::socket::{bind as bind_to, connect as connect_to, socket};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(2);
/// For how long nothing may come where silence is expected: a refusal takes microseconds.
const SILENCE: Duration = Duration::from_millis(400);

/// A protocol with ports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: the first packet of an association and its answer.
    Sctp,
}

impl Protocol {
    /// All of them.
    pub const ALL: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
    /// Those of [`crate::Echo`].
    pub const USUAL: [Protocol; 2] = [Protocol::Tcp, Protocol::Udp];
}

/// What a server says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The server's name.
    pub name: String,
    /// The client, as the server sees it.
    pub client: SocketAddr,
}

impl Answer {
    /// From `NAME ADDRESS:PORT`.
    pub(crate) fn parse(text: &[u8]) -> io::Result<Self> {
        let text = String::from_utf8_lossy(text);
        let parts = text.trim().split_once(' ');
        let parsed = parts.and_then(|(name, client)| Some((name.to_owned(), client.parse().ok()?)));
        let (name, client) = parsed.ok_or_else(|| io::Error::other(format!("no answer: {text:?}")))?;
        Ok(Answer { name, client })
    }
}

/// Asks a server.
pub fn ask(from: &Pod, protocol: Protocol, to: SocketAddr) -> io::Result<Answer> {
    ask_within(from, None, protocol, to, PATIENCE)
}

/// Asks a server from one of the pod's addresses.
pub fn ask_as(from: &Pod, source: IpAddr, protocol: Protocol, to: SocketAddr) -> io::Result<Answer> {
    ask_within(from, Some(source), protocol, to, PATIENCE)
}

fn ask_within(
    from: &Pod,
    source: Option<IpAddr>,
    protocol: Protocol,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<Answer> {
    match (protocol, source) {
        (Protocol::Tcp, None) if patience == PATIENCE => read_greeting(&mut connect(from, to)?),
        (Protocol::Tcp, source) => {
            let source = source.unwrap_or_else(|| any(to));
            read_greeting(&mut connect_as(from, source, to, patience)?)
        }
        (Protocol::Udp, source) => {
            UdpClient::open_as(from, source.unwrap_or_else(|| any(to)), to)?.ask_within(patience)
        }
        (Protocol::Sctp, source) => ask_sctp_as(from, source, to, patience),
    }
}

fn any(to: SocketAddr) -> IpAddr {
    let any = if to.is_ipv4() { "0.0.0.0" } else { "::" };
    any.parse().expect("an address")
}

/// Opens a TCP connection from one of the pod's addresses.
pub(crate) fn connect_as(
    from: &Pod,
    source: IpAddr,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<TcpStream> {
    let stream = from.netns().within(move || -> io::Result<TcpStream> {
        let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let opened = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind_to(
            std::os::fd::AsRawFd::as_raw_fd(&opened),
            &SockaddrStorage::from(SocketAddr::new(source, 0)),
        )?;
        let stream = TcpStream::from(opened);
        // connect(2) keeps to the time limit for sending.
        stream.set_write_timeout(Some(patience))?;
        stream.set_read_timeout(Some(patience))?;
        match connect_to(std::os::fd::AsRawFd::as_raw_fd(&stream), &SockaddrStorage::from(to)) {
            Ok(()) => Ok(stream),
            Err(nix::Error::EINPROGRESS) => Err(ErrorKind::TimedOut.into()),
            Err(error) => Err(error.into()),
        }
    })?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

/// A UDP client that keeps its socket, and so its source port.
#[derive(Debug)]
pub struct UdpClient {
    socket: UdpSocket,
}

impl UdpClient {
    /// A socket of a pod, connected to a server.
    pub fn open(from: &Pod, to: SocketAddr) -> io::Result<Self> {
        Self::open_as(from, any(to), to)
    }

    /// The same from one of the pod's addresses.
    pub fn open_as(from: &Pod, source: IpAddr, to: SocketAddr) -> io::Result<Self> {
        let socket = from.netns().within(move || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((source, 0))?;
            socket.connect(to)?;
            Ok(socket)
        })?;
        Ok(UdpClient { socket })
    }

    /// Who this end is in its own eyes.
    pub fn own_address(&self) -> SocketAddr {
        self.socket.local_addr().expect("a connected socket has an address")
    }

    /// One datagram, and the answer to it.
    pub fn ask(&self) -> io::Result<Answer> {
        self.ask_within(PATIENCE)
    }

    /// The same with a time limit.
    pub fn ask_within(&self, patience: Duration) -> io::Result<Answer> {
        self.socket.set_read_timeout(Some(patience))?;
        self.socket.send(WHO)?;
        let mut buffer = [0; 256];
        let length = self.socket.recv(&mut buffer)?;
        Answer::parse(&buffer[..length])
    }
}

/// Nobody serves this, and the client is told at once.
pub fn assert_refused(from: &Pod, protocol: Protocol, to: SocketAddr) {
    let begin = Instant::now();
    let error = ask(from, protocol, to).expect_err("a refusal");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{protocol:?} {} → {to}: {error}", from.name);
    // SCTP is asked by a program that has to start first.
    let limit = Duration::from_millis(if protocol == Protocol::Sctp { 1500 } else { 500 });
    assert!(
        begin.elapsed() < limit,
        "{protocol:?} {} → {to}: refused after {:?}",
        from.name,
        begin.elapsed()
    );
}

/// Nothing comes back, not even a refusal.
pub fn assert_silent(from: &Pod, source: Option<IpAddr>, protocol: Protocol, to: SocketAddr) {
    let result = ask_within(from, source, protocol, to, SILENCE);
    let error = result.expect_err("silence");
    let kinds = [ErrorKind::TimedOut, ErrorKind::WouldBlock];
    assert!(kinds.contains(&error.kind()), "{protocol:?} {} → {to}: {error}", from.name);
}

/// Who answers how many of `count` questions, each over a connection of its own; all must be answered.
pub fn count_answers(from: &Pod, protocol: Protocol, to: SocketAddr, count: u32) -> BTreeMap<String, u32> {
    let mut answers = BTreeMap::new();
    for _ in 0..count {
        let answer = ask(from, protocol, to)
            .unwrap_or_else(|error| panic!("{protocol:?} {} → {to}: {error}", from.name));
        *answers.entry(answer.name).or_default() += 1;
    }
    answers
}
