//! A pool of mbufs without a cache, so that what is in use is counted exactly.

#![allow(unreachable_pub, reason = "each test program has it by its own path")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use millrace_ffi::eal::{Eal, EalConfig, Memory};
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The program's pool, for one test at a time.
pub fn pool() -> (MutexGuard<'static, ()>, &'static Mempool) {
    static SERIAL: Mutex<()> = Mutex::new(());
    static POOL: OnceLock<(Eal, Mempool)> = OnceLock::new();
    let guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, pool) = POOL.get_or_init(|| {
        let config = EalConfig {
            prefix: format!("mr-frames-{}", std::process::id()),
            memory: Memory::Ordinary { mib: 64 },
            ..EalConfig::default()
        };
        let eal = Eal::try_new(&config).unwrap();
        let pool = Mempool::try_new(&eal, &MempoolConfig { cache: 0, ..MempoolConfig::new("frames", 2047) })
            .unwrap();
        (eal, pool)
    });
    (guard, pool)
}
