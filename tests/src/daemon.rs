//! The daemon: started with a configuration in its own namespace and directory, ended, and nothing left.

use crate::manifest::Manifests;
use crate::netns::Netns;
use crate::process::{Child, Output, run};
use crate::testpmd::hugepage_files;
use millrace_api::{Client, ClientError, DropList, Port, PortConfig, PortList, Status, path};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The name of the node that the daemon is.
pub(crate) const NODE: &str = "test-node";
/// An interface of the host that is no business of the daemon's.
pub(crate) const HOST_UPLINK: &str = "up0";
const READY: Duration = Duration::from_secs(30);

/// Where one of our programs is: beside the test itself, or in `MILLRACE_BIN`.
pub fn binary(name: &str) -> PathBuf {
    let directory = std::env::var_os("MILLRACE_BIN").map(PathBuf::from).unwrap_or_else(|| {
        // target/PROFILE/deps/TEST
        let test = std::env::current_exe().expect("a process has a program");
        test.ancestors().nth(2).expect("cargo puts tests into deps").to_path_buf()
    });
    let path = directory.join(name);
    assert!(
        path.exists(),
        "{} is missing: cargo build -p millraced -p millrace -p millrace-cni",
        path.display()
    );
    path
}

/// A running daemon.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    netns: Netns,
    room: TempDir,
    manifests: Manifests,
    /// What was there before the daemon, and must be there after it.
    interfaces: Vec<String>,
}

/// Where a daemon runs and who it is.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) room: TempDir,
    pub(crate) netns: Netns,
    pub(crate) node: String,
    pub(crate) manifests: Manifests,
}

impl Seat {
    /// A directory for a daemon.
    pub(crate) fn room() -> TempDir {
        // In memory, as /run is: what outlives a daemon is nowhere else.
        tempfile::Builder::new().prefix("mrt").tempdir_in("/dev/shm").expect("a directory can be made")
    }
}

impl Daemon {
    /// Starts it with `ports`; `change` may alter the configuration first. It is ready when this returns.
    pub fn start(ports: &[Value], change: impl FnOnce(&mut Value)) -> Self {
        let mut daemon = Self::spawn(ports, change);
        daemon.wait_ready();
        daemon
    }

    /// Starts it and does not wait.
    pub fn spawn(ports: &[Value], change: impl FnOnce(&mut Value)) -> Self {
        Self::spawn_in(Seat::room(), ports, change)
    }

    /// Starts it in a directory that is there already, as a second daemon after a first, and does not wait.
    pub(crate) fn spawn_in(room: TempDir, ports: &[Value], change: impl FnOnce(&mut Value)) -> Self {
        let manifests = Manifests::new(room.path().join("manifests"));
        manifests.node(NODE);
        let seat = Seat { room, netns: Netns::new("node"), node: NODE.to_owned(), manifests };
        Self::spawn_at(seat, |config| {
            config["cluster"]["podCIDRs"] = json!(["10.77.0.0/16", "fd00:77::/64"]);
            // The namespace that the daemon is in has no addresses, but for tests of this.
            config["hostLeg"] = json!("none");
            // The world sees who is there.
            config["masquerade"] = json!({"outgoing": false});
            config["ports"] = json!(ports);
            change(config);
        })
    }

    /// Starts it as one of several nodes and does not wait.
    pub(crate) fn spawn_at(seat: Seat, change: impl FnOnce(&mut Value)) -> Self {
        let Seat { room, netns, node, manifests } = seat;
        let mut config = json!({
            "nodeName": node,
            "source": {"directory": manifests.directory()},
            "workers": {"count": 1},
            "cluster": {"serviceCIDRs": ["10.96.0.0/16", "fd00:96::/64"]},
            "api": {"socket": room.path().join("api.sock")},
            "stateDirectory": room.path().join("state"),
        });
        change(&mut config);
        fs::write(room.path().join("millrace.yaml"), config.to_string()).expect("a file can be written");
        let interfaces = netns.interfaces();
        Daemon { child: run_daemon(room.path(), &netns), netns, room, manifests, interfaces }
    }

    /// Starts it once more, where it was; it is ready when this returns.
    pub fn restart(&mut self) {
        self.respawn();
        self.wait_ready();
    }

    /// Starts it once more, where it was, and does not wait.
    pub fn respawn(&mut self) {
        self.child = run_daemon(self.room.path(), &self.netns);
    }

    /// Changes its configuration, for the next start.
    pub fn configure(&self, change: impl FnOnce(&mut Value)) {
        let file = self.room.path().join("millrace.yaml");
        let text = fs::read_to_string(&file).expect("the configuration is there");
        let mut config = serde_json::from_str(&text).expect("it was written as JSON");
        change(&mut config);
        fs::write(file, config.to_string()).expect("a file can be written");
    }

    /// Waits until it answers and has read the manifests.
    pub fn wait_ready(&mut self) {
        let begin = Instant::now();
        loop {
            if let Ok(status) = self.client().get::<Status>(path::STATUS)
                && status.source.synced
            {
                return;
            }
            if let Some(status) = self.child.ended() {
                panic!("millraced ended with {status}:\n{}", self.log());
            }
            assert!(begin.elapsed() < READY, "millraced is not ready after {READY:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for it to end by itself; whether it succeeded, and its log.
    pub fn wait_end(mut self, limit: Duration) -> (bool, String) {
        let begin = Instant::now();
        loop {
            if let Some(status) = self.child.ended() {
                return (status.success(), self.log());
            }
            assert!(begin.elapsed() < limit, "millraced still runs after {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends it by SIGTERM and checks that it ends well and leaves no interface, socket or hugepage file.
    pub fn stop(&mut self) {
        let prefix = self.status().eal_file_prefix;
        let status = self.child.end(Signal::SIGTERM, Duration::from_secs(15));
        let log = self.log();
        let status = status.unwrap_or_else(|| panic!("millraced does not end:\n{log}"));
        assert!(status.success(), "millraced ended with {status}:\n{log}");
        let mut interfaces = self.netns.interfaces();
        interfaces.retain(|name| name != HOST_UPLINK);
        assert_eq!(interfaces, self.interfaces, "interfaces are left, or missing:\n{log}");
        assert_eq!(self.sockets(), Vec::<PathBuf>::new(), "sockets are left:\n{log}");
        // Pages without a file go with the process; those with one would stay.
        assert_eq!(hugepage_files(&prefix), Vec::<PathBuf>::new(), "hugepage files are left:\n{log}");
        // The flow table's do, for a next daemon, until it is known that there is none.
        let uninstalled = self.uninstall();
        assert!(uninstalled.success, "{}", uninstalled.stderr);
        let room = self.room.path().file_name().unwrap_or_default().to_string_lossy();
        assert_eq!(hugepage_files(&room), Vec::<PathBuf>::new(), "uninstalled:\n{log}");
    }

    /// Ends it by SIGTERM; containers keep what they have.
    pub fn end(&mut self) {
        let status = self.child.end(Signal::SIGTERM, Duration::from_secs(15));
        assert!(
            status.is_some_and(|status| status.success()),
            "millraced does not end well:\n{}",
            self.log()
        );
    }

    /// Removes what is kept for a next daemon.
    fn uninstall(&self) -> Output {
        let config = self.room.path().join("millrace.yaml").display().to_string();
        run(&binary("millraced").display().to_string(), &["--uninstall", "--config", &config])
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        self.child.ended().is_some()
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        self.child.end(Signal::SIGKILL, Duration::from_secs(10)).expect("SIGKILL ends everything");
    }

    fn sockets(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.room.path()).expect("our own directory can be read");
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.filter(|path| path.extension().is_some_and(|end| end == "sock" || end == "vhost")).collect()
    }

    /// A client of the admin API.
    pub fn client(&self) -> Client {
        Client::new(self.room.path().join("api.sock"))
    }

    /// Runs the `millrace` command.
    pub fn cli(&self, args: &[&str]) -> Output {
        let socket = self.room.path().join("api.sock").display().to_string();
        let program = binary("millrace").display().to_string();
        run(&program, &[&["--socket", &socket], args].concat())
    }

    /// Runs `millrace … -o json`, which must succeed.
    pub fn cli_json(&self, args: &[&str]) -> Value {
        let output = self.cli(&[args, &["-o", "json"]].concat());
        assert!(output.success, "millrace {args:?}: {}", output.stderr);
        serde_json::from_str(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", output.stdout))
    }

    /// General state.
    pub fn status(&self) -> Status {
        self.client().get(path::STATUS).expect("the daemon tells its state")
    }

    /// One port.
    pub fn port(&self, name: &str) -> Port {
        self.client().get(&path::port(name)).expect("the port is there")
    }

    /// All ports.
    pub fn ports(&self) -> Vec<Port> {
        self.client().get::<PortList>(path::PORTS).expect("the daemon lists ports").ports
    }

    /// Adds a port. A pod whose manifest was only just written may not be known yet, so that is waited for.
    pub fn add_port(&self, port: &Value) {
        let config: PortConfig = serde_json::from_value(port.clone()).expect("a legal port");
        let begin = Instant::now();
        loop {
            match self.client().post::<Port>(path::PORTS, &config) {
                Ok(made) => return assert_eq!(made.config, config),
                Err(ClientError::Refused { refusal, .. })
                    if refusal.message.contains("no manifest of pod") && begin.elapsed() < READY =>
                {
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => panic!("port not added: {error}\n{}", self.log()),
            }
        }
    }

    /// Removes a port.
    pub fn remove_port(&self, name: &str) {
        self.client().delete(&path::port(name)).expect("the port is removed");
    }

    /// Frames lost for a reason, on the whole node.
    pub fn drops(&self, reason: &str) -> u64 {
        let list: DropList = self.client().get(path::DROPS).expect("the daemon counts drops");
        let found = list.drops.iter().find(|drop| drop.reason == reason);
        let known: Vec<&str> = list.drops.iter().map(|drop| &*drop.reason).collect();
        found.unwrap_or_else(|| panic!("no such reason as {reason}, but {known:?}")).frames
    }

    /// Packet buffers outside of their pools.
    pub fn buffers_in_use(&self) -> u64 {
        self.status().pools.iter().map(|pool| pool.in_use).sum()
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        let pid = self.status().pid;
        fs::read_dir(format!("/proc/{pid}/fd")).expect("the daemon runs").count()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.room.path().join("log")).unwrap_or_default()
    }

    /// Its directory.
    pub fn room(&self) -> &Path {
        self.room.path()
    }

    /// Its manifests.
    pub fn manifests(&self) -> &Manifests {
        &self.manifests
    }

    /// Its network namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Daemon {
    /// Also of one that was killed nothing stays.
    fn drop(&mut self) {
        let _ = self.child.end(Signal::SIGTERM, Duration::from_secs(10));
        self.uninstall();
    }
}

fn run_daemon(room: &Path, netns: &Netns) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(room.join("log"));
    let log = log.expect("a log can be made");
    let mut command = Command::new("ip");
    command
        .args(["netns", "exec", netns.name()])
        .arg(binary("millraced"))
        .arg("--config")
        .arg(room.join("millrace.yaml"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file can be shared"))
        .stderr(log);
    Child::spawn(&mut command)
}
