//! What the kernel knows of a network interface.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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

/// A socket to ask for interfaces of one network namespace by name: the one that the thread which made it was in.
#[derive(Debug)]
pub(crate) struct Probe(OwnedFd);

impl Probe {
    /// Asks in the calling thread's network namespace from now on.
    ///
    /// # Errors
    /// That of `socket(2)`.
    pub(crate) fn here() -> io::Result<Probe> {
        // SAFETY: takes numbers only.
        let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just given us this descriptor, and nobody else knows it.
        Ok(Probe(unsafe { OwnedFd::from_raw_fd(fd) }))
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

    fn ask(&self, what: libc::Ioctl, name: &str) -> io::Result<libc::ifreq> {
        let mut request = request_for(name)?;
        // SAFETY: both requests that are made by this function read and write one ifreq, which `request` is.
        let failed = unsafe { libc::ioctl(self.0.as_raw_fd(), what, &raw mut request) };
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
