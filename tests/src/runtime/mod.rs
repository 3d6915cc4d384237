//! Container runtimes of the distribution, which give their containers to the daemon by the CNI plugin.

mod containerd;
mod cri;
mod deployed;
mod engine;
mod message;
mod podman;
mod room;

pub use containerd::Containerd;
pub use deployed::{Deployed, Deployment};
pub use podman::Podman;

use crate::daemon::Daemon;
use crate::network::Network;
use crate::pod::{Family, Kind};
use crate::process::{Output, run};
use millrace_api::Attachment;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

/// What every container serves at port 80: its name.
const SERVE: &str = "echo \"$0\" >/www/index.html && exec httpd -f -p 80 -h /www";

/// What a container is to be.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    /// Its name.
    pub name: &'a str,
    /// How it is attached: [`Kind::Tap`], [`Kind::Veth`] or [`Kind::AfXdp`].
    pub kind: Kind,
    /// A port of the node that leads to its port 80 by TCP.
    pub host_port: Option<u16>,
}

/// A container that runs.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// What the daemon knows of its interface.
    pub attachment: Attachment,
}

impl Container {
    /// Its address.
    pub fn address(&self, family: Family) -> IpAddr {
        let wanted = |address: &&IpAddr| address.is_ipv4() == (family == Family::V4);
        *self.attachment.addresses.iter().find(wanted).expect("a dual-stack container")
    }
}

/// A runtime.
pub trait Runtime {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Starts a container that serves its name by HTTP, and waits until it runs.
    fn start(&mut self, network: &Network, wanted: &Wanted<'_>) -> Container;

    /// Runs a program in a container, to its end.
    fn exec(&self, container: &Container, args: &[&str]) -> Output;

    /// Ends a container and removes it.
    fn remove(&mut self, network: &Network, container: &Container);
}

/// What an HTTP server says to a container.
pub fn fetch(runtime: &dyn Runtime, from: &Container, server: SocketAddr) -> Result<String, String> {
    // A static busybox's wget falls over names, which it looks for in addresses as well.
    let ask = "printf 'GET / HTTP/1.0\\r\\n\\r\\n' | nc -w 3 \"$0\" \"$1\"";
    let [ip, port] = [server.ip().to_string(), server.port().to_string()];
    let output = runtime.exec(from, &["sh", "-c", ask, &ip, &port]);
    match output.stdout.split_once("\r\n\r\n") {
        Some((head, body)) if head.starts_with("HTTP/1.1 200 ") => Ok(body.trim().to_owned()),
        _ => Err(format!("{}{}", output.stdout, output.stderr)),
    }
}

/// All attachments of the daemon.
pub fn attachments(daemon: &Daemon) -> Vec<Attachment> {
    daemon.client().attachments().expect("the daemon lists attachments").attachments
}

/// Namespaces that a runtime has made, to be removed if it could not.
#[derive(Debug, Default)]
struct Namespaces(Vec<PathBuf>);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for path in self.0.iter().filter(|path| path.exists()) {
            let path = path.display().to_string();
            run("umount", &["-l", &path]);
            run("rm", &["-f", &path]);
        }
    }
}
