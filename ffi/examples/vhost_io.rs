//! Forwards between two vhost-user ports and does nothing else: what the port API costs, to be set beside
//! `dpdk-testpmd --forward-mode=io` between two `net_vhost` ports.
//!
//! `vhost_io SOCKET SOCKET BURST SECONDS` (server on both sockets); prints the frames per second received on the
//! first port.

use millrace_fastpath::port::{Burst, PortCounters, PortQueue};
use millrace_fastpath::sync::Domain;
use millrace_ffi::eal::{Eal, EalConfig, Memory};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::vhost::{self, VhostConfig};
use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [first, second, burst, seconds] = arguments.as_slice() else {
        return Err("usage: vhost_io SOCKET SOCKET BURST SECONDS".into());
    };
    let (burst, seconds): (usize, u64) = (burst.parse()?, seconds.parse()?);
    let memory = Memory::Hugepages { limit_mib: 128 };
    let prefix = format!("vhost-io-{}", std::process::id());
    let eal = Eal::try_new(&EalConfig { prefix, memory, ..EalConfig::default() })?;
    let pool = Mempool::try_new(&eal, &MempoolConfig::new("io", 16_383))?;
    let domain = Domain::new(1);
    let counters = [Arc::new(PortCounters::default()), Arc::new(PortCounters::default())];
    let mut a = vhost::open(&VhostConfig::new(first), &pool, &counters[0], &domain)?;
    let mut b = vhost::open(&VhostConfig::new(second), &pool, &counters[1], &domain)?;
    let _registered = eal.register_thread()?;
    let mut reader = domain.register().ok_or("no reader")?;
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut mark, mut frames) = (Instant::now(), 0);
    reader.online();
    while Instant::now() < end {
        for _ in 0..1000 {
            forward(a.queues[0].as_mut(), b.queues[0].as_mut(), burst);
            forward(b.queues[0].as_mut(), a.queues[0].as_mut(), burst);
            reader.quiesce();
        }
        if mark.elapsed() >= Duration::from_secs(1) {
            let now = counters[1].totals().tx_frames;
            println!("{:.3} Mpps", (now - frames) as f64 / mark.elapsed().as_secs_f64() / 1e6);
            (mark, frames) = (Instant::now(), now);
        }
    }
    reader.offline();
    Ok(())
}

/// What the other side does not take at once is dropped, as testpmd does.
fn forward(from: &mut dyn PortQueue<Mbuf>, to: &mut dyn PortQueue<Mbuf>, burst: usize) {
    let mut frames = Burst::new();
    from.rx_burst(&mut frames);
    if frames.len() > burst {
        let mut rest: Burst<Mbuf> = frames.drain(burst..).collect();
        to.tx_burst(&mut frames);
        to.tx_burst(&mut rest);
        Mbuf::free_bulk(&mut rest);
    } else if !frames.is_empty() {
        to.tx_burst(&mut frames);
    }
    Mbuf::free_bulk(&mut frames);
}
