//! Network namespaces with guards.

use crate::process::{Output, must, run};
use nix::sched::{CloneFlags, setns};
use std::fs::File;
use std::sync::atomic::{AtomicU32, Ordering};

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A network namespace that is removed with this value.
#[derive(Debug)]
pub struct Netns {
    name: String,
    /// Whether it is another value's, and so stays.
    borrowed: bool,
}

impl Netns {
    /// A new one with its loopback up; `label` makes its name readable.
    pub fn new(label: &str) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("mrt{}-{number}-{label}", std::process::id());
        must("ip", &["netns", "add", &name]);
        let netns = Netns { name, borrowed: false };
        netns.must(&["ip", "link", "set", "lo", "up"]);
        // Duplicate address detection takes a second that no test wants to wait for; there is nobody else on the link.
        netns.must(&[
            "sysctl",
            "-qw",
            "net.ipv6.conf.default.accept_dad=0",
            "net.ipv6.conf.all.accept_dad=0",
        ]);
        netns
    }

    /// One that somebody else has made, and will remove.
    pub(crate) fn existing(name: &str) -> Self {
        Netns { name: name.to_owned(), borrowed: true }
    }

    /// The same namespace once more. It goes with the first value only.
    pub fn borrowed(&self) -> Self {
        Netns { name: self.name.clone(), borrowed: true }
    }

    /// Its name below `/run/netns`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Runs a program inside.
    pub fn run(&self, args: &[&str]) -> Output {
        run("ip", &[&["netns", "exec", &self.name], args].concat())
    }

    /// Runs a program inside that must succeed; its standard output.
    pub fn must(&self, args: &[&str]) -> String {
        must("ip", &[&["netns", "exec", &self.name], args].concat())
    }

    /// Makes a bridge inside that forwards at once, with these options of `ip link add`; it is down.
    pub fn add_bridge(&self, name: &str, options: &[&str]) {
        let bridge = ["type", "bridge", "forward_delay", "0", "mcast_snooping", "0"];
        self.must(&[&["ip", "link", "add", name], options, &bridge].concat());
    }

    /// Names of the interfaces inside.
    pub fn interfaces(&self) -> Vec<String> {
        let listing = self.must(&["ip", "-j", "link", "show"]);
        let parsed: serde_json::Value = serde_json::from_str(&listing).expect("ip -j prints JSON");
        let links = parsed.as_array().expect("a list of links");
        links.iter().filter_map(|link| Some(link["ifname"].as_str()?.to_owned())).collect()
    }

    /// Calls `work` on a thread inside; sockets that it makes stay inside, wherever they are used.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let path = format!("/run/netns/{}", self.name);
        let thread = std::thread::spawn(move || {
            let file = File::open(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
            setns(file, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
            work()
        });
        match thread.join() {
            Ok(value) => value,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.borrowed {
            run("ip", &["netns", "del", &self.name]);
        }
    }
}
