//! The network namespace that the process is in.

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

/// A number that this network namespace of the calling thread has alone, until the machine is started anew
/// (`SO_NETNS_COOKIE`, Linux 5.14; the first namespace's is 1).
///
/// # Errors
/// What the kernel says: `ENOPROTOOPT` if it does not know such numbers.
pub fn cookie() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let mut cookie = 0u64;
    let mut len = size_of::<u64>() as libc::socklen_t;
    let into = (&raw mut cookie).cast();
    // SAFETY: the descriptor is open; `into` and `len` are of a variable of eight bytes, which is what this option writes.
    match unsafe {
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_NETNS_COOKIE, into, &raw mut len)
    } {
        0 => Ok(cookie),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_has_a_number_of_its_own() {
        let here = cookie().unwrap();
        assert_eq!(cookie().unwrap(), here);
        let elsewhere = std::thread::spawn(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            cookie().unwrap()
        });
        assert_ne!(elsewhere.join().unwrap(), here);
    }
}
