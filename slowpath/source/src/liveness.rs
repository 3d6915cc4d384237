//! How a source that is somewhere else gets on, for status and metrics.

use millrace_model::Kind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after the next try a failure counts that was not followed by another.
const GRACE: Duration = Duration::from_secs(10);

/// What a source has heard of its server; shared between its thread and those who ask. A source without a server has
/// nothing to say here.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Option<Heard>>>);

/// What was heard of a server.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The server.
    pub server: String,
    /// When it last said something.
    pub last_word: Option<Instant>,
    /// Why it does not answer; none while it does.
    pub silence: Option<String>,
    /// What was heard of each kind.
    pub kinds: BTreeMap<Kind, HeardOfKind>,
}

/// What was heard of the objects of one kind.
#[derive(Clone, Debug, Default)]
pub struct HeardOfKind {
    /// Objects in force.
    pub objects: u64,
    /// Whole lists that came.
    pub lists: u64,
    /// Failures, by what failed: `list`, `watch`, `unauthorized`, `forbidden`, `gone`, `version`.
    pub errors: BTreeMap<&'static str, u64>,
    /// Why the kind is not followed now, as far as is known.
    pub failure: Option<Failure>,
}

/// A kind could not be listed or watched.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Verb, resource and reason.
    pub reason: String,
    /// Since when that is so.
    pub since: Instant,
    /// Until when it counts if nothing is heard: a watch that is there again may have nothing to say.
    pub until: Instant,
}

impl Heard {
    /// Whether the server answers and all kinds are followed.
    pub fn is_connected(&self) -> bool {
        self.last_word.is_some() && self.silence.is_none() && self.failures().next().is_none()
    }

    /// What is wrong now.
    pub fn last_error(&self) -> Option<&str> {
        self.silence.as_deref().or_else(|| self.failures().next().map(|failure| &*failure.reason))
    }

    /// How old what is in force may be: of all kinds the oldest.
    pub fn age(&self) -> Option<Duration> {
        let oldest = self.failures().map(|failure| failure.since).chain(self.last_word).min();
        oldest.map(|since| since.elapsed())
    }

    fn failures(&self) -> impl Iterator<Item = &Failure> {
        let now = Instant::now();
        self.kinds
            .values()
            .filter_map(|kind| kind.failure.as_ref())
            .filter(move |failure| failure.until > now)
    }
}

impl HeardOfKind {
    /// Notes that the kind is not followed, and will be tried again after this time.
    pub(crate) fn fail(&mut self, reason: String, retry: Duration) {
        let now = Instant::now();
        let going_on = self.failure.as_ref().filter(|failure| failure.until > now);
        let since = going_on.map_or(now, |failure| failure.since);
        self.failure = Some(Failure { reason, since, until: now + retry + GRACE });
    }
}

impl Liveness {
    /// What was heard until now; nothing of a source without a server.
    pub fn heard(&self) -> Option<Heard> {
        self.lock().clone()
    }

    /// Notes that the source follows a server.
    pub(crate) fn follow(&self, server: &str) {
        *self.lock() = Some(Heard { server: server.to_owned(), ..Heard::default() });
    }

    /// Notes that the server has said something.
    pub(crate) fn note_word(&self) {
        self.change(|heard| {
            heard.last_word = Some(Instant::now());
            heard.silence = None;
        });
    }

    /// Notes what was heard of a kind.
    pub(crate) fn note_kind(&self, kind: Kind, note: impl FnOnce(&mut HeardOfKind)) {
        self.change(|heard| note(heard.kinds.entry(kind).or_default()));
    }

    /// Changes whatever was heard.
    pub(crate) fn change(&self, change: impl FnOnce(&mut Heard)) {
        if let Some(heard) = &mut *self.lock() {
            change(heard);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Heard>> {
        // Each change is whole in itself.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
