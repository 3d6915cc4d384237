//! The kubelet's side of the container runtime interface (`runtime.v1`, kubernetes/cri-api): gRPC, by curl.

use super::message::{Fields, Message};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Frames of gRPC begin with a flag and a length.
const PREFIX: usize = 5;

/// A client.
#[derive(Debug)]
pub(super) struct Cri {
    socket: PathBuf,
    room: PathBuf,
}

impl Cri {
    pub(super) fn new(socket: PathBuf, room: &Path) -> Self {
        Cri { socket, room: room.to_path_buf() }
    }

    /// Calls a method of `RuntimeService`; its answer, or what the runtime says is wrong.
    pub(super) fn call(&self, method: &str, message: &Message) -> Result<Vec<u8>, String> {
        let length = u32::try_from(message.as_bytes().len()).expect("messages are small");
        let frame = [&[0], &length.to_be_bytes()[..], message.as_bytes()].concat();
        let [request, head] = ["request", "head"].map(|name| self.room.join(name));
        fs::write(&request, frame).expect("a file can be written");
        let output = Command::new("curl")
            .args(["-s", "--max-time", "60", "--http2-prior-knowledge", "--unix-socket"])
            .arg(&self.socket)
            .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-D"])
            .arg(&head)
            .arg("--data-binary")
            .arg(format!("@{}", request.display()))
            .arg(format!("http://localhost/runtime.v1.RuntimeService/{method}"))
            .stdin(Stdio::null())
            .output()
            .expect("curl is there: run scripts/setup --test");
        // The status follows the answer, or stands in the head if there is none.
        let head = fs::read_to_string(head).unwrap_or_default();
        let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        match field("grpc-status:") {
            Some("0") => Ok(output.stdout.get(PREFIX..).unwrap_or_default().to_vec()),
            Some(_) => Err(format!("{method}: {}", field("grpc-message:").unwrap_or_default())),
            None => Err(format!("{method}: no answer: {:?} {head}", output.status)),
        }
    }

    /// Calls a method that answers with an id.
    pub(super) fn id(&self, method: &str, message: &Message) -> Result<String, String> {
        let answer = self.call(method, message)?;
        Ok(Fields::parse(&answer).ok_or_else(|| format!("{method}: no message"))?.text(1))
    }
}
