//! Pods.

use super::Manifest;
use super::field::{self, FieldError, wrong};
use super::metadata::Metadata;
use millrace_model::{ContainerPort, Object, Pod, PodPhase, PodPort};
use serde::Deserialize;

/// `v1` Pod, as far as it is used.
#[derive(Debug, Deserialize)]
pub(crate) struct PodManifest {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    node_name: Option<String>,
    host_network: Option<bool>,
    containers: Option<Vec<Container>>,
}

#[derive(Debug, Deserialize)]
struct Container {
    ports: Option<Vec<PortEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortEntry {
    name: Option<String>,
    protocol: Option<String>,
    container_port: i32,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    phase: Option<String>,
    #[serde(rename = "podIP")]
    pod_ip: Option<String>,
    #[serde(rename = "podIPs")]
    pod_ips: Option<Vec<IpEntry>>,
}

#[derive(Debug, Deserialize)]
struct IpEntry {
    ip: String,
}

impl Manifest for PodManifest {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn convert(self) -> Result<Object, FieldError> {
        let name = self.metadata.namespaced()?;
        let spec = self.spec.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let mut texts: Vec<String> = status.pod_ips.into_iter().flatten().map(|entry| entry.ip).collect();
        if texts.is_empty() {
            texts.extend(status.pod_ip.filter(|ip| !ip.is_empty()));
        }
        let mut ips = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            ips.push(field::address(|| format!("status.podIPs[{index}].ip"), text)?);
        }
        field::one_a_family("status.podIPs", &ips)?;
        let annotations = self.metadata.annotations.unwrap_or_default();
        let port = PodPort {
            uid: annotations.mirrored.or(self.metadata.uid),
            kind: annotations.port,
            vhost_user_uid: annotations.vhost_user_uid,
            ingress_bandwidth: annotations.ingress_bandwidth,
            egress_bandwidth: annotations.egress_bandwidth,
        };
        Ok(Object::Pod(Pod {
            name,
            labels: self.metadata.labels.unwrap_or_default(),
            node: spec.node_name,
            host_network: spec.host_network.unwrap_or(false),
            phase: phase(status.phase.as_deref())?,
            ips,
            ports: container_ports(spec.containers.unwrap_or_default())?,
            port,
        }))
    }
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

fn container_ports(containers: Vec<Container>) -> Result<Vec<ContainerPort>, FieldError> {
    let mut ports = Vec::new();
    for (at, container) in containers.into_iter().enumerate() {
        for (index, port) in container.ports.into_iter().flatten().enumerate() {
            let path = |name: &str| format!("spec.containers[{at}].ports[{index}].{name}");
            ports.push(ContainerPort {
                name: port.name.unwrap_or_default(),
                protocol: field::protocol(|| path("protocol"), port.protocol.as_deref())?,
                port: field::port(|| path("containerPort"), port.container_port)?,
            });
        }
    }
    Ok(ports)
}
