//! Opening a TAP port.

use super::device::TapDevice;
use super::error::{TapError, TapStep};
use super::file::TapFile;
use super::queue::TapQueue;
use crate::device::Opened;
use crate::eal::Eal;
use crate::interface;
use crate::mbuf::Mbuf;
use crate::mempool::{Mempool, MempoolConfig};
use millrace_fastpath::port::{PortCounters, PortQueue};
use std::sync::{Arc, Mutex};

/// Queues that the kernel gives a TAP, at most (`MAX_TAP_QUEUES`).
const MOST_QUEUES: u32 = 256;

/// Bytes of a large buffer: with a small one before it, it holds the largest frame there is.
const LARGE: u16 = 65_408;

/// A TAP.
#[derive(Clone, Debug)]
pub struct TapConfig {
    /// The interface's name, which must be free; 1 to 15 bytes.
    pub name: String,
    /// Queues, 1 to 256.
    pub queues: u32,
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
        let config = MempoolConfig { data_room: LARGE, cache: 0, ..MempoolConfig::new(name, large) };
        Ok(TapPools { small, large: Mempool::try_new(eal, &config)? })
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

/// Makes a TAP in the network namespace of the calling thread. It goes away with device and queues, or with the process.
///
/// # Errors
/// [`TapError`], with name, queue and the kernel's answer; nothing is left behind then.
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
    let mut files = Vec::new();
    for queue in 0..config.queues {
        files.push(Arc::new(TapFile::open(&name, queue)?));
    }
    let ifindex = interface::index(&name).map_err(|source| TapError::System {
        name: name.clone(),
        queue: 0,
        step: TapStep::Index,
        source,
    })?;
    let device = TapDevice { file: files[0].clone(), queues: config.queues, window: Mutex::new(None) };
    let queue = |file| {
        let queue = TapQueue::new(file, pools.small.clone(), pools.large.clone(), counters.clone());
        Box::new(queue) as Box<dyn PortQueue<Mbuf>>
    };
    let queues = files.into_iter().map(queue).collect();
    Ok((Opened { device: Box::new(device), queues }, TapPort { name, ifindex }))
}
