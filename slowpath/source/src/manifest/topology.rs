//! Nodes and namespaces.

use super::field::{self, FieldError};
use k8s_openapi::api::core::v1;
use millrace_model::{MacAddr, Namespace, Node, NodeRouting, RoutingMode};
use std::collections::BTreeMap;

const ZONE: &str = "topology.kubernetes.io/zone";
const ROUTING: &str = "millrace.io/routing";
const VTEP_MAC: &str = "millrace.io/vtep-mac";
const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn convert_node(node: v1::Node) -> Result<Node, FieldError> {
    let name = field::cluster_wide(&node.metadata)?;
    let routing = routing(&node.metadata.annotations.unwrap_or_default())?;
    let labels = node.metadata.labels.unwrap_or_default();
    let spec = node.spec.unwrap_or_default();
    let status = node.status.unwrap_or_default();
    let network_unavailable = network_unavailable(status.conditions.as_deref().unwrap_or_default());
    let given = status.addresses.unwrap_or_default();
    let mut addresses = Vec::new();
    for kind in ["InternalIP", "ExternalIP"] {
        for (index, entry) in given.iter().enumerate().filter(|(_, entry)| entry.type_ == kind) {
            addresses.push(field::address(format!("status.addresses[{index}].address"), &entry.address)?);
        }
    }
    let mut texts: Vec<String> = spec.pod_cidrs.unwrap_or_default();
    if texts.is_empty() {
        texts.extend(spec.pod_cidr.filter(|cidr| !cidr.is_empty()));
    }
    let ranges = texts.iter().enumerate();
    let pod_cidrs = ranges.map(|(index, text)| field::range(format!("spec.podCIDRs[{index}]"), text));
    let tainted = spec.taints.iter().flatten().any(|taint| taint.key == LEAVING);
    Ok(Node {
        name,
        zone: labels.get(ZONE).cloned(),
        labels,
        addresses,
        pod_cidrs: pod_cidrs.collect::<Result<_, _>>()?,
        routing,
        leaving: tainted || node.metadata.deletion_timestamp.is_some(),
        network_unavailable,
    })
}

/// What the conditions say of the network; nothing if that is not known or they do not speak of it.
fn network_unavailable(conditions: &[v1::NodeCondition]) -> Option<bool> {
    let found = conditions.iter().find(|condition| condition.type_ == NETWORK_UNAVAILABLE)?;
    match found.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// What annotations say of the way to a node.
fn routing(annotations: &BTreeMap<String, String>) -> Result<NodeRouting, FieldError> {
    let field = |name| format!("metadata.annotations[{name}]");
    let mode = match annotations.get(ROUTING).map(String::as_str) {
        None => None,
        Some("native") => Some(RoutingMode::Native),
        Some("vxlan") => Some(RoutingMode::Vxlan),
        Some(other) => return Err(field::wrong(field(ROUTING), other, "native or vxlan")),
    };
    let mac = |text: &String| match text.parse::<MacAddr>() {
        Ok(mac) if mac.0[0] & 1 == 0 && mac != MacAddr::default() => Ok(mac),
        _ => Err(field::wrong(
            field(VTEP_MAC),
            text,
            "the MAC address of one station, as in 02:56:c0:00:02:01",
        )),
    };
    Ok(NodeRouting { mode, vtep_mac: annotations.get(VTEP_MAC).map(mac).transpose()? })
}

pub(super) fn convert_namespace(namespace: v1::Namespace) -> Result<Namespace, FieldError> {
    let name = field::cluster_wide(&namespace.metadata)?;
    Ok(Namespace { name, labels: namespace.metadata.labels.unwrap_or_default() })
}
