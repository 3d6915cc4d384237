//! Opening and closing vhost-user ports.

use super::queue::VhostQueue;
use super::shared::Shared;
use super::{Role, VhostConfig, VhostError, registry};
use crate::device::{Device, Link, Opened};
use crate::mempool::Mempool;
use dpdk_sys as sys;
use millrace_fastpath::port::{PortCounters, PortQueue};
use millrace_fastpath::sync::Domain;
use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// `sun_path` without its last byte.
const LONGEST_PATH: usize = 107;
const MOST_QUEUES: u16 = 64;

/// Opens a port. Frames from the guest are made from `pool`, and so are the pieces of large frames that the guest
/// does not take whole. Whoever polls a queue must be an online reader of `domain` meanwhile.
///
/// A socket file that is left over from a process that is gone is replaced.
///
/// # Errors
/// [`VhostError`].
pub fn open(
    config: &VhostConfig,
    pool: &Mempool,
    counters: &Arc<PortCounters>,
    domain: &Arc<Domain>,
) -> Result<Opened, VhostError> {
    let path = config.path.clone();
    if path.as_os_str().len() > LONGEST_PATH {
        return Err(VhostError::PathTooLong(path));
    }
    if !(1..=MOST_QUEUES).contains(&config.queues) {
        return Err(VhostError::Queues(config.queues));
    }
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let shared = Arc::new(Shared::try_new(path.clone(), c_path, config.queues, Arc::clone(domain))?);
    if !registry::add(&shared) {
        return Err(VhostError::InUse(path));
    }
    if config.role == Role::Server
        && let Err(error) = remove_leftover(&path)
    {
        registry::remove(&shared);
        return Err(error);
    }
    let device = VhostDevice { shared, role: config.role, registered: false, pool: pool.clone() };
    let device = device.start(config)?;
    let queue = |index| -> Box<dyn PortQueue<_>> {
        Box::new(VhostQueue::new(Arc::clone(&device.shared), index, pool.clone(), Arc::clone(counters)))
    };
    let queues = (0..usize::from(config.queues)).map(queue).collect();
    Ok(Opened { device: Box::new(device), queues })
}

/// Owns the socket.
struct VhostDevice {
    shared: Arc<Shared>,
    role: Role,
    registered: bool,
    #[expect(dead_code, reason = "keeps DPDK's environment, which the socket belongs to")]
    pool: Mempool,
}

impl VhostDevice {
    fn start(mut self, config: &VhostConfig) -> Result<Self, VhostError> {
        let flags = match config.role {
            Role::Server => 0,
            Role::Client => u64::from(sys::RTE_VHOST_USER_CLIENT),
        };
        let path = self.shared.c_path.clone();
        let path = path.as_ptr();
        // SAFETY: a C string that outlives the call; so for all the calls below.
        let registered = unsafe { sys::rte_vhost_driver_register(path, flags) };
        self.check(registered, "register")?;
        self.registered = true;
        // SAFETY: as above.
        let disabled = unsafe { sys::rte_vhost_driver_disable_features(path, unwanted(config)) };
        self.check(disabled, "choose the features of")?;
        // SAFETY: as above; the callbacks live as long as the process.
        let callbacks = unsafe { sys::rte_vhost_driver_callback_register(path, registry::callbacks()) };
        self.check(callbacks, "watch")?;
        // SAFETY: as above.
        let started = unsafe { sys::rte_vhost_driver_start(path) };
        self.check(started, "open")?;
        Ok(self)
    }

    fn check(&self, result: i32, step: &'static str) -> Result<(), VhostError> {
        if result == 0 { Ok(()) } else { Err(VhostError::Library { step, path: self.shared.path.clone() }) }
    }
}

impl Drop for VhostDevice {
    fn drop(&mut self) {
        if self.registered {
            // The library gives up while one of its callbacks runs for this socket; that passes.
            // SAFETY: a C string that outlives the call, and no callback runs on this thread.
            while unsafe { sys::rte_vhost_driver_unregister(self.shared.c_path.as_ptr()) } == -libc::EAGAIN {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        registry::remove(&self.shared);
    }
}

impl Device for VhostDevice {
    fn kind(&self) -> &'static str {
        "vhost-user"
    }

    fn link(&self) -> Link {
        match self.shared.source() {
            Some(source) if source.pairs > 0 => Link::Up,
            _ => Link::Down { reason: "no guest is connected".to_owned() },
        }
    }

    fn details(&self) -> Vec<(&'static str, String)> {
        let features = self.shared.features.load(Ordering::Relaxed);
        let packed = features & 1 << sys::VIRTIO_F_RING_PACKED != 0;
        vec![
            ("socket", self.shared.path.display().to_string()),
            ("role", if self.role == Role::Server { "server" } else { "client" }.to_owned()),
            ("guests-seen", self.shared.arrivals.load(Ordering::Relaxed).to_string()),
            ("ring-pairs", self.shared.source().map_or(0, |source| source.pairs).to_string()),
            ("rings", if packed { "packed" } else { "split" }.to_owned()),
            ("features", format!("{features:#x}")),
        ]
    }
}

/// The features that are not offered, as a mask. Why: see the module's text.
fn unwanted(config: &VhostConfig) -> u64 {
    let mut bits = vec![
        sys::VIRTIO_NET_F_HOST_UFO,
        sys::VIRTIO_NET_F_GUEST_UFO,
        sys::VIRTIO_NET_F_HOST_ECN,
        sys::VIRTIO_NET_F_GUEST_ECN,
    ];
    if !config.packed {
        bits.push(sys::VIRTIO_F_RING_PACKED);
    }
    if !config.offloads {
        bits.extend([sys::VIRTIO_NET_F_CSUM, sys::VIRTIO_NET_F_GUEST_CSUM, sys::VIRTIO_NET_F_GSO]);
        bits.extend([sys::VIRTIO_NET_F_HOST_TSO4, sys::VIRTIO_NET_F_HOST_TSO6]);
        bits.extend([sys::VIRTIO_NET_F_GUEST_TSO4, sys::VIRTIO_NET_F_GUEST_TSO6]);
    }
    bits.iter().fold(0, |mask, bit| mask | 1 << bit)
}

/// Removes a socket file on which nobody listens.
fn remove_leftover(path: &Path) -> Result<(), VhostError> {
    let io_error = |error| VhostError::Io { path: PathBuf::from(path), error };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(VhostError::NotASocket(path.into())),
        Ok(_) => {}
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            std::fs::remove_file(path).map_err(io_error)
        }
        Err(error) => Err(io_error(error)),
        Ok(_) => Err(VhostError::InUse(path.into())),
    }
}
