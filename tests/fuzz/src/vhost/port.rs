//! The port that a hostile guest is let loose on, and the worker that polls it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use millrace_fastpath::port::{Burst, Checksum, Frame, PortCounters};
use millrace_fastpath::sync::{Domain, Reader};
use millrace_ffi::device::{Link, Opened};
use millrace_ffi::eal::{Eal, EalConfig, EalError, LogLevel, Memory};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig, MempoolError};
use millrace_ffi::vhost::{self, VhostConfig, VhostError};

use super::random::Random;

/// Bytes of a frame, at most: 64 KiB of IP and an Ethernet header with a tag.
const LARGEST_FRAME: usize = 65_535 + 18;

/// A vhost-user port and its worker.
pub struct HostilePort {
    opened: Option<Opened>,
    pool: Mempool,
    counters: Arc<PortCounters>,
    reader: Reader,
    directory: PathBuf,
    socket: PathBuf,
    /// Guests whose rings were polled.
    pub sessions_up: u64,
}

/// Why there is no port to be hostile to.
#[derive(Debug)]
pub enum HostilePortError {
    /// DPDK does not start.
    Eal(EalError),
    /// No memory for packets.
    Pool(MempoolError),
    /// No directory for the socket.
    Directory(std::io::Error),
    /// The port does not open.
    Port(VhostError),
}

impl HostilePort {
    /// Opens a port in ordinary memory.
    pub fn try_new() -> Result<Self, HostilePortError> {
        let name = format!("mr-fuzz-{}", std::process::id());
        let config = EalConfig {
            prefix: name.clone(),
            memory: Memory::Ordinary { mib: 128 },
            // A hostile guest gives cause for many messages, all of them expected.
            log_level: LogLevel::Critical,
            ..EalConfig::default()
        };
        let eal = Eal::try_new(&config).map_err(HostilePortError::Eal)?;
        let pool =
            Mempool::try_new(&eal, &MempoolConfig::new("fuzz", 8191)).map_err(HostilePortError::Pool)?;
        let domain = Domain::new(2);
        let reader = domain.register().expect("the first of two readers");
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).map_err(HostilePortError::Directory)?;
        let counters = Arc::new(PortCounters::default());
        let socket = directory.join("socket");
        let config = VhostConfig::new(&socket);
        let opened = vhost::open(&config, &pool, &counters, &domain).map_err(HostilePortError::Port)?;
        Ok(HostilePort { opened: Some(opened), pool, counters, reader, directory, socket, sessions_up: 0 })
    }

    /// The socket that a guest connects to.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Frames that guests got through until now.
    pub fn frames(&self) -> u64 {
        self.counters.totals().rx_frames
    }

    fn opened(&mut self) -> &mut Opened {
        self.opened.as_mut().expect("open until it is dropped")
    }

    /// True when the guest's rings are ready within a moment; a guest that chose badly never is.
    pub(super) fn wait_until_up(&mut self) -> bool {
        let end = Instant::now() + Duration::from_millis(200);
        while Instant::now() < end {
            if self.opened().device.link() == Link::Up {
                return true;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        false
    }

    /// One poll: what the guest sent is checked and sent back, with frames of our own.
    pub(super) fn poll(&mut self, random: &mut Random, seed: u64) {
        self.reader.online();
        let mut burst: Burst<Mbuf> = Burst::new();
        let queue = &mut self.opened.as_mut().expect("open until it is dropped").queues[0];
        queue.rx_burst(&mut burst);
        for frame in &burst {
            assert_sound(frame, seed);
        }
        while !burst.is_full() && random.one_in(2) {
            let len = random.pick(&[14, 60, 200, 1514, 2000]);
            let Some(frame) = self.pool.alloc_with(&vec![0x5a; len]) else { break };
            burst.push(frame);
        }
        queue.tx_burst(&mut burst);
        queue.flush();
        if random.one_in(10) {
            queue.arm();
            queue.disarm();
        }
        // What the guest had no room for is dropped here, as a worker drops it in the end.
        Mbuf::free_bulk(&mut burst);
        self.reader.quiesce();
        self.reader.offline();
    }

    /// Waits until the port knows that its guest is gone; then every buffer must be back. A guest that had closed its
    /// rings before does not show in the link's state, so what counts are the buffers: the queue gives back what it kept
    /// for a guest at the first poll after it went.
    pub(super) fn wait_until_gone(&mut self, seed: u64) {
        let end = Instant::now() + Duration::from_secs(10);
        let mut random = Random::new(seed);
        loop {
            let up = self.opened().device.link() == Link::Up;
            self.poll(&mut random, seed);
            let missing = self.pool.in_use();
            if !up && missing == 0 {
                return;
            }
            assert!(Instant::now() < end, "session {seed}: link up {up}, {missing} buffers missing");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for HostilePort {
    fn drop(&mut self) {
        if let Some(Opened { device, queues }) = self.opened.take() {
            drop(queues);
            drop(device);
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// What the pipeline and the other ports rely on.
fn assert_sound(frame: &Mbuf, seed: u64) {
    let len: usize = frame.segments().map(<[u8]>::len).sum();
    assert_eq!(len, frame.total_len(), "session {seed}: segments and length disagree");
    assert!((14..=LARGEST_FRAME).contains(&len), "session {seed}: a frame of {len} bytes");
    assert!(frame.head().len() >= 14, "session {seed}: a head of {} bytes", frame.head().len());
    let offload = frame.offload();
    if let Some(gso) = offload.gso {
        assert_ne!(gso.size, 0, "session {seed}: segments of nothing");
        assert!(
            matches!(offload.checksum, Checksum::Partial { .. }),
            "session {seed}: cut without checksums"
        );
    }
    if let Ok(class) = millrace_fastpath::wire::parse(frame.head(), frame.total_len()) {
        drop(format!("{class:?}"));
    }
}
