//! dpdk-testpmd as the other end of a vhost-user port.

use crate::netns::Netns;
use crate::process::Child;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A running testpmd.
#[derive(Debug)]
pub struct Testpmd {
    child: Child,
}

impl Testpmd {
    /// Moves frames between a vhost-user socket and a TAP `eth0` in `netns`, so that a kernel stack is behind it.
    pub fn carrier(netns: &Netns, socket: &Path, mac: &str) -> Self {
        Self::carry(netns, &format!("net_virtio_user0,path={},mac={mac},queues=1", socket.display()))
    }

    /// The same, and the socket is its own.
    pub fn listening_carrier(netns: &Netns, socket: &Path, mac: &str) -> Self {
        Self::carry(netns, &format!("net_virtio_user0,path={},mac={mac},queues=1,server=1", socket.display()))
    }

    fn carry(netns: &Netns, device: &str) -> Self {
        let vdevs = [device.to_owned(), "net_tap0,iface=eth0".to_owned()];
        let testpmd = Testpmd::start(netns, &vdevs, &["--forward-mode=io", "--port-topology=paired"]);
        let begin = Instant::now();
        while !netns.interfaces().iter().any(|name| name == "eth0") {
            assert!(begin.elapsed() < Duration::from_secs(20), "testpmd has made no TAP");
            std::thread::sleep(Duration::from_millis(50));
        }
        testpmd
    }

    /// A testpmd with these devices that forwards as the options say.
    pub fn start(netns: &Netns, vdevs: &[String], options: &[&str]) -> Self {
        let prefix = format!("mrt{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let log = std::env::temp_dir().join(format!("{prefix}.testpmd.log"));
        let output = fs::File::create(&log).expect("a log can be made");
        let _ = fs::remove_file(&log);
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", netns.name(), "dpdk-testpmd", "--lcores=0@(0,1),1@(0,1)", "--no-pci"])
            .args(["--in-memory", "--single-file-segments", "-m", "64", &format!("--file-prefix={prefix}")])
            .args(vdevs.iter().map(|vdev| format!("--vdev={vdev}")))
            .args(["--", "--auto-start", "--no-mlockall", "--total-num-mbufs=8192", "--nb-cores=1"])
            .args(options)
            .stdin(Stdio::piped())
            .stdout(output.try_clone().expect("a file can be shared"))
            .stderr(output);
        Testpmd { child: Child::spawn(&mut command) }
    }

    /// Kills it, as a guest that crashes.
    pub fn kill(mut self) {
        let _ = self.child.inner().kill();
        let _ = self.child.inner().wait();
    }
}

impl Drop for Testpmd {
    fn drop(&mut self) {
        // Without a prompt it forwards until it reads a line.
        if let Some(stdin) = self.child.inner().stdin.as_mut() {
            let _ = stdin.write_all(b"\n");
        }
    }
}

/// Files of a DPDK process in any hugetlbfs.
pub(crate) fn hugepage_files(prefix: &str) -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let places = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let place = fields.next()?;
        (fields.next()? == "hugetlbfs").then(|| PathBuf::from(place))
    });
    let places = places.flat_map(|place| [place.join("millrace"), place]);
    let entries = places.filter_map(|place| fs::read_dir(place).ok()).flatten().filter_map(Result::ok);
    let ours = entries.filter(|entry| entry.file_name().to_string_lossy().contains(prefix));
    ours.map(|entry| entry.path()).collect()
}
