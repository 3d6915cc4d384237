//! podman with its CNI backend.

use super::room::{IMAGE, Room};
use super::{Container, Namespaces, Runtime, SERVE, Wanted, attachments};
use crate::daemon::Daemon;
use crate::network::Network;
use crate::process::Output;
use serde_json::json;
use std::fs;

/// podman beside a daemon; its containers go with it.
#[derive(Debug)]
pub struct Podman {
    // In this order: what containers are in is removed after them.
    namespaces: Namespaces,
    room: Room,
}

impl Podman {
    /// podman, if this machine can run containers at all; else why it cannot.
    pub fn start(daemon: &Daemon) -> Result<Self, String> {
        let room = Room::new("podman", daemon);
        let config = format!(
            "[containers]\ndefault_ulimits = []\nlog_driver = \"k8s-file\"\n\
             [engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n\
             [network]\nnetwork_backend = \"cni\"\ncni_plugin_dirs = [\"{}\"]\n",
            room.text("bin")
        );
        fs::write(room.path("containers.conf"), config).expect("a file can be written");
        for kind in ["tap", "veth", "af-xdp"] {
            room.network(&format!("{kind}.conflist"), kind, daemon, json!({"port": kind}));
        }
        let podman = Podman { namespaces: Namespaces::default(), room };
        let image = podman.room.text("image.tar");
        let loaded = podman.run(&["load", "-q", "-i", &image]);
        assert!(loaded.success, "podman load: {}", loaded.stderr);
        let group = podman.room.control_group();
        let tried = podman.run(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--pids-limit",
            "-1",
            "--cgroup-parent",
            &group,
            IMAGE,
            "true",
        ]);
        if tried.success {
            Ok(podman)
        } else {
            Err(format!("podman cannot run containers: {}", tried.stderr))
        }
    }

    fn run(&self, args: &[&str]) -> Output {
        let room = &self.room;
        let conf = format!("CONTAINERS_CONF={}", room.text("containers.conf"));
        let [root, runroot, tmp, networks] = ["root", "runroot", "tmp", "net.d"].map(|name| room.text(name));
        let runc = format!("root={}", room.text("runc"));
        let program = ["env", &conf, "podman", "--root", &root, "--runroot", &runroot, "--tmpdir", &tmp];
        let rest = ["--network-config-dir", &networks, "--storage-driver", "vfs", "--runtime-flag", &runc];
        room.run(&[&program[..], &rest, args].concat())
    }
}

impl Runtime for Podman {
    fn name(&self) -> &'static str {
        "podman"
    }

    fn start(&mut self, network: &Network, wanted: &Wanted<'_>) -> Container {
        let list = wanted.kind.name();
        let publish = wanted.host_port.map(|port| format!("{port}:80"));
        let mut args = vec!["run", "-d", "--name", wanted.name, "--network", list, "--pids-limit", "-1"];
        let group = self.room.control_group();
        args.extend(["--cgroup-parent", &group]);
        if let Some(publish) = &publish {
            args.extend(["-p", publish]);
        }
        args.extend([IMAGE, "sh", "-c", SERVE, wanted.name]);
        let output = self.run(&args);
        assert!(output.success, "podman {args:?}: {}", output.stderr);
        let id = output.stdout.trim();
        let mut attachments = attachments(network.daemon()).into_iter();
        let attachment = attachments.find(|attachment| attachment.id.container_id.as_str() == id);
        let attachment = attachment.unwrap_or_else(|| panic!("the daemon does not know of {id}"));
        self.namespaces.0.push(attachment.netns.clone());
        Container { name: wanted.name.to_owned(), attachment }
    }

    fn exec(&self, container: &Container, args: &[&str]) -> Output {
        self.run(&[&["exec", &container.name], args].concat())
    }

    fn remove(&mut self, _: &Network, container: &Container) {
        let output = self.run(&["rm", "-f", "-t", "0", &container.name]);
        assert!(output.success, "podman rm: {}", output.stderr);
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.run(&["rm", "-f", "-a", "-t", "0"]);
    }
}
