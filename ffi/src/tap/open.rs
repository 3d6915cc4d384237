//! Opening a TAP port.

use super::device::TapDevice;
use super::error::{TapError, TapStep};
use super::file::{Carries, TapFile};
use super::lead::{Lead, LeadConfig};
use super::place::within;
use super::queue::TapQueue;
#[cfg(doc)]
use crate::device::Device;
use crate::device::Opened;
use crate::eal::Eal;
use crate::interface;
use crate::mbuf::Mbuf;
use crate::mempool::{Mempool, MempoolConfig, Next};
use millrace_fastpath::port::{PortCounters, PortQueue};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

/// Queues that the kernel gives a TAP, at most (`MAX_TAP_QUEUES`).
const MOST_QUEUES: u32 = 256;

/// Bytes of a large buffer: with a small one before it, it holds the largest frame there is.
const LARGE: u16 = 65_408;

/// A TAP.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// The interface's name; 1 to 15 bytes. It must be free, or taken if the interface is `adopted`.
    pub name: String,
    /// Queues, 1 to 256. An interface that was made with one is not adopted with several, nor the other way.
    pub queues: u32,
    /// The file of the network namespace that it is made or found in; that of the calling thread if absent.
    pub namespace: Option<PathBuf>,
    /// Whether it is there already, left by an earlier port that had it last ([`Device::set_lasting`]).
    pub adopted: bool,
    /// For the host's own leg: frontends that are claimed ([`Device::steer`]) are then the host's own packets to them, which would
    /// not come here by themselves.
    pub lead: Option<LeadConfig>,
}

impl TapConfig {
    /// A new TAP in the calling thread's network namespace.
    pub fn here(name: impl Into<String>, queues: u32) -> TapConfig {
        TapConfig { name: name.into(), queues, namespace: None, adopted: false, lead: None }
    }
}

/// Where a TAP's frames come from; all TAPs of a node share them.
#[derive(Clone, Debug)]
pub struct TapPools {
    small: Mempool,
    large: Mempool,
}

impl TapPools {
    /// Small packets from `small`; for the rest a pool of `large` buffers of 64 KiB is made, named `name`: as many
    /// as large frames are on their way at once, and one for each queue.
    ///
    /// # Errors
    /// [`TapError::LargePool`].
    pub fn try_new(eal: &Eal, name: &str, small: Mempool, large: u32) -> Result<TapPools, TapError> {
        let plain = MempoolConfig::new(name, large);
        let config = MempoolConfig { data_room: LARGE, cache: 0, next: Next::Latest, ..plain };
        Ok(TapPools { small, large: Mempool::try_new(eal, &config)? })
    }

    /// The pool that small packets come from.
    pub(super) fn small(&self) -> &Mempool {
        &self.small
    }

    /// The pool of large buffers.
    pub fn large(&self) -> &Mempool {
        &self.large
    }
}

/// The interface that the kernel has made for a TAP. It is down, and may be moved to another network namespace.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TapPort {
    /// Its name in the network namespace it was made in.
    pub name: String,
    /// Its index there.
    pub ifindex: u32,
}

/// Makes a TAP, or opens one that is there. A new one goes away with device and queues, or with the process, unless it is
/// told to last.
///
/// While it is open, a network namespace that was named stays, even when its last process has ended.
///
/// # Errors
/// [`TapError`], with name, queue and the kernel's answer; nothing is left behind then that was not there before.
pub fn open(config: &TapConfig, pools: &TapPools, counters: &Arc<PortCounters>) -> Result<Opened, TapError> {
    open_port(config, pools, counters).map(|(opened, _)| opened)
}

/// As [`open`], and gives the interface.
///
/// # Errors
/// As for [`open`].
pub fn open_port(
    config: &TapConfig,
    pools: &TapPools,
    counters: &Arc<PortCounters>,
) -> Result<(Opened, TapPort), TapError> {
    let name = config.name.clone();
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains('\0') {
        return Err(TapError::Name { name });
    }
    if !(1..=MOST_QUEUES).contains(&config.queues) {
        return Err(TapError::Queues { name, queues: config.queues });
    }
    let outcome = within(config.namespace.as_ref(), || open_files(config, Carries::TcpAndUdp));
    let (files, ifindex) = outcome.map_err(|source| failed_at(&name, 0, TapStep::Enter, source))??;
    let device = TapDevice {
        file: files[0].clone(),
        queues: config.queues,
        window: Mutex::new(None),
        lead: config.lead.clone().map(|config| Lead::new(files[0].clone(), ifindex, config)),
    };
    let queue = |file| {
        let queue = TapQueue::new(file, pools, counters.clone());
        Box::new(queue) as Box<dyn PortQueue<Mbuf>>
    };
    let queues = files.into_iter().map(queue).collect();
    Ok((Opened { device: Box::new(device), queues }, TapPort { name, ifindex }))
}

/// All queues of the interface in the thread's network namespace, and its index.
///
/// # Errors
/// As for [`open`].
pub(super) fn open_files(config: &TapConfig, carries: Carries) -> Result<(Vec<Arc<TapFile>>, u32), TapError> {
    let name = &config.name;
    if config.adopted {
        // Without this a missing interface would be made, without anything that belongs to it.
        interface::index(name).map_err(|source| failed_at(name, 0, TapStep::Index, source))?;
    }
    let mut files = Vec::new();
    for queue in 0..config.queues {
        let fresh = queue == 0 && !config.adopted;
        files.push(Arc::new(TapFile::open(name, queue, config.queues, fresh, carries)?));
    }
    let ifindex = interface::index(name).map_err(|source| failed_at(name, 0, TapStep::Index, source))?;
    Ok((files, ifindex))
}

fn failed_at(name: &str, queue: u32, step: TapStep, source: std::io::Error) -> TapError {
    TapError::System { name: name.to_owned(), queue, step, source }
}
