//! A pod's wire, seen by AF_PACKET, with a hand in it: segments of a live connection that its ends did not send.

use crate::pod::Pod;
use crate::process::Child;
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Stdio};

/// A watched interface of a pod.
#[derive(Debug)]
pub struct Wire {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// What a wire has carried since it is watched, what was put on it by [`Wire`] itself left out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// TCP segments with RST, in either direction.
    pub resets: u64,
    /// Segments that came in and were put on the other end's wire.
    pub injected: u64,
    /// TCP segments in either direction.
    pub segments: u64,
}

impl Wire {
    /// Watches TCP from and to `port`, the server's port as it is seen on this wire.
    pub fn watch(pod: &Pod, port: u16) -> Self {
        let script = format!("{}/raw/wire.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", pod.netns().name(), "python3", &script, "eth0", &port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command);
        let output = BufReader::new(child.inner().stdout.take().expect("a pipe"));
        let mut wire = Wire { child, output };
        assert_eq!(wire.line(), "ready");
        wire
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the watcher speaks");
        line.trim().to_owned()
    }

    fn command(&mut self, command: &str) -> String {
        let stdin = self.child.inner().stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{command}").expect("the watcher listens");
        self.line()
    }

    /// Sends a segment with data from this end, far outside of the peer's window.
    pub fn inject_segment(&mut self) {
        assert_eq!(self.command("segment"), "sent");
    }

    /// Sends an RST from this end, far outside of the peer's window.
    pub fn inject_reset(&mut self) {
        assert_eq!(self.command("reset"), "sent");
    }

    /// Sends an acknowledgement from this end of data that the peer has never sent.
    pub fn inject_ack(&mut self) {
        assert_eq!(self.command("ack"), "sent");
    }

    /// What was seen until now.
    pub fn seen(&mut self) -> Seen {
        let text = self.command("report");
        let report: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let number = |name: &str| report[name].as_u64().expect("a number");
        Seen { resets: number("resets"), injected: number("injected"), segments: number("segments") }
    }
}
