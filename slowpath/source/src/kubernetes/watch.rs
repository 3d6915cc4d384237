//! One kind: listed, watched, and tried again.

use super::client::chain;
use super::watched::Watched;
use crate::liveness::Liveness;
use futures_util::StreamExt;
use kube::api::DynamicObject;
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::{self, DefaultBackoff, Event, InitialListStrategy};
use kube::{Api, Client};
use serde_json::Value;
use std::pin::pin;
use std::time::Duration;
use tokio::sync::{mpsc, watch};

/// How long the server is asked to let a watch last, in seconds. One that has died in silence is noticed soon after.
const WATCH_SECONDS: u32 = 120;

/// What is heard of one kind.
#[derive(Debug)]
pub(super) enum Heard {
    /// A list begins; what an earlier one has told until now counts for nothing.
    ListBegins,
    /// An object is there.
    Applied(Value),
    /// An object is gone.
    Deleted(Value),
    /// The list is complete.
    ListEnds,
}

/// Follows a kind for ever; ends when nobody listens. A change of `restarts` begins it anew with a list: who came
/// back after a silence may have a connection that is dead without either end knowing.
pub(super) async fn watch(
    client: Client,
    watched: Watched,
    liveness: Liveness,
    mut restarts: watch::Receiver<u64>,
    tell: mpsc::Sender<(usize, Heard)>,
    position: usize,
) {
    let api: Api<DynamicObject> = Api::all_with(client, &watched.resource);
    let mut strategy = InitialListStrategy::StreamingList;
    let mut backoff = DefaultBackoff::default();
    let mut has_listed = false;
    loop {
        let config = watcher::Config {
            label_selector: watched.labels.map(str::to_owned),
            field_selector: watched.fields.clone(),
            initial_list_strategy: strategy.clone(),
            timeout: Some(WATCH_SECONDS),
            ..watcher::Config::default()
        };
        let mut events = pin!(watcher::watcher(api.clone(), config));
        loop {
            let event = tokio::select! {
                event = events.next() => event,
                _ = restarts.changed() => {
                    backoff.reset();
                    break;
                }
            };
            match event {
                Some(Ok(event)) => {
                    liveness.note_word();
                    liveness.note_kind(watched.kind, |kind| kind.failure = None);
                    if matches!(event, Event::InitDone) {
                        backoff.reset();
                        has_listed = true;
                    }
                    if tell.send((position, heard(event, &watched))).await.is_err() {
                        return;
                    }
                }
                Some(Err(error)) => {
                    if matches!(strategy, InitialListStrategy::StreamingList) && is_unknown(&error) {
                        tracing::info!(kind = %watched.kind, "the API server streams no lists: they are read in pages");
                        strategy = InitialListStrategy::ListWatch;
                        break;
                    }
                    // A version that is forgotten is no failure: a list is due at once, unless lists lead nowhere. (The
                    // library would ask for the same version again if the answer to a watch itself is 410.)
                    let is_gone = is_gone(&error);
                    if is_gone && std::mem::take(&mut has_listed) {
                        liveness.note_kind(watched.kind, |kind| *kind.errors.entry("gone").or_default() += 1);
                        break;
                    }
                    let wait = backoff.next().unwrap_or_default();
                    note(&liveness, &watched, &error, wait);
                    tokio::select! {
                        () = tokio::time::sleep(wait) => {}
                        _ = restarts.changed() => {
                            backoff.reset();
                            break;
                        }
                    }
                    if is_gone {
                        break;
                    }
                }
                None => break,
            }
        }
    }
}

fn heard(event: Event<DynamicObject>, watched: &Watched) -> Heard {
    match event {
        Event::Init => Heard::ListBegins,
        Event::InitApply(object) | Event::Apply(object) => Heard::Applied(document(object, watched)),
        Event::Delete(object) => Heard::Deleted(document(object, watched)),
        Event::InitDone => Heard::ListEnds,
    }
}

/// An object as a manifest has it: in lists, kind and version are said once for all.
fn document(mut object: DynamicObject, watched: &Watched) -> Value {
    // Most of an object's text, and nobody reads it.
    object.metadata.managed_fields = None;
    let mut document = object.data;
    if !document.is_object() {
        document = Value::Object(serde_json::Map::new());
    }
    document["apiVersion"] = Value::from(watched.resource.api_version.as_str());
    document["kind"] = Value::from(watched.resource.kind.as_str());
    document["metadata"] = serde_json::to_value(object.metadata).unwrap_or_default();
    document
}

/// Whether the server does not know what a streaming list is: it refuses the request as such. (Before 1.27, or without the
/// feature `WatchList`: `staging/src/k8s.io/apimachinery/pkg/apis/meta/internalversion/validation`.)
fn is_unknown(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => matches!(status.code, 400 | 422),
        _ => false,
    }
}

/// Whether the server has forgotten the version that was asked for.
fn is_gone(error: &watcher::Error) -> bool {
    code_of(error) == Some(410)
}

fn code_of(error: &watcher::Error) -> Option<u16> {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => Some(status.code),
        watcher::Error::WatchError(status) => Some(status.code),
        _ => None,
    }
}

/// Notes a failure under a name, and says it in words that name verb and resource.
fn note(liveness: &Liveness, watched: &Watched, error: &watcher::Error, retry: Duration) {
    let verb = match error {
        watcher::Error::InitialListFailed(_) | watcher::Error::NoResourceVersion => "list",
        watcher::Error::WatchStartFailed(_)
        | watcher::Error::WatchFailed(_)
        | watcher::Error::WatchError(_) => "watch",
    };
    let reason = match code_of(error) {
        Some(401) => "unauthorized",
        Some(403) => "forbidden",
        Some(410) => "gone",
        _ if matches!(error, watcher::Error::NoResourceVersion) => "version",
        _ => verb,
    };
    let text = format!("cannot {verb} {}: {}", watched.resource.plural, chain(error));
    tracing::warn!(kind = %watched.kind, reason, "{text}");
    liveness.note_kind(watched.kind, |kind| {
        *kind.errors.entry(reason).or_default() += 1;
        kind.fail(text, retry);
    });
}
