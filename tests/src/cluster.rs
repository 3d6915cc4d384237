//! A large cluster, as an API server has it: objects with all that nobody reads.

use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// How large.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Nodes.
    pub nodes: u32,
    /// Services, each with one EndpointSlice.
    pub services: u32,
    /// Endpoints of each service.
    pub endpoints: u32,
    /// Pods on other nodes.
    pub pods: u32,
}

impl Size {
    /// The cluster that goals are for: 5,000 nodes, 150,000 pods, 10,000 services, 100,000 endpoints.
    pub const LARGE: Size = Size { nodes: 5_000, services: 10_000, endpoints: 10, pods: 150_000 };

    /// All objects.
    pub fn objects(self) -> impl Iterator<Item = Value> {
        let nodes = (0..self.nodes).map(node);
        let pods = (0..self.pods).map(move |number| pod(number, &format!("node-{}", number % self.nodes)));
        let services = (0..self.services).map(service);
        let slices = (0..self.services).map(move |number| slice(number, 0, self.endpoints));
        nodes.chain(pods).chain(services).chain(slices)
    }
}

/// The ClusterIP of a service of the cluster.
pub fn cluster_ip(number: u32) -> Ipv4Addr {
    Ipv4Addr::new(10, 96, 1 + (number / 200) as u8, 1 + (number % 200) as u8)
}

fn address(number: u32) -> String {
    Ipv4Addr::from_bits((11 << 24) + number).to_string()
}

/// The slice of a service; another `round` has another first endpoint.
pub fn slice(number: u32, round: u32, endpoints: u32) -> Value {
    let endpoint = |at: u32| {
        let moved = if at == 0 { 17 * round } else { 0 };
        let node = (number * 10 + at + moved) % 5_000;
        json!({"addresses": [address((node << 8) + 2 + number % 200)], "nodeName": format!("node-{node}"), "zone": "zone-a",
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "name": format!("service-{number}-7d4b9c6f5-{at:05}"), "namespace": "many",
                "uid": "2f1c8a0e-8a53-4f0c-9d0e-3b5b6a7c8d9e"}})
    };
    let name = format!("service-{number}");
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("{name}-x7k2p"), "namespace": "many", "generation": 3,
            "uid": "b5f0f6a6-3c1d-4e2b-8f77-0d9a1c2b3e4f", "creationTimestamp": "2026-11-01T09:00:00Z",
            "labels": {"kubernetes.io/service-name": name, "app": "many",
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "Service", "name": name, "controller": true}],
            "managedFields": [managed(&["f:addressType", "f:endpoints", "f:ports"])]},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..endpoints).map(endpoint).collect::<Vec<_>>()})
}

fn service(number: u32) -> Value {
    let ip = cluster_ip(number).to_string();
    json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": format!("service-{number}"), "namespace": "many", "labels": {"app": "many"},
            "uid": "0c3a2b1d-9e8f-4a7b-8c6d-5e4f3a2b1c0d", "creationTimestamp": "2026-11-01T09:00:00Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "x".repeat(600)},
            "managedFields": [managed(&["f:spec", "f:ports", "f:selector", "f:type"])]},
        "spec": {"type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack", "internalTrafficPolicy": "Cluster", "sessionAffinity": "None",
            "selector": {"app": "many"},
            "ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": 8080}]},
        "status": {"loadBalancer": {}}})
}

/// A pod of a node.
pub fn pod(number: u32, node: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("pod-{number}"), "namespace": "many", "labels": {"app": "many"},
            "managedFields": [managed(&["f:containers", "f:conditions", "f:podIPs"])]},
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "example.org/none"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": address(((number % 5_000) << 8) + number / 5_000 + 2)}]}})
}

/// A node with the conditions, images and fields' managers of one that is at work: most of its text.
fn node(number: u32) -> Value {
    let image = |at: u32| {
        json!({"names": [format!("registry.example.org/team/image-{at}@sha256:{:064x}", at), format!("registry.example.org/team/image-{at}:v1.{at}.0")],
            "sizeBytes": 123_456_789 + at})
    };
    let condition = |kind: &str| {
        json!({"type": kind, "status": "False", "lastHeartbeatTime": "2026-11-29T08:00:00Z",
            "lastTransitionTime": "2026-11-01T09:00:00Z", "reason": "KubeletHasSufficient", "message": "kubelet has sufficient"})
    };
    let conditions = ["MemoryPressure", "DiskPressure", "PIDPressure", "Ready", "NetworkUnavailable"];
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": format!("node-{number}"), "uid": "6d0f5a3e-7b1c-4d2e-9f8a-1b2c3d4e5f60",
            "labels": {"kubernetes.io/hostname": format!("node-{number}"), "topology.kubernetes.io/zone": "zone-a",
                "kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"},
            "annotations": {"node.alpha.kubernetes.io/ttl": "0"},
            "managedFields": [managed(&["f:metadata", "f:spec"]), managed(&["f:conditions", "f:images"])]},
        "spec": {"podCIDR": format!("{}/24", address(number << 8)), "podCIDRs": [format!("{}/24", address(number << 8))],
            "providerID": format!("cloud:///zone-a/i-{number:017x}")},
        "status": {"addresses": [{"type": "InternalIP", "address": address((1 << 23) + number)},
                {"type": "Hostname", "address": format!("node-{number}")}],
            "allocatable": {"cpu": "31", "memory": "125Gi", "pods": "250"},
            "capacity": {"cpu": "32", "memory": "128Gi", "pods": "250"},
            "conditions": conditions.map(condition),
            "images": (0..30).map(image).collect::<Vec<_>>(),
            "nodeInfo": {"kernelVersion": "6.18.0", "kubeletVersion": "v1.36.0", "osImage": "Linux"}}})
}

fn managed(fields: &[&str]) -> Value {
    let fields: serde_json::Map<_, _> = fields
        .iter()
        .map(|field| ((*field).to_owned(), json!({".": {}, "f:name": {}, "k:{\"type\":\"x\"}": {}})))
        .collect();
    json!({"apiVersion": "v1", "fieldsType": "FieldsV1", "manager": "kube-controller-manager", "operation": "Update",
        "time": "2026-11-01T09:00:00Z", "fieldsV1": {"f:metadata": fields}})
}
