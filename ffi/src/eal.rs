//! DPDK's environment: memory, logs, threads. One per process.

use dpdk_sys as sys;
use std::ffi::{CStr, CString, NulError, c_char, c_int};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// How DPDK's environment is set up.
#[derive(Clone, Debug)]
pub struct EalConfig {
    /// Sets several daemons on one machine apart. Letters, digits, `-` and `_`.
    pub prefix: String,
    /// Where packet memory comes from.
    pub memory: Memory,
    /// Whether PCI devices are looked for.
    pub pci: Pci,
    /// DPDK's messages of this level and above are passed to `tracing`.
    pub log_level: LogLevel,
}

/// Where packet memory comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Memory {
    /// Hugepages, taken as they are needed and up to `limit_mib` MiB on each NUMA node (0: no limit). Anonymous:
    /// no file is left behind, whatever becomes of the process, and no hugetlbfs need be mounted.
    Hugepages {
        /// MiB for each NUMA node, at most.
        limit_mib: u32,
    },
    /// Ordinary memory, `mib` MiB reserved at once.
    Ordinary {
        /// MiB reserved.
        mib: u32,
    },
}

/// Whether PCI devices are looked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Pci {
    /// The PCI bus is left alone.
    Off,
    /// Only these addresses may be used (`0000:3b:00.0`). Empty: any that is bound to a driver DPDK can use.
    Allow(Vec<String>),
}

/// How much DPDK says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum LogLevel {
    /// Only what makes it unusable.
    Critical = 3,
    /// Failures.
    Error = 4,
    /// And oddities.
    Warning = 5,
    /// And normal operation.
    Info = 7,
    /// Everything.
    Debug = 8,
}

impl Default for EalConfig {
    fn default() -> Self {
        EalConfig {
            prefix: "millrace".to_owned(),
            memory: Memory::Hugepages { limit_mib: 0 },
            pci: Pci::Off,
            log_level: LogLevel::Warning,
        }
    }
}

/// Why DPDK's environment could not be set up or used.
#[derive(Debug, thiserror::Error)]
pub enum EalError {
    /// It was set up before in this process; DPDK cannot do that twice.
    #[error("DPDK's environment was already set up in this process")]
    AlreadySetUp,
    /// A configured text has a zero byte in it.
    #[error("an argument for DPDK has a zero byte in it")]
    ZeroByte(#[from] NulError),
    /// The prefix would be read as something else.
    #[error("prefix {0:?} for DPDK: only letters, digits, '-' and '_' are possible")]
    BadPrefix(String),
    /// DPDK refused.
    #[error("DPDK's environment cannot be set up with {arguments:?}: {reason}")]
    Init {
        /// The arguments it was given.
        arguments: Vec<String>,
        /// DPDK's word for the error.
        reason: String,
    },
    /// No room for another thread.
    #[error("DPDK takes no further thread: {0}")]
    Thread(String),
}

/// DPDK's environment. Clones share it; it is taken down when the last of them, and everything made with it, is
/// gone. It can be set up once in a process.
#[derive(Clone, Debug)]
pub struct Eal(#[expect(dead_code, reason = "held for its Drop")] Arc<Environment>);

#[derive(Debug)]
struct Environment(());

impl Drop for Environment {
    fn drop(&mut self) {
        // SAFETY: set up once by `Eal::try_new`; all that uses DPDK holds an `Eal`, so nothing does any more.
        unsafe { sys::rte_eal_cleanup() };
    }
}

static SET_UP: AtomicBool = AtomicBool::new(false);

impl Eal {
    /// Sets DPDK up. The calling thread keeps its CPU affinity, and DPDK starts no worker threads; it does start
    /// two threads of its own that sleep (interrupts, and vhost's sockets once there is one).
    ///
    /// # Errors
    /// [`EalError`]: a second call, a bad prefix, or what DPDK says (typically: no memory).
    pub fn try_new(config: &EalConfig) -> Result<Eal, EalError> {
        let arguments = arguments(config)?;
        let c_arguments =
            arguments.iter().map(|text| CString::new(text.as_str())).collect::<Result<Vec<_>, _>>()?;
        if SET_UP.swap(true, Ordering::AcqRel) {
            return Err(EalError::AlreadySetUp);
        }
        let affinity = Affinity::of_this_thread();
        // DPDK keeps pointers into its arguments and may reorder the array: both live as long as the process.
        let pointers: &'static mut [*mut c_char] =
            Box::leak(c_arguments.into_iter().map(CString::into_raw).chain([std::ptr::null_mut()]).collect());
        // SAFETY: the sink is a function that lives as long as the process and takes any text.
        unsafe { sys::millrace_log_route(Some(log_sink)) };
        let count = (pointers.len() - 1) as c_int;
        // SAFETY: `count` C strings and a null pointer, none of which is ever freed; called once in a process.
        let parsed = unsafe { sys::rte_eal_init(count, pointers.as_mut_ptr()) };
        affinity.restore();
        // Nothing is ever put into the directory that DPDK makes for it.
        let _ = std::fs::remove_dir(format!("/var/run/dpdk/{}", config.prefix));
        if parsed < 0 {
            return Err(EalError::Init { arguments, reason: last_error() });
        }
        quieten_data_path();
        Ok(Eal(Arc::new(Environment(()))))
    }

    /// Makes the calling thread known to DPDK, which gives it caches in front of the packet pools. Take it before
    /// the first poll, and keep it until the thread ends.
    ///
    /// # Errors
    /// [`EalError::Thread`] when DPDK has no id left (there are 128).
    pub fn register_thread(&self) -> Result<RegisteredThread, EalError> {
        // SAFETY: reads a thread-local number.
        let known = unsafe { sys::millrace_lcore_id() } < sys::RTE_MAX_LCORE;
        // SAFETY: the environment is set up; a thread that is known already is not registered twice.
        if !known && unsafe { sys::rte_thread_register() } < 0 {
            return Err(EalError::Thread(last_error()));
        }
        Ok(RegisteredThread { leave: !known, eal: self.clone(), not_send: PhantomData })
    }
}

/// The calling thread's membership in DPDK's environment. Stays on its thread.
#[derive(Debug)]
pub struct RegisteredThread {
    leave: bool,
    #[expect(dead_code, reason = "keeps the environment while the thread is known to it")]
    eal: Eal,
    not_send: PhantomData<*mut ()>,
}

impl Drop for RegisteredThread {
    fn drop(&mut self) {
        if self.leave {
            // SAFETY: not `Send`, so this is the thread that `register_thread` registered.
            unsafe { sys::rte_thread_unregister() };
        }
    }
}

/// DPDK's word for the calling thread's last error.
pub(crate) fn last_error() -> String {
    // SAFETY: reads a thread-local number.
    error_name(unsafe { sys::millrace_errno() })
}

/// DPDK's word for an error number, of either sign.
pub(crate) fn error_name(errno: i32) -> String {
    // SAFETY: takes any number; gives a C string that lives until this thread's next call.
    let text = unsafe { sys::rte_strerror(errno.abs()) };
    // SAFETY: a valid C string, as above, copied at once.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

fn arguments(config: &EalConfig) -> Result<Vec<String>, EalError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if config.prefix.is_empty() || !config.prefix.chars().all(legal) {
        return Err(EalError::BadPrefix(config.prefix.clone()));
    }
    let mut arguments: Vec<String> = vec!["millrace".into(), "--no-telemetry".into()];
    arguments.push(format!("--file-prefix={}", config.prefix));
    // One EAL core only, floating over the CPUs that this thread may use: workers are threads of our own.
    arguments.push(format!("--lcores=0@({})", Affinity::of_this_thread().cpus().join(",")));
    match config.memory {
        Memory::Hugepages { limit_mib } => {
            // One descriptor for many pages: the far side of a `net_virtio_user` takes eight regions at most.
            arguments.extend(["--in-memory".into(), "--single-file-segments".into()]);
            if limit_mib > 0 {
                arguments.push(format!("--socket-limit={limit_mib}"));
            }
        }
        // DPDK does not take `--in-memory` beside this; nothing but its shared configuration would be a file.
        Memory::Ordinary { mib } => {
            arguments.extend(["--no-huge".into(), "--no-shconf".into(), format!("-m{mib}")]);
        }
    }
    match &config.pci {
        Pci::Off => arguments.extend(["--no-pci".into(), "--iova-mode=va".into()]),
        Pci::Allow(addresses) => {
            arguments.extend(addresses.iter().map(|address| format!("--allow={address}")))
        }
    }
    arguments.push(format!("--log-level={}", config.log_level as u8));
    Ok(arguments)
}

/// What a guest can provoke for every packet must not reach the log.
fn quieten_data_path() {
    // SAFETY: a valid C string; DPDK copies it.
    unsafe {
        sys::rte_log_set_level_pattern(c"lib.vhost.data".as_ptr(), u32::from(LogLevel::Critical as u8))
    };
}

/// The CPUs that a thread may run on. EAL moves the thread that sets it up; this moves it back.
struct Affinity(libc::cpu_set_t);

impl Affinity {
    fn of_this_thread() -> Self {
        // SAFETY: a `cpu_set_t` is an array of numbers, for which zeroes are valid.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: writes at most the given size into `set`. When it fails the set stays empty.
        unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) };
        Affinity(set)
    }

    fn cpus(&self) -> Vec<String> {
        // SAFETY: every number is below the size of the set.
        let allowed = |cpu: &usize| unsafe { libc::CPU_ISSET(*cpu, &self.0) };
        // EAL knows no CPU beyond its own limit.
        (0..sys::RTE_MAX_LCORE as usize).filter(allowed).map(|cpu| cpu.to_string()).collect()
    }

    fn restore(&self) {
        // SAFETY: reads the given size from the set.
        unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.0) };
    }
}

/// Passes one of DPDK's messages on. Called by DPDK on any thread.
extern "C" fn log_sink(text: *const c_char, length: usize) {
    if text.is_null() {
        return;
    }
    // SAFETY: DPDK's stream hands over `length` bytes that stay while this function runs.
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), length) };
    let text = String::from_utf8_lossy(bytes);
    // SAFETY: reads a thread-local number.
    let level = unsafe { sys::rte_log_cur_msg_loglevel() };
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match level {
            0..=4 => tracing::error!(target: "dpdk", "{line}"),
            5 => tracing::warn!(target: "dpdk", "{line}"),
            6 | 7 => tracing::info!(target: "dpdk", "{line}"),
            _ => tracing::debug!(target: "dpdk", "{line}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_daemon_asks_for_no_pci_and_no_more_than_its_memory() {
        let config = EalConfig { memory: Memory::Hugepages { limit_mib: 64 }, ..EalConfig::default() };
        let arguments = arguments(&config).unwrap();
        assert!(arguments.contains(&"--no-pci".to_owned()));
        assert!(arguments.contains(&"--in-memory".to_owned()));
        assert!(arguments.contains(&"--socket-limit=64".to_owned()));
    }

    #[test]
    fn a_prefix_that_is_a_path_is_refused() {
        let config = EalConfig { prefix: "../x".to_owned(), ..EalConfig::default() };
        assert!(matches!(arguments(&config), Err(EalError::BadPrefix(prefix)) if prefix == "../x"));
    }
}
