//! The library's callbacks, and which port each of its devices belongs to.
//!
//! They run on the library's thread, and on one that closes a port. `vring_state_changed` runs while the library
//! holds the locks of all the device's rings, which a worker may be waiting for: it must not wait for a worker.

use super::shared::{Shared, Vid};
use dpdk_sys as sys;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{CStr, CString, c_char, c_int};
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

#[derive(Default)]
struct Registry {
    ports: HashMap<CString, Arc<Shared>>,
    guests: BTreeMap<c_int, Guest>,
}

/// One connection. A socket can have several at a time; the first that is ready has the port.
#[derive(Default)]
struct Guest {
    ready: BTreeSet<u16>,
    port: Option<Arc<Shared>>,
}

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, Registry> {
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a port known under its path; false when the path is taken.
pub(super) fn add(shared: &Arc<Shared>) -> bool {
    let mut registry = registry();
    let free = !registry.ports.contains_key(&shared.c_path);
    if free {
        registry.ports.insert(shared.c_path.clone(), Arc::clone(shared));
    }
    free
}

/// Forgets a port.
pub(super) fn remove(shared: &Shared) {
    registry().ports.remove(&shared.c_path);
}

/// The callbacks, as the library wants them.
struct Callbacks(sys::rte_vhost_device_ops);

// SAFETY: never written; its pointers are to functions, or null.
unsafe impl Sync for Callbacks {}

static CALLBACKS: Callbacks = Callbacks(sys::rte_vhost_device_ops {
    new_device: Some(new_device),
    destroy_device: Some(destroy_device),
    vring_state_changed: Some(vring_state_changed),
    features_changed: None,
    new_connection: Some(new_connection),
    destroy_connection: Some(destroy_connection),
    guest_notified: None,
    reserved: [std::ptr::null_mut()],
});

pub(super) fn callbacks() -> &'static sys::rte_vhost_device_ops {
    &CALLBACKS.0
}

extern "C" fn new_connection(vid: c_int) -> c_int {
    registry().guests.insert(vid, Guest::default());
    0
}

extern "C" fn destroy_connection(vid: c_int) {
    registry().guests.remove(&vid);
}

/// The guest is ready: its memory is mapped and at least its first pair of rings is set up.
extern "C" fn new_device(vid: c_int) -> c_int {
    let Some(path) = path_of(vid) else { return -1 };
    // SAFETY: the device exists while its callback runs.
    let rings = unsafe { sys::rte_vhost_get_vring_num(vid) };
    for ring in 0..rings {
        // Polling needs no kicks; `arm` asks for them again. The library holds no lock here.
        // SAFETY: as above, and the ring exists.
        unsafe { sys::rte_vhost_enable_guest_notification(vid, ring, 0) };
    }
    let mut registry = registry();
    let Some(shared) = registry.ports.get(&path).cloned() else { return -1 };
    let taken = |guest: &Guest| guest.port.as_ref().is_some_and(|port| Arc::ptr_eq(port, &shared));
    if registry.guests.values().any(taken) {
        // A second guest on one socket. The library asks again at its next message.
        return -1;
    }
    let guest = registry.guests.entry(vid).or_default();
    guest.port = Some(Arc::clone(&shared));
    for ring in &guest.ready {
        watch(&shared, vid, *ring);
    }
    shared.arrivals.fetch_add(1, Ordering::Relaxed);
    shared.attach(vid as Vid, &guest.ready, features_of(vid));
    tracing::info!(path = ?shared.path, rings, "vhost-user guest is ready");
    0
}

/// The guest goes. When this returns the library frees the device.
extern "C" fn destroy_device(vid: c_int) {
    let port = registry().guests.get_mut(&vid).and_then(|guest| guest.port.take());
    if let Some(shared) = port {
        // Without the registry's lock: this waits for workers.
        shared.detach();
        tracing::info!(path = ?shared.path, "vhost-user guest is gone");
    }
}

extern "C" fn vring_state_changed(vid: c_int, ring: u16, enable: c_int) -> c_int {
    let mut registry = registry();
    let guest = registry.guests.entry(vid).or_default();
    if enable != 0 {
        guest.ready.insert(ring)
    } else {
        guest.ready.remove(&ring)
    };
    if let Some(shared) = &guest.port {
        if enable != 0 {
            watch(shared, vid, ring);
        } else {
            shared.waker(ring).forget(ring);
        }
        shared.attach(vid as Vid, &guest.ready, features_of(vid));
    }
    0
}

/// Watches the kicks of a ring that the guest sends by.
fn watch(shared: &Shared, vid: c_int, ring: u16) {
    if ring.is_multiple_of(2) {
        return;
    }
    let mut vring = sys::rte_vhost_vring::default();
    // SAFETY: fills in the structure; checks both numbers itself.
    if unsafe { sys::rte_vhost_get_vhost_vring(vid, ring, &raw mut vring) } == 0 {
        shared.waker(ring).watch(ring, vring.kickfd);
    }
}

fn features_of(vid: c_int) -> u64 {
    let mut features = 0;
    // SAFETY: writes one number; checks `vid` itself, and leaves the number alone when it fails.
    unsafe { sys::rte_vhost_get_negotiated_features(vid, &raw mut features) };
    features
}

fn path_of(vid: c_int) -> Option<CString> {
    let mut path = [0 as c_char; libc::PATH_MAX as usize];
    // SAFETY: writes at most as many bytes as the array has, a zero byte among them.
    if unsafe { sys::rte_vhost_get_ifname(vid, path.as_mut_ptr(), path.len()) } != 0 {
        return None;
    }
    // SAFETY: ends with a zero byte within the array, as just written.
    Some(unsafe { CStr::from_ptr(path.as_ptr()) }.to_owned())
}
