//! Pods that have their interface from the CNI plugin.

use crate::cni::CniCall;
use crate::daemon::Daemon;
use crate::netns::Netns;
use crate::pod::{Kind, Pod};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::path::PathBuf;

/// A pod whose `eth0` the plugin has made.
#[derive(Debug)]
pub struct Attached {
    /// The pod, in a namespace of its own.
    pub pod: Pod,
    /// What the plugin has said of it.
    pub result: Value,
    call: CniCall,
}

impl Attached {
    /// Adds a pod of this kind.
    pub fn add(daemon: &Daemon, name: &str, kind: Kind) -> Self {
        Self::add_with(daemon, name, kind, |call| call)
    }

    /// The same with a changed call, which later calls for the pod repeat.
    pub fn add_with(
        daemon: &Daemon,
        name: &str,
        kind: Kind,
        change: impl FnOnce(CniCall) -> CniCall,
    ) -> Self {
        let mut attached = Self::add_idle(daemon, name, kind, change);
        attached.carry();
        attached
    }

    /// The same, but nobody is at the socket of a vhost-user pod yet.
    pub fn add_idle(
        daemon: &Daemon,
        name: &str,
        kind: Kind,
        change: impl FnOnce(CniCall) -> CniCall,
    ) -> Self {
        let netns = Netns::new(name);
        let call = change(CniCall::new(daemon, "ADD", &netns).with(json!({"port": kind.name()})));
        let result = call.must();
        let addresses = [address(&result, true), address(&result, false)];
        let mac = inside(&result)["mac"].as_str().expect("an interface has a MAC address");
        Attached { pod: Pod::given(name, kind, netns, addresses, mac), result, call }
    }

    /// Connects a vhost-user pod, or does it anew.
    pub fn carry(&mut self) {
        if self.pod.kind == Kind::Vhost {
            let socket = self.socket();
            self.pod.carry(&socket);
        }
    }

    /// Its vhost-user socket.
    pub fn socket(&self) -> PathBuf {
        inside(&self.result)["socketPath"].as_str().expect("a vhost-user interface has a socket").into()
    }

    /// Another call for it.
    pub fn call(&self, verb: &str) -> CniCall {
        self.call.clone().variable("CNI_COMMAND", verb).with(json!({"prevResult": self.result}))
    }

    /// Has the plugin remove its interface. The namespace goes, too.
    pub fn delete(self) {
        self.call("DEL").must();
    }
}

/// The interface in the pod.
fn inside(result: &Value) -> &Value {
    let interfaces = result["interfaces"].as_array().expect("a result has interfaces");
    let is_inside = |interface: &&Value| interface["sandbox"].as_str().is_some_and(|path| !path.is_empty());
    interfaces.iter().find(is_inside).expect("one of them is the pod's")
}

fn address(result: &Value, is_v4: bool) -> IpAddr {
    let ips = result["ips"].as_array().expect("a result has addresses").iter();
    let texts = ips.filter_map(|ip| ip["address"].as_str()?.split('/').next());
    let mut parsed = texts.map(|text| text.parse::<IpAddr>().expect("an address"));
    parsed.find(|address| address.is_ipv4() == is_v4).expect("both families")
}
