//! Nodes and namespaces.

use super::Manifest;
use super::field::{self, FieldError};
use super::metadata::{Annotations, Metadata};
use millrace_model::{MacAddr, Namespace, Node, NodeRouting, Object, RoutingMode};
use serde::Deserialize;

const ZONE: &str = "topology.kubernetes.io/zone";
const NETWORK_UNAVAILABLE: &str = "NetworkUnavailable";
const LEAVING: &str = "ToBeDeletedByClusterAutoscaler";

/// `v1` Node, as far as it is used.
#[derive(Debug, Deserialize)]
pub(crate) struct NodeManifest {
    #[serde(default)]
    metadata: Metadata,
    spec: Option<Spec>,
    status: Option<Status>,
}

#[derive(Debug, Default, Deserialize)]
struct Spec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs")]
    pod_cidrs: Option<Vec<String>>,
    taints: Option<Vec<Taint>>,
}

#[derive(Debug, Deserialize)]
struct Taint {
    key: String,
}

#[derive(Debug, Default, Deserialize)]
struct Status {
    addresses: Option<Vec<AddressEntry>>,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

#[derive(Debug, Deserialize)]
struct AddressEntry {
    #[serde(rename = "type")]
    kind: String,
    address: String,
}

/// `v1` Namespace, as far as it is used.
#[derive(Debug, Deserialize)]
pub(crate) struct NamespaceManifest {
    #[serde(default)]
    metadata: Metadata,
}

impl Manifest for NodeManifest {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn convert(self) -> Result<Object, FieldError> {
        let name = self.metadata.cluster_wide()?;
        let routing = routing(&self.metadata.annotations.unwrap_or_default())?;
        let labels = self.metadata.labels.unwrap_or_default();
        let spec = self.spec.unwrap_or_default();
        let status = self.status.unwrap_or_default();
        let network_unavailable = network_unavailable(status.conditions.as_deref().unwrap_or_default());
        let given = status.addresses.unwrap_or_default();
        let mut addresses = Vec::new();
        for kind in ["InternalIP", "ExternalIP"] {
            for (index, entry) in given.iter().enumerate().filter(|(_, entry)| entry.kind == kind) {
                let path = || format!("status.addresses[{index}].address");
                addresses.push(field::address(path, &entry.address)?);
            }
        }
        let mut texts: Vec<String> = spec.pod_cidrs.unwrap_or_default();
        if texts.is_empty() {
            texts.extend(spec.pod_cidr.filter(|cidr| !cidr.is_empty()));
        }
        let ranges = texts.iter().enumerate();
        let pod_cidrs = ranges.map(|(index, text)| field::range(|| format!("spec.podCIDRs[{index}]"), text));
        let tainted = spec.taints.iter().flatten().any(|taint| taint.key == LEAVING);
        Ok(Object::Node(Node {
            name,
            zone: labels.get(ZONE).cloned(),
            labels,
            addresses,
            pod_cidrs: pod_cidrs.collect::<Result<_, _>>()?,
            routing,
            leaving: tainted || self.metadata.deletion_timestamp.is_some(),
            network_unavailable,
        }))
    }
}

impl Manifest for NamespaceManifest {
    fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn convert(self) -> Result<Object, FieldError> {
        let name = self.metadata.cluster_wide()?;
        Ok(Object::Namespace(Namespace { name, labels: self.metadata.labels.unwrap_or_default() }))
    }
}

/// What the conditions say of the network; nothing if that is not known or they do not speak of it.
fn network_unavailable(conditions: &[Condition]) -> Option<bool> {
    let found = conditions.iter().find(|condition| condition.kind == NETWORK_UNAVAILABLE)?;
    match found.status.as_str() {
        "True" => Some(true),
        "False" => Some(false),
        _ => None,
    }
}

/// What annotations say of the way to a node.
fn routing(annotations: &Annotations) -> Result<NodeRouting, FieldError> {
    let mode = match annotations.routing.as_deref() {
        None => None,
        Some("native") => Some(RoutingMode::Native),
        Some("vxlan") => Some(RoutingMode::Vxlan),
        Some(other) => {
            let field = "metadata.annotations[millrace.io/routing]";
            return Err(field::wrong(field, other, "native or vxlan"));
        }
    };
    let mac = |text: &String| match text.parse::<MacAddr>() {
        Ok(mac) if mac.0[0] & 1 == 0 && mac != MacAddr::default() => Ok(mac),
        _ => Err(field::wrong(
            "metadata.annotations[millrace.io/vtep-mac]",
            text,
            "the MAC address of one station, as in 02:56:c0:00:02:01",
        )),
    };
    Ok(NodeRouting { mode, vtep_mac: annotations.vtep_mac.as_ref().map(mac).transpose()? })
}
