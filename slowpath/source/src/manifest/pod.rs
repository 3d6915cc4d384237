//! Pods.

use super::field::{self, FieldError, wrong};
use k8s_openapi::api::core::v1;
use millrace_model::{ContainerPort, Pod, PodPhase, PodPort};

/// The annotation that says how a pod's first interface is attached: `tap`, `af-xdp` or `vhost-user`.
const PORT_KIND: &str = "millrace.io/port";
/// The annotation that says which user owns the pod's vhost-user socket.
const VHOST_USER_UID: &str = "millrace.io/vhost-user-uid";
/// The annotations that limit what a pod receives and sends.
const INGRESS_BANDWIDTH: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS_BANDWIDTH: &str = "kubernetes.io/egress-bandwidth";

pub(super) fn convert(pod: v1::Pod) -> Result<Pod, FieldError> {
    let name = field::namespaced(&pod.metadata)?;
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let mut texts: Vec<String> = status.pod_ips.into_iter().flatten().map(|entry| entry.ip).collect();
    if texts.is_empty() {
        texts.extend(status.pod_ip.filter(|ip| !ip.is_empty()));
    }
    let mut ips = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        ips.push(field::address(format!("status.podIPs[{index}].ip"), text)?);
    }
    field::one_a_family("status.podIPs", &ips)?;
    let annotations = pod.metadata.annotations.unwrap_or_default();
    let annotated = |name: &str| annotations.get(name).cloned();
    let port = PodPort {
        uid: pod.metadata.uid,
        kind: annotated(PORT_KIND),
        vhost_user_uid: annotated(VHOST_USER_UID),
        ingress_bandwidth: annotated(INGRESS_BANDWIDTH),
        egress_bandwidth: annotated(EGRESS_BANDWIDTH),
    };
    Ok(Pod {
        name,
        labels: pod.metadata.labels.unwrap_or_default(),
        node: spec.node_name,
        host_network: spec.host_network.unwrap_or(false),
        phase: phase(status.phase.as_deref())?,
        ips,
        ports: container_ports(&spec.containers)?,
        port,
    })
}

fn phase(text: Option<&str>) -> Result<PodPhase, FieldError> {
    match text {
        None | Some("" | "Pending") => Ok(PodPhase::Pending),
        Some("Running") => Ok(PodPhase::Running),
        Some("Succeeded") => Ok(PodPhase::Succeeded),
        Some("Failed") => Ok(PodPhase::Failed),
        Some("Unknown") => Ok(PodPhase::Unknown),
        Some(other) => Err(wrong("status.phase", other, "a phase of a pod")),
    }
}

fn container_ports(containers: &[v1::Container]) -> Result<Vec<ContainerPort>, FieldError> {
    let mut ports = Vec::new();
    for (at, container) in containers.iter().enumerate() {
        for (index, port) in container.ports.iter().flatten().enumerate() {
            let path = |name: &str| format!("spec.containers[{at}].ports[{index}].{name}");
            ports.push(ContainerPort {
                name: port.name.clone().unwrap_or_default(),
                protocol: field::protocol(path("protocol"), port.protocol.as_deref())?,
                port: field::port(path("containerPort"), port.container_port)?,
            });
        }
    }
    Ok(ports)
}
