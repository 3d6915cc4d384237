//! A directory of Kubernetes manifests.

use serde_json::{Value, json};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// The namespace of every object here.
pub(crate) const NAMESPACE: &str = "test";
/// The node's own addresses.
pub(crate) const NODE_ADDRESSES: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

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

    /// Its object.
    pub fn object(&self) -> Value {
        let families: Vec<&str> = self.cluster_ips.iter().map(family).collect();
        let port = |(protocol, port, target): &(&str, u16, u16)| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": port, "targetPort": target});
        let ports: Vec<Value> = self.ports.iter().map(port).collect();
        json!({"apiVersion": "v1", "kind": "Service",
            "metadata": {"name": self.name, "namespace": NAMESPACE},
            "spec": {"clusterIP": self.cluster_ips.first(), "clusterIPs": self.cluster_ips,
                "ipFamilies": families, "ports": ports}})
    }

    /// A slice of its endpoints; `label` tells slices of one service apart, `wanted` is the family.
    pub fn slice<'a>(
        &self,
        label: &str,
        wanted: &str,
        endpoints: impl IntoIterator<Item = &'a EndpointSpec>,
    ) -> Value {
        let port = |(protocol, _, target): &(&str, u16, u16)| json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": target});
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": wanted,
            "metadata": {"name": format!("{}-{}", self.name, label.to_lowercase()),
                "namespace": NAMESPACE, "labels": {"kubernetes.io/service-name": self.name}},
            "ports": self.ports.iter().map(port).collect::<Vec<_>>(),
            "endpoints": endpoints.into_iter().map(EndpointSpec::object).collect::<Vec<_>>()})
    }
}

/// An endpoint to write.
#[derive(Clone, Debug)]
pub struct EndpointSpec {
    /// Its address.
    pub address: IpAddr,
    /// The node that it is on.
    pub node: String,
    /// `conditions`.
    pub conditions: Value,
    /// `hints`, if any.
    pub hints: Value,
}

impl EndpointSpec {
    /// One that takes connections.
    pub fn ready(address: IpAddr, node: &str) -> Self {
        let conditions = json!({"ready": true, "serving": true, "terminating": false});
        EndpointSpec { address, node: node.to_owned(), conditions, hints: Value::Null }
    }

    /// It answers, but is about to end.
    #[must_use]
    pub fn terminating(mut self) -> Self {
        self.conditions = json!({"ready": false, "serving": true, "terminating": true});
        self
    }

    /// It is there and does not answer.
    #[must_use]
    pub fn unready(mut self) -> Self {
        self.conditions = json!({"ready": false, "serving": false, "terminating": false});
        self
    }

    /// It is about to end and answers no more.
    #[must_use]
    pub fn dead(mut self) -> Self {
        self.conditions = json!({"ready": false, "serving": false, "terminating": true});
        self
    }

    /// It is on another node.
    #[must_use]
    pub fn on(mut self, node: &str) -> Self {
        node.clone_into(&mut self.node);
        self
    }

    /// Hints: for whom it is best. `kind` is `forZones` or `forNodes`.
    #[must_use]
    pub fn hinted(mut self, kind: &str, names: &[&str]) -> Self {
        let names: Vec<Value> = names.iter().map(|name| json!({"name": name})).collect();
        if self.hints.is_null() {
            self.hints = json!({});
        }
        self.hints[kind] = json!(names);
        self
    }

    fn object(&self) -> Value {
        let mut object =
            json!({"addresses": [self.address], "nodeName": self.node, "conditions": self.conditions});
        if !self.hints.is_null() {
            object["hints"] = self.hints.clone();
        }
        object
    }
}

/// Makes a service one of type `NodePort` or `LoadBalancer` with this NodePort, for all of its protocols.
pub fn expose(service: &mut Value, kind: &str, node_port: u16) {
    service["spec"]["type"] = json!(kind);
    for port in service["spec"]["ports"].as_array_mut().expect("a service has ports") {
        port["nodePort"] = json!(node_port);
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

    /// Writes objects into a file.
    pub fn write(&self, file: &str, objects: &[Value]) {
        // JSON is YAML.
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        self.write_raw(file, &documents.join("\n---\n"));
    }

    /// The node, in zone `zone-a`, with an address of each family.
    pub fn node(&self, name: &str) {
        self.node_with(name, |_| ());
    }

    /// The same, changed.
    pub fn node_with(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut node = json!({"apiVersion": "v1", "kind": "Node",
            "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": "zone-a"}},
            "spec": {"podCIDR": "10.77.0.0/16", "podCIDRs": ["10.77.0.0/16", "fd00:77::/64"]},
            "status": {"addresses": NODE_ADDRESSES.map(|ip| json!({"type": "InternalIP", "address": ip}))}});
        change(&mut node);
        self.write("node.yaml", &[node]);
    }

    /// A pod with its addresses.
    pub fn pod(&self, name: &str, node: &str, addresses: &[IpAddr]) {
        self.pod_with(name, node, addresses, &json!({}));
    }

    /// A pod with its addresses and annotations.
    pub fn pod_with(&self, name: &str, node: &str, addresses: &[IpAddr], annotations: &Value) {
        let ips: Vec<Value> = addresses.iter().map(|ip| json!({"ip": ip})).collect();
        self.write(
            &format!("pod-{name}.yaml"),
            &[json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}, "annotations": annotations},
                "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.org/none"}]},
                "status": {"phase": "Running", "podIP": addresses.first(), "podIPs": ips}})],
        );
    }

    /// A service.
    pub fn service(&self, spec: &ServiceSpec) {
        self.service_with(spec, |_| ());
    }

    /// A service, changed.
    pub fn service_with(&self, spec: &ServiceSpec, change: impl FnOnce(&mut Value)) {
        let mut service = spec.object();
        change(&mut service);
        self.write(&format!("service-{}.yaml", spec.name), &[service]);
    }

    /// The service's endpoints: all of `backends`, ready, one slice a family.
    pub fn endpoints(&self, spec: &ServiceSpec, node: &str, backends: &[IpAddr]) {
        let endpoints: Vec<_> = backends.iter().map(|address| EndpointSpec::ready(*address, node)).collect();
        self.endpoints_as(spec, &endpoints);
    }

    /// The service's endpoints as they are, one slice a family.
    pub fn endpoints_as(&self, spec: &ServiceSpec, endpoints: &[EndpointSpec]) {
        let slices = ["IPv4", "IPv6"].map(|wanted| {
            spec.slice(
                wanted,
                wanted,
                endpoints.iter().filter(|endpoint| family(&endpoint.address) == wanted),
            )
        });
        self.write(&format!("endpoints-{}.yaml", spec.name), &slices);
    }

    /// Takes away a service and its endpoints.
    pub fn remove_service(&self, spec: &ServiceSpec) {
        self.remove(&format!("service-{}.yaml", spec.name));
        self.remove(&format!("endpoints-{}.yaml", spec.name));
    }
}

pub(crate) fn family(address: &IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}
