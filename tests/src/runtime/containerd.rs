//! containerd, asked as the kubelet asks it.

use super::cri::Cri;
use super::message::{Fields, Message};
use super::room::{IMAGE, Room};
use super::{Container, Namespaces, Runtime, SERVE, Wanted, attachments};
use crate::daemon::{Daemon, NODE};
use crate::manifest::NAMESPACE;
use crate::network::{Network, eventually};
use crate::process::{Child, Output};
use serde_json::json;
use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

/// `NODE` of `NamespaceMode`: the pod has the node's network.
const NAMESPACE_OF_NODE: u64 = 2;

/// containerd beside a daemon; its pods go with it.
#[derive(Debug)]
pub struct Containerd {
    /// Ids of pod and container by name.
    pods: BTreeMap<String, [String; 2]>,
    cri: Cri,
    // In this order: what containers are in is removed after them.
    child: Option<Child>,
    namespaces: Namespaces,
    room: Room,
}

impl Containerd {
    /// containerd, if this machine can run containers at all; else why it cannot.
    pub fn start(daemon: &Daemon) -> Result<Self, String> {
        let room = Room::new("containerd", daemon);
        room.network("10-millrace.conflist", "pods", daemon, json!({}));
        let config = config(&room.text(""));
        fs::write(room.path("containerd.toml"), config).expect("a file can be written");
        let log = fs::File::create(room.path("log")).expect("a log can be made");
        let enter = room.enter();
        let mut command = Command::new(&enter[0]);
        command.args(&enter[1..]).args(["containerd", "-c"]).arg(room.path("containerd.toml"));
        let log = log.try_clone().map(|other| (log, other)).expect("a file can be shared");
        let child = Child::spawn(command.stdin(Stdio::null()).stdout(log.0).stderr(log.1));
        let cri = Cri::new(room.path("containerd.sock"), &room.path(""));
        let containerd = Containerd {
            pods: BTreeMap::new(),
            cri,
            child: Some(child),
            namespaces: Namespaces::default(),
            room,
        };
        containerd.load();
        containerd.try_pod().map(|()| containerd)
    }

    /// Loads the image, once containerd answers and its network is known.
    fn load(&self) {
        eventually("containerd answers", Duration::from_secs(30), || {
            self.cri.call("Version", &Message::default()).is_ok()
        });
        let (socket, image) = (self.room.text("containerd.sock"), self.room.text("image.tar"));
        let ctr =
            ["ctr", "-a", &socket, "-n", "k8s.io", "images", "import", "--snapshotter", "native", &image];
        let loaded = self.room.run(&ctr);
        assert!(loaded.success, "ctr images import: {}", loaded.stderr);
    }

    /// A pod with the node's network needs no plugin.
    fn try_pod(&self) -> Result<(), String> {
        let options = Message::default().number(1, NAMESPACE_OF_NODE);
        let context = Message::default().message(1, &options);
        let group = format!("{}/trial", self.room.control_group());
        let linux = Message::default().text(1, &group).message(2, &context);
        // The node's own name stays as well.
        let config = Message::default().message(1, &identity("trial")).message(8, &linux);
        let pod = self
            .cri
            .id("RunPodSandbox", &Message::default().message(1, &config))
            .map_err(|error| format!("containerd cannot run containers: {error}"))?;
        self.remove_pod(&pod)
    }

    fn pod_config(&self, name: &str) -> Message {
        Message::default().message(1, &identity(name)).text(2, name).text(3, &self.room.text("logs"))
    }

    fn remove_pod(&self, id: &str) -> Result<(), String> {
        let pod = Message::default().text(1, id);
        self.cri.call("StopPodSandbox", &pod)?;
        self.cri.call("RemovePodSandbox", &pod).map(drop)
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.room.path("log")).unwrap_or_default()
    }
}

impl Runtime for Containerd {
    fn name(&self) -> &'static str {
        "containerd"
    }

    /// The kind comes from the pod's annotation.
    fn start(&mut self, network: &Network, wanted: &Wanted<'_>) -> Container {
        let name = wanted.name;
        let annotations = json!({"millrace.io/port": wanted.kind.name()});
        network.apply(|manifests| manifests.pod_with(name, NODE, &[], &annotations));
        let mut config = self.pod_config(name);
        if let Some(port) = wanted.host_port {
            config = config.message(5, &Message::default().number(2, 80).number(3, port.into()));
        }
        let linux = Message::default().text(1, &format!("{}/{name}", self.room.control_group()));
        let config = config.message(8, &linux);
        let pod = self.cri.id("RunPodSandbox", &Message::default().message(1, &config));
        let pod = pod.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        let mut known = attachments(network.daemon()).into_iter();
        let attachment = known.find(|attachment| attachment.id.container_id.as_str() == pod);
        let attachment = attachment.unwrap_or_else(|| panic!("the daemon does not know of {pod}"));
        self.namespaces.0.push(attachment.netns.clone());
        self.pods.insert(name.to_owned(), [pod.clone(), String::new()]);
        let mut container = Message::default()
            .message(1, &Message::default().text(1, "main"))
            .message(2, &Message::default().text(1, IMAGE));
        for part in ["sh", "-c", SERVE, name] {
            container = container.text(if part == "sh" { 3 } else { 4 }, part);
        }
        let made = Message::default().text(1, &pod).message(2, &container).message(3, &config);
        let id =
            self.cri.id("CreateContainer", &made).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        self.cri
            .call("StartContainer", &Message::default().text(1, &id))
            .unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
        self.pods.insert(name.to_owned(), [pod, id]);
        // As the kubelet does.
        network.apply(|manifests| manifests.pod_with(name, NODE, &attachment.addresses, &annotations));
        Container { name: name.to_owned(), attachment }
    }

    fn exec(&self, container: &Container, args: &[&str]) -> Output {
        let [_, id] = &self.pods[&container.name];
        let mut message = Message::default().text(1, id).number(3, 30);
        for part in args {
            message = message.text(2, part);
        }
        let answer = self.cri.call("ExecSync", &message).unwrap_or_else(|error| panic!("{error}"));
        let fields = Fields::parse(&answer).expect("a message");
        Output { success: fields.number(3) == 0, stdout: fields.text(1), stderr: fields.text(2) }
    }

    fn remove(&mut self, network: &Network, container: &Container) {
        let [pod, _] = self.pods.remove(&container.name).expect("it runs");
        network.manifests().remove(&format!("pod-{}.yaml", container.name));
        self.remove_pod(&pod).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for [pod, _] in std::mem::take(&mut self.pods).into_values() {
            if let Err(error) = self.remove_pod(&pod) {
                eprintln!("a pod of containerd is left: {error}");
            }
        }
        self.child = None;
    }
}

/// `PodSandboxMetadata`.
fn identity(name: &str) -> Message {
    Message::default().text(1, name).text(2, &format!("uid-of-{name}")).text(3, NAMESPACE).number(4, 0)
}

/// Its configuration; everything is below `room`, which ends in `/`.
fn config(room: &str) -> String {
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
bin_dir = "{room}bin"
conf_dir = "{room}net.d"
"#
    )
}
