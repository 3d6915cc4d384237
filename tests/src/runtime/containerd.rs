//! Pods of containerd, which have their interfaces from Millrace.

use super::engine::{Engine, identity};
use super::message::{Fields, Message};
use super::room::{IMAGE, Room};
use super::{Container, Namespaces, Runtime, SERVE, Wanted, attachments};
use crate::daemon::{Daemon, NODE};
use crate::network::Network;
use crate::process::Output;
use serde_json::json;
use std::collections::BTreeMap;

/// containerd beside a daemon; its pods go with it.
#[derive(Debug)]
pub struct Containerd {
    /// Ids of pod and container by name.
    pods: BTreeMap<String, [String; 2]>,
    // In this order: what containers are in is removed after them.
    engine: Engine,
    namespaces: Namespaces,
}

impl Containerd {
    /// containerd, if this machine can run containers at all; else why it cannot.
    pub fn start(daemon: &Daemon) -> Result<Self, String> {
        let room = Room::new("containerd", daemon);
        room.network("10-millrace.conflist", "pods", daemon, json!({}));
        let [bin, networks] = ["bin", "net.d"].map(|name| room.text(name));
        let engine = Engine::start(room, &bin, &networks)?;
        Ok(Containerd { pods: BTreeMap::new(), engine, namespaces: Namespaces::default() })
    }

    fn pod_config(&self, name: &str) -> Message {
        Message::default().message(1, &identity(name)).text(2, name).text(3, &self.engine.room.text("logs"))
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.engine.log()
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
        let linux = Message::default().text(1, &self.engine.group(name));
        let config = config.message(8, &linux);
        let pod = self.engine.run_pod(&config);
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
        let id = self.engine.run_container(&pod, &container, &config);
        let id = id.unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
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
        let answer = self.engine.cri.call("ExecSync", &message).unwrap_or_else(|error| panic!("{error}"));
        let fields = Fields::parse(&answer).expect("a message");
        Output { success: fields.number(3) == 0, stdout: fields.text(1), stderr: fields.text(2) }
    }

    fn remove(&mut self, network: &Network, container: &Container) {
        let [pod, _] = self.pods.remove(&container.name).expect("it runs");
        network.manifests().remove(&format!("pod-{}.yaml", container.name));
        self.engine.remove_pod(&pod).unwrap_or_else(|error| panic!("{error}\n{}", self.log()));
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        for [pod, _] in std::mem::take(&mut self.pods).into_values() {
            if let Err(error) = self.engine.remove_pod(&pod) {
                eprintln!("a pod of containerd is left: {error}");
            }
        }
    }
}
