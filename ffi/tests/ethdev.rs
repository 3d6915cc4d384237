//! Ethdevs by their arguments: `net_null` and `net_pcap`. Needs root; uses no hugepage and no network.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use millrace_fastpath::port::{Burst, Checksum, DropReason, Frame, Offload, PortCounters};
use millrace_ffi::device::Link;
use millrace_ffi::dpdk::{self, DpdkConfig, DpdkError};
use millrace_ffi::eal::{Eal, EalConfig, Memory};
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

fn environment() -> (MutexGuard<'static, ()>, &'static Eal, &'static Mempool) {
    static SERIAL: Mutex<()> = Mutex::new(());
    static SET_UP: OnceLock<(Eal, Mempool)> = OnceLock::new();
    let guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let (eal, pool) = SET_UP.get_or_init(|| {
        let config = EalConfig {
            prefix: format!("mr-ethdev-{}", std::process::id()),
            memory: Memory::Ordinary { mib: 64 },
            ..EalConfig::default()
        };
        let eal = Eal::try_new(&config).unwrap();
        let pool = Mempool::try_new(&eal, &MempoolConfig::new("ethdev", 4095)).unwrap();
        (eal, pool)
    });
    (guard, eal, pool)
}

#[test]
fn a_null_device_gives_and_takes_and_leaves_nothing_behind() {
    let (_serial, eal, pool) = environment();
    for _ in 0..3 {
        let counters = Arc::new(PortCounters::default());
        let mut opened = dpdk::open(&DpdkConfig::new("net_null7,size=60"), eal, pool, &counters).unwrap();
        assert_eq!(opened.device.link(), Link::Up);
        let again = dpdk::open(&DpdkConfig::new("net_null7"), eal, pool, &counters);
        assert!(matches!(again, Err(DpdkError::InUse(name)) if name == "net_null7"));
        let mut burst = Burst::new();
        assert!(opened.queues[0].rx_burst(&mut burst) > 0);
        let received = burst.len();
        assert_eq!(burst[0].total_len(), 60);
        assert_eq!(opened.queues[0].tx_burst(&mut burst), received);
        assert!(burst.is_empty());
        assert_eq!(counters.totals().rx_frames, received as u64);
        assert_eq!(counters.totals().tx_bytes, received as u64 * 60);
        drop(opened.queues);
        drop(opened.device);
        assert_eq!(pool.in_use(), 0);
    }
}

#[test]
fn a_capture_file_holds_what_was_sent_with_its_checksum_completed() {
    let (_serial, eal, pool) = environment();
    let file = std::env::temp_dir().join(format!("mr-ethdev-{}.pcap", std::process::id()));
    let counters = Arc::new(PortCounters::default());
    let config = DpdkConfig::new(format!("net_pcap7,tx_pcap={}", file.display()));
    let mut opened = dpdk::open(&config, eal, pool, &counters).unwrap();
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 9)
        .udp(5, 6)
        .write(&mut bytes, b"some payload")
        .unwrap();
    let right = bytes.clone();
    // The pseudo-header's sum: addresses, protocol, length.
    let seed = 0x0a00u16 + 0x0001 + 0x0a00 + 0x0002 + 17 + 20;
    bytes[40..42].copy_from_slice(&seed.to_be_bytes());
    let mut frame = pool.alloc_with(&bytes).unwrap();
    frame.set_offload(Offload { checksum: Checksum::Partial { start: 34, offset: 6 }, gso: None, outer: 0 });
    let mut burst = Burst::new();
    burst.push(frame);
    burst.push(pool.alloc_with(&[7; 4000]).unwrap());
    assert_eq!(opened.queues[0].tx_burst(&mut burst), 2);
    assert_eq!(counters.drops(DropReason::TooBig), 1);
    assert_eq!(counters.totals().tx_frames, 1);
    drop(opened.queues);
    drop(opened.device);
    assert_eq!(pool.in_use(), 0);
    let captured = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(captured[40..], right);
}

#[test]
fn what_is_no_device_is_refused() {
    let (_serial, eal, pool) = environment();
    let counters = Arc::new(PortCounters::default());
    assert!(matches!(
        dpdk::open(&DpdkConfig::new("net_nonsense0"), eal, pool, &counters),
        Err(DpdkError::Refused { .. })
    ));
    let config = DpdkConfig { queues: 5000, ..DpdkConfig::new("net_null8") };
    assert!(matches!(dpdk::open(&config, eal, pool, &counters), Err(DpdkError::Queues { wanted: 5000, .. })));
    assert_eq!(pool.in_use(), 0);
}
