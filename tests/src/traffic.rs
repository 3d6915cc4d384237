//! Traffic between pods, checked byte by byte where it arrives.

use crate::ask::{Answer, connect_as};
use crate::netns::Netns;
use crate::pod::Pod;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(5);
/// The datagram that a server answers with its name and the client's address.
pub(crate) const WHO: &[u8] = b"who is who?";

/// Whether one echo request of `size` bytes is answered within a second.
pub fn ping(from: &Pod, to: &str, size: u16) -> bool {
    from.netns().run(&["ping", "-n", "-c1", "-W1", &format!("-s{size}"), to]).success
}

/// Pings with sizes around every boundary that the MTU of 1500 has; `ping` compares what comes back.
pub fn ping_sizes(from: &Pod, to: IpAddr) {
    let largest = if to.is_ipv4() { 1472 } else { 1452 };
    for size in [16, 17, 18, 56, 64, 511, 1000, largest - 1, largest] {
        let output = from.netns().run(&[
            "ping",
            "-n",
            "-c2",
            "-i0.01",
            "-W2",
            "-Mdo",
            &format!("-s{size}"),
            &to.to_string(),
        ]);
        assert!(output.success, "ping {} → {to}, {size} bytes: {}", from.name, output.stdout);
        assert!(!output.stdout.contains("wrong data byte"), "{}", output.stdout);
    }
}

/// A TCP and UDP server in a pod. It says its name first and then echoes.
#[derive(Debug)]
pub struct Echo {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Echo {
    /// Serves `port` on both families.
    pub fn start(pod: &Pod, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (tcp, udp) = bind(pod.netns(), port);
        tcp.set_nonblocking(true).expect("a listener can be made non-blocking");
        udp.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout can be set");
        let (name, tcp_stop) = (pod.name.clone(), Arc::clone(&stop));
        let tcp_thread = std::thread::spawn(move || serve_tcp(&tcp, &name, &tcp_stop));
        let (name, udp_stop) = (pod.name.clone(), Arc::clone(&stop));
        let udp_thread = std::thread::spawn(move || serve_udp(&udp, &name, &udp_stop));
        Echo { stop, threads: vec![tcp_thread, udp_thread] }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn bind(netns: &Netns, port: u16) -> (TcpListener, UdpSocket) {
    // An IPv6 socket takes both families.
    netns.within(move || {
        let tcp = TcpListener::bind(("::", port)).expect("the port is free");
        let udp = UdpSocket::bind(("::", port)).expect("the port is free");
        (tcp, udp)
    })
}

fn serve_tcp(listener: &TcpListener, name: &str, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, client)) => {
                let (greeting, stop) = (greeting(name, client), Arc::clone(stop));
                std::thread::spawn(move || echo_stream(stream, &greeting, &stop));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// What a server says first: its name, and who the client is in its eyes.
fn greeting(name: &str, client: SocketAddr) -> String {
    format!("{name} {}", SocketAddr::new(client.ip().to_canonical(), client.port()))
}

fn echo_stream(mut stream: TcpStream, greeting: &str, stop: &AtomicBool) {
    let _ = stream.set_nonblocking(false);
    let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
    if stream.write_all(format!("{greeting}\n").as_bytes()).is_err() {
        return;
    }
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).is_err() {
                    return;
                }
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => (),
            Err(_) => return,
        }
    }
}

fn serve_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            // Longest datagram first: the name is not part of it, so that sizes stay what they are.
            if length == 0 {
                let _ = socket.send_to(name.as_bytes(), from);
            } else if buffer[..length] == *WHO {
                let _ = socket.send_to(greeting(name, from).as_bytes(), from);
            } else {
                let _ = socket.send_to(&buffer[..length], from);
            }
        }
    }
}

/// Bytes that differ at every place and from one `seed` to the next.
fn pattern(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        // Marsaglia's xorshift64.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// Opens a TCP connection from a pod.
pub(crate) fn connect(from: &Pod, to: SocketAddr) -> io::Result<TcpStream> {
    let stream = from.netns().within(move || TcpStream::connect_timeout(&to, PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// The server's greeting: its name, and the client as it sees it.
pub(crate) fn read_greeting(stream: &mut TcpStream) -> io::Result<Answer> {
    let mut name = Vec::new();
    let mut byte = [0];
    loop {
        stream.read_exact(&mut byte)?;
        if byte[0] == b'\n' {
            return Answer::parse(&name);
        }
        name.push(byte[0]);
    }
}

/// Name of the pod that answers a TCP connection.
pub fn who_answers(from: &Pod, to: SocketAddr) -> io::Result<String> {
    let mut stream = connect(from, to)?;
    Ok(read_greeting(&mut stream)?.name)
}

/// Sends `length` bytes to an echo server and compares what comes back; name of the server.
pub fn exchange(from: &Pod, to: SocketAddr, length: usize) -> io::Result<String> {
    let mut stream = connect(from, to)?;
    let name = read_greeting(&mut stream)?.name;
    let sent = pattern(u64::from(to.port()) + length as u64, length);
    let mut writer = stream.try_clone()?;
    let copy = sent.clone();
    let sender = std::thread::spawn(move || {
        writer.write_all(&copy)?;
        writer.shutdown(Shutdown::Write)
    });
    let mut received = Vec::with_capacity(length);
    let read = stream.read_to_end(&mut received);
    let written = sender.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    read?;
    written?;
    assert!(received == sent, "{length} bytes to {to}: {} came back or differ", received.len());
    Ok(name)
}

/// Sends one datagram of `length` bytes and compares what comes back. With 0 bytes the answer is the server's name.
pub fn datagram(from: &Pod, to: SocketAddr, length: usize) -> io::Result<Vec<u8>> {
    let socket = from.netns().within(move || -> io::Result<UdpSocket> {
        let socket = UdpSocket::bind(if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" })?;
        socket.connect(to)?;
        Ok(socket)
    })?;
    socket.set_read_timeout(Some(Duration::from_secs(2)))?;
    let sent = pattern(length as u64, length);
    socket.send(&sent)?;
    let mut buffer = vec![0; 1 << 16];
    let received = socket.recv(&mut buffer)?;
    buffer.truncate(received);
    assert!(length == 0 || buffer == sent, "{length} bytes to {to}: {received} came back or differ");
    Ok(buffer)
}

/// A TCP connection that stays open: says a word and hears it again.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    /// The pod that took the connection.
    pub peer: String,
    /// The client as that pod sees it.
    pub seen: SocketAddr,
}

impl Conversation {
    /// Opens it.
    pub fn open(from: &Pod, to: SocketAddr) -> io::Result<Self> {
        Self::over(connect(from, to)?)
    }

    /// Opens it from one of the pod's addresses.
    pub fn open_as(from: &Pod, source: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Self::over(connect_as(from, source, to, PATIENCE)?)
    }

    fn over(mut stream: TcpStream) -> io::Result<Self> {
        let answer = read_greeting(&mut stream)?;
        Ok(Conversation { stream, peer: answer.name, seen: answer.client })
    }

    /// How long an answer may take from now on.
    pub fn set_patience(&mut self, patience: Duration) {
        self.stream.set_read_timeout(Some(patience)).expect("a timeout can be set");
    }

    /// Who this end is in its own eyes.
    pub fn own_address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has an address")
    }

    /// One word there and back.
    pub fn say(&mut self, word: &str) -> io::Result<()> {
        self.stream.write_all(word.as_bytes())?;
        let mut echo = vec![0; word.len()];
        self.stream.read_exact(&mut echo)?;
        if echo == word.as_bytes() { Ok(()) } else { Err(io::Error::other("the echo differs")) }
    }
}
