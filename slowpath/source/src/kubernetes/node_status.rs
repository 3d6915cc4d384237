//! The node's condition `NetworkUnavailable`: false once it serves.
//!
//! The node lifecycle controller takes the taint `node.kubernetes.io/network-unavailable` away when the condition says so
//! (`pkg/controller/nodelifecycle/node_lifecycle_controller.go`). At the end nothing is said: pods keep their network.

use super::client::chain;
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client};
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Waits until the node serves, and says so until the server has understood.
pub(super) async fn announce(client: Client, node: String, serves: Arc<Notify>) -> Infallible {
    let nodes: Api<Node> = Api::all(client);
    loop {
        serves.notified().await;
        let mut backoff = DefaultBackoff::default();
        while let Err(error) = set_condition(&nodes, &node).await {
            tracing::warn!(
                node,
                reason = chain(&error),
                "cannot patch nodes/status: NetworkUnavailable is not set"
            );
            sleep(backoff.next().unwrap_or_default()).await;
        }
        tracing::info!(node, "the cluster knows that the node has a network");
    }
}

async fn set_condition(nodes: &Api<Node>, node: &str) -> Result<(), kube::Error> {
    let now = Timestamp::now().to_string();
    let condition = json!({
        "type": "NetworkUnavailable", "status": "False",
        "reason": "MillraceIsUp", "message": "Millrace serves this node",
        "lastHeartbeatTime": now, "lastTransitionTime": now,
    });
    // Conditions are merged by their type.
    let patch = Patch::Strategic(json!({"status": {"conditions": [condition]}}));
    nodes.patch_status(node, &PatchParams::default(), &patch).await.map(drop)
}
