//! Services.

use super::field::{self, FieldError, wrong};
use k8s_openapi::api::core::v1;
use millrace_model::{LoadBalancerIp, Service, ServicePort, ServiceType, TrafficPolicy};
use std::net::IpAddr;

const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Upstream's default for `ClientIP`: three hours.
const AFFINITY_SECONDS: i32 = 10_800;
const MAX_AFFINITY_SECONDS: i32 = 86_400;

pub(super) fn convert(service: v1::Service) -> Result<Service, FieldError> {
    let name = field::namespaced(&service.metadata)?;
    let labels = service.metadata.labels.unwrap_or_default();
    let spec = service.spec.unwrap_or_default();
    let ingress =
        service.status.and_then(|status| status.load_balancer).and_then(|balancer| balancer.ingress);
    Ok(Service {
        name,
        foreign_proxy: labels.contains_key(PROXY_NAME),
        labels,
        kind: kind(spec.type_.as_deref())?,
        cluster_ips: cluster_ips(&spec)?,
        external_ips: addresses("spec.externalIPs", spec.external_ips.as_deref())?,
        load_balancer_ips: load_balancer_ips(&ingress.unwrap_or_default())?,
        source_ranges: source_ranges(spec.load_balancer_source_ranges.as_deref())?,
        ports: ports(spec.ports.as_deref())?,
        internal_policy: policy("spec.internalTrafficPolicy", spec.internal_traffic_policy.as_deref())?,
        external_policy: policy("spec.externalTrafficPolicy", spec.external_traffic_policy.as_deref())?,
        affinity_seconds: affinity(&spec)?,
        health_check_node_port: optional_port("spec.healthCheckNodePort", spec.health_check_node_port)?,
    })
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

fn cluster_ips(spec: &v1::ServiceSpec) -> Result<Vec<IpAddr>, FieldError> {
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
    texts.map(|(index, text)| field::address(format!("{path}[{index}]"), text)).collect()
}

fn load_balancer_ips(ingress: &[v1::LoadBalancerIngress]) -> Result<Vec<LoadBalancerIp>, FieldError> {
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
        found.push(LoadBalancerIp { ip: field::address(path("ip"), text)?, vip });
    }
    Ok(found)
}

fn source_ranges(texts: Option<&[String]>) -> Result<Vec<ipnet::IpNet>, FieldError> {
    let texts = texts.unwrap_or_default().iter().enumerate();
    texts.map(|(index, text)| field::range(format!("spec.loadBalancerSourceRanges[{index}]"), text)).collect()
}

fn ports(ports: Option<&[v1::ServicePort]>) -> Result<Vec<ServicePort>, FieldError> {
    let mut found: Vec<ServicePort> = Vec::new();
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        let path = |name: &str| format!("spec.ports[{index}].{name}");
        let converted = ServicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: field::protocol(path("protocol"), port.protocol.as_deref())?,
            port: field::port(path("port"), port.port)?,
            node_port: optional_port(&path("nodePort"), port.node_port)?,
        };
        if found.iter().any(|other| (other.port, other.protocol) == (converted.port, converted.protocol)) {
            return Err(wrong(path("port"), port.port, "the only port of its number and protocol"));
        }
        found.push(converted);
    }
    Ok(found)
}

/// As in the API, 0 means none.
fn optional_port(path: &str, number: Option<i32>) -> Result<Option<u16>, FieldError> {
    number.filter(|&number| number != 0).map(|number| field::port(path, number)).transpose()
}

fn policy(path: &str, text: Option<&str>) -> Result<TrafficPolicy, FieldError> {
    match text {
        None | Some("" | "Cluster") => Ok(TrafficPolicy::Cluster),
        Some("Local") => Ok(TrafficPolicy::Local),
        Some(other) => Err(wrong(path, other, "one of Cluster, Local")),
    }
}

fn affinity(spec: &v1::ServiceSpec) -> Result<Option<u32>, FieldError> {
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
