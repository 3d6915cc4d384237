//! Frames that the kernel would not send, by small Python programs in `tests/raw`.

use crate::pod::Pod;
use crate::process::{Child, Output};
use std::net::IpAddr;
use std::process::{Command, Stdio};

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
        .stdin(Stdio::null());
    Child::spawn(&mut command)
}

/// Name of the pod that answers an SCTP INIT; nothing if none does or the checksum is wrong.
pub fn ask_sctp(pod: &Pod, to: IpAddr, port: u16) -> Option<String> {
    let output = python(pod, "sctp", &["ask", &to.to_string(), &port.to_string()]);
    output.success.then(|| output.stdout.trim().to_owned())
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
