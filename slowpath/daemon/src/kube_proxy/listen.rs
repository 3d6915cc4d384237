//! Addresses to serve at, open to everybody who can reach the node.

use super::RETRY;
use axum::serve::Listener;
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::sockopt::{Ipv6V6Only, ReuseAddr};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn6, bind as bind_socket, listen, setsockopt, socket,
};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};

/// What a connection may take in all. A probe takes milliseconds; whoever only holds a connection open is in the way.
const LIFETIME: Duration = Duration::from_secs(60);

/// Listens at an address, on the runtime of the calling thread. An unspecified address (`0.0.0.0` or `::`) means all
/// addresses of both families, as in Go programs, and of IPv4 where there is no IPv6.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    if !address.ip().is_unspecified() {
        return adopt(std::net::TcpListener::bind(address)?);
    }
    match bind_both(address.port()) {
        Err(error) if lacks_ipv6(&error) && address.is_ipv4() => adopt(std::net::TcpListener::bind(address)?),
        bound => adopt(bound?),
    }
}

/// Takes an address, now or later; `field` of the configuration names it.
pub(super) async fn take(address: SocketAddr, field: &str) -> TcpListener {
    let mut told = None;
    loop {
        match bind(address) {
            Ok(listener) => return listener,
            Err(error) => {
                let reason = error.to_string();
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(
                        %address,
                        %error,
                        "{field} cannot be taken and is tried again; is kube-proxy still running?"
                    );
                    told = Some(reason);
                }
                sleep(RETRY).await;
            }
        }
    }
}

fn adopt(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

/// At all addresses of both families, whatever `net.ipv6.bindv6only` says.
fn bind_both(port: u16) -> io::Result<std::net::TcpListener> {
    let socket = socket(AddressFamily::Inet6, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    setsockopt(&socket, Ipv6V6Only, &false)?;
    setsockopt(&socket, ReuseAddr, &true)?;
    let everywhere = SockaddrIn6::from(SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0));
    bind_socket(socket.as_raw_fd(), &everywhere)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket.into())
}

/// Whether the kernel has no IPv6, or not in this namespace.
fn lacks_ipv6(error: &io::Error) -> bool {
    let refusals = [nix::Error::EAFNOSUPPORT, nix::Error::EADDRNOTAVAIL];
    error.raw_os_error().is_some_and(|code| refusals.iter().any(|refusal| *refusal as i32 == code))
}

/// The addresses of this namespace's interfaces that are in one of the ranges, with port 0.
pub(super) fn addresses_in(ranges: &[IpNet]) -> io::Result<Vec<SocketAddr>> {
    let of_interface = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| SocketAddrV4::from(*address).into());
        // With its scope, without which a link-local address means nothing.
        v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddrV6::from(*address).into()))
    };
    let is_selected = |address: &SocketAddr| ranges.iter().any(|range| range.contains(&address.ip()));
    let mut found: Vec<SocketAddr> = getifaddrs()?.filter_map(of_interface).filter(is_selected).collect();
    found.sort();
    found.dedup();
    Ok(found)
}

/// Every address of both families.
pub(super) const EVERYWHERE: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 0);

/// A listener that has few connections at a time, and none for long.
pub(super) struct Guarded {
    listener: TcpListener,
    room: Arc<Semaphore>,
    lifetime: Duration,
}

impl Guarded {
    pub(super) fn new(listener: TcpListener, connections: usize) -> Self {
        Guarded { listener, room: Arc::new(Semaphore::new(connections)), lifetime: LIFETIME }
    }
}

impl Listener for Guarded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let permit = Arc::clone(&self.room).acquire_owned().await.ok();
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        (Connection { stream, end: Box::pin(sleep(self.lifetime)), _permit: permit }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that fails when its time is over.
pub(super) struct Connection {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Connection {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(context) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::time::timeout;

    fn run(test: impl Future<Output = ()>) {
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
    }

    async fn guarded(connections: usize, lifetime: Duration) -> (Guarded, SocketAddr) {
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let guarded = Guarded { lifetime, ..Guarded::new(listener, connections) };
        let address = guarded.local_addr().unwrap();
        (guarded, address)
    }

    #[test]
    fn an_unspecified_address_means_both_families() {
        run(async {
            for unspecified in ["0.0.0.0:0", "[::]:0"] {
                let listener = bind(unspecified.parse().unwrap()).unwrap();
                let port = listener.local_addr().unwrap().port();
                TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                if listener.local_addr().unwrap().is_ipv6() {
                    TcpStream::connect(("::1", port)).await.unwrap();
                }
                assert_eq!(
                    bind(SocketAddr::from(([0, 0, 0, 0], port))).unwrap_err().kind(),
                    io::ErrorKind::AddrInUse
                );
            }
        });
    }

    #[test]
    fn a_connection_beyond_the_limit_waits_for_one_that_ends() {
        run(async {
            let (mut guarded, address) = guarded(1, LIFETIME).await;
            let _clients =
                (TcpStream::connect(address).await.unwrap(), TcpStream::connect(address).await.unwrap());
            let (first, _) = guarded.accept().await;
            assert!(timeout(Duration::from_millis(50), guarded.accept()).await.is_err());
            drop(first);
            timeout(Duration::from_secs(5), guarded.accept()).await.unwrap();
        });
    }

    #[test]
    fn a_connection_that_is_only_held_open_ends() {
        run(async {
            let (mut guarded, address) = guarded(1, Duration::from_millis(50)).await;
            let mut client = TcpStream::connect(address).await.unwrap();
            let (mut connection, _) = guarded.accept().await;
            client.write_all(b"GET").await.unwrap();
            let mut bytes = [0; 8];
            assert_eq!(connection.read(&mut bytes).await.unwrap(), 3);
            let waited = timeout(Duration::from_secs(5), connection.read(&mut bytes)).await.unwrap();
            assert_eq!(waited.unwrap_err().kind(), io::ErrorKind::TimedOut);
            assert_eq!(connection.write(b"late").await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        });
    }

    #[test]
    fn addresses_are_those_of_interfaces_in_the_ranges() {
        let in_ranges = |ranges: &[&str]| {
            addresses_in(&ranges.iter().map(|range| range.parse().unwrap()).collect::<Vec<_>>()).unwrap()
        };
        assert_eq!(in_ranges(&["127.0.0.1/32"]), [SocketAddr::from(([127, 0, 0, 1], 0))]);
        assert!(in_ranges(&["198.51.100.0/24"]).is_empty());
        assert!(in_ranges(&[]).is_empty());
    }
}
