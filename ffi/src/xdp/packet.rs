//! A packet socket that only sends: the system calls.

use crate::virtio_header::HEADER_LEN;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::ptr;

/// Bytes that the kernel keeps for the socket until they are sent. It takes twice that with its own books: some twenty large
/// frames, as many bytes as the ring of an uplink holds.
const SEND_BUFFER: libc::c_int = 1 << 20;

/// `SIOCOUTQ` of `linux/sockios.h`.
const SIOCOUTQ: libc::Ioctl = libc::TIOCOUTQ;

/// A packet socket of an interface, with a virtio-net header before each packet (packet(7)). No packet comes in by it.
#[derive(Debug)]
pub(super) struct PacketSocket(File);

impl PacketSocket {
    /// Opens one for an interface of the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of `socket(2)` (`EPERM`: no `CAP_NET_RAW`), `setsockopt(2)` and `bind(2)`.
    pub(super) fn open(ifindex: u32) -> io::Result<PacketSocket> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // Protocol 0: nothing is received.
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let socket = PacketSocket(unsafe { File::from_raw_fd(fd) });
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1)?;
        if socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, SEND_BUFFER).is_err() {
            socket.set(libc::SOL_SOCKET, libc::SO_SNDBUF, SEND_BUFFER)?;
        }
        socket.bind(ifindex)?;
        Ok(socket)
    }

    fn set(&self, level: libc::c_int, option: libc::c_int, value: libc::c_int) -> io::Result<()> {
        let len = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes at the address, which is all of `value`.
        let failed =
            unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, (&raw const value).cast(), len) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn bind(&self, ifindex: u32) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: 0,
            sll_ifindex: ifindex.cast_signed(),
            sll_hatype: 0,
            sll_pkttype: 0,
            sll_halen: 0,
            sll_addr: [0; 8],
        };
        let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
        // SAFETY: the kernel reads `len` bytes at the address, which is all of `address`.
        let failed = unsafe { libc::bind(self.0.as_raw_fd(), ptr::from_ref(&address).cast(), len) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Sends one packet: `parts` are its header of [`HEADER_LEN`] bytes and its bytes.
    ///
    /// # Errors
    /// `EAGAIN`: so much is on its way that this waits. `ENOBUFS`: the interface's queue has no room. `ENETDOWN`, `ENXIO`: it is
    /// down or gone. `EINVAL` and others: the kernel does not send such a packet.
    pub(super) fn send(&self, parts: &[IoSlice<'_>]) -> io::Result<()> {
        debug_assert!(parts.first().is_some_and(|first| first.len() == HEADER_LEN), "the header comes first");
        (&self.0).write_vectored(parts).map(drop)
    }

    /// Whether the device may not have sent yet what it was given by this socket.
    pub(super) fn is_sending(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ writes one int, which `bytes` is.
        let failed = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCOUTQ, &raw mut bytes) };
        failed == 0 && bytes > 0
    }
}
