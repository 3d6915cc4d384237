//! Every frame of a pod's interface, looked at: its checksums, its size, what is left to be done to it.

use crate::pod::Pod;
use crate::process::Child;
use serde::Deserialize;
use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdout, Command, Stdio};

/// Somebody who looks.
#[derive(Debug)]
pub struct Judge {
    child: Child,
    output: BufReader<ChildStdout>,
}

/// What was seen. Pairs are of what came in and what went out.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub struct Verdict {
    /// Frames.
    pub frames: [u64; 2],
    /// Those whose checksum is left to somebody else.
    pub partial: [u64; 2],
    /// Those that stand for several segments.
    pub gso: [u64; 2],
    /// Bytes of the largest.
    pub largest: [u64; 2],
    /// Checksums that were looked at.
    pub checked: u64,
    /// The first few that are not right, in words.
    pub wrong: Vec<String>,
}

impl Judge {
    /// Looks at `eth0` of a pod.
    pub fn watch(pod: &Pod) -> Self {
        let script = format!("{}/raw/judge.py", env!("CARGO_MANIFEST_DIR"));
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", pod.netns().name(), "python3", &script, "eth0"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = Child::spawn(&mut command);
        let output = BufReader::new(child.inner().stdout.take().expect("a pipe"));
        let mut judge = Judge { child, output };
        assert_eq!(judge.line(), "ready");
        judge
    }

    /// What was seen since the last verdict.
    pub fn verdict(&mut self) -> Verdict {
        let stdin = self.child.inner().stdin.as_mut().expect("a pipe");
        writeln!(stdin).expect("the judge listens");
        let text = self.line();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("the judge speaks");
        line.trim().to_owned()
    }
}
