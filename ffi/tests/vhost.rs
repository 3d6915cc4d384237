//! vhost-user ports beside a real guest driver: `dpdk-testpmd` with `net_virtio_user`.
//!
//! ```text
//!   this process: PortQueue  ──vhost-user──  testpmd (io or mac swap) : what is sent comes back
//! ```
//! Needs root and `dpdk-testpmd`. All in ordinary memory: no hugepage is used.

#![allow(clippy::unwrap_used, reason = "a test that cannot be set up has failed")]

use millrace_fastpath::port::{Burst, DropReason, PortCounters};
use millrace_fastpath::sync::{Domain, Reader};
use millrace_ffi::device::{Link, Opened};
use millrace_ffi::eal::{Eal, EalConfig, EalError, Memory};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::{Mempool, MempoolConfig};
use millrace_ffi::vhost::{self, Role, VhostConfig, VhostError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

/// One test at a time: there is one environment, and there are two cores.
fn environment() -> (MutexGuard<'static, ()>, &'static Eal) {
    static SERIAL: Mutex<()> = Mutex::new(());
    static EAL: OnceLock<Eal> = OnceLock::new();
    let guard = SERIAL.lock().unwrap_or_else(PoisonError::into_inner);
    let eal = EAL.get_or_init(|| {
        let config = EalConfig {
            prefix: format!("mr-vhost-{}", std::process::id()),
            memory: Memory::Ordinary { mib: 128 },
            ..EalConfig::default()
        };
        Eal::try_new(&config).unwrap()
    });
    (guard, eal)
}

/// Frames under way at a time.
const IN_FLIGHT: usize = 96;

struct Rig {
    opened: Option<Opened>,
    pool: Mempool,
    counters: Arc<PortCounters>,
    reader: Reader,
    directory: PathBuf,
}

impl Rig {
    fn new(eal: &Eal, name: &str, change: impl FnOnce(&mut VhostConfig)) -> Rig {
        let directory = std::env::temp_dir().join(format!("mr-vhost-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let pool = Mempool::try_new(eal, &MempoolConfig::new(name, 4095)).unwrap();
        let domain = Domain::new(4);
        let reader = domain.register().unwrap();
        let counters = Arc::new(PortCounters::default());
        let mut config = VhostConfig::new(directory.join("socket"));
        change(&mut config);
        let opened = vhost::open(&config, &pool, &counters, &domain).unwrap();
        Rig { opened: Some(opened), pool, counters, reader, directory }
    }

    fn socket(&self) -> PathBuf {
        self.directory.join("socket")
    }

    /// Waits until the guest is there and forwards: its driver discards what comes while it starts.
    fn wait_for_guest(&mut self) {
        eventually("guest comes", || self.is_up());
        let end = Instant::now() + Duration::from_secs(15);
        while self.exchange(0, 1, 60, Duration::from_millis(200)).is_empty() {
            assert!(Instant::now() < end, "the guest forwards nothing");
        }
        self.exchange(0, 0, 60, Duration::from_millis(100));
    }

    fn is_up(&self) -> bool {
        self.opened.as_ref().unwrap().device.link() == Link::Up
    }

    /// Sends `count` frames by `queue` and gives what comes back on any queue, within ten seconds.
    fn echo(&mut self, queue: usize, count: usize, length: usize) -> Vec<Vec<u8>> {
        self.exchange(queue, count, length, Duration::from_secs(10))
    }

    /// The same within `time`; with a count of 0, all that comes in that time is thrown away.
    fn exchange(&mut self, queue: usize, count: usize, length: usize, time: Duration) -> Vec<Vec<u8>> {
        self.reader.online();
        let (mut sent, mut back) = (0, Vec::new());
        let end = Instant::now() + time;
        let queues = &mut self.opened.as_mut().unwrap().queues;
        while (count == 0 || back.len() < count) && Instant::now() < end {
            let mut burst = Burst::new();
            // The guest drops what it cannot send at once: no more is under way than its rings hold.
            while sent + burst.len() < count.min(back.len() + IN_FLIGHT) && !burst.is_full() {
                burst.push(self.pool.alloc_with(&numbered(sent + burst.len(), length)).unwrap());
            }
            sent += queues[queue].tx_burst(&mut burst);
            drop(burst);
            for queue in queues.iter_mut() {
                let mut received = Burst::new();
                queue.rx_burst(&mut received);
                back.extend(received.iter().map(Mbuf::to_vec));
                queue.flush();
            }
            self.reader.quiesce();
            std::thread::yield_now();
        }
        self.reader.offline();
        back
    }

    /// Closes the port; nothing may be left.
    fn close(mut self) {
        let Opened { device, queues } = self.opened.take().unwrap();
        drop(queues);
        drop(device);
        assert_eq!(self.pool.in_use(), 0, "every frame is back in the pool");
        assert!(!self.socket().exists(), "the socket file is removed");
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        self.opened.take();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A UDP frame of `length` bytes with a number in it.
fn numbered(number: usize, length: usize) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
        .udp(1000, 2000);
    let mut payload = vec![number as u8; length.max(60) - 42];
    payload[..4].copy_from_slice(&(number as u32).to_be_bytes());
    let mut frame = Vec::new();
    builder.write(&mut frame, &payload).unwrap();
    frame
}

/// A guest's driver that sends back what it receives.
struct Guest(Child, String);

impl Guest {
    fn start(socket: &Path, device: &str, queues: u16) -> Guest {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("mr-guest-{}-{number}", std::process::id());
        let child = Command::new("dpdk-testpmd")
            .args(["-l", "0,1", "--no-huge", "-m", "256", "--no-pci", "--no-shconf", "--no-telemetry"])
            .arg(format!("--file-prefix={prefix}"))
            .arg(format!("--vdev=net_virtio_user0,path={},queues={queues}{device}", socket.display()))
            .args(["--", "--auto-start", "--forward-mode=io", "--total-num-mbufs=4096", "--no-flush-rx"])
            .arg(format!("--rxq={queues}"))
            .arg(format!("--txq={queues}"))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Guest(child, prefix)
    }

    /// SIGKILL, as an out-of-memory killer would.
    fn kill(self) {
        drop(self);
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(Path::new("/var/run/dpdk").join(&self.1));
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(15);
    while !condition() {
        assert!(Instant::now() < end, "{what}: not within 15 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn assert_all_came_back(back: &[Vec<u8>], count: usize, length: usize) {
    assert_eq!(back.len(), count);
    for (number, frame) in back.iter().enumerate() {
        assert_eq!(frame, &numbered(number, length), "frame {number}");
    }
}

#[test]
fn a_second_environment_is_refused() {
    let _environment = environment();
    assert!(matches!(Eal::try_new(&EalConfig::default()), Err(EalError::AlreadySetUp)));
}

#[test]
fn frames_come_back_unchanged_from_split_rings_also_after_the_guest_was_killed() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "split", |_| {});
    assert!(!rig.is_up());
    for _ in 0..2 {
        let guest = Guest::start(&rig.socket(), "", 1);
        rig.wait_for_guest();
        assert_all_came_back(&rig.echo(0, 3000, 60), 3000, 60);
        assert_all_came_back(&rig.echo(0, 100, 1514), 100, 1514);
        guest.kill();
        eventually("guest goes", || !rig.is_up());
        assert_eq!(rig.pool.in_use(), 0);
    }
    assert!(rig.counters.totals().rx_frames >= 6200);
    assert!(DropReason::ALL.iter().all(|reason| rig.counters.drops(*reason) == 0));
    rig.close();
}

#[test]
fn frames_come_back_unchanged_from_packed_rings() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "packed", |_| {});
    let guest = Guest::start(&rig.socket(), ",packed_vq=1", 1);
    rig.wait_for_guest();
    let details = rig.opened.as_ref().unwrap().device.details();
    assert!(details.contains(&("rings", "packed".to_owned())));
    assert_all_came_back(&rig.echo(0, 3000, 60), 3000, 60);
    guest.kill();
    eventually("guest goes", || !rig.is_up());
    rig.close();
}

#[test]
fn a_client_finds_a_guest_that_listens_later_and_again() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "client", |config| config.role = Role::Client);
    for _ in 0..2 {
        let guest = Guest::start(&rig.socket(), ",server=1", 1);
        rig.wait_for_guest();
        assert_all_came_back(&rig.echo(0, 1000, 60), 1000, 60);
        guest.kill();
        eventually("guest goes", || !rig.is_up());
        let _ = std::fs::remove_file(rig.socket());
    }
    rig.close();
}

#[test]
fn every_queue_carries_frames() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "queues", |config| config.queues = 2);
    let guest = Guest::start(&rig.socket(), "", 2);
    let pairs =
        |rig: &Rig| rig.opened.as_ref().unwrap().device.details().contains(&("ring-pairs", "2".into()));
    eventually("guest comes with two pairs", || pairs(&rig));
    rig.wait_for_guest();
    for queue in 0..2 {
        assert_all_came_back(&rig.echo(queue, 500, 60), 500, 60);
    }
    guest.kill();
    eventually("guest goes", || !rig.is_up());
    rig.close();
}

#[test]
fn a_guest_with_one_pair_of_rings_is_served_by_all_queues() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "fewer", |config| config.queues = 2);
    let guest = Guest::start(&rig.socket(), "", 1);
    rig.wait_for_guest();
    for queue in 0..2 {
        assert_all_came_back(&rig.echo(queue, 200, 60), 200, 60);
    }
    guest.kill();
    eventually("guest goes", || !rig.is_up());
    rig.close();
}

#[test]
fn a_sleeping_worker_is_woken_when_a_guest_comes() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "wake", |_| {});
    let queue = &mut rig.opened.as_mut().unwrap().queues[0];
    assert!(queue.arm(), "nothing waits");
    let fd = queue.wake_fds()[0];
    let guest = Guest::start(&rig.directory.join("socket"), "", 1);
    let mut poll = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: one structure, for at most 15 s.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 15_000) };
    assert_eq!(ready, 1);
    rig.opened.as_mut().unwrap().queues[0].disarm();
    rig.wait_for_guest();
    assert_all_came_back(&rig.echo(0, 100, 60), 100, 60);
    guest.kill();
    eventually("guest goes", || !rig.is_up());
    rig.close();
}

#[test]
fn frames_for_nobody_are_dropped_and_counted() {
    let (_serial, eal) = environment();
    let mut rig = Rig::new(eal, "nobody", |_| {});
    let mut burst = Burst::new();
    assert!(rig.pool.alloc_bulk(&mut burst, 10));
    assert_eq!(rig.opened.as_mut().unwrap().queues[0].tx_burst(&mut burst), 10);
    assert_eq!(rig.counters.drops(DropReason::LinkDown), 10);
    rig.close();
}

#[test]
fn a_path_in_use_is_refused_and_a_leftover_socket_is_replaced() {
    let (_serial, eal) = environment();
    let rig = Rig::new(eal, "paths", |_| {});
    let again = |path: PathBuf| {
        vhost::open(&VhostConfig::new(path), &rig.pool, &rig.counters, &Domain::new(1)).map(drop)
    };
    assert!(matches!(again(rig.socket()), Err(VhostError::InUse(_))));
    let file = rig.directory.join("file");
    std::fs::write(&file, "mine").unwrap();
    assert!(matches!(again(file), Err(VhostError::NotASocket(_))));
    let leftover = rig.directory.join("leftover");
    drop(std::os::unix::net::UnixListener::bind(&leftover).unwrap());
    again(leftover.clone()).unwrap();
    assert!(!leftover.exists());
    rig.close();
}
