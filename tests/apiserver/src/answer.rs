//! Lists, watches and refusals.

use crate::request::Wanted;
use crate::store::{Entry, Faults, Store, Stored};
use axum::Json;
use axum::body::{Body, Bytes};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch::Receiver;

/// A refusal, as `meta/v1` Status.
pub(crate) fn status(code: u16, reason: &str, message: &str) -> Response {
    let text = gone_or(code, reason, message);
    (StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), Json(text)).into_response()
}

fn gone_or(code: u16, reason: &str, message: &str) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": message,
        "reason": reason, "code": code})
}

/// One page of a list. The token to go on is the name of the last object.
pub(crate) fn list(store: &Store, wanted: &Wanted) -> Response {
    let (version, objects) = store.list(&wanted.resource);
    let limit =
        wanted.query.get("limit").and_then(|limit| limit.parse::<usize>().ok()).filter(|&limit| limit > 0);
    let after = wanted.query.get("continue").cloned().unwrap_or_default();
    let rest: Vec<_> =
        objects.into_iter().filter(|(name, object)| *name > after && wanted.selects(&object.value)).collect();
    let taken = limit.unwrap_or(usize::MAX).min(rest.len());
    let goes_on = if taken < rest.len() { rest[taken - 1].0.clone() } else { String::new() };
    // Objects of a list do not say what they are: the list does.
    let items: Vec<Value> =
        rest.into_iter().take(taken).map(|(_, object)| without_kind(object.value.clone())).collect();
    Json(json!({"kind": format!("{}List", wanted.kind()), "apiVersion": wanted.api_version, "items": items,
        "metadata": {"resourceVersion": version.to_string(), "continue": goes_on}}))
    .into_response()
}

fn without_kind(mut object: Value) -> Value {
    if let Some(fields) = object.as_object_mut() {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    object
}

/// A watch, which may begin with a list.
pub(crate) fn watch(store: &Arc<Store>, wanted: Wanted) -> Response {
    let asked = wanted.query.get("resourceVersion").and_then(|version| version.parse().ok()).unwrap_or(0);
    let mut lines = VecDeque::new();
    let mut version = asked;
    if wanted.is("sendInitialEvents") {
        let (now, objects) = store.list(&wanted.resource);
        version = now;
        let selected = objects.into_iter().filter(|(_, object)| wanted.selects(&object.value));
        lines.extend(selected.map(|(_, object)| event("ADDED", &object.text)));
        if !store.faults().endless.contains(&wanted.resource) {
            lines.push_back(bookmark(&wanted, now, true));
        }
    } else if store.since(&wanted.resource, asked).is_none() && asked.is_multiple_of(2) {
        // A real server says it either way, depending on where it notices.
        return status(410, "Expired", "too old resource version");
    }
    let (changes, cuts) = (store.changes(), store.cuts.subscribe());
    let watching = Watching { store: Arc::clone(store), wanted, version, lines, changes, cuts, sent: 0 };
    let body = Body::from_stream(stream::unfold(Some(watching), |watching| async { watching?.next().await }));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}

/// A line of a watch.
fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}\n")
}

fn bookmark(wanted: &Wanted, version: u64, ends_list: bool) -> String {
    let mut metadata = json!({"resourceVersion": version.to_string()});
    if ends_list {
        metadata["annotations"] = json!({"k8s.io/initial-events-end": "true"});
    }
    let object = json!({"kind": wanted.kind(), "apiVersion": wanted.api_version, "metadata": metadata});
    event("BOOKMARK", &object.to_string())
}

struct Watching {
    store: Arc<Store>,
    wanted: Wanted,
    version: u64,
    lines: VecDeque<String>,
    changes: Receiver<u64>,
    cuts: Receiver<u64>,
    sent: usize,
}

/// Bytes that are sent at once, if there are as many.
const PIECE: usize = 1 << 16;

type Chunk = Result<Bytes, io::Error>;

impl Watching {
    /// What is sent next, or the end.
    async fn next(mut self) -> Option<(Chunk, Option<Self>)> {
        let text = loop {
            let faults = self.store.faults();
            if faults.mute {
                tokio::time::sleep(Duration::from_millis(20)).await;
            } else if let Some(text) = self.take_lines(&faults) {
                break text;
            } else {
                match self.store.since(&self.wanted.resource, self.version) {
                    None => {
                        let error = gone_or(410, "Expired", "too old resource version");
                        return Some((Ok(Bytes::from(event("ERROR", &error.to_string()))), None));
                    }
                    Some((now, entries)) => {
                        self.version = now;
                        self.lines
                            .extend(entries.into_iter().filter_map(|entry| change(&self.wanted, &entry)));
                    }
                }
                if self.lines.is_empty() && !self.wait().await? {
                    self.lines.push_back(bookmark(&self.wanted, self.version, false));
                }
            }
            if self.cuts.has_changed().unwrap_or(true) {
                return None;
            }
        };
        let faults = self.store.faults();
        if faults.slow > 0 {
            tokio::time::sleep(Duration::from_millis(faults.slow)).await;
        }
        let mut chunk = Bytes::from(text);
        self.sent += chunk.len();
        match faults.cut_after {
            Some(limit) if self.sent > limit => {
                // In the middle of a line, and as an error of the connection.
                let kept = chunk.len().saturating_sub(self.sent - limit);
                chunk.truncate(kept);
                let broken = Err(io::Error::from(io::ErrorKind::ConnectionReset));
                Some((if kept == 0 { broken } else { Ok(chunk) }, None))
            }
            _ => Some((Ok(chunk), Some(self))),
        }
    }

    /// Lines that wait: as many as go into one piece, or one if each is to be late.
    fn take_lines(&mut self, faults: &Faults) -> Option<String> {
        let mut text = self.lines.pop_front()?;
        while faults.slow == 0
            && text.len() < PIECE
            && let Some(line) = self.lines.pop_front()
        {
            text.push_str(&line);
        }
        Some(text)
    }

    /// Waits for a change: true; false when it is time for a bookmark; none at a cut.
    async fn wait(&mut self) -> Option<bool> {
        tokio::select! {
            changed = self.changes.changed() => changed.ok().map(|()| true),
            _ = self.cuts.changed() => None,
            () = tokio::time::sleep(Duration::from_millis(500)) => Some(false),
        }
    }
}

/// What a change is to who selects: an object that is no longer selected is deleted.
fn change(wanted: &Wanted, entry: &Entry) -> Option<String> {
    let selected = |object: &&Arc<Stored>| wanted.selects(&object.value);
    let before = entry.before.as_ref().filter(selected);
    let after = entry.after.as_ref().ok().filter(selected);
    match (before, after) {
        (None, Some(object)) => Some(event("ADDED", &object.text)),
        (Some(_), Some(object)) => Some(event("MODIFIED", &object.text)),
        (Some(_), None) => {
            // As it was, with the version of its end or of its change.
            let (Ok(last) | Err(last)) = &entry.after;
            Some(event("DELETED", &last.text))
        }
        (None, None) => None,
    }
}
