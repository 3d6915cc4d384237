//! A daemon under test, and a place for it: a directory and a network namespace.

use millrace_api::Client;
use std::fs::File;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Little memory, none of it in hugepages, so that tests run anywhere and side by side.
const SMALL: &str = "memory: { hugepages: never, mebibytes: 64, frames: 4096, afXdpFrames: 2048 }\n\
                     flowTable: { connections: 1024 }\nnodeName: node\n";

pub(crate) fn namespaces_possible() -> bool {
    let possible = nix::unistd::geteuid().is_root();
    if !possible {
        eprintln!("skipped: needs root");
    }
    possible
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn ip(arguments: &[&str]) -> String {
    let output = Command::new("ip").args(arguments).output().unwrap();
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A directory, and network namespaces whose names begin alike; all go with it.
pub(crate) struct Place {
    directory: TempDir,
    prefix: String,
    namespaces: Mutex<Vec<String>>,
    read_only_sysctls: bool,
}

impl Place {
    /// With a namespace for the daemon, and a small configuration to which `more` is added.
    pub(crate) fn new(more: &str) -> Self {
        let place = Place::bare(&format!("{SMALL}{more}"));
        if nix::unistd::geteuid().is_root() {
            place.add_pod("host");
            ip(&["-n", &place.pod("host"), "link", "set", "lo", "up"]);
        }
        place
    }

    /// With just this configuration, and no namespace.
    pub(crate) fn bare(config: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("mrd{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let (directory, namespaces) = (TempDir::new().unwrap(), Mutex::new(Vec::new()));
        let place = Place { directory, prefix, namespaces, read_only_sysctls: false };
        std::fs::create_dir(place.path("manifests")).unwrap();
        place.write(config);
        place
    }

    /// The same for a daemon whose /proc/sys is read-only, as that of a container without privileges.
    pub(crate) fn read_only_sysctls(mut self) -> Self {
        self.read_only_sysctls = true;
        self
    }

    /// Adds to the configuration.
    pub(crate) fn configure(&self, more: &str) {
        self.write(&format!("{SMALL}{more}"));
    }

    /// Puts one section in place of the usual one.
    pub(crate) fn replace(&self, section: &str) {
        let key = section.split(':').next().unwrap();
        let kept = self.sections().into_iter().filter(|line| !line.starts_with(&format!("{key}:")));
        let config = format!("{SMALL}{}{section}", kept.collect::<String>());
        std::fs::write(self.path("millrace.yaml"), config).unwrap();
    }

    fn write(&self, config: &str) {
        std::fs::write(self.path("millrace.yaml"), self.sections().concat() + config).unwrap();
    }

    fn sections(&self) -> Vec<String> {
        vec![
            format!("api: {{ socket: {} }}\n", self.path("api.sock").display()),
            format!("stateDirectory: {}\n", self.path("state").display()),
            "source: { directory: manifests }\n".to_owned(),
        ]
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn pod(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    pub(crate) fn add_pod(&self, name: &str) {
        ip(&["netns", "add", &self.pod(name)]);
        self.namespaces.lock().unwrap().push(self.pod(name));
    }

    pub(crate) fn remove_pod(&self, name: &str) {
        ip(&["netns", "del", &self.pod(name)]);
        self.namespaces.lock().unwrap().retain(|known| *known != self.pod(name));
    }

    /// Runs a command in a namespace; gives what it says.
    pub(crate) fn exec_in(&self, name: &str, command: &[&str]) -> String {
        ip(&[&["netns", "exec", &self.pod(name)], command].concat())
    }

    /// Runs a function on a thread in a namespace: its sockets stay there.
    pub(crate) fn within<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let file = File::open(format!("/run/netns/{}", self.pod(name))).unwrap();
        let enter_and_work = move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            work()
        };
        std::thread::spawn(enter_and_work).join().unwrap()
    }

    /// Interfaces of the daemon's namespace.
    pub(crate) fn links(&self) -> String {
        self.in_pod("host")
    }

    pub(crate) fn in_pod(&self, name: &str) -> String {
        ip(&["-n", &self.pod(name), "-br", "link"])
    }

    /// Runs a command in the daemon's namespace; gives what it says.
    pub(crate) fn exec(&self, command: &[&str]) -> String {
        ip(&[&["netns", "exec", &self.pod("host")], command].concat())
    }

    fn command(&self) -> Command {
        let program = env!("CARGO_BIN_EXE_millraced");
        let namespaces = self.namespaces.lock().unwrap();
        let mut command = match namespaces.first() {
            Some(host) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", host]);
                if self.read_only_sysctls {
                    // `ip` has made a mount namespace of its own.
                    let remount = "mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec \"$@\"";
                    command.args(["sh", "-c", remount, "sh"]);
                }
                command.arg(program);
                command
            }
            None => Command::new(program),
        };
        command.arg("--config").arg(self.path("millrace.yaml"));
        command
    }

    /// Starts a daemon that is to fail; gives its exit status and what it said.
    pub(crate) fn run_to_the_end(&self) -> (Option<i32>, String) {
        let log = self.path("failure");
        let child = self.command().stderr(File::create(&log).unwrap()).stdout(Stdio::null()).spawn().unwrap();
        let mut daemon = Daemon { place: self, child };
        eventually("it ends by itself", || daemon.child.try_wait().unwrap().is_some());
        (daemon.child.wait().unwrap().code(), std::fs::read_to_string(log).unwrap())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for namespace in self.namespaces.lock().unwrap().iter() {
            let _ = Command::new("ip").args(["netns", "del", namespace]).status();
        }
    }
}

/// A running daemon; killed when dropped.
pub(crate) struct Daemon<'a> {
    place: &'a Place,
    child: Child,
}

impl<'a> Daemon<'a> {
    /// Starts it, and waits until it is ready.
    pub(crate) fn start(place: &'a Place) -> Self {
        let log = File::create(place.path("log")).unwrap();
        let child = place.command().stderr(log).stdout(Stdio::null()).spawn().unwrap();
        let mut daemon = Daemon { place, child };
        eventually("the daemon is ready", || {
            assert!(daemon.child.try_wait().unwrap().is_none(), "it ended: {}", daemon.log());
            daemon.log().contains("ready")
        });
        daemon
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(self.place.path("api.sock"))
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.place.path("log")).unwrap()
    }

    /// Sends bytes to the API's socket, and gives what comes until the end. With `hang_up` the daemon is told that no more
    /// will come, which ends a request that it still works on.
    pub(crate) fn raw(&self, bytes: &[u8], hang_up: bool) -> String {
        let mut stream = UnixStream::connect(self.place.path("api.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // It may hang up before it has read everything.
        let _ = stream.write_all(bytes);
        if hang_up {
            let _ = stream.shutdown(Shutdown::Write);
        }
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8_lossy(&answer).into_owned()
    }

    /// Asks for a path of the metrics' address, from the daemon's namespace.
    pub(crate) fn get(&self, path: &str) -> String {
        let url = format!("http://127.0.0.1:9470{path}");
        let host = self.place.pod("host");
        ip(&["netns", "exec", &host, "curl", "-s", "--max-time", "10", &url])
    }

    /// SIGTERM; gives the exit status.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        eventually("it ends", || self.child.try_wait().unwrap().is_some());
        self.child.wait().unwrap().code()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Daemon<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
