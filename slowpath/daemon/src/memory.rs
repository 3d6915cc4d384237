//! Packet memory: DPDK's environment, the pool of ordinary ports, the arena of AF_XDP ports.

use crate::StartError;
use crate::kept::Kept;
use millrace_api::Pool;
use millrace_config::{Config, Hugepages};
use millrace_ffi::eal::{Eal, EalConfig, LogLevel, Memory};
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::tap::TapPools;
use millrace_ffi::xdp::{Arena, ArenaConfig};

/// Bytes of a hugepage as DPDK takes them here.
const HUGEPAGE_MIB: u64 = 2;
/// What a frame of the pool takes, bookkeeping included.
const FRAME_BYTES: u64 = 2_560;
/// Where the kernel says how many are free.
const FREE_HUGEPAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages";

/// All packet memory of the daemon. Clones share it.
#[derive(Clone)]
pub(crate) struct PacketMemory {
    pub(crate) eal: Eal,
    /// What ports receive into.
    pub(crate) pool: Mempool,
    /// What TAPs receive into: small packets into `pool`, large ones into buffers of their own.
    pub(crate) tap_pools: TapPools,
    /// What AF_XDP ports receive into and share with the kernel.
    pub(crate) arena: Arena,
    /// Whether it lies in hugepages.
    pub(crate) hugepages: bool,
}

impl PacketMemory {
    pub(crate) fn try_new(config: &Config, kept: &Kept) -> Result<Self, StartError> {
        let wanted_mib = u64::from(config.memory.mebibytes.get());
        // What an earlier daemon has left for this one is as good as free; what nobody comes back for is.
        kept.remove_orphans();
        let hugepages = use_hugepages(config.memory.hugepages, wanted_mib, free_mib() + kept.huge_mib())?;
        let mib = config.memory.mebibytes.get();
        let memory = if hugepages { Memory::Hugepages { limit_mib: mib } } else { Memory::Ordinary { mib } };
        let eal = Eal::try_new(&EalConfig {
            prefix: config.eal_file_prefix(),
            memory,
            log_level: LogLevel::Warning,
            ..EalConfig::default()
        })?;
        let pool = Mempool::try_new(&eal, &MempoolConfig::new("ports", config.memory.frames.get()))?;
        let large = large_buffers(wanted_mib, config.memory.frames.get());
        let tap_pools = TapPools::try_new(&eal, "tap-large", pool.clone(), large)?;
        let arena_config = ArenaConfig {
            name: "af-xdp".to_owned(),
            chunks: config.memory.af_xdp_frames.get(),
            huge_pages: hugepages,
        };
        let arena = Arena::try_new(&eal, &arena_config)?;
        tracing::info!(hugepages, mib, prefix = config.eal_file_prefix(), "packet memory");
        Ok(PacketMemory { eal, pool, tap_pools, arena, hugepages })
    }

    /// The pools' state, for the API.
    pub(crate) fn pools(&self) -> Vec<Pool> {
        let pool = |name: &str, pool: &Mempool| Pool {
            name: name.to_owned(),
            capacity: pool.capacity() as u64,
            in_use: pool.in_use() as u64,
        };
        vec![
            pool("ports", &self.pool),
            pool("tap-large", self.tap_pools.large()),
            pool("af-xdp", self.arena.pool()),
        ]
    }
}

/// Whether to use hugepages, by what is configured and what is free.
fn use_hugepages(rule: Hugepages, wanted_mib: u64, free_mib: u64) -> Result<bool, StartError> {
    match rule {
        Hugepages::Never => Ok(false),
        Hugepages::Auto => Ok(free_mib >= wanted_mib),
        Hugepages::Required if free_mib >= wanted_mib => Ok(true),
        Hugepages::Required => Err(StartError::Hugepages { free_mib, wanted_mib }),
    }
}

/// Buffers of 64 KiB for TAPs: half of what the other frames leave, within reason.
fn large_buffers(mib: u64, frames: u32) -> u32 {
    let left = (mib << 20).saturating_sub(u64::from(frames) * FRAME_BYTES);
    (left / 2 / (64 << 10)).clamp(64, 512) as u32
}

fn free_mib() -> u64 {
    let free = std::fs::read_to_string(FREE_HUGEPAGES).ok().and_then(|text| text.trim().parse::<u64>().ok());
    free.unwrap_or(0) * HUGEPAGE_MIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hugepages_are_used_when_there_are_enough_and_insisted_on_when_required() {
        assert!(use_hugepages(Hugepages::Auto, 256, 256).unwrap());
        assert!(!use_hugepages(Hugepages::Auto, 256, 254).unwrap());
        assert!(!use_hugepages(Hugepages::Never, 256, 4096).unwrap());
        assert!(use_hugepages(Hugepages::Required, 256, 512).unwrap());
        let error = use_hugepages(Hugepages::Required, 256, 10).unwrap_err();
        assert!(error.to_string().contains("10 MiB"), "{error}");
    }
}
