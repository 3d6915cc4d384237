//! A virtual machine as a pod: QEMU without hardware help, a Debian kernel, its own virtio driver.

use crate::pod::{GATEWAY_IPV4, GATEWAY_IPV6};
use crate::process::{Child, must};
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How the guest's card is made.
#[derive(Clone, Copy, Debug, Default)]
pub struct Card {
    /// Packed virtqueues instead of split ones.
    pub packed: bool,
    /// Whether the guest may use checksum and segmentation offloads.
    pub offloads: bool,
}

/// A running guest.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    lines: Receiver<String>,
}

impl Guest {
    /// Boots a guest whose card is at the vhost-user `socket`; it has its addresses when this returns.
    pub fn boot(socket: &Path, mac: &str, ipv4: IpAddr, ipv6: IpAddr, card: Card) -> Self {
        let images = images();
        let on = |yes: bool| if yes { "on" } else { "off" };
        // vectors=0: without KVM, QEMU 7.2 crashes in msix_set_vector_notifiers when vhost starts.
        let device = format!(
            "virtio-net-pci,netdev=net0,mac={mac},packed={},csum={o},guest_csum={o},host_tso4={o},host_tso6={o},\
             guest_tso4={o},guest_tso6={o},mrg_rxbuf=on,vectors=0,romfile=",
            on(card.packed),
            o = on(card.offloads)
        );
        let append = format!(
            "console=ttyS0 quiet loglevel=1 panic=-1 nokaslr mitigations=off random.trust_cpu=on \
             millrace.ip4={ipv4} millrace.gw4={GATEWAY_IPV4} millrace.ip6={ipv6} millrace.gw6={GATEWAY_IPV6}"
        );
        let mut command = Command::new("qemu-system-x86_64");
        command
            .args(["-M", "q35,memory-backend=mem", "-accel", "tcg", "-cpu", "max", "-m", "192"])
            .args(["-object", "memory-backend-memfd,id=mem,size=192M,share=on"])
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-serial", "stdio"])
            .arg("-chardev")
            // It connects again when whoever listens was away.
            .arg(format!("socket,id=char0,path={},reconnect=1", socket.display()))
            .args(["-netdev", "vhost-user,id=net0,chardev=char0", "-device", &device])
            .arg("-kernel")
            .arg(images.join("vmlinuz"))
            .arg("-initrd")
            .arg(images.join("initramfs"))
            .args(["-append", &append])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command);
        let output = child.inner().stdout.take().expect("a pipe");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let guest = Guest { child, lines };
        guest.read_until("##READY", Duration::from_secs(120));
        guest
    }

    /// Lines up to the one that begins with `end`, and that one.
    fn read_until(&self, end: &str, limit: Duration) -> (Vec<String>, String) {
        let begin = Instant::now();
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(limit.saturating_sub(begin.elapsed())) {
                Ok(line) if line.starts_with(end) => return (seen, line),
                Ok(line) => seen.push(line),
                Err(RecvTimeoutError::Timeout) => {
                    panic!("the guest has not said {end} in {limit:?}: {seen:?}")
                }
                Err(RecvTimeoutError::Disconnected) => panic!("the guest has ended: {seen:?}"),
            }
        }
    }

    /// Runs a shell command inside; whether it succeeded, and its output.
    pub fn run(&mut self, command: &str) -> (bool, String) {
        let stdin = self.child.inner().stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{command}").expect("the guest runs");
        let (lines, end) = self.read_until("##END", Duration::from_secs(60));
        (end == "##END 0", lines.join("\n"))
    }

    /// Runs a command that must succeed; its output.
    pub fn must(&mut self, command: &str) -> String {
        let (success, output) = self.run(command);
        assert!(success, "in the guest, {command}: {output}");
        output
    }

    /// Pulls the plug.
    pub fn kill(mut self) {
        let _ = self.child.inner().kill();
        let _ = self.child.inner().wait();
    }
}

/// Builds kernel and initramfs if they are not there for this very agent; where they are.
fn images() -> PathBuf {
    let workspace =
        Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests are a room of the workspace");
    let images = workspace.join("target/guest");
    must(&workspace.join("tests/guest/build").display().to_string(), &[&images.display().to_string()]);
    images
}
