//! containerd itself, asked as the kubelet asks it.

use super::cri::Cri;
use super::message::Message;
use super::room::{IMAGE, Room};
use crate::manifest::NAMESPACE;
use crate::network::eventually;
use crate::process::Child;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// `NODE` of `NamespaceMode`: the pod has the node's network.
pub(super) const NAMESPACE_OF_NODE: u64 = 2;

/// containerd in a room.
#[derive(Debug)]
pub(super) struct Engine {
    pub(super) cri: Cri,
    // In this order: what it runs in goes last.
    child: Option<Child>,
    pub(super) room: Room,
}

impl Engine {
    /// Starts it, if this machine can run containers at all; else why it cannot. Plugins and their networks are looked for in
    /// these directories.
    pub(super) fn start(room: Room, bin: &str, networks: &str) -> Result<Self, String> {
        let config = config(&room.text(""), bin, networks);
        fs::write(room.path("containerd.toml"), config).expect("a file can be written");
        let log = fs::File::create(room.path("log")).expect("a log can be made");
        let enter = room.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(["containerd", "-c"]).arg(room.path("containerd.toml"));
        let log = log.try_clone().map(|other| (log, other)).expect("a file can be shared");
        let child = Child::spawn(command.stdin(Stdio::null()).stdout(log.0).stderr(log.1));
        let cri = Cri::new(room.path("containerd.sock"), &room.path(""));
        let engine = Engine { cri, child: Some(child), room };
        eventually("containerd answers", Duration::from_secs(30), || {
            engine.cri.call("Version", &Message::default()).is_ok()
        });
        engine.load("image.tar");
        engine.try_pod().map(|()| engine)
    }

    /// Loads an image from an archive in the room.
    pub(super) fn load(&self, archive: &str) {
        let (socket, image) = (self.room.text("containerd.sock"), self.room.text(archive));
        let ctr =
            ["ctr", "-a", &socket, "-n", "k8s.io", "images", "import", "--snapshotter", "native", &image];
        let loaded = self.room.run(&ctr);
        assert!(loaded.success, "ctr images import: {}", loaded.stderr);
    }

    /// A pod with the node's network needs no plugin.
    fn try_pod(&self) -> Result<(), String> {
        let pod = self
            .run_pod(&self.node_pod("trial"))
            .map_err(|error| format!("containerd cannot run containers: {error}"))?;
        self.remove_pod(&pod)
    }

    /// `PodSandboxConfig` of a pod with the node's network.
    pub(super) fn node_pod(&self, name: &str) -> Message {
        let options = Message::default().number(1, NAMESPACE_OF_NODE);
        let context = Message::default().message(1, &options);
        let linux = Message::default().text(1, &self.group(name)).message(2, &context);
        // The node's own name stays as well.
        let pod = Message::default().message(1, &identity(name));
        pod.text(3, &self.room.text("logs")).message(8, &linux)
    }

    /// The control group of a pod.
    pub(super) fn group(&self, name: &str) -> String {
        format!("{}/{name}", self.room.control_group())
    }

    /// Runs a pod's sandbox; its id.
    pub(super) fn run_pod(&self, config: &Message) -> Result<String, String> {
        self.cri.id("RunPodSandbox", &Message::default().message(1, config))
    }

    /// Makes a container in a pod and starts it; its id.
    pub(super) fn run_container(
        &self,
        pod: &str,
        container: &Message,
        config: &Message,
    ) -> Result<String, String> {
        let made = Message::default().text(1, pod).message(2, container).message(3, config);
        let id = self.cri.id("CreateContainer", &made)?;
        self.cri.call("StartContainer", &Message::default().text(1, &id))?;
        Ok(id)
    }

    /// Ends a pod with all that runs in it, and removes it.
    pub(super) fn remove_pod(&self, id: &str) -> Result<(), String> {
        let pod = Message::default().text(1, id);
        self.cri.call("StopPodSandbox", &pod)?;
        self.cri.call("RemovePodSandbox", &pod).map(drop)
    }

    /// What it has logged.
    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.room.path("log")).unwrap_or_default()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.child = None;
    }
}

/// `PodSandboxMetadata`.
pub(super) fn identity(name: &str) -> Message {
    Message::default().text(1, name).text(2, &format!("uid-of-{name}")).text(3, NAMESPACE).number(4, 0)
}

/// Its configuration; everything else is below `room`, which ends in `/`.
fn config(room: &str, bin: &str, networks: &str) -> String {
    format!(
        r#"
version = 2
root = "{room}root"
state = "{room}state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs",
    "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.aufs"]
[grpc]
address = "{room}containerd.sock"
[ttrpc]
address = "{room}ttrpc.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "{room}opt"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{IMAGE}"
restrict_oom_score_adj = true
disable_tcp_service = true
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "native"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "{bin}"
conf_dir = "{networks}"
"#
    )
}
