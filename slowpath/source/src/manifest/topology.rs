//! Nodes and namespaces.

use super::field::{self, FieldError};
use k8s_openapi::api::core::v1;
use millrace_model::{Namespace, Node};

const ZONE: &str = "topology.kubernetes.io/zone";
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

pub(super) fn convert_node(node: v1::Node) -> Result<Node, FieldError> {
    let name = field::cluster_wide(&node.metadata)?;
    let labels = node.metadata.labels.unwrap_or_default();
    let spec = node.spec.unwrap_or_default();
    let given = node.status.and_then(|status| status.addresses).unwrap_or_default();
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
        leaving: tainted || node.metadata.deletion_timestamp.is_some(),
    })
}

pub(super) fn convert_namespace(namespace: v1::Namespace) -> Result<Namespace, FieldError> {
    let name = field::cluster_wide(&namespace.metadata)?;
    Ok(Namespace { name, labels: namespace.metadata.labels.unwrap_or_default() })
}
