//! What a thread asks of the kernel's scheduler.

use std::io;

/// Gives the calling thread a nice value, from -20 (goes first) to 19.
///
/// # Errors
/// The kernel's answer: `EACCES` for a smaller value than it has, without `CAP_SYS_NICE`.
pub fn set_nice(nice: i32) -> io::Result<()> {
    // SAFETY: takes numbers only; on Linux a nice value is a thread's, and 0 is the calling one.
    let failed = unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_gets_its_nice_value_and_others_do_not() {
        // SAFETY: takes numbers only; 0 is the calling thread.
        let nice = || unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) };
        let before = nice();
        let own = std::thread::spawn(move || {
            set_nice(before.max(0) + 3).unwrap();
            nice()
        });
        assert_eq!((own.join().unwrap(), nice()), (before.max(0) + 3, before));
    }
}
