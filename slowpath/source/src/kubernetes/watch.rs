//! One kind: listed, watched, and tried again.

use super::client::chain;
use super::lines::Lines;
use super::watched::Watched;
use super::wire::{self, Event, Read};
use crate::liveness::Liveness;
use kube::Client;
use kube::api::{DynamicObject, ListParams, WatchParams};
use kube::core::{Request, Resource};
use kube::runtime::utils::Backoff;
use kube::runtime::watcher::DefaultBackoff;
use millrace_model::ObjectName;
use std::io;
use std::time::{Duration, Instant};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::time::{sleep, timeout};

/// How long the server is asked to let a watch last, in seconds.
const WATCH_SECONDS: u32 = 120;
/// How long nothing may come on a watch: one that has died in silence is noticed soon after it should have ended.
const SILENCE: Duration = Duration::from_secs(WATCH_SECONDS as u64 + 5);
/// Objects in a page of a list, as client-go asks for them (`tools/pager/pager.go`).
const PAGE: u32 = 500;

/// How long the server may take to begin its answer, or to give a whole page.
const ANSWER: Duration = Duration::from_secs(60);

/// The failure of having asked for a version that the server has forgotten.
const GONE: &str = "gone";

/// What was heard of one kind at once.
#[derive(Debug)]
pub(super) struct Word {
    /// Which of the kinds that are followed.
    pub(super) position: usize,
    /// When it was heard.
    pub(super) at: Instant,
    /// What, in its order.
    pub(super) heard: Vec<Heard>,
}

/// What is heard of one kind.
#[derive(Debug)]
pub(super) enum Heard {
    /// A list begins; what an earlier one has told until now counts for nothing.
    ListBegins,
    /// An object is there.
    Applied(Read),
    /// An object is gone.
    Deleted(ObjectName),
    /// The list that began last is complete.
    ListEnds,
}

/// Why a list or a watch came to no good end.
#[derive(Debug, Error)]
enum Failure {
    /// There was no answer, or a refusal.
    #[error(transparent)]
    Request(#[from] kube::Error),
    /// The connection is there, and nothing comes.
    #[error("no answer within {} s", ANSWER.as_secs())]
    Silent,
    /// The connection broke off.
    #[error(transparent)]
    Broken(#[from] io::Error),
    /// The answer is not what was asked for.
    #[error("not a list or event: {0}")]
    Nonsense(#[from] serde_json::Error),
    /// The server has ended the watch.
    #[error("{message} ({code})")]
    Ended { code: u16, message: String },
    /// The list does not say which version it is.
    #[error("the list has no version")]
    NoVersion,
    /// Nobody listens any more.
    #[error("nobody listens")]
    Unheard,
}

/// One kind that is followed.
pub(super) struct Watch {
    client: Client,
    request: Request,
    watched: Watched,
    /// Raised when there are other credentials.
    renewals: watch::Receiver<u64>,
    liveness: Liveness,
    tell: mpsc::Sender<Word>,
    position: usize,
    /// Whether the server streams lists, as far as is known.
    streams: bool,
    backoff: DefaultBackoff,
    /// Whether a list has come to its end since a version was forgotten.
    has_listed: bool,
    /// The last version that was heard of.
    version: String,
}

impl Watch {
    pub(super) fn new(
        client: Client,
        watched: Watched,
        renewals: watch::Receiver<u64>,
        liveness: Liveness,
        tell: mpsc::Sender<Word>,
        position: usize,
    ) -> Self {
        Watch {
            client,
            request: Request::new(DynamicObject::url_path(&watched.resource, None)),
            watched,
            renewals,
            liveness,
            tell,
            position,
            streams: true,
            backoff: DefaultBackoff::default(),
            has_listed: false,
            version: String::new(),
        }
    }

    /// Follows the kind for ever; ends when nobody listens. A change of `restarts` begins it anew with a list: who came
    /// back after a silence may have a connection that is dead without either end knowing.
    pub(super) async fn run(mut self, mut restarts: watch::Receiver<u64>) {
        loop {
            tokio::select! {
                () = self.listen() => {}
                _ = restarts.changed() => self.backoff.reset(),
            }
            if self.tell.is_closed() {
                return;
            }
        }
    }

    /// Lists and watches until a new list is due.
    async fn listen(&mut self) {
        let listed = if self.streams { self.stream_list().await } else { self.read_pages().await };
        let mut lines = match listed {
            Ok(lines) => lines,
            Err(failure) => {
                let verb = if self.streams { "watch" } else { "list" };
                self.fail(verb, failure).await;
                return;
            }
        };
        loop {
            if let Err(failure) = self.watch(lines.take()).await
                && self.fail("watch", failure).await
            {
                return;
            }
        }
    }

    /// Reads the list as the beginning of a watch, which this gives.
    async fn stream_list(&mut self) -> Result<Option<Lines>, Failure> {
        let parameters = WatchParams { send_initial_events: true, ..self.parameters() };
        // No older than what was heard already, whichever server answers; the first may be what its cache has.
        let version = if self.version.is_empty() { "0" } else { &self.version };
        let mut lines = self.open(&parameters, version).await?;
        self.say(Instant::now(), vec![Heard::ListBegins]).await?;
        // A list that breaks off is begun anew.
        loop {
            let (goes_on, ends) = self.hear(&mut lines).await?;
            if ends {
                return Ok(Some(lines));
            }
            if !goes_on {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    /// Reads the list page by page.
    async fn read_pages(&mut self) -> Result<Option<Lines>, Failure> {
        let mut parameters = ListParams {
            label_selector: self.watched.labels.map(str::to_owned),
            field_selector: self.watched.fields.clone(),
            limit: Some(PAGE),
            ..ListParams::default()
        };
        let mut heard = vec![Heard::ListBegins];
        loop {
            let request = self.request.list(&parameters).map_err(kube::Error::BuildRequest)?;
            let text = answered(self.client.request_text(request)).await?;
            let page = wire::page(self.watched.kind, text.as_bytes())?;
            heard.extend(page.objects.into_iter().map(Heard::Applied));
            if page.next.is_empty() {
                if page.version.is_empty() {
                    return Err(Failure::NoVersion);
                }
                self.version = page.version;
                heard.push(Heard::ListEnds);
                self.say(Instant::now(), heard).await?;
                return Ok(None);
            }
            parameters.continue_token = Some(page.next);
            self.say(Instant::now(), std::mem::take(&mut heard)).await?;
        }
    }

    /// Hears what changes, by a watch that is there already or a new one, until it ends.
    async fn watch(&mut self, lines: Option<Lines>) -> Result<(), Failure> {
        let mut lines = match lines {
            Some(lines) => lines,
            None => self.open(&self.parameters(), &self.version).await?,
        };
        let mut is_new = true;
        while self.hear(&mut lines).await?.0 {
            is_new = false;
        }
        // A server that ends every watch at once is not to be asked without end.
        if is_new {
            sleep(self.backoff.next().unwrap_or_default()).await;
        }
        Ok(())
    }

    fn parameters(&self) -> WatchParams {
        WatchParams {
            label_selector: self.watched.labels.map(str::to_owned),
            field_selector: self.watched.fields.clone(),
            timeout: Some(WATCH_SECONDS),
            bookmarks: true,
            send_initial_events: false,
        }
    }

    async fn open(&self, parameters: &WatchParams, version: &str) -> Result<Lines, Failure> {
        let request = self.request.watch(parameters, version).map_err(kube::Error::BuildRequest)?;
        Ok(Lines::new(answered(self.client.request_stream(request)).await?))
    }

    /// Waits for something to come by a watch and tells it: whether more may come, and whether the list that it began with is
    /// complete.
    async fn hear(&mut self, lines: &mut Lines) -> Result<(bool, bool), Failure> {
        let (kind, mut heard, mut at) = (self.watched.kind, Vec::new(), None);
        let (version, mut ends) = (&mut self.version, false);
        let take = |line: &[u8]| {
            at.get_or_insert_with(Instant::now);
            let new = match wire::event(kind, line)? {
                Event::Applied(read, new) => {
                    heard.push(Heard::Applied(read));
                    new
                }
                Event::Deleted(name, new) => {
                    heard.push(Heard::Deleted(name));
                    new
                }
                Event::Bookmark { version: new, ends_list } => {
                    if ends_list {
                        heard.push(Heard::ListEnds);
                        ends = true;
                    }
                    new
                }
                Event::Error { code, message } => return Err(Failure::Ended { code, message }),
            };
            // Without one, the same is heard again after the watch.
            if !new.is_empty() {
                *version = new;
            }
            Ok(())
        };
        let next = timeout(SILENCE, lines.next(take)).await;
        // What came before a failure was said all the same.
        if let Some(at) = at {
            self.say(at, heard).await?;
        }
        match next {
            Ok(goes_on) => Ok((goes_on?, ends)),
            Err(_) => Ok((false, ends)),
        }
    }

    /// Tells what the server has said, if only that it is there.
    async fn say(&mut self, at: Instant, heard: Vec<Heard>) -> Result<(), Failure> {
        self.liveness.note_word();
        self.liveness.note_kind(self.watched.kind, |kind| kind.failure = None);
        if heard.iter().any(|heard| matches!(heard, Heard::ListEnds)) {
            self.backoff.reset();
            self.has_listed = true;
        }
        if heard.is_empty() {
            return Ok(());
        }
        let word = Word { position: self.position, at, heard };
        self.tell.send(word).await.map_err(|_| Failure::Unheard)
    }

    /// Waits until it may be tried again after a failure; whether that is to begin with a list.
    async fn fail(&mut self, verb: &'static str, failure: Failure) -> bool {
        if matches!(failure, Failure::Unheard) {
            return true;
        }
        if self.streams && failure.is_unknown() {
            tracing::info!(kind = %self.watched.kind, "the API server streams no lists: they are read in pages");
            self.streams = false;
            return true;
        }
        // A version that is forgotten is no failure: a list is due at once, unless lists lead nowhere.
        let is_gone = failure.code() == Some(410);
        // Nor is what was heard any measure if the server has never come so far (504, "Too large resource version").
        if is_gone || failure.code() == Some(504) {
            self.version.clear();
        }
        if is_gone && std::mem::take(&mut self.has_listed) {
            self.liveness.note_kind(self.watched.kind, |kind| *kind.errors.entry(GONE).or_default() += 1);
            return true;
        }
        let wait = self.backoff.next().unwrap_or_default();
        self.note(verb, &failure, wait);
        tokio::select! {
            () = sleep(wait) => {}
            // What was refused may be allowed to who asks now.
            _ = self.renewals.changed() => self.backoff.reset(),
        }
        is_gone
    }

    /// Notes a failure under a name, and says it in words that name verb and resource.
    fn note(&self, verb: &'static str, failure: &Failure, retry: Duration) {
        let reason = match failure.code() {
            Some(401) => "unauthorized",
            Some(403) => "forbidden",
            Some(410) => GONE,
            _ if matches!(failure, Failure::NoVersion) => "version",
            _ => verb,
        };
        let text = format!("cannot {verb} {}: {}", self.watched.resource.plural, chain(failure));
        tracing::warn!(kind = %self.watched.kind, reason, "{text}");
        self.liveness.note_kind(self.watched.kind, |kind| {
            *kind.errors.entry(reason).or_default() += 1;
            kind.fail(text, retry);
        });
    }
}

async fn answered<T>(answer: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    Ok(timeout(ANSWER, answer).await.map_err(|_| Failure::Silent)??)
}

impl Failure {
    /// The HTTP status of a refusal.
    fn code(&self) -> Option<u16> {
        match self {
            Failure::Request(kube::Error::Api(status)) => Some(status.code),
            Failure::Ended { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// Whether the server does not know what a streaming list is: it refuses the request as such. (Before 1.27, or without
    /// the feature `WatchList`: `staging/src/k8s.io/apimachinery/pkg/apis/meta/internalversion/validation`.)
    fn is_unknown(&self) -> bool {
        matches!(self, Failure::Request(kube::Error::Api(status)) if matches!(status.code, 400 | 422))
    }
}
