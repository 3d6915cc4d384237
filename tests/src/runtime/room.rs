//! Where a container runtime works: its own directory, mount namespace and control groups, in the network namespace
//! of the node.

use crate::daemon::{Daemon, binary};
use crate::netns::Netns;
use crate::process::{Child, Output, must, run};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tempfile::TempDir;

/// The image of every container: busybox, and a directory to serve.
pub(crate) const IMAGE: &str = "localhost/millrace-test:1";
/// Where Debian's containernetworking-plugins are; containerd wants `loopback` of them.
const REFERENCE_PLUGINS: &str = "/usr/lib/cni";
const APPLETS: [&str; 8] = ["sh", "sleep", "true", "printf", "httpd", "nc", "ping", "ip"];
const CONTROL_GROUPS: &str = "/sys/fs/cgroup";

/// Directories that runtimes use whatever they are told; each mount namespace has its own.
const HIDDEN: [&str; 4] = ["/var/lib/cni", "/var/lib/containers", "/run/containerd", "/run/runc"];
/// What is mounted on them must not appear anywhere else. Namespaces' files in /run/netns must, which is a mount of its own.
const HIDE: &str = r#"
set -e
for directory; do
    mount --make-private "$(stat -c %m "$directory")"
    mount -t tmpfs millrace-test "$directory"
done
echo ready
exec sleep infinity
"#;

/// A runtime's surroundings. They go with this value.
#[derive(Debug)]
pub(crate) struct Room {
    directory: TempDir,
    group: String,
    holder: Option<Child>,
    netns: Netns,
    /// Those of [`HIDDEN`] that were not there before.
    made: Vec<&'static str>,
}

/// An image, named as containers ask for it, with its files.
pub(super) struct Image<'a> {
    pub(super) name: &'a str,
    /// A directory in the room, which becomes the root.
    pub(super) root: &'a str,
    /// Where its archive is to be.
    pub(super) archive: &'a str,
}

impl Room {
    /// Surroundings beside this daemon, with an image and programs.
    pub(crate) fn new(label: &str, daemon: &Daemon) -> Self {
        let room = Self::empty(label, daemon.netns().borrowed(), &[]);
        symlink(binary("millrace-cni"), room.path("bin/millrace-cni")).expect("a link can be made");
        room
    }

    /// Surroundings in this network namespace with an image, and `loopback` in `bin`. It has directories of its own at
    /// those of `hidden`, too.
    pub(super) fn empty(label: &str, netns: Netns, hidden: &[&'static str]) -> Self {
        let directory = tempfile::Builder::new().prefix("mrt").tempdir().expect("a directory can be made");
        let group = format!("mrt{}-{label}", std::process::id());
        let mut room = Room { directory, group, holder: None, netns, made: Vec::new() };
        let hidden: Vec<&'static str> = HIDDEN.iter().chain(hidden).copied().collect();
        for directory in &hidden {
            if !Path::new(directory).exists() {
                fs::create_dir_all(directory).expect("root may make directories");
                room.made.push(directory);
            }
        }
        room.hold(&hidden);
        room.make_busybox();
        fs::create_dir(room.path("bin")).expect("a directory can be made");
        let loopback = format!("{REFERENCE_PLUGINS}/loopback");
        assert!(Path::new(&loopback).exists(), "{loopback} is missing: run scripts/setup --test");
        symlink(loopback, room.path("bin/loopback")).expect("a link can be made");
        fs::create_dir(room.path("net.d")).expect("a directory can be made");
        room
    }

    /// Keeps a mount namespace.
    fn hold(&mut self, hidden: &[&str]) {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "unchanged", "sh", "-c", HIDE, "sh"]).args(hidden);
        let mut holder = Child::spawn(command.stdout(Stdio::piped()).stdin(Stdio::null()));
        let mut line = String::new();
        let output = holder.inner().stdout.take().expect("it is piped");
        std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line)
            .expect("a pipe can be read");
        assert_eq!(line, "ready\n", "no mount namespace for {}", self.group);
        self.holder = Some(holder);
    }

    /// A file here.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// What is at `path` for those who run here.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        let holder = self.holder.as_ref().expect("it is held until the end").id();
        PathBuf::from(format!("/proc/{holder}/root{path}"))
    }

    /// The same as text.
    pub(crate) fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    /// The control group of all that runs here, with a `/` before it.
    pub(crate) fn control_group(&self) -> String {
        format!("/{}", self.group)
    }

    /// What runs a program here, to which its name and arguments are to be added.
    pub(crate) fn enter(&self) -> Vec<String> {
        let holder = self.holder.as_ref().expect("it is held until the end").id();
        let mount = format!("--mount=/proc/{holder}/ns/mnt");
        vec!["nsenter".into(), mount, format!("--net=/run/netns/{}", self.netns.name()), "--".into()]
    }

    /// Runs a program here to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Output {
        let enter = self.enter();
        let all: Vec<&str> = enter.iter().map(String::as_str).chain(args.iter().copied()).collect();
        // A runtime's children may keep our pipes; what they say goes into files.
        let files = [self.path("stdout"), self.path("stderr")];
        let [stdout, stderr] =
            files.each_ref().map(|path| fs::File::create(path).expect("a file can be made"));
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).stdin(Stdio::null()).stdout(stdout).stderr(stderr);
        let status = Child::spawn(&mut command).inner().wait().expect("our own child can be waited for");
        let [stdout, stderr] = files.map(|path| fs::read_to_string(path).unwrap_or_default());
        Output { success: status.success(), stdout, stderr }
    }

    /// A network configuration for runtimes; `plugin` has what is beyond the usual.
    pub(crate) fn network(&self, file: &str, name: &str, daemon: &Daemon, plugin: Value) {
        let mut ours = json!({
            "type": "millrace-cni",
            "socket": daemon.room().join("api.sock"),
            "stateDirectory": daemon.room().join("state"),
            "capabilities": {"portMappings": true, "ips": true, "mac": true, "bandwidth": true},
        });
        if let (Value::Object(ours), Value::Object(plugin)) = (&mut ours, plugin) {
            ours.extend(plugin);
        }
        let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": [ours]});
        fs::write(self.path("net.d").join(file), list.to_string()).expect("a file can be written");
    }

    /// Makes `image.tar`, with busybox.
    fn make_busybox(&self) {
        let root = self.path("image/root");
        for directory in ["bin", "etc", "proc", "sys", "dev", "tmp", "run", "www"] {
            fs::create_dir_all(root.join(directory)).expect("a directory can be made");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox"))
            .expect("a static /bin/busybox is there: run scripts/setup --test");
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).expect("a link can be made");
        }
        self.make_image(&Image { name: IMAGE, root: "image/root", archive: "image.tar" });
    }

    /// Makes an image as `docker save` writes it.
    pub(super) fn make_image(&self, image: &Image<'_>) {
        let (name, archive) = (image.name, self.text(image.archive));
        let parts = tempfile::tempdir().expect("a directory can be made");
        let image_root = self.text(image.root);
        let path = |name: &str| parts.path().join(name);
        let image = parts.path().display().to_string();
        must("tar", &["-C", &image_root, "-cf", &format!("{image}/layer.tar"), "."]);
        let sum = must("sha256sum", &[&format!("{image}/layer.tar")]);
        let digest = sum.split(' ').next().expect("a sum");
        let config = json!({
            "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/bin/sleep", "infinity"], "Env": ["PATH=/bin"], "WorkingDir": "/"},
            "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
            "history": [{"created": "2000-01-01T00:00:00Z"}],
        });
        let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]);
        fs::write(path("config.json"), config.to_string()).expect("a file can be written");
        fs::write(path("manifest.json"), manifest.to_string()).expect("a file can be written");
        let files = ["manifest.json", "config.json", "layer.tar"];
        must("tar", &[&["-C", &image, "-cf", &archive], &files[..]].concat());
    }

    /// Control groups that containers have left.
    fn groups(&self) -> Vec<String> {
        let wanted = format!("*/{}*", self.group);
        let found = run("find", &[CONTROL_GROUPS, "-depth", "-type", "d", "-path", &wanted]);
        found.stdout.lines().map(str::to_owned).collect()
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        // A group can be removed a moment after its last process has ended.
        for _ in 0..50 {
            let groups = self.groups();
            if groups.is_empty() {
                break;
            }
            for group in groups {
                let _ = fs::remove_dir(group);
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        // All that is mounted inside goes with it.
        self.holder = None;
        for directory in &self.made {
            let _ = fs::remove_dir(directory);
        }
    }
}
