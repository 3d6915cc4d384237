//! Millrace as a cluster runs it: containerd makes its containers as the kubelet asks for them, by the DaemonSet.
//!
//! The kubelet's part is played here: what it makes of a DaemonSet's containers (`pkg/kubelet/kuberuntime`) is asked of
//! containerd. Host paths are the node's, which has directories of its own at those of [`HOST_PATHS`].

use super::engine::{Engine, NAMESPACE_OF_NODE, identity};
use super::message::{Fields, Message};
use super::room::{Image, Room};
use crate::daemon::{NODE, binary};
use crate::netns::Netns;
use crate::network::{Alone, eventually};
use crate::pod::{Kind, Pod};
use crate::process::must;
use crate::testpmd::hugepage_files;
use millrace_api::{Client, Status, path};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The image that the DaemonSet names.
const MILLRACE: &str = "docker.io/library/millrace:latest";
/// Directories of the host that the node has for itself. The rest of the DaemonSet's host paths are devices and settings of the
/// kernel, and network namespaces.
const HOST_PATHS: [&str; 4] = ["/run/millrace", "/var/lib/millrace", "/opt/cni/bin", "/etc/cni/net.d"];
/// What the hugepages are called in which connections are kept.
const KEPT: &str = "run-millrace-millrace.sock.";
/// Where the kubelet mounts a pod's credentials.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// DPDK's drivers, which it loads by itself.
const DRIVERS: &str = "/usr/lib/x86_64-linux-gnu/dpdk";
/// What the kubelet has hidden, and made read-only, of every container that does not ask for it otherwise
/// (`pkg/securitycontext/util.go`).
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// `CONTAINER` of `NamespaceMode`.
const NAMESPACE_OF_CONTAINER: u64 = 1;
/// `CONTAINER_EXITED` of `ContainerState`.
const EXITED: u64 = 2;
const READY: Duration = Duration::from_secs(30);

/// What a node is to run.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// The DaemonSet.
    pub daemon_set: Value,
    /// The ConfigMap's data.
    pub config: BTreeMap<String, String>,
    /// The API server's authority, as PEM, and the pod's token.
    pub credentials: [String; 2],
    /// Where the API server is.
    pub server: SocketAddr,
}

/// A node with containerd, on which Millrace runs in containers.
#[derive(Debug)]
pub struct Deployed {
    deployment: Deployment,
    /// The daemon's pod and container.
    daemon: Option<[String; 2]>,
    /// How many pods of the daemon there were.
    turns: usize,
    /// Sandboxes of others.
    others: BTreeMap<String, String>,
    /// Hugepages that were kept before.
    before: Vec<PathBuf>,
    engine: Engine,
    _alone: Alone,
}

impl Deployed {
    /// A node in this network namespace, on which nothing runs yet; or why this machine runs no containers.
    pub fn new(netns: &Netns, deployment: Deployment) -> Result<Self, String> {
        let alone = Alone::take();
        let room = Room::empty("deployed", netns.borrowed(), &HOST_PATHS);
        for directory in ["logs", "config", "account", "millrace/usr/bin", "millrace/var"] {
            fs::create_dir_all(room.path(directory)).expect("a directory can be made");
        }
        make_root(&room.path("millrace"));
        room.make_image(&Image { name: MILLRACE, root: "millrace", archive: "millrace.tar" });
        let [bin, networks] = ["/opt/cni/bin", "/etc/cni/net.d"];
        must("cp", &["-L", &room.text("bin/loopback"), &room.inside(bin).display().to_string()]);
        let engine = Engine::start(room, bin, networks)?;
        engine.load("millrace.tar");
        let (others, turns, before) = (BTreeMap::new(), 0, hugepage_files(KEPT));
        let deployed = Deployed { deployment, daemon: None, turns, others, before, engine, _alone: alone };
        deployed.write_volumes();
        Ok(deployed)
    }

    /// The DaemonSet's pod template, to be changed for the next pod.
    pub fn template(&mut self) -> &mut Value {
        &mut self.deployment.daemon_set["spec"]["template"]["spec"]
    }

    /// The pod's token, from now on; as the kubelet replaces it.
    pub fn set_token(&mut self, token: &str) {
        token.clone_into(&mut self.deployment.credentials[1]);
        self.write_volumes();
    }

    /// What the kubelet makes of ConfigMaps and service accounts.
    fn write_volumes(&self) {
        let write = |name: String, text: &str| {
            let path = self.engine.room.path(&name);
            let next = path.with_extension("next");
            fs::write(&next, text).and_then(|()| fs::rename(next, path)).expect("a file can be written");
        };
        for (name, text) in &self.deployment.config {
            write(format!("config/{name}"), text);
        }
        let [authority, token] = &self.deployment.credentials;
        for (name, text) in [("ca.crt", authority.as_str()), ("token", token), ("namespace", "millrace")] {
            write(format!("account/{name}"), text);
        }
    }

    /// Runs the daemon's pod: its init containers one by one, then its container. It need not be ready when this returns.
    pub fn run_daemon(&mut self) -> Result<(), String> {
        let template = self.template().clone();
        self.turns += 1;
        let config = self.engine.node_pod(&format!("millrace-{}", self.turns));
        let pod = self.engine.run_pod(&config)?;
        self.daemon = Some([pod.clone(), String::new()]);
        for init in template["initContainers"].as_array().into_iter().flatten() {
            let id = self.engine.run_container(&pod, &self.container(&template, init), &config)?;
            let name = init["name"].as_str().expect("containers have names");
            eventually(name, READY, || self.state(&id)[0] == EXITED);
            if self.state(&id)[1] != 0 {
                return Err(format!("{name} ends with {}: {}", self.state(&id)[1], self.log()));
            }
        }
        let container = self.container(&template, &template["containers"][0]);
        let id = self.engine.run_container(&pod, &container, &config)?;
        self.daemon = Some([pod, id]);
        Ok(())
    }

    /// Waits until the daemon serves, or has ended: then what it has logged.
    pub fn wait_ready(&self) -> Result<(), String> {
        let [_, id] = self.daemon.as_ref().expect("it was started");
        let mut outcome = Ok(());
        eventually("the daemon serves or ends", READY, || {
            if self.state(id)[0] == EXITED {
                outcome = Err(self.log());
                return true;
            }
            self.client().get::<Status>(path::STATUS).is_ok_and(|status| status.source.synced)
        });
        outcome
    }

    /// Ends the daemon's pod as the kubelet does: SIGTERM, and time to end; its container's exit status.
    pub fn end_daemon(&mut self) -> u64 {
        let [pod, id] = self.daemon.take().expect("it runs");
        let grace = self.template()["terminationGracePeriodSeconds"].as_u64().expect("it is given time");
        let message = Message::default().text(1, &id).number(2, grace);
        self.engine.cri.call("StopContainer", &message).unwrap_or_else(|error| panic!("{error}"));
        let [_, status] = self.state(&id);
        self.engine.remove_pod(&pod).unwrap_or_else(|error| panic!("{error}\n{}", self.engine.log()));
        status
    }

    /// Runs another program of the image as the daemon's container is run, to its end; its exit status.
    pub fn run_once(&mut self, command: &[&str]) -> u64 {
        let mut template = self.template().clone();
        template["containers"][0]["command"] = command.into();
        template["containers"][0]["name"] = "once".into();
        let config = self.engine.node_pod("once");
        let pod = self.engine.run_pod(&config).unwrap_or_else(|error| panic!("{error}"));
        let container = self.container(&template, &template["containers"][0]);
        let id = self.engine.run_container(&pod, &container, &config);
        let id = id.unwrap_or_else(|error| panic!("{error}"));
        eventually("it ends", READY, || self.state(&id)[0] == EXITED);
        let [_, status] = self.state(&id);
        self.engine.remove_pod(&pod).unwrap_or_else(|error| panic!("{error}"));
        status
    }

    /// Adds a pod, which containerd connects by what it finds in the node's directories.
    pub fn add_pod(&mut self, name: &str, kind: Kind) -> Result<Pod, String> {
        let linux = Message::default().text(1, &self.engine.group(name));
        let config = Message::default()
            .message(1, &identity(name))
            .text(2, name)
            .text(3, &self.engine.room.text("logs"))
            .message(8, &linux);
        let id = self.engine.run_pod(&config)?;
        self.others.insert(name.to_owned(), id.clone());
        let all = self.client().attachments().expect("the daemon lists attachments").attachments;
        let found = all.into_iter().find(|attachment| attachment.id.container_id.as_str() == id);
        let found = found.unwrap_or_else(|| panic!("the daemon does not know of {name}"));
        let netns = found.netns.file_name().and_then(|name| name.to_str()).expect("a namespace has a name");
        let address =
            |is_v4| *found.addresses.iter().find(|ip| ip.is_ipv4() == is_v4).expect("both families");
        Ok(Pod::given(
            name,
            kind,
            Netns::existing(netns),
            [address(true), address(false)],
            &found.mac.to_string(),
        ))
    }

    /// Names of the pods that were added, those that could not be connected left out.
    pub fn pods(&self) -> Vec<String> {
        self.others.keys().cloned().collect()
    }

    /// Removes a pod.
    pub fn remove_pod(&mut self, name: &str) -> Result<(), String> {
        let id = self.others.remove(name).expect("it runs");
        self.engine.remove_pod(&id)
    }

    /// A client of the daemon's admin API.
    pub fn client(&self) -> Client {
        Client::new(self.host_path("/run/millrace/millrace.sock"))
    }

    /// Where a path of the node's is for the test.
    pub fn host_path(&self, path: &str) -> PathBuf {
        self.engine.room.inside(path)
    }

    /// What the kernel says of the daemon's process (`/proc/PID/status`), by name.
    pub fn process(&self) -> BTreeMap<String, String> {
        let group = self.engine.room.control_group();
        let read = |pid: &Path, name: &str| fs::read_to_string(pid.join(name)).unwrap_or_default();
        let pids = fs::read_dir("/proc").expect("processes are listed").filter_map(Result::ok);
        let pid = pids
            .map(|entry| entry.path())
            .find(|pid| read(pid, "comm").trim() == "millraced" && read(pid, "cgroup").contains(&group));
        let status = read(&pid.expect("the daemon runs"), "status");
        let fields = status.lines().filter_map(|line| line.split_once(':'));
        fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
    }

    /// What the containers have logged.
    pub fn log(&self) -> String {
        let mut files: Vec<PathBuf> = fs::read_dir(self.engine.room.path("logs"))
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        files.sort();
        files.iter().map(|file| fs::read_to_string(file).unwrap_or_default()).collect()
    }

    /// State and exit status of a container.
    fn state(&self, id: &str) -> [u64; 2] {
        let answer = self.engine.cri.call("ContainerStatus", &Message::default().text(1, id));
        let answer = answer.unwrap_or_else(|error| panic!("{error}"));
        let status = Fields::parse(&answer).expect("a message").bytes(1).to_vec();
        let status = Fields::parse(&status).expect("a message");
        [status.number(3), status.number(7)]
    }

    /// `ContainerConfig` of a container of the template.
    fn container(&self, template: &Value, spec: &Value) -> Message {
        let texts = |field: &str| {
            let all = spec[field].as_array().into_iter().flatten();
            all.map(|text| text.as_str().expect("text").to_owned()).collect::<Vec<_>>()
        };
        let name = spec["name"].as_str().expect("containers have names");
        assert_eq!(spec["image"], "millrace:latest", "the image that was made");
        let mut message = Message::default()
            .message(1, &Message::default().text(1, name))
            .message(2, &Message::default().text(1, MILLRACE))
            .text(11, &format!("{:03}-{name}.log", self.turns));
        for part in texts("command") {
            message = message.text(3, &part);
        }
        for part in texts("args") {
            message = message.text(4, &part);
        }
        for (name, value) in self.environment(spec) {
            message = message.message(6, &Message::default().text(1, &name).text(2, &value));
        }
        for mount in spec["volumeMounts"].as_array().into_iter().flatten() {
            message = message.message(7, &self.mount(template, mount));
        }
        let account = Message::default()
            .text(1, SERVICE_ACCOUNT)
            .text(2, &self.engine.room.text("account"))
            .number(3, 1);
        let linux = Message::default().message(1, &resources(spec)).message(2, &security(template, spec));
        message.message(7, &account).message(15, &linux)
    }

    fn environment(&self, spec: &Value) -> Vec<(String, String)> {
        let server = self.deployment.server;
        let given = [("HOST", server.ip().to_string()), ("PORT", server.port().to_string())];
        let given = given.map(|(name, value)| (format!("KUBERNETES_SERVICE_{name}"), value));
        let own = spec["env"].as_array().into_iter().flatten().map(|variable| {
            let name = variable["name"].as_str().expect("variables have names").to_owned();
            match variable["valueFrom"]["fieldRef"]["fieldPath"].as_str() {
                Some("spec.nodeName") => (name, NODE.to_owned()),
                Some(other) => panic!("{name} is from {other}"),
                None => (name, variable["value"].as_str().expect("it has a value").to_owned()),
            }
        });
        given.into_iter().chain(own).collect()
    }

    /// `Mount` of a volume.
    fn mount(&self, template: &Value, mount: &Value) -> Message {
        let volumes = template["volumes"].as_array().expect("there are volumes");
        let volume =
            volumes.iter().find(|volume| volume["name"] == mount["name"]).expect("it is one of them");
        let room = &self.engine.room;
        let place = match (&volume["hostPath"], &volume["configMap"], &volume["emptyDir"]) {
            (host, _, _) if host.is_object() => host["path"].as_str().expect("a path").to_owned(),
            (_, map, _) if map.is_object() => room.text("config"),
            (_, _, empty) if empty.is_object() => {
                // Of the pod: it begins empty.
                let place = room.text(&format!("empty-{}-{}", volume["name"].as_str().unwrap(), self.turns));
                fs::create_dir_all(&place).expect("a directory can be made");
                place
            }
            other => panic!("volume {}: {other:?}", volume["name"]),
        };
        if volume["hostPath"]["type"] == "DirectoryOrCreate" {
            fs::create_dir_all(room.inside(&place)).expect("a directory can be made");
        }
        let propagation = match mount["mountPropagation"].as_str() {
            None | Some("None") => 0,
            Some("HostToContainer") => 1,
            Some(other) => panic!("mount propagation {other}"),
        };
        Message::default()
            .text(1, mount["mountPath"].as_str().expect("a path"))
            .text(2, &place)
            .number(3, u64::from(mount["readOnly"] == true))
            .number(5, propagation)
    }
}

impl Drop for Deployed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("log of the containers:\n{}", self.log());
        }
        // The daemon last: others are taken from it.
        let others = std::mem::take(&mut self.others).into_values();
        for pod in others.chain(self.daemon.take().map(|[pod, _]| pod)) {
            if let Err(error) = self.engine.remove_pod(&pod) {
                eprintln!("a pod is left: {error}");
            }
        }
        let left = hugepage_files(KEPT).into_iter().filter(|file| !self.before.contains(file));
        left.for_each(|file| {
            // Their directory stays while others have files there.
            let _ = (fs::remove_file(&file), file.parent().map(fs::remove_dir));
        });
    }
}

/// `LinuxContainerResources`.
fn resources(spec: &Value) -> Message {
    let limits = &spec["resources"]["limits"];
    let cpus: u64 = limits["cpu"].as_str().and_then(|cpus| cpus.parse().ok()).expect("whole CPUs");
    let memory = limits["memory"].as_str().and_then(|memory| memory.strip_suffix("Mi")).expect("MiB");
    let memory: u64 = memory.parse().expect("a number");
    Message::default()
        .number(1, 100_000)
        .number(2, cpus * 100_000)
        .number(3, cpus * 1024)
        .number(4, memory << 20)
}

/// `LinuxContainerSecurityContext`.
fn security(template: &Value, spec: &Value) -> Message {
    let own = &spec["securityContext"];
    let mut capabilities = Message::default();
    for (field, name) in [(1, "add"), (2, "drop")] {
        for capability in own["capabilities"][name].as_array().into_iter().flatten() {
            capabilities = capabilities.text(field, capability.as_str().expect("a name"));
        }
    }
    let options = Message::default().number(1, NAMESPACE_OF_NODE).number(2, NAMESPACE_OF_CONTAINER);
    assert_eq!(template["hostNetwork"], true);
    for namespace in ["hostPID", "hostIPC", "shareProcessNamespace"] {
        assert!(template[namespace].is_null(), "{namespace}");
    }
    let mut context = Message::default()
        .message(1, &capabilities)
        .number(2, u64::from(own["privileged"] == true))
        .message(3, &options)
        .number(7, u64::from(own["readOnlyRootFilesystem"] == true))
        .number(11, u64::from(own["allowPrivilegeEscalation"] == false));
    for path in MASKED {
        context = context.text(13, path);
    }
    for path in READ_ONLY {
        context = context.text(14, path);
    }
    // `RuntimeDefault` is 0 of `ProfileType`.
    let is_default = template["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault";
    context.message(15, &Message::default().number(1, u64::from(!is_default)))
}

/// What the Containerfile makes, of the programs of this build and with the libraries of this machine, links as Debian has
/// them: DPDK's drivers must not be there twice.
fn make_root(root: &Path) {
    for (name, to) in [("lib", "usr/lib"), ("lib64", "usr/lib64"), ("var/run", "/run")] {
        symlink(to, root.join(name)).expect("a link can be made");
    }
    let find = must("find", &[DRIVERS, "-name", "*.so"]);
    let mut objects: Vec<String> = find.lines().map(str::to_owned).collect();
    for name in ["millraced", "millrace", "millrace-cni"] {
        let (program, copy) = (binary(name).display().to_string(), root.join("usr/bin").join(name));
        must("strip", &["-o", &copy.display().to_string(), &program]);
        objects.push(program);
    }
    let needed = must("ldd", &objects.iter().map(String::as_str).collect::<Vec<_>>());
    let mut files = BTreeSet::from([DRIVERS.to_owned()]);
    for word in needed.split_whitespace().filter(|word| word.starts_with("/lib")) {
        let real = fs::canonicalize(word).expect("the linker finds it");
        files.extend([format!("/usr{word}"), real.display().to_string()]);
    }
    let (root, archive) =
        (root.display().to_string(), root.with_extension("libraries").display().to_string());
    let files = files.iter().map(|file| file.trim_start_matches('/'));
    must("tar", &["-C", "/", "-cf", &archive].into_iter().chain(files).collect::<Vec<_>>());
    must("tar", &["-C", &root, "-xf", &archive]);
}
