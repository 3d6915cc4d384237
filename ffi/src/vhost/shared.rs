//! What the library's thread tells the workers.

use super::VhostError;
use super::wake::Waker;
use crate::gso::{Caps, LARGEST_FRAME};
use dpdk_sys as sys;
use millrace_fastpath::sync::Domain;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// The library's number for a connected guest, below 1024.
pub(super) type Vid = u16;

/// Bytes of an Ethernet frame with a tag: what a guest's buffers hold that knows neither TSO nor mergeable ones.
const PLAIN_FRAME: usize = 1518;

const NOBODY_RX: u32 = u32::MAX;
const NOBODY_TX: u64 = u64::MAX;
const CHECKSUM: u64 = 1 << 32;
const TSO4: u64 = 1 << 33;
const TSO6: u64 = 1 << 34;
const LARGE: u64 = 1 << 35;

/// One port's state, shared by its device, its queues and the library's thread.
pub(super) struct Shared {
    pub(super) path: PathBuf,
    pub(super) c_path: CString,
    pub(super) domain: Arc<Domain>,
    /// One for each queue.
    pub(super) wakers: Vec<Waker>,
    /// The guest and its number of ring pairs, or nobody.
    rx: AtomicU32,
    /// For each queue: the guest, the ring to send to, and what the guest takes; or nobody.
    tx: Vec<AtomicU64>,
    /// Guests that have come until now.
    pub(super) arrivals: AtomicU64,
    pub(super) features: AtomicU64,
}

/// Whom a queue receives from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Source {
    pub(super) vid: Vid,
    /// Pairs of rings, of which a queue polls each `queues`-th.
    pub(super) pairs: u16,
}

/// Whom a queue sends to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Sink {
    pub(super) vid: Vid,
    pub(super) ring: u16,
    pub(super) caps: Caps,
}

impl Shared {
    pub(super) fn try_new(
        path: PathBuf,
        c_path: CString,
        queues: u16,
        domain: Arc<Domain>,
    ) -> Result<Shared, VhostError> {
        let wakers = (0..queues).map(|_| Waker::try_new()).collect::<Result<_, _>>();
        let wakers = wakers.map_err(|error| VhostError::Io { path: path.clone(), error })?;
        let tx = (0..queues).map(|_| AtomicU64::new(NOBODY_TX)).collect();
        let (rx, arrivals, features) = (AtomicU32::new(NOBODY_RX), AtomicU64::new(0), AtomicU64::new(0));
        Ok(Shared { path, c_path, domain, wakers, rx, tx, arrivals, features })
    }

    /// Whom to receive from, now.
    #[inline]
    pub(super) fn source(&self) -> Option<Source> {
        let word = self.rx.load(Ordering::Acquire);
        (word != NOBODY_RX).then_some(Source { vid: (word >> 16) as u16, pairs: word as u16 })
    }

    /// Whom `queue` is to send to, now.
    #[inline]
    pub(super) fn sink(&self, queue: usize) -> Option<Sink> {
        let word = self.tx[queue].load(Ordering::Acquire);
        (word != NOBODY_TX).then(|| Sink { vid: (word >> 16) as u16, ring: word as u16, caps: caps(word) })
    }

    /// Publishes a guest and its rings that are ready.
    pub(super) fn attach(&self, vid: Vid, ready: &BTreeSet<u16>, features: u64) {
        self.features.store(features, Ordering::Relaxed);
        let receivers: Vec<u16> = ready.iter().copied().filter(|ring| ring % 2 == 0).collect();
        for (queue, slot) in self.tx.iter().enumerate() {
            // A guest with fewer rings than we have queues gets frames from several queues on one ring; the
            // library's lock on the ring makes that safe.
            let own = receivers.iter().find(|ring| usize::from(**ring) == queue * 2);
            let ring = own.or_else(|| receivers.get(queue % receivers.len().max(1)));
            let word = ring.map(|ring| u64::from(vid) << 16 | u64::from(*ring) | capabilities(features));
            slot.store(word.unwrap_or(NOBODY_TX), Ordering::Release);
        }
        let pairs = ready.iter().filter(|ring| **ring % 2 == 1).max().map_or(0, |ring| ring / 2 + 1);
        self.rx.store(u32::from(vid) << 16 | u32::from(pairs), Ordering::Release);
        self.wake();
    }

    /// Takes the guest back, and waits until no worker uses it any more.
    pub(super) fn detach(&self) {
        self.rx.store(NOBODY_RX, Ordering::Release);
        for slot in &self.tx {
            slot.store(NOBODY_TX, Ordering::Release);
        }
        for waker in &self.wakers {
            waker.forget_all();
        }
        self.domain.synchronize();
        self.wake();
    }

    /// The waker of the queue that polls `ring`.
    pub(super) fn waker(&self, ring: u16) -> &Waker {
        &self.wakers[usize::from(ring / 2) % self.wakers.len()]
    }

    fn wake(&self) {
        self.wakers.iter().for_each(Waker::wake);
    }
}

/// What a guest that negotiated `features` takes, as bits beside its number.
fn capabilities(features: u64) -> u64 {
    let has = |bit: u32| features & 1 << bit != 0;
    let checksum = has(sys::VIRTIO_NET_F_GUEST_CSUM);
    let tso4 = checksum && has(sys::VIRTIO_NET_F_GUEST_TSO4);
    let tso6 = checksum && has(sys::VIRTIO_NET_F_GUEST_TSO6);
    // Virtio 1.2, 5.1.6.3.1: with TSO, or by merging, a guest has buffers for 64 KiB.
    let large = tso4 || tso6 || has(sys::VIRTIO_NET_F_MRG_RXBUF);
    [(checksum, CHECKSUM), (tso4, TSO4), (tso6, TSO6), (large, LARGE)]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, bit)| bit)
        .sum()
}

fn caps(word: u64) -> Caps {
    Caps {
        checksum: word & CHECKSUM != 0,
        tso4: word & TSO4 != 0,
        tso6: word & TSO6 != 0,
        uso: false,
        max_frame: if word & LARGE != 0 { LARGEST_FRAME } else { PLAIN_FRAME },
    }
}
