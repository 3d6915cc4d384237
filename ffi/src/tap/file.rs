//! One queue's file of `/dev/net/tun`: the system calls.

use super::error::{TapError, TapStep};
use crate::interface::request_for;
use crate::virtio_header::{self, HEADER_LEN, HeaderError, TUNNEL_HEADER_LEN};
use millrace_fastpath::port::Offload;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::OpenOptionsExt;

/// What the kernel may leave to us: unfinished checksums, whole TCP frames of both families.
const OFFLOADS: u32 = libc::TUN_F_CSUM | libc::TUN_F_TSO4 | libc::TUN_F_TSO6;
/// Whole UDP frames; since Linux 6.2, and only both together.
const UDP_OFFLOADS: u32 = libc::TUN_F_USO4 | libc::TUN_F_USO6;
/// Whole frames in a UDP tunnel, without and with an outer checksum; since Linux 6.17 (`TUN_F_UDP_TUNNEL_GSO` and `…_GSO_CSUM` of
/// linux/if_tun.h).
const TUNNEL_OFFLOADS: u32 = 0x080 | 0x100;

/// What frames a TAP carries whole, where the kernel can.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carries {
    /// TCP and UDP.
    TcpAndUdp,
    /// TCP, and whatever is in a UDP tunnel; but no UDP, which could be many packets of a tunnel in one.
    TcpAndTunnels,
}

/// A queue of a TAP. The interface goes away with the last one, unless it is to last.
#[derive(Debug)]
pub(crate) struct TapFile {
    file: File,
    /// Whether the kernel takes and gives whole UDP frames.
    udp: bool,
    /// The same for frames in a UDP tunnel. The header is the longer one then.
    tunnels: bool,
}

impl TapFile {
    /// Opens `queue` of the interface `name`, which has so many `queues`: makes it if it is to be `fresh`, else adds to the
    /// one that is there.
    pub(super) fn open(
        name: &str,
        queue: u32,
        queues: u32,
        fresh: bool,
        carries: Carries,
    ) -> Result<TapFile, TapError> {
        let failed = |step| {
            let name = name.to_owned();
            move |source| TapError::System { name, queue, step, source }
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).custom_flags(libc::O_NONBLOCK);
        let file = options.open("/dev/net/tun").map_err(failed(TapStep::Open))?;
        let mut file = TapFile { file, udp: false, tunnels: false };
        file.attach(name, queues, fresh).map_err(failed(TapStep::Attach))?;
        let more = if carries == Carries::TcpAndUdp { UDP_OFFLOADS } else { TUNNEL_OFFLOADS };
        let has_more = file.set_offloads(OFFLOADS | more).is_ok();
        if !has_more {
            file.set_offloads(OFFLOADS).map_err(failed(TapStep::Offloads))?;
        }
        file.udp = has_more && carries == Carries::TcpAndUdp;
        file.tunnels = has_more && carries == Carries::TcpAndTunnels;
        file.set_number(libc::TUNSETVNETHDRSZ, file.header_len() as i32).map_err(failed(TapStep::Header))?;
        file.set_number(libc::TUNSETVNETLE, 1).map_err(failed(TapStep::Header))?;
        Ok(file)
    }

    fn attach(&self, name: &str, queues: u32, fresh: bool) -> io::Result<()> {
        let mut request = request_for(name)?;
        let mut flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR;
        if queues > 1 {
            // Only then: the kernel makes room for 256 queues, each with a queueing discipline (12 ms and some megabytes).
            flags |= libc::IFF_MULTI_QUEUE;
        }
        if fresh {
            // An interface of this name that is there already is somebody else's.
            flags |= libc::IFF_TUN_EXCL;
        }
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes one ifreq, which `request` is.
        let failed = unsafe { libc::ioctl(self.raw(), libc::TUNSETIFF, &raw mut request) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Says whether the interface outlives its queues.
    pub(super) fn set_lasting(&self, lasting: bool) -> io::Result<()> {
        // SAFETY: TUNSETPERSIST takes its argument by value.
        let failed = unsafe { libc::ioctl(self.raw(), libc::TUNSETPERSIST, libc::c_ulong::from(lasting)) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn set_number(&self, what: libc::Ioctl, value: i32) -> io::Result<()> {
        // SAFETY: both requests that are made by this function read one int.
        let failed = unsafe { libc::ioctl(self.raw(), what, &raw const value) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn set_offloads(&self, offloads: u32) -> io::Result<()> {
        // SAFETY: TUNSETOFFLOAD takes its argument by value.
        let failed = unsafe { libc::ioctl(self.raw(), libc::TUNSETOFFLOAD, libc::c_ulong::from(offloads)) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// The interface's name as it is now: it may have been renamed.
    pub(super) fn name(&self) -> io::Result<String> {
        let mut request = request_for("")?;
        // SAFETY: TUNGETIFF writes one ifreq, which `request` is.
        let failed = unsafe { libc::ioctl(self.raw(), libc::TUNGETIFF, &raw mut request) };
        if failed != 0 {
            return Err(io::Error::last_os_error());
        }
        let bytes = request.ifr_name.map(|byte| byte.cast_unsigned());
        let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
        Ok(String::from_utf8_lossy(&bytes[..len]).into_owned())
    }

    /// The network namespace that the interface is in now: it may have been moved.
    pub(super) fn namespace(&self) -> io::Result<OwnedFd> {
        // SAFETY: TUNGETDEVNETNS takes no argument.
        let fd = unsafe { libc::ioctl(self.raw(), libc::TUNGETDEVNETNS) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// The descriptor's number.
    pub(super) fn raw(&self) -> RawFd {
        self.file.as_raw_fd()
    }

    /// Whether the kernel takes and gives whole UDP frames.
    pub(super) fn carries_large_udp(&self) -> bool {
        self.udp
    }

    /// Whether the kernel takes and gives whole frames in a UDP tunnel.
    pub(crate) fn carries_tunnels(&self) -> bool {
        self.tunnels
    }

    /// Bytes of the header before each packet, at most [`TUNNEL_HEADER_LEN`].
    pub(super) fn header_len(&self) -> usize {
        if self.tunnels { TUNNEL_HEADER_LEN } else { HEADER_LEN }
    }

    /// What `header` says of a packet whose first segment has `head` bytes.
    ///
    /// # Errors
    /// Those of [`virtio_header::decode`].
    pub(super) fn decode(
        &self,
        header: &[u8; TUNNEL_HEADER_LEN],
        head: usize,
    ) -> Result<Offload, HeaderError> {
        match header.first_chunk() {
            Some(short) if !self.tunnels => virtio_header::decode(short, head),
            _ => virtio_header::decode_tunnel(header, head),
        }
    }

    /// Reads a packet with its header; `EAGAIN` when there is none.
    pub(super) fn read(&self, into: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        (&self.file).read_vectored(into)
    }

    /// Writes a packet with its header.
    pub(crate) fn write(&self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        (&self.file).write_vectored(from)
    }
}
