//! EndpointSlices.

use super::Manifest;
use super::field::{self, FieldError, wrong};
use super::metadata::Metadata;
use k8s_openapi::jiff::Timestamp;
use millrace_model::{AddressFamily, Conditions, Endpoint, EndpointSlice, Object, ObjectName, SlicePort};
use serde::Deserialize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const HEADLESS: &str = "service.kubernetes.io/headless";

/// `discovery.k8s.io/v1` EndpointSlice, as far as it is used.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SliceManifest {
    #[serde(default)]
    metadata: Metadata,
    address_type: Option<String>,
    endpoints: Option<Vec<EndpointEntry>>,
    ports: Option<Vec<PortEntry>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndpointEntry {
    addresses: Option<Vec<String>>,
    conditions: Option<ConditionsEntry>,
    hints: Option<HintsEntry>,
    node_name: Option<String>,
    target_ref: Option<TargetEntry>,
    zone: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
struct ConditionsEntry {
    ready: Option<bool>,
    serving: Option<bool>,
    terminating: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HintsEntry {
    for_nodes: Option<Vec<NameEntry>>,
    for_zones: Option<Vec<NameEntry>>,
}

#[derive(Debug, Deserialize)]
struct NameEntry {
    name: String,
}

#[derive(Debug, Deserialize)]
struct TargetEntry {
    kind: Option<String>,
    name: Option<String>,
    namespace: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PortEntry {
    name: Option<String>,
    protocol: Option<String>,
    port: Option<i32>,
}

impl Manifest for SliceManifest {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn convert(self) -> Result<Object, FieldError> {
        let name = self.metadata.namespaced()?;
        let labels = self.metadata.labels.unwrap_or_default();
        let annotations = self.metadata.annotations.unwrap_or_default();
        let family = match self.address_type.as_deref().unwrap_or_default() {
            "IPv4" => AddressFamily::V4,
            "IPv6" => AddressFamily::V6,
            other => return Err(wrong("addressType", other, "one of IPv4, IPv6")),
        };
        let given = self.endpoints.unwrap_or_default();
        let mut endpoints = Vec::with_capacity(given.len());
        for (index, endpoint) in given.into_iter().enumerate() {
            endpoints.push(convert_endpoint(index, endpoint, family, &name.namespace)?);
        }
        Ok(Object::EndpointSlice(EndpointSlice {
            service: labels.get(SERVICE_NAME).cloned(),
            headless: labels.contains_key(HEADLESS),
            ports: ports(self.ports.unwrap_or_default())?,
            name,
            family,
            endpoints,
            trigger_time: annotations.trigger_time.and_then(|text| time(&text)),
        }))
    }
}

/// A time in the form of RFC 3339. Nothing for any other text: it only serves to measure.
fn time(text: &str) -> Option<SystemTime> {
    let time: Timestamp = text.parse().ok()?;
    // Earlier than 1970 is no time of a change.
    let since = Duration::new(time.as_second().try_into().ok()?, time.subsec_nanosecond().try_into().ok()?);
    UNIX_EPOCH.checked_add(since)
}

fn ports(ports: Vec<PortEntry>) -> Result<Vec<SlicePort>, FieldError> {
    let mut found = Vec::new();
    for (index, port) in ports.into_iter().enumerate() {
        // Without a number it stands for all ports, which a service cannot use.
        let Some(number) = port.port.filter(|&number| number != 0) else { continue };
        found.push(SlicePort {
            name: port.name.unwrap_or_default(),
            protocol: field::protocol(|| format!("ports[{index}].protocol"), port.protocol.as_deref())?,
            port: field::port(|| format!("ports[{index}].port"), number)?,
        });
    }
    Ok(found)
}

fn convert_endpoint(
    index: usize,
    endpoint: EndpointEntry,
    family: AddressFamily,
    namespace: &str,
) -> Result<Endpoint, FieldError> {
    let path = || format!("endpoints[{index}].addresses[0]");
    let Some(text) = endpoint.addresses.iter().flatten().next() else {
        return Err(wrong(format!("endpoints[{index}].addresses"), "[]", "a list of at least one address"));
    };
    let address = field::address(path, text)?;
    if address.is_ipv4() != (family == AddressFamily::V4) {
        return Err(wrong(path(), text, "of the family that addressType names"));
    }
    let conditions = endpoint.conditions.unwrap_or_default();
    let hints = endpoint.hints.unwrap_or_default();
    let pod = endpoint.target_ref.filter(|target| target.kind.as_deref() == Some("Pod"));
    let pod = pod.and_then(|target| {
        Some(ObjectName::new(target.namespace.unwrap_or_else(|| namespace.to_owned()), target.name?))
    });
    Ok(Endpoint {
        address,
        conditions: Conditions::new(conditions.ready, conditions.serving, conditions.terminating),
        node: endpoint.node_name,
        zone: endpoint.zone,
        for_nodes: hints.for_nodes.into_iter().flatten().map(|hint| hint.name).collect(),
        for_zones: hints.for_zones.into_iter().flatten().map(|hint| hint.name).collect(),
        pod,
    })
}
