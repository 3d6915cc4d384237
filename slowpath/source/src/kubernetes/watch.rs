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
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

/// How long the server is asked to let a watch last, in seconds. One that has died in silence is noticed soon after.
const WATCH_SECONDS: u32 = 120;

/// The failure of having asked for a version that the server has forgotten.
const GONE: &str = "gone";

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

/// Nobody listens any more.
struct Unheard;

/// One kind that is followed.
pub(super) struct Watch {
    api: Api<DynamicObject>,
    watched: Watched,
    /// Raised when there are other credentials.
    renewals: watch::Receiver<u64>,
    liveness: Liveness,
    tell: mpsc::Sender<(usize, Instant, Heard)>,
    position: usize,
    strategy: InitialListStrategy,
    backoff: DefaultBackoff,
    /// Whether a list has come to its end since a version was forgotten.
    has_listed: bool,
}

impl Watch {
    pub(super) fn new(
        client: Client,
        watched: Watched,
        renewals: watch::Receiver<u64>,
        liveness: Liveness,
        tell: mpsc::Sender<(usize, Instant, Heard)>,
        position: usize,
    ) -> Self {
        Watch {
            api: Api::all_with(client, &watched.resource),
            watched,
            renewals,
            liveness,
            tell,
            position,
            strategy: InitialListStrategy::StreamingList,
            backoff: DefaultBackoff::default(),
            has_listed: false,
        }
    }

    /// Follows the kind for ever; ends when nobody listens. A change of `restarts` begins it anew with a list: who came
    /// back after a silence may have a connection that is dead without either end knowing.
    pub(super) async fn run(mut self, mut restarts: watch::Receiver<u64>) {
        loop {
            tokio::select! {
                listened = self.listen() => if listened.is_err() {
                    return;
                },
                _ = restarts.changed() => self.backoff.reset(),
            }
        }
    }

    /// Lists and watches until a new list is due.
    async fn listen(&mut self) -> Result<(), Unheard> {
        let config = watcher::Config {
            label_selector: self.watched.labels.map(str::to_owned),
            field_selector: self.watched.fields.clone(),
            initial_list_strategy: self.strategy.clone(),
            timeout: Some(WATCH_SECONDS),
            ..watcher::Config::default()
        };
        let mut events = pin!(watcher::watcher(self.api.clone(), config));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => self.hear(event).await?,
                Err(error) if self.fail(&error).await => return Ok(()),
                Err(_) => {}
            }
        }
        Ok(())
    }

    async fn hear(&mut self, event: Event<DynamicObject>) -> Result<(), Unheard> {
        let at = Instant::now();
        self.liveness.note_word();
        self.liveness.note_kind(self.watched.kind, |kind| kind.failure = None);
        if matches!(event, Event::InitDone) {
            self.backoff.reset();
            self.has_listed = true;
        }
        let heard = heard(event, &self.watched);
        self.tell.send((self.position, at, heard)).await.map_err(|_| Unheard)
    }

    /// Waits until it may be tried again after a failure; whether that is to begin with a list.
    async fn fail(&mut self, error: &watcher::Error) -> bool {
        if matches!(self.strategy, InitialListStrategy::StreamingList) && is_unknown(error) {
            tracing::info!(kind = %self.watched.kind, "the API server streams no lists: they are read in pages");
            self.strategy = InitialListStrategy::ListWatch;
            return true;
        }
        // A version that is forgotten is no failure: a list is due at once, unless lists lead nowhere. (The library would ask
        // for the same version again if the answer to a watch itself is 410.)
        let is_gone = code_of(error) == Some(410);
        if is_gone && std::mem::take(&mut self.has_listed) {
            self.liveness.note_kind(self.watched.kind, |kind| *kind.errors.entry(GONE).or_default() += 1);
            return true;
        }
        let wait = self.backoff.next().unwrap_or_default();
        note(&self.liveness, &self.watched, error, wait);
        tokio::select! {
            () = sleep(wait) => {}
            // What was refused may be allowed to who asks now.
            _ = self.renewals.changed() => self.backoff.reset(),
        }
        is_gone
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

/// The HTTP status of a refusal.
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
        Some(410) => GONE,
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
