//! Packet sockets: the system calls.

use crate::virtio_header::HEADER_LEN;
use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd};
use std::ptr;

/// Bytes that the kernel keeps for the socket until they are sent. It takes twice that with its own books: some twenty large
/// frames, as many bytes as the ring of an uplink holds.
const SEND_BUFFER: libc::c_int = 1 << 20;

/// `PACKET_FANOUT_FLAG_IGNORE_OUTGOING` of `linux/if_packet.h`.
const FANOUT_IGNORES_OUTGOING: libc::c_uint = 0x4000;

/// `SIOCOUTQ` of `linux/sockios.h`.
const SIOCOUTQ: libc::Ioctl = libc::TIOCOUTQ;

/// A packet socket with a virtio-net header before each packet (packet(7)). It is of no interface, and no packet comes in by it,
/// before it is bound.
#[derive(Debug)]
pub(super) struct PacketSocket(File);

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl PacketSocket {
    /// A socket of the calling thread's network namespace.
    ///
    /// # Errors
    /// Those of `socket(2)` (`EPERM`: no `CAP_NET_RAW`) and `setsockopt(2)`.
    pub(super) fn unbound() -> io::Result<PacketSocket> {
        let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_PACKET, flags, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let socket = PacketSocket(unsafe { File::from_raw_fd(fd) });
        socket.set(libc::SOL_PACKET, libc::PACKET_VNET_HDR, &1)?;
        Ok(socket)
    }

    /// A socket by which packets leave an interface.
    ///
    /// # Errors
    /// Those of [`unbound`](PacketSocket::unbound) and of `bind(2)`.
    pub(super) fn sender(ifindex: u32) -> io::Result<PacketSocket> {
        let socket = PacketSocket::unbound()?;
        if socket.set(libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &SEND_BUFFER).is_err() {
            socket.set(libc::SOL_SOCKET, libc::SO_SNDBUF, &SEND_BUFFER)?;
        }
        // Protocol 0: nothing is received.
        socket.bind(ifindex, 0)?;
        Ok(socket)
    }

    /// Sets an option that is one of the kernel's all-integer structures.
    ///
    /// # Errors
    /// That of `setsockopt(2)`.
    pub(super) fn set<T: Copy>(&self, level: libc::c_int, option: libc::c_int, value: &T) -> io::Result<()> {
        let len = size_of::<T>() as libc::socklen_t;
        let at = ptr::from_ref(value).cast();
        // SAFETY: the kernel reads `len` bytes at the address, which is all of `value`.
        let failed = unsafe { libc::setsockopt(self.0.as_raw_fd(), level, option, at, len) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Makes it one of an interface's, for packets of a protocol (`ETH_P_…`).
    ///
    /// # Errors
    /// That of `bind(2)`.
    pub(super) fn bind(&self, ifindex: u32, protocol: u16) -> io::Result<()> {
        let address = libc::sockaddr_ll {
            sll_family: libc::AF_PACKET as u16,
            sll_protocol: protocol.to_be(),
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

    /// Packets that it had no room for since the last call. An error that waits is forgotten besides: after its interface was down
    /// the socket would be ready for ever.
    ///
    /// # Errors
    /// That of `getsockopt(2)`.
    pub(super) fn losses(&self) -> io::Result<u64> {
        let _was_down: libc::c_int = self.get(libc::SOL_SOCKET, libc::SO_ERROR, 0)?;
        let none = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let counts = self.get(libc::SOL_PACKET, libc::PACKET_STATISTICS, none)?;
        Ok(counts.tp_drops.into())
    }

    /// Makes it one of a group that shares what comes by the queue that it was received on: a new one, or that of `other`.
    ///
    /// # Errors
    /// Those of `setsockopt(2)` and `getsockopt(2)`.
    pub(super) fn share_with(&self, other: Option<&PacketSocket>) -> io::Result<()> {
        let (number, fresh) = match other {
            // Of the other one's kind and number, the number is below.
            Some(other) => (other.get(libc::SOL_PACKET, libc::PACKET_FANOUT, 0_u32)? & 0xffff, 0),
            None => (0, libc::PACKET_FANOUT_FLAG_UNIQUEID),
        };
        let join = |flags| {
            let group = number | (libc::PACKET_FANOUT_QM | fresh | flags) << 16;
            self.set(libc::SOL_PACKET, libc::PACKET_FANOUT, &group)
        };
        // In a group the sockets' own word on what goes out does not count; older kernels know it of sockets only.
        join(FANOUT_IGNORES_OUTGOING).or_else(|_| join(0))
    }

    /// Reads an option that is one of the kernel's all-integer structures, into `value`.
    fn get<T: Copy>(&self, level: libc::c_int, option: libc::c_int, mut value: T) -> io::Result<T> {
        let mut len = size_of::<T>() as libc::socklen_t;
        let at = (&raw mut value).cast();
        // SAFETY: the kernel writes at most `len` bytes at the address, which is all of `value`.
        let failed = unsafe { libc::getsockopt(self.0.as_raw_fd(), level, option, at, &raw mut len) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(value) }
    }

    /// Whether the device may not have sent yet what it was given by this socket.
    pub(super) fn is_sending(&self) -> bool {
        let mut bytes: libc::c_int = 0;
        // SAFETY: SIOCOUTQ writes one int, which `bytes` is.
        let failed = unsafe { libc::ioctl(self.0.as_raw_fd(), SIOCOUTQ, &raw mut bytes) };
        failed == 0 && bytes > 0
    }
}
