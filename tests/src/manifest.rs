//! A directory of Kubernetes manifests.

use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The namespace of every object here.
pub(crate) const NAMESPACE: &str = "test";

/// A service to write.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its name.
    pub name: String,
    /// Its ClusterIPs, one a family.
    pub cluster_ips: Vec<IpAddr>,
    /// Protocol, service port and target port.
    pub ports: Vec<(&'static str, u16, u16)>,
}

impl ServiceSpec {
    /// A dual-stack service at 10.96.0.`number` and fd00:96::`number` (hexadecimal), for TCP and UDP.
    pub fn numbered(name: &str, number: u8, port: u16, target: u16) -> Self {
        let addresses = [format!("10.96.0.{number}"), format!("fd00:96::{number:x}")];
        ServiceSpec {
            name: name.to_owned(),
            cluster_ips: addresses.iter().map(|text| text.parse().expect("an address")).collect(),
            ports: vec![("TCP", port, target), ("UDP", port, target), ("SCTP", port, target)],
        }
    }
}

/// The directory; files appear in it whole.
#[derive(Debug)]
pub struct Manifests {
    directory: PathBuf,
}

impl Manifests {
    /// An empty one.
    pub fn new(directory: PathBuf) -> Self {
        fs::create_dir_all(&directory).expect("a directory can be made");
        Manifests { directory }
    }

    /// Its path.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Writes a file as it is, by renaming, as careful writers do.
    pub fn write_raw(&self, file: &str, content: &str) {
        let hidden = self.directory.join(format!(".{file}.new"));
        fs::write(&hidden, content).expect("a file can be written");
        fs::rename(&hidden, self.directory.join(file)).expect("a file can be renamed");
    }

    /// Removes a file.
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.directory.join(file)).expect("the file is there");
    }

    fn write(&self, file: &str, objects: &[Value]) {
        // JSON is YAML.
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        self.write_raw(file, &documents.join("\n---\n"));
    }

    /// The node.
    pub fn node(&self, name: &str) {
        self.write(
            "node.yaml",
            &[json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                "spec": {"podCIDR": "10.77.0.0/16", "podCIDRs": ["10.77.0.0/16", "fd00:77::/64"]},
                "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.1"}]}})],
        );
    }

    /// A pod with its addresses.
    pub fn pod(&self, name: &str, node: &str, addresses: &[IpAddr]) {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.write(
            &format!("pod-{name}.yaml"),
            &[json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.org/none"}]},
                "status": {"phase": "Running", "podIP": addresses.first(), "podIPs": ips}})],
        );
    }

    /// A service.
    pub fn service(&self, spec: &ServiceSpec) {
        let families: Vec<&str> = spec.cluster_ips.iter().map(family).collect();
        let ports: Vec<Value> = spec
            .ports
            .iter()
            .map(|(protocol, port, target)| {
                json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": port, "targetPort": target})
            })
            .collect();
        self.write(
            &format!("service-{}.yaml", spec.name),
            &[json!({"apiVersion": "v1", "kind": "Service",
                "metadata": {"name": spec.name, "namespace": NAMESPACE},
                "spec": {"clusterIP": spec.cluster_ips.first(), "clusterIPs": spec.cluster_ips,
                    "ipFamilies": families, "ports": ports}})],
        );
    }

    /// The service's endpoints: all of `backends`, ready, one slice a family.
    pub fn endpoints(&self, spec: &ServiceSpec, node: &str, backends: &[IpAddr]) {
        let slices: Vec<Value> = ["IPv4", "IPv6"]
            .into_iter()
            .map(|wanted| {
                let endpoints: Vec<Value> = backends
                    .iter()
                    .filter(|address| family(address) == wanted)
                    .map(|address| {
                        json!({"addresses": [address], "nodeName": node,
                            "conditions": {"ready": true, "serving": true, "terminating": false}})
                    })
                    .collect();
                let ports: Vec<Value> = spec
                    .ports
                    .iter()
                    .map(|(protocol, _, target)| {
                        json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": target})
                    })
                    .collect();
                json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": wanted,
                    "metadata": {"name": format!("{}-{}", spec.name, wanted.to_lowercase()),
                        "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": spec.name}},
                    "ports": ports, "endpoints": endpoints})
            })
            .collect();
        self.write(&format!("endpoints-{}.yaml", spec.name), &slices);
    }
}

fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
