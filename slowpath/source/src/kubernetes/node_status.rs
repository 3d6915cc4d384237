//! The node's condition `NetworkUnavailable`: false while it serves.
//!
//! The node lifecycle controller takes the taint `node.kubernetes.io/network-unavailable` away when the condition says so
//! (`pkg/controller/nodelifecycle/node_lifecycle_controller.go`). The own node is watched like all others: whenever its
//! object says something else, or nothing, it is told again. At the end nothing is said: pods keep their network.

use super::client::chain;
use crate::change::Change;
use k8s_openapi::api::core::v1;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::watcher::DefaultBackoff;
use kube::{Api, Client};
use millrace_model::{Kind, Object, ObjectName};
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The least time from one patch to the next: another that contradicts is not argued with more often.
/// How long the server may take to answer.
const ANSWER: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_secs(2);
/// How long the node's object may take to say what it was told.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the own node's object says of its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Said {
    /// There is no such object, or none is known yet.
    #[default]
    NoNode,
    /// That there is one: all is well.
    Available,
    /// That there is none, or that nobody knows, or nothing at all.
    Otherwise,
}

/// Looks for the own node among what is told.
pub(super) struct OwnNode {
    name: ObjectName,
    said: watch::Sender<Said>,
}

impl OwnNode {
    pub(super) fn new(name: &str) -> Self {
        OwnNode { name: ObjectName::cluster_wide(name), said: watch::Sender::new(Said::NoNode) }
    }

    /// What the object says, from now on.
    pub(super) fn seen(&self) -> watch::Receiver<Said> {
        self.said.subscribe()
    }

    /// Takes note if a change is the own node's.
    pub(super) fn look(&self, change: &Change) {
        let said = match change {
            Change::Apply(object) => match &**object {
                Object::Node(node) if node.name == self.name => match node.network_unavailable {
                    Some(false) => Said::Available,
                    Some(true) | None => Said::Otherwise,
                },
                _ => return,
            },
            Change::Delete(Kind::Node, name) if *name == self.name => Said::NoNode,
            _ => return,
        };
        self.said.send_replace(said);
    }
}

/// Once the node serves, says so whenever its object says otherwise, until the server has understood.
pub(super) async fn announce(
    client: Client,
    node: String,
    mut serves: watch::Receiver<bool>,
    mut seen: watch::Receiver<Said>,
) -> Infallible {
    let nodes: Api<v1::Node> = Api::all(client);
    let mut backoff = DefaultBackoff::default();
    loop {
        let is_due = serves.wait_for(|serves| *serves).await.is_ok()
            && seen.wait_for(|said| *said == Said::Otherwise).await.is_ok();
        if !is_due {
            // Nobody tells anything any more: whoever waits for this has ended.
            std::future::pending::<()>().await;
        }
        seen.mark_unchanged();
        let set = timeout(ANSWER, set_condition(&nodes, &node)).await;
        match set.unwrap_or_else(|_| Err(kube::Error::Service("no answer".into()))) {
            Ok(()) => {
                tracing::info!(node, "the cluster knows that the node has a network");
                backoff = DefaultBackoff::default();
                let _ = timeout(PATIENCE, seen.changed()).await;
                sleep(PAUSE).await;
            }
            Err(error) => {
                let reason = chain(&error);
                tracing::warn!(node, reason, "cannot patch nodes/status: NetworkUnavailable is not set");
                sleep(backoff.next().unwrap_or(PAUSE)).await;
            }
        }
    }
}

/// Only called where the condition is another: so this is the time of its transition.
async fn set_condition(nodes: &Api<v1::Node>, node: &str) -> Result<(), kube::Error> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{self, NodeManifest};

    fn node(name: &str, conditions: serde_json::Value) -> Change {
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"conditions": conditions}});
        Change::Apply(Box::new(manifest::read::<NodeManifest>(node).unwrap()))
    }

    fn condition(status: &str) -> serde_json::Value {
        json!([{"type": "Ready", "status": "True"}, {"type": "NetworkUnavailable", "status": status}])
    }

    #[test]
    fn what_the_own_node_says_is_seen_and_what_others_say_is_not() {
        let own = OwnNode::new("a");
        let said = |change: Change| {
            own.look(&change);
            *own.seen().borrow()
        };
        assert_eq!(said(node("b", condition("True"))), Said::NoNode);
        assert_eq!(said(node("a", condition("True"))), Said::Otherwise);
        assert_eq!(said(node("a", condition("False"))), Said::Available);
        assert_eq!(said(node("b", condition("True"))), Said::Available);
        assert_eq!(said(node("a", condition("Unknown"))), Said::Otherwise);
        assert_eq!(said(Change::Delete(Kind::Node, ObjectName::cluster_wide("a"))), Said::NoNode);
        assert_eq!(said(node("a", json!([]))), Said::Otherwise);
    }
}
