//! Network namespaces with kernel stacks as pods, and a wire between two ports.

#![allow(dead_code, unreachable_pub, reason = "each test program uses a part, by its own path")]
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

use millrace_fastpath::port::{Burst, Frame, Offload, PortQueue};
use millrace_ffi::device::Opened;
use millrace_ffi::eal::{Eal, EalConfig, Memory};
use millrace_ffi::mbuf::Mbuf;
use millrace_ffi::mempool::Mempool;
use millrace_ffi::virtio_header;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::os::fd::FromRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// DPDK in ordinary memory, once for the whole program.
pub fn eal() -> &'static Eal {
    static EAL: OnceLock<Eal> = OnceLock::new();
    EAL.get_or_init(|| {
        let config = EalConfig {
            prefix: format!("xt{}", std::process::id()),
            memory: Memory::Ordinary { mib: 256 },
            ..EalConfig::default()
        };
        Eal::try_new(&config).unwrap()
    })
}

/// One test at a time: a command that another test starts would hold this one's descriptors for a moment.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Descriptors that this process has open.
pub fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// A name that no other test uses.
pub fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{what}{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A network namespace, removed with all in it when dropped.
pub struct Namespace(pub String);

impl Namespace {
    pub fn new(role: &str) -> Namespace {
        let name = format!("xt-{}-{}", std::process::id(), unique(role));
        run(&["ip", "netns", "add", &name]);
        let namespace = Namespace(name);
        namespace.run(&["ip", "link", "set", "lo", "up"]);
        namespace
    }

    /// Runs a command inside.
    pub fn run(&self, command: &[&str]) -> String {
        run(&[&["ip", "netns", "exec", &self.0], command].concat())
    }

    /// Runs `work` on a thread inside and waits for it.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| scope.spawn(|| self.enter(work)).join().unwrap())
    }

    /// Moves the calling thread inside.
    pub fn enter<T>(&self, work: impl FnOnce() -> T) -> T {
        let file = File::open(format!("/run/netns/{}", self.0)).unwrap();
        nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        work()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _gone = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A veth pair: `host` in `node`, `eth0` with `address` in `pod`, its transmit offloads off.
pub fn veth(node: &Namespace, host: &str, pod: &Namespace, address: &str) {
    node.run(&["ip", "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", &pod.0]);
    node.run(&["ip", "link", "set", host, "up"]);
    pod.run(&["ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off"]);
    configure(pod, "eth0", address);
}

pub fn configure(pod: &Namespace, interface: &str, address: &str) {
    pod.run(&["ip", "addr", "add", address, "dev", interface]);
    pod.run(&["ip", "link", "set", interface, "up"]);
}

/// A tunnel of the kernel's between two addresses, by an interface.
pub fn vxlan(namespace: &Namespace, interface: &str, id: &str, local: &str, remote: &str, address: &str) {
    let name = format!("vx{id}");
    let ends = ["dstport", "4789", "dev", interface, "local", local, "remote", remote];
    namespace.run(&[&["ip", "link", "add", &name, "type", "vxlan", "id", id], &ends[..]].concat());
    namespace.run(&["sysctl", "-qw", &format!("net.ipv6.conf.{name}.disable_ipv6=1")]);
    configure(namespace, &name, address);
}

/// Polls two ports and moves what comes from one to the other; ends when dropped.
pub struct Wire {
    stop: Arc<AtomicBool>,
    thread: Option<thread::JoinHandle<Largest>>,
}

/// The largest frame that a wire has carried.
#[derive(Clone, Copy, Default, Debug)]
pub struct Largest(pub usize);

impl Wire {
    pub fn between(a: Opened, b: Opened) -> Wire {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = thread::spawn(move || {
            let registered = eal().register_thread().unwrap();
            let (mut a, mut b) = (a, b);
            let mut largest = Largest::default();
            while !asked.load(Ordering::Relaxed) {
                let mut idle = true;
                for (from, to) in a.queues.iter_mut().zip(&mut b.queues) {
                    idle &= !carry(from, to, &mut largest);
                    idle &= !carry(to, from, &mut largest);
                }
                if idle {
                    thread::yield_now();
                }
            }
            drop((a.queues, b.queues));
            drop((a.device, b.device));
            drop(registered);
            largest
        });
        Wire { stop, thread: Some(thread) }
    }

    /// Ends it and closes the ports.
    pub fn cut(mut self) -> Largest {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _panicked = thread.join();
        }
    }
}

fn carry(
    from: &mut Box<dyn PortQueue<Mbuf>>,
    to: &mut Box<dyn PortQueue<Mbuf>>,
    largest: &mut Largest,
) -> bool {
    use millrace_fastpath::port::Frame;
    let mut burst = Burst::new();
    let busy = from.rx_burst(&mut burst) > 0;
    for frame in &burst {
        largest.0 = largest.0.max(frame.total_len());
    }
    let patience = Instant::now() + Duration::from_millis(5);
    while !burst.is_empty() {
        to.tx_burst(&mut burst);
        to.flush();
        if Instant::now() > patience {
            burst.clear();
        }
    }
    to.flush();
    busy
}

/// Moves `bytes` by TCP from `client` to `server`, which is at `address`, and compares them; gives Gbit/s.
pub fn tcp(server: &Namespace, client: &Namespace, address: IpAddr, bytes: usize) -> f64 {
    let listener = server.within(|| TcpListener::bind((address, 5001)).unwrap());
    let began = Instant::now();
    let block: Vec<u8> = (0..64 * 1024).map(|index: usize| (index % 251) as u8).collect();
    thread::scope(|scope| {
        let received = scope.spawn(|| {
            let (mut stream, _) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            let (mut total, mut buffer) = (0, vec![0; 64 * 1024]);
            loop {
                let len = stream.read(&mut buffer).unwrap();
                if len == 0 {
                    return total;
                }
                for (index, byte) in buffer[..len].iter().enumerate() {
                    assert_eq!(*byte, ((total + index) % (64 * 1024) % 251) as u8);
                }
                total += len;
            }
        });
        client.within(|| {
            let timeout = Duration::from_secs(5);
            let mut stream = TcpStream::connect_timeout(&(address, 5001).into(), timeout).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
            for _ in 0..bytes.div_ceil(block.len()) {
                stream.write_all(&block).unwrap();
            }
        });
        assert_eq!(received.join().unwrap(), bytes.div_ceil(block.len()) * block.len());
    });
    bytes as f64 * 8.0 / began.elapsed().as_secs_f64() / 1e9
}

/// Takes frames until so many are there, and what comes right after.
pub fn receive(port: &mut Opened, count: usize) -> Vec<Mbuf> {
    let patience = Duration::from_millis(if count == 0 { 100 } else { 2_000 });
    let (mut until, mut frames) = (Instant::now() + patience, Vec::new());
    while Instant::now() < until {
        for queue in &mut port.queues {
            let mut burst = Burst::new();
            if queue.rx_burst(&mut burst) > 0 && frames.len() + burst.len() >= count {
                until = Instant::now() + Duration::from_millis(20);
            }
            queue.flush();
            frames.extend(burst);
        }
    }
    frames
}

/// Of linux/if_packet.h.
const PACKET_IGNORE_OUTGOING: libc::c_int = 23;

/// A packet socket of an interface, with a virtio-net header before each packet. It hears packets of this protocol that
/// have passed the programs of traffic control; with 0 it only sends.
pub fn packet_socket(namespace: &Namespace, interface: &str, protocol: u16) -> File {
    let flags = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let (fd, index) = namespace.within(|| {
        let index = nix::net::if_::if_nametoindex(interface).unwrap();
        // SAFETY: takes numbers only.
        (unsafe { libc::socket(libc::AF_PACKET, flags, 0) }, index)
    });
    assert!(fd >= 0);
    // SAFETY: the kernel has just given us this descriptor.
    let file = unsafe { File::from_raw_fd(fd) };
    // With the header, without what others send there, and with room for some bursts.
    for (level, option, value) in [
        (libc::SOL_PACKET, libc::PACKET_VNET_HDR, 1_i32),
        (libc::SOL_PACKET, PACKET_IGNORE_OUTGOING, 1),
        (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 4 << 20),
    ] {
        // SAFETY: the kernel reads four bytes, which `value` is.
        let failed = unsafe { libc::setsockopt(fd, level, option, (&raw const value).cast(), 4) };
        assert_eq!(failed, 0);
    }
    // SAFETY: it is made of integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    (address.sll_family, address.sll_protocol) = (libc::AF_PACKET as u16, protocol.to_be());
    address.sll_ifindex = index.cast_signed();
    // SAFETY: the kernel reads one address, which `address` is.
    let failed = unsafe { libc::bind(fd, (&raw const address).cast(), size_of_val(&address) as u32) };
    assert_eq!(failed, 0);
    file
}

pub fn send(mut socket: &File, offload: Offload, frame: &[u8]) {
    let header = virtio_header::encode(offload, frame);
    let length = socket.write_vectored(&[IoSlice::new(&header), IoSlice::new(frame)]).unwrap();
    assert_eq!(length, header.len() + frame.len());
}

/// Waits until all mbufs are back.
pub fn assert_all_back(pool: &Mempool) {
    let deadline = Instant::now() + Duration::from_secs(1);
    while pool.in_use() != 0 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(pool.in_use(), 0);
}

/// Exchanges the addresses and ports of an IPv4 datagram, so that it goes back to where it came from.
pub fn turn(frame: &mut Mbuf) {
    let bytes = frame.head_mut();
    let (to, from) = bytes.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let addresses: [u8; 8] = bytes[26..34].try_into().unwrap();
    bytes[26..30].copy_from_slice(&addresses[4..]);
    bytes[30..34].copy_from_slice(&addresses[..4]);
    let ports: [u8; 4] = bytes[34..38].try_into().unwrap();
    bytes[34..36].copy_from_slice(&ports[2..]);
    bytes[36..38].copy_from_slice(&ports[..2]);
}
