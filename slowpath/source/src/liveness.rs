//! How a source that is somewhere else gets on, for status and metrics.

use millrace_model::Kind;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a source has heard of its server; shared between its thread and those who ask. A source without a server has
/// nothing to say here.
#[derive(Clone, Debug, Default)]
pub struct Liveness(Arc<Mutex<Option<Heard>>>);

/// What was heard of a server.
#[derive(Clone, Debug, Default)]
pub struct Heard {
    /// The server.
    pub server: String,
    /// Whether it answers.
    pub connected: bool,
    /// When it last said something.
    pub last_word: Option<Instant>,
    /// What went wrong last; none while all is well.
    pub last_error: Option<String>,
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
    /// Whether a whole list has come since the start.
    pub complete: bool,
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
            heard.connected = true;
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
