//! What every object says of itself.

use super::field::{FieldError, wrong};
use millrace_model::{Labels, ObjectName};
use serde::Deserialize;

/// `metadata`, as far as it is used. In all of these types a field that is absent is the same as `null`, as in the API.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Metadata {
    pub(super) name: Option<String>,
    pub(super) namespace: Option<String>,
    pub(super) uid: Option<String>,
    pub(super) resource_version: Option<String>,
    pub(super) deletion_timestamp: Option<String>,
    pub(super) labels: Option<Labels>,
    pub(super) annotations: Option<Annotations>,
}

/// The annotations that are used.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Annotations {
    /// How a pod's first interface is attached: `tap`, `veth`, `af-xdp` or `vhost-user`.
    #[serde(rename = "millrace.io/port")]
    pub(super) port: Option<String>,
    /// Which user owns the pod's vhost-user socket.
    #[serde(rename = "millrace.io/vhost-user-uid")]
    pub(super) vhost_user_uid: Option<String>,
    /// Of a static pod, which the kubelet only mirrors in the API: the UID that it has for the kubelet
    /// (`ConfigMirrorAnnotationKey`, pkg/kubelet/types/pod_update.go).
    #[serde(rename = "kubernetes.io/config.mirror")]
    pub(super) mirrored: Option<String>,
    /// What a pod receives at most.
    #[serde(rename = "kubernetes.io/ingress-bandwidth")]
    pub(super) ingress_bandwidth: Option<String>,
    /// What a pod sends at most.
    #[serde(rename = "kubernetes.io/egress-bandwidth")]
    pub(super) egress_bandwidth: Option<String>,
    /// When what a slice tells of changed (`EndpointsLastChangeTriggerTime`,
    /// staging/src/k8s.io/api/core/v1/annotation_key_constants.go).
    #[serde(rename = "endpoints.kubernetes.io/last-change-trigger-time")]
    pub(super) trigger_time: Option<String>,
    /// The way to a node.
    #[serde(rename = "millrace.io/routing")]
    pub(super) routing: Option<String>,
    /// A node's end of tunnels.
    #[serde(rename = "millrace.io/vtep-mac")]
    pub(super) vtep_mac: Option<String>,
    /// Ends the list that a watch began with.
    #[serde(rename = "k8s.io/initial-events-end")]
    pub(super) initial_events_end: Option<String>,
}

impl Metadata {
    /// The name of an object in a namespace; as everywhere, no namespace means `default`.
    pub(super) fn namespaced(&self) -> Result<ObjectName, FieldError> {
        let namespace = self.namespace.as_deref().unwrap_or("default");
        check_name("metadata.namespace", namespace)?;
        Ok(ObjectName::new(namespace, self.checked_name()?))
    }

    /// The name of an object of the whole cluster.
    pub(super) fn cluster_wide(&self) -> Result<ObjectName, FieldError> {
        Ok(ObjectName::cluster_wide(self.checked_name()?))
    }

    /// The name as a server has it, legal or not.
    pub(crate) fn server_name(&self) -> ObjectName {
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        ObjectName::new(text(&self.namespace), text(&self.name))
    }

    /// The version that a server has given to the object; empty without one.
    pub(crate) fn version(&self) -> &str {
        self.resource_version.as_deref().unwrap_or_default()
    }

    /// Whether this is the bookmark that ends the list which a watch began with.
    pub(crate) fn ends_list(&self) -> bool {
        self.annotations.as_ref().is_some_and(|annotations| annotations.initial_events_end.is_some())
    }

    fn checked_name(&self) -> Result<&str, FieldError> {
        let name = self.name.as_deref().unwrap_or_default();
        check_name("metadata.name", name)?;
        Ok(name)
    }
}

fn check_name(field: &str, name: &str) -> Result<(), FieldError> {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if (1..=253).contains(&name.len()) && name.bytes().all(legal) {
        return Ok(());
    }
    Err(wrong(field, name, "a name: lower-case letters, digits, `-` and `.`, at most 253"))
}
