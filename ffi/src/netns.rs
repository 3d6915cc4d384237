//! Network namespaces: the one that the process is in, and new ones.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;
use std::thread;

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

/// A new network namespace. It is there while the file is open, or something runs in it.
///
/// # Errors
/// Those of `unshare(2)` (`EPERM`: no `CAP_SYS_ADMIN`), of making a thread and of opening `/proc/thread-self/ns/net`.
pub(crate) fn fresh() -> io::Result<File> {
    let make = || {
        // SAFETY: takes a number only, and changes where this thread opens sockets from now on; it ends right after.
        match unsafe { libc::unshare(libc::CLONE_NEWNET) } {
            0 => File::open("/proc/thread-self/ns/net"),
            _ => Err(io::Error::last_os_error()),
        }
    };
    let thread = thread::Builder::new().name("netns".to_owned()).spawn(make)?;
    thread.join().map_err(|_| io::Error::other("the thread in the new namespace failed"))?
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
