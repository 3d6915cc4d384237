//! What passes an interface, by tcpdump.

use crate::netns::Netns;
use crate::process::{Child, must};
use nix::sys::signal::Signal;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// A recording. It ends with this value.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    room: TempDir,
}

impl Capture {
    /// Records what matches a filter of tcpdump's, in both directions.
    pub fn start(netns: &Netns, interface: &str, filter: &str) -> Self {
        let room = tempfile::Builder::new().prefix("mrt").tempdir().expect("a directory can be made");
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", netns.name(), "tcpdump", "-i", interface, "-n", "-U", "--immediate-mode"])
            .args(["-Z", "root", "-s", "256", "-w"])
            .arg(room.path().join("pcap"))
            .arg(filter)
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = Child::spawn(&mut command);
        let mut errors = BufReader::new(child.inner().stderr.take().expect("a pipe"));
        let mut said = String::new();
        while !said.contains("listening on") {
            said.clear();
            assert!(
                errors.read_line(&mut said).is_ok_and(|read| read > 0),
                "tcpdump does not record: {filter}"
            );
        }
        // It goes on to speak at its end only; the pipe holds that.
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Capture { child, room }
    }

    /// Ends the recording; a line a packet, with headers in full. Checksums can be wrong in it where the kernel leaves
    /// them to a NIC.
    pub fn lines(mut self) -> Vec<String> {
        // What has just been sent may still be on its way to tcpdump.
        std::thread::sleep(Duration::from_millis(100));
        self.child.end(Signal::SIGINT, Duration::from_secs(5)).expect("tcpdump ends");
        let path = self.room.path().join("pcap").display().to_string();
        let text = must("tcpdump", &["-nn", "-e", "-v", "-r", &path]);
        let mut lines: Vec<String> = Vec::new();
        for line in text.lines() {
            match lines.last_mut() {
                // A packet's first line begins with the time, as in 12:34:56.789012; one within a packet has further lines.
                Some(last) if line.as_bytes().get(8) != Some(&b'.') => {
                    last.push(' ');
                    last.push_str(line.trim());
                }
                _ => lines.push(line.to_owned()),
            }
        }
        lines
    }
}
