//! Paths and queries.

use crate::answer::{list, status, watch};
use crate::door::Peer;
use crate::store::Store;
use axum::extract::{ConnectInfo, OriginalUri, Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, patch};
use axum::{Json, Router};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

/// Where the core group is.
const CORE: &str = "/api/v1/";

/// What a request for objects may say.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) resource: String,
    pub(crate) api_version: &'static str,
    pub(crate) query: HashMap<String, String>,
}

impl Wanted {
    pub(crate) fn is(&self, name: &str) -> bool {
        self.query.get(name).is_some_and(|value| value == "true" || value == "1")
    }

    /// The kind of the objects, as their lists are named.
    pub(crate) fn kind(&self) -> &'static str {
        match self.resource.as_str() {
            "pods" => "Pod",
            "services" => "Service",
            "nodes" => "Node",
            "namespaces" => "Namespace",
            "networkpolicies" => "NetworkPolicy",
            _ => "EndpointSlice",
        }
    }

    /// Whether an object is among those that were asked for: labels that must be absent, and a pod's node.
    pub(crate) fn selects(&self, object: &Value) -> bool {
        let labels = self.query.get("labelSelector").map(String::as_str).unwrap_or_default();
        let absent = labels.split(',').filter_map(|label| label.strip_prefix('!'));
        let has = |label: &str| object["metadata"]["labels"].get(label).is_some();
        let field = self.query.get("fieldSelector").and_then(|fields| fields.strip_prefix("spec.nodeName="));
        let on_node = field.is_none_or(|node| object["spec"]["nodeName"] == *node);
        on_node && !absent.into_iter().any(has)
    }
}

pub(crate) fn router(store: Arc<Store>) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/api/v1/{resource}", get(objects))
        .route("/apis/discovery.k8s.io/v1/{resource}", get(objects))
        .route("/apis/networking.k8s.io/v1/{resource}", get(objects))
        .route("/api/v1/nodes/{name}/status", patch(patch_status))
        .layer(from_fn_with_state(Arc::clone(&store), admit))
        .with_state(store)
}

/// Lets in who is known; who says nothing of himself may ask for the version.
async fn admit(
    State(store): State<Arc<Store>>,
    ConnectInfo(Peer(certificate)): ConnectInfo<Peer>,
    request: Request,
    next: Next,
) -> Response {
    let said = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = said.map(|said| said.strip_prefix("Bearer ").unwrap_or_default());
    let is_anonymous = token.is_none() && certificate.is_none();
    match store.knows(token, certificate.as_deref()) {
        true => next.run(request).await,
        false if is_anonymous && request.uri().path() == "/version" => next.run(request).await,
        false => status(401, "Unauthorized", "Unauthorized"),
    }
}

async fn version(State(store): State<Arc<Store>>) -> Response {
    match store.faults().refused.get("version") {
        Some(&code) => status(code, "InternalError", "told to fail"),
        None => Json(
            json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "", "gitTreeState": "",
            "buildDate": "2026-01-01T00:00:00Z", "goVersion": "", "compiler": "", "platform": ""}),
        )
        .into_response(),
    }
}

async fn objects(
    State(store): State<Arc<Store>>,
    Path(resource): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    OriginalUri(uri): OriginalUri,
) -> Response {
    let api_version = match uri.path() {
        path if path.starts_with(CORE) => "v1",
        path if path.starts_with("/apis/networking.k8s.io/") => "networking.k8s.io/v1",
        _ => "discovery.k8s.io/v1",
    };
    serve(&store, Wanted { resource, api_version, query }, &uri.to_string())
}

fn serve(store: &Arc<Store>, wanted: Wanted, uri: &str) -> Response {
    store.note_request(uri.to_owned());
    let faults = store.faults();
    if let Some(&code) = faults.refused.get(&wanted.resource) {
        let reason = if code == 403 { "Forbidden" } else { "Unauthorized" };
        return status(code, reason, &format!("may not read {}", wanted.resource));
    }
    if wanted.is("watch") {
        if wanted.is("sendInitialEvents") && faults.no_streaming {
            let text =
                "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return status(422, "Invalid", text);
        }
        return watch(store, wanted);
    }
    if faults.nonsense {
        return (StatusCode::OK, [(header::CONTENT_TYPE, "text/html")], "<html>sorry</html>").into_response();
    }
    list(store, &wanted)
}

async fn patch_status(
    State(store): State<Arc<Store>>,
    Path(name): Path<String>,
    OriginalUri(uri): OriginalUri,
    headers: HeaderMap,
    body: String,
) -> Response {
    if let Some(&code) = store.faults().refused.get("nodes/status") {
        return status(code, "Forbidden", "may not patch nodes/status");
    }
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let Ok(patch) = serde_json::from_str::<Value>(&body) else {
        return status(400, "BadRequest", "the patch is not JSON");
    };
    if kind != "application/strategic-merge-patch+json" {
        return status(415, "UnsupportedMediaType", kind);
    }
    store.note_patch(uri.path().to_owned(), patch.clone());
    match store.get("Node", &name) {
        Some(node) => {
            let node = with_conditions(node, &patch["status"]["conditions"]);
            store.apply(node.clone());
            Json(node).into_response()
        }
        None => status(404, "NotFound", &format!("nodes \"{name}\" not found")),
    }
}

/// A node with other conditions: they are merged by their type.
fn with_conditions(mut node: Value, others: &Value) -> Value {
    let mut conditions = node["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for other in others.as_array().into_iter().flatten() {
        conditions.retain(|condition| condition["type"] != other["type"]);
        conditions.push(other.clone());
    }
    node["status"]["conditions"] = Value::Array(conditions);
    node
}
