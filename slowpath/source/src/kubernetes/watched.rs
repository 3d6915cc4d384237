//! What is watched, and how much of it.

use kube::api::ApiResource;
use millrace_model::Kind;

/// Objects of one kind, and which of them this node needs.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) kind: Kind,
    pub(super) resource: ApiResource,
    pub(super) labels: Option<&'static str>,
    pub(super) fields: Option<String>,
}

/// Services that another proxy handles and headless ones have nothing for this one; kube-proxy asks in the same words
/// (`cmd/kube-proxy/app/server.go`).
const OURS: &str = "!service.kubernetes.io/headless,!service.kubernetes.io/service-proxy-name";

/// All that is asked of an API server, as `VERB RESOURCE.GROUP`: what a role must allow.
pub fn used_verbs() -> Vec<String> {
    let read = watched("").into_iter().flat_map(|watched| {
        let ApiResource { plural, group, .. } = watched.resource;
        ["list", "watch"].map(|verb| format!("{verb} {plural}.{group}"))
    });
    read.chain(["patch nodes/status.".to_owned()]).collect()
}

/// All that the node `node` follows. Of pods only its own: others are known by their endpoints and their nodes' ranges.
pub(super) fn watched(node: &str) -> Vec<Watched> {
    let all = |kind, group: &str, plural: &str| Watched {
        kind,
        resource: ApiResource {
            group: group.to_owned(),
            version: "v1".to_owned(),
            api_version: if group.is_empty() { "v1".to_owned() } else { format!("{group}/v1") },
            kind: kind.to_string(),
            plural: plural.to_owned(),
        },
        labels: None,
        fields: None,
    };
    vec![
        Watched { labels: Some(OURS), ..all(Kind::Service, "", "services") },
        Watched { labels: Some(OURS), ..all(Kind::EndpointSlice, "discovery.k8s.io", "endpointslices") },
        all(Kind::Node, "", "nodes"),
        all(Kind::Namespace, "", "namespaces"),
        all(Kind::NetworkPolicy, "networking.k8s.io", "networkpolicies"),
        Watched { fields: Some(format!("spec.nodeName={node}")), ..all(Kind::Pod, "", "pods") },
    ]
}
