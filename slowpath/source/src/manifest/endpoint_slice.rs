//! EndpointSlices.

use super::field::{self, FieldError, wrong};
use k8s_openapi::api::discovery::v1;
use k8s_openapi::jiff::Timestamp;
use millrace_model::{AddressFamily, Conditions, Endpoint, EndpointSlice, ObjectName, SlicePort};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// When what the slice tells of changed (`EndpointsLastChangeTriggerTime`, staging/src/k8s.io/api/core/v1/annotation_key_constants.go).
const TRIGGER_TIME: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const HEADLESS: &str = "service.kubernetes.io/headless";

pub(super) fn convert(slice: v1::EndpointSlice) -> Result<EndpointSlice, FieldError> {
    let name = field::namespaced(&slice.metadata)?;
    let labels = slice.metadata.labels.unwrap_or_default();
    let annotations = slice.metadata.annotations.unwrap_or_default();
    let family = match slice.address_type.as_str() {
        "IPv4" => AddressFamily::V4,
        "IPv6" => AddressFamily::V6,
        other => return Err(wrong("addressType", other, "one of IPv4, IPv6")),
    };
    let mut endpoints = Vec::with_capacity(slice.endpoints.len());
    for (index, endpoint) in slice.endpoints.into_iter().enumerate() {
        endpoints.push(convert_endpoint(index, endpoint, family, &name.namespace)?);
    }
    Ok(EndpointSlice {
        service: labels.get(SERVICE_NAME).cloned(),
        headless: labels.contains_key(HEADLESS),
        ports: ports(slice.ports.as_deref().unwrap_or_default())?,
        name,
        family,
        endpoints,
        trigger_time: annotations.get(TRIGGER_TIME).and_then(|text| time(text)),
    })
}

/// A time in the form of RFC 3339. Nothing for any other text: it only serves to measure.
fn time(text: &str) -> Option<SystemTime> {
    let time: Timestamp = text.parse().ok()?;
    // Earlier than 1970 is no time of a change.
    let since = Duration::new(time.as_second().try_into().ok()?, time.subsec_nanosecond().try_into().ok()?);
    UNIX_EPOCH.checked_add(since)
}

fn ports(ports: &[v1::EndpointPort]) -> Result<Vec<SlicePort>, FieldError> {
    let mut found = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        // Without a number it stands for all ports, which a service cannot use.
        let Some(number) = port.port.filter(|&number| number != 0) else { continue };
        found.push(SlicePort {
            name: port.name.clone().unwrap_or_default(),
            protocol: field::protocol(format!("ports[{index}].protocol"), port.protocol.as_deref())?,
            port: field::port(format!("ports[{index}].port"), number)?,
        });
    }
    Ok(found)
}

fn convert_endpoint(
    index: usize,
    endpoint: v1::Endpoint,
    family: AddressFamily,
    namespace: &str,
) -> Result<Endpoint, FieldError> {
    let path = format!("endpoints[{index}].addresses[0]");
    let Some(text) = endpoint.addresses.first() else {
        return Err(wrong(format!("endpoints[{index}].addresses"), "[]", "a list of at least one address"));
    };
    let address = field::address(path.clone(), text)?;
    if address.is_ipv4() != (family == AddressFamily::V4) {
        return Err(wrong(path, text, "of the family that addressType names"));
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
