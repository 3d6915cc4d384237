//! Services.

use super::Manifest;
use super::field::{self, FieldError, wrong};
use super::metadata::Metadata;
use millrace_model::{LoadBalancerIp, Object, Service, ServicePort, ServiceType, TrafficPolicy};
use serde::Deserialize;
use std::net::IpAddr;

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Upstream's default for `ClientIP`: three hours.
const AFFINITY_SECONDS: i32 = 10_800;
const MAX_AFFINITY_SECONDS: i32 = 86_400;

/// `v1` Service, as far as it is used.
#[derive(Debug, Deserialize)]
pub(crate) struct ServiceManifest {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Spec {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(rename = "clusterIP")]
    cluster_ip: Option<String>,
    #[serde(rename = "clusterIPs")]
    cluster_ips: Option<Vec<String>>,
    #[serde(rename = "externalIPs")]
    external_ips: Option<Vec<String>>,
    load_balancer_source_ranges: Option<Vec<String>>,
    ports: Option<Vec<PortEntry>>,
    internal_traffic_policy: Option<String>,
    external_traffic_policy: Option<String>,
    session_affinity: Option<String>,
    session_affinity_config: Option<AffinityConfig>,
    health_check_node_port: Option<i32>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct PortEntry {
    name: Option<String>,
    protocol: Option<String>,
    port: i32,
    node_port: Option<i32>,
}

#[derive(Debug, Deserialize)]
struct AffinityConfig {
    #[serde(rename = "clientIP")]
    client_ip: Option<ClientIp>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ClientIp {
    timeout_seconds: Option<i32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    load_balancer: Option<LoadBalancer>,
}

#[derive(Debug, Deserialize)]
struct LoadBalancer {
    ingress: Option<Vec<Ingress>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ingress {
    ip: Option<String>,
    ip_mode: Option<String>,
}

impl Manifest for ServiceManifest {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn convert(self) -> Result<Object, FieldError> {
        let name = self.metadata.namespaced()?;
        let labels = self.metadata.labels.unwrap_or_default();
        let spec = self.spec.unwrap_or_default();
        let ingress =
            self.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
        Ok(Object::Service(Service {
            name,
            foreign_proxy: labels.contains_key(PROXY_NAME),
            labels,
            kind: kind(spec.kind.as_deref())?,
            cluster_ips: cluster_ips(&spec)?,
            external_ips: addresses("spec.externalIPs", spec.external_ips.as_deref())?,
            load_balancer_ips: load_balancer_ips(&ingress.unwrap_or_default())?,
            source_ranges: source_ranges(spec.load_balancer_source_ranges.as_deref())?,
            internal_policy: policy("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?,
            external_policy: policy("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref())?,
            affinity_seconds: affinity(&spec)?,
            health_check_node_port: optional_port(
                || "spec.healthCheckNodePort".to_owned(),
                spec.health_check_node_port,
            )?,
            ports: ports(spec.ports.unwrap_or_default())?,
        }))
    }
}

fn kind(text: Option<&str>) -> Result<ServiceType, FieldError> {
    match text {
        None | Some("" | "ClusterIP") => Ok(ServiceType::ClusterIp),
        Some("NodePort") => Ok(ServiceType::NodePort),
        Some("LoadBalancer") => Ok(ServiceType::LoadBalancer),
        Some("ExternalName") => Ok(ServiceType::ExternalName),
        Some(other) => Err(wrong("spec.type", other, "a type of service")),
    }
}

fn cluster_ips(spec: &Spec) -> Result<Vec<IpAddr>, FieldError> {
    let several = spec.cluster_ips.as_deref().unwrap_or_default();
    let texts = if several.is_empty() { spec.cluster_ip.as_slice() } else { several };
    if texts.iter().all(|text| text.is_empty() || text == "None") {
        return Ok(Vec::new());
    }
    let ips = addresses("spec.clusterIPs", Some(texts))?;
    field::one_a_family("spec.clusterIPs", &ips)?;
    Ok(ips)
}

fn addresses(path: &str, texts: Option<&[String]>) -> Result<Vec<IpAddr>, FieldError> {
    let texts = texts.unwrap_or_default().iter().enumerate();
    texts.map(|(index, text)| field::address(|| format!("{path}[{index}]"), text)).collect()
}

fn load_balancer_ips(ingress: &[Ingress]) -> Result<Vec<LoadBalancerIp>, FieldError> {
    let mut found = Vec::new();
    for (index, entry) in ingress.iter().enumerate() {
        // An entry with a host name only is somebody else's load balancer.
        let Some(text) = entry.ip.as_deref().filter(|ip| !ip.is_empty()) else { continue };
        let path = |name: &str| format!("status.loadBalancer.ingress[{index}].{name}");
        let vip = match entry.ip_mode.as_deref() {
            None | Some("VIP") => true,
            Some("Proxy") => false,
            Some(other) => return Err(wrong(path("ipMode"), other, "one of VIP, Proxy")),
        };
        found.push(LoadBalancerIp { ip: field::address(|| path("ip"), text)?, vip });
    }
    Ok(found)
}

fn source_ranges(texts: Option<&[String]>) -> Result<Vec<ipnet::IpNet>, FieldError> {
    let texts = texts.unwrap_or_default().iter().enumerate();
    texts
        .map(|(index, text)| field::range(|| format!("spec.loadBalancerSourceRanges[{index}]"), text))
        .collect()
}

fn ports(ports: Vec<PortEntry>) -> Result<Vec<ServicePort>, FieldError> {
    let mut found: Vec<ServicePort> = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        let path = |name: &str| format!("spec.ports[{index}].{name}");
        let converted = ServicePort {
            name: port.name.unwrap_or_default(),
            protocol: field::protocol(|| path("protocol"), port.protocol.as_deref())?,
            port: field::port(|| path("port"), port.port)?,
            node_port: optional_port(|| path("nodePort"), port.node_port)?,
        };
        if found.iter().any(|other| (other.port, other.protocol) == (converted.port, converted.protocol)) {
            return Err(wrong(path("port"), port.port, "the only port of its number and protocol"));
        }
        found.push(converted);
    }
    Ok(found)
}

/// As in the API, 0 means none.
fn optional_port(path: impl Fn() -> String, number: Option<i32>) -> Result<Option<u16>, FieldError> {
    number.filter(|&number| number != 0).map(|number| field::port(path, number)).transpose()
}

fn policy(path: &str, text: Option<&str>) -> Result<TrafficPolicy, FieldError> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(wrong(path, other, "one of Cluster, Local")),
    }
}

fn affinity(spec: &Spec) -> Result<Option<u32>, FieldError> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => Ok(None),
        Some("ClientIP") => {
            let config = spec.session_affinity_config.as_ref().and_then(|config| config.client_ip.as_ref());
            let seconds = config.and_then(|config| config.timeout_seconds).unwrap_or(AFFINITY_SECONDS);
            let legal = u32::try_from(seconds).ok().filter(|_| (1..=MAX_AFFINITY_SECONDS).contains(&seconds));
            let path = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
            legal.map(Some).ok_or_else(|| wrong(path, seconds, "in 1..=86400"))
        }
        Some(other) => Err(wrong("spec.sessionAffinity", other, "one of None, ClientIP")),
    }
}
