//! What the kernel knows of a network interface.

use crate::netlink::Netlink;
use millrace_fastpath::wire::ethernet::MacAddr;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Of `linux/sockios.h` and `linux/ethtool.h`.
const SIOCSIFTXQLEN: libc::Ioctl = 0x8943;
const SIOCETHTOOL: libc::Ioctl = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GTXCSUM: u32 = 0x16;
const ETHTOOL_GGSO: u32 = 0x23;
const ETHTOOL_GGRO: u32 = 0x2b;
const ETHTOOL_SGRO: u32 = 0x2c;
const ETHTOOL_GCHANNELS: u32 = 0x3c;

/// The driver of a virtual interface that is another of this machine at its other end.
pub(crate) const VETH: &str = "veth";

/// A structure that begins with the ethtool command that it is for.
///
/// # Safety
/// It is laid out as the kernel's for that command.
unsafe trait EthtoolRequest {}

/// `struct ethtool_channels`.
#[derive(Default)]
#[repr(C)]
struct Channels {
    command: u32,
    most: [u32; 4],
    receive: u32,
    transmit: u32,
    other: u32,
    combined: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C)]
struct DriverInfo {
    command: u32,
    driver: [u8; 32],
    rest: [u8; 160],
}

/// `struct ethtool_value`.
#[repr(C)]
struct Switch {
    command: u32,
    is_on: u32,
}

// SAFETY: two numbers, as in the kernel's header.
unsafe impl EthtoolRequest for Switch {}
// SAFETY: nine numbers, as in the kernel's header.
unsafe impl EthtoolRequest for Channels {}
// SAFETY: 196 bytes, the driver's name behind the command, as in the kernel's header.
unsafe impl EthtoolRequest for DriverInfo {}

/// The index of the interface `name` in the calling thread's network namespace.
///
/// # Errors
/// That of `if_nametoindex(3)`: `ENODEV` when there is none.
pub(crate) fn index(name: &str) -> io::Result<u32> {
    let name = CString::new(name)?;
    // SAFETY: a terminated string that lives over the call.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    if index == 0 { Err(io::Error::last_os_error()) } else { Ok(index) }
}

/// Sockets to ask for interfaces of one network namespace by name: the one that the thread which made it was in.
#[derive(Debug)]
pub(crate) struct Probe {
    socket: OwnedFd,
    netlink: Netlink,
}

impl Probe {
    /// Asks in the calling thread's network namespace from now on.
    ///
    /// # Errors
    /// Those of `socket(2)` and [`Netlink::here`].
    pub(crate) fn here() -> io::Result<Probe> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        let socket = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Probe { socket, netlink: Netlink::here()? })
    }

    /// The flags (`IFF_…`) of the interface `name`.
    ///
    /// # Errors
    /// That of `SIOCGIFFLAGS`: `ENODEV` when there is none.
    pub(crate) fn flags(&self, name: &str) -> io::Result<i32> {
        let request = self.ask(libc::SIOCGIFFLAGS, name)?;
        // SAFETY: the kernel has stored the flags into the union.
        Ok(i32::from(unsafe { request.ifr_ifru.ifru_flags }))
    }

    /// The MTU of the interface `name`, bytes.
    ///
    /// # Errors
    /// That of `SIOCGIFMTU`: `ENODEV` when there is none.
    pub(crate) fn mtu(&self, name: &str) -> io::Result<u32> {
        let request = self.ask(libc::SIOCGIFMTU, name)?;
        // SAFETY: the kernel has stored the MTU into the union.
        Ok(unsafe { request.ifr_ifru.ifru_mtu }.cast_unsigned())
    }

    /// The MAC address of the interface `name`; none where it is not an Ethernet interface.
    ///
    /// # Errors
    /// That of `SIOCGIFHWADDR`: `ENODEV` when there is none.
    pub(crate) fn mac(&self, name: &str) -> io::Result<Option<MacAddr>> {
        let request = self.ask(libc::SIOCGIFHWADDR, name)?;
        // SAFETY: the kernel has stored an address into the union.
        let address = unsafe { request.ifr_ifru.ifru_hwaddr };
        let bytes: [u8; 6] = std::array::from_fn(|index| address.sa_data[index].cast_unsigned());
        Ok((address.sa_family == libc::ARPHRD_ETHER).then_some(MacAddr(bytes)))
    }

    /// The kind of the queueing discipline by which the interface `name` sends: `noqueue` if it has none.
    ///
    /// # Errors
    /// That of [`Netlink::link`]: `ENODEV` when there is none.
    pub(crate) fn discipline(&self, name: &str) -> io::Result<String> {
        let told = self.told(name, |attribute| match attribute {
            LinkAttribute::Qdisc(kind) => Some(kind),
            _ => None,
        });
        Ok(told?.unwrap_or_default())
    }

    /// Packets that were to leave by the interface `name` and that it has dropped.
    ///
    /// # Errors
    /// That of [`Netlink::link`]: `ENODEV` when there is none.
    pub(crate) fn transmit_drops(&self, name: &str) -> io::Result<u64> {
        let told = self.told(name, |attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_dropped),
            _ => None,
        });
        Ok(told?.unwrap_or_default())
    }

    /// What one attribute of the interface says; none when it has no such one.
    fn told<T>(&self, name: &str, of: impl FnMut(LinkAttribute) -> Option<T>) -> io::Result<Option<T>> {
        let LinkMessage { attributes, .. } = self.netlink.link(name)?;
        Ok(attributes.into_iter().find_map(of))
    }

    /// On how many queues the interface `name` receives; none when its driver does not say.
    pub(crate) fn receive_queues(&self, name: &str) -> Option<u32> {
        let mut channels = Channels { command: ETHTOOL_GCHANNELS, ..Channels::default() };
        self.ethtool(name, &mut channels).ok()?;
        Some(channels.receive + channels.combined).filter(|&count| count > 0)
    }

    /// The name of the driver of the interface `name`; none when it has no driver that says so.
    pub(crate) fn driver(&self, name: &str) -> Option<String> {
        let mut info = DriverInfo { command: ETHTOOL_GDRVINFO, driver: [0; 32], rest: [0; 160] };
        self.ethtool(name, &mut info).ok()?;
        let bytes = info.driver.split(|&byte| byte == 0).next()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Whether the interface `name` merges received packets (GRO).
    ///
    /// # Errors
    /// That of `ETHTOOL_GGRO`.
    pub(crate) fn merges(&self, name: &str) -> io::Result<bool> {
        self.is_on(name, ETHTOOL_GGRO)
    }

    /// Whether the interface `name` hands on large datagrams whole although large packets are switched off for it (GSO). The
    /// switch leaves them out; where checksums are not left to the interface, they are cut in any case (`harmonize_features` in
    /// net/core/dev.c).
    pub(crate) fn hands_on_large_datagrams(&self, name: &str) -> bool {
        let is_on = |command| self.is_on(name, command).ok();
        is_on(ETHTOOL_GGSO) == Some(false) && is_on(ETHTOOL_GTXCSUM) == Some(true)
    }

    fn is_on(&self, name: &str, command: u32) -> io::Result<bool> {
        let mut value = Switch { command, is_on: 0 };
        self.ethtool(name, &mut value)?;
        Ok(value.is_on != 0)
    }

    /// Says whether the interface `name` is to merge received packets (GRO).
    ///
    /// # Errors
    /// That of `ETHTOOL_SGRO`.
    pub(crate) fn set_merging(&self, name: &str, is_on: bool) -> io::Result<()> {
        self.ethtool(name, &mut Switch { command: ETHTOOL_SGRO, is_on: is_on.into() })
    }

    /// Sets the MTU of the interface `name`, bytes.
    ///
    /// # Errors
    /// That of `SIOCSIFMTU`.
    pub(crate) fn set_mtu(&self, name: &str, mtu: u32) -> io::Result<()> {
        let mut request = request_for(name)?;
        request.ifr_ifru.ifru_mtu = mtu.cast_signed();
        self.exchange(libc::SIOCSIFMTU as libc::Ioctl, request).map(drop)
    }

    /// Sets how many packets the interface `name` keeps that its other end has not taken.
    ///
    /// # Errors
    /// That of `SIOCSIFTXQLEN`.
    pub(crate) fn set_queue_len(&self, name: &str, packets: u32) -> io::Result<()> {
        let mut request = request_for(name)?;
        // The kernel reads it where the MTU is (`ifr_qlen`).
        request.ifr_ifru.ifru_mtu = packets.cast_signed();
        self.exchange(SIOCSIFTXQLEN, request).map(drop)
    }

    /// Sets the interface `name` up.
    ///
    /// # Errors
    /// That of `SIOCSIFFLAGS`.
    pub(crate) fn set_up(&self, name: &str) -> io::Result<()> {
        let flags = self.flags(name)? | libc::IFF_UP;
        let mut request = request_for(name)?;
        request.ifr_ifru.ifru_flags = flags as libc::c_short;
        self.exchange(libc::SIOCSIFFLAGS as libc::Ioctl, request).map(drop)
    }

    /// Asks the interface's driver; what a request is laid out as is said by the number that it begins with.
    fn ethtool<T: EthtoolRequest>(&self, name: &str, value: &mut T) -> io::Result<()> {
        let mut request = request_for(name)?;
        request.ifr_ifru.ifru_data = std::ptr::from_mut(value).cast();
        // SAFETY: the kernel reads and writes one structure of the command's kind, which `value` is, and only during the
        // call.
        let failed = unsafe { libc::ioctl(self.socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    fn ask(&self, what: libc::Ioctl, name: &str) -> io::Result<libc::ifreq> {
        self.exchange(what, request_for(name)?)
    }

    fn exchange(&self, what: libc::Ioctl, mut request: libc::ifreq) -> io::Result<libc::ifreq> {
        // SAFETY: the requests that are made by this function read and write one ifreq, which `request` is.
        let failed = unsafe { libc::ioctl(self.socket.as_raw_fd(), what, &raw mut request) };
        if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(request) }
    }
}

/// An `ifreq` for the interface `name`, otherwise zero.
///
/// # Errors
/// When no interface can have this name.
pub(crate) fn request_for(name: &str) -> io::Result<libc::ifreq> {
    let bytes = CString::new(name)?.into_bytes();
    // SAFETY: an ifreq is made of integers and plain pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if bytes.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENAMETOOLONG));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(bytes) {
        *to = from.cast_signed();
    }
    Ok(request)
}
