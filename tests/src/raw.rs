//! Frames that the kernel would not send, by small Python programs in `tests/raw`.

use crate::ask::Answer;
use crate::pod::Pod;
use crate::process::{Child, Output};
use std::io::{self, ErrorKind, Read};
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::Duration;

fn script(name: &str) -> String {
    format!("{}/raw/{name}.py", env!("CARGO_MANIFEST_DIR"))
}

fn python(pod: &Pod, name: &str, args: &[&str]) -> Output {
    pod.netns().run(&[&["python3", &script(name)], args].concat())
}

/// A pod that answers SCTP's INIT at a port with its name, on both families.
pub fn serve_sctp(pod: &Pod, port: u16) -> Child {
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", pod.netns().name(), "python3", &script("sctp"), "serve"])
        .args([&port.to_string(), &pod.name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = Child::spawn(&mut command);
    let output = child.inner().stdout.as_mut().expect("a pipe");
    let mut ready = [0; 6];
    output.read_exact(&mut ready).expect("the server says that it is ready");
    child
}

/// Name of the pod that answers an SCTP INIT; nothing if none does or the checksum is wrong.
pub fn ask_sctp(pod: &Pod, to: IpAddr, port: u16) -> Option<String> {
    Some(ask_sctp_as(pod, None, SocketAddr::new(to, port), Duration::from_secs(2)).ok()?.name)
}

/// What the pod says that answers an SCTP INIT, sent from one of the client's addresses.
pub(crate) fn ask_sctp_as(
    pod: &Pod,
    source: Option<IpAddr>,
    to: SocketAddr,
    patience: Duration,
) -> io::Result<Answer> {
    let (address, port, seconds) =
        (to.ip().to_string(), to.port().to_string(), patience.as_secs_f64().to_string());
    let source = source.map(|source| source.to_string());
    let mut args = vec!["ask", &address, &port, &seconds];
    args.extend(source.as_deref());
    let output = python(pod, "sctp", &args);
    if output.success {
        return Answer::parse(output.stdout.as_bytes());
    }
    let kind = match output.stderr.trim() {
        "refused" => ErrorKind::ConnectionRefused,
        "silence" => ErrorKind::TimedOut,
        _ => return Err(io::Error::other(output.stderr)),
    };
    Err(kind.into())
}

/// Sends frames of random bytes and damaged packets from a pod's interface.
pub fn send_garbage(pod: &Pod, count: u32, seed: u32) {
    let output = python(pod, "frames", &["garbage", "eth0", &count.to_string(), &seed.to_string()]);
    assert!(output.success, "{}", output.stderr);
}

/// Sends well-formed UDP packets with a source of somebody else; `mac` is the Ethernet source, if not the pod's own.
pub fn send_spoofed(pod: &Pod, source: &str, destination: IpAddr, count: u32, mac: Option<&str>) {
    let (destination, count) = (destination.to_string(), count.to_string());
    let mut args = vec!["spoof", "eth0", "02:4d:52:00:00:01", source, &destination, &count];
    args.extend(mac);
    let output = python(pod, "frames", &args);
    assert!(output.success, "{}", output.stderr);
}

/// Asks by ARP who has an address; the MAC address that answers, if any.
pub fn ask_arp(pod: &Pod, address: &str) -> Option<String> {
    let output = python(pod, "frames", &["arp", "eth0", address]);
    output.success.then(|| output.stdout.trim().to_owned())
}
