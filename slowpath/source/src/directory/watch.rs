//! The thread that watches.

use super::catalogue::Catalogue;
use super::scan::{self, Fingerprint};
use crate::change::{Change, News, Problem};
use notify::{RecursiveMode, Watcher};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use thiserror::Error;

/// An editor's save is several events: so long is waited for the next one, and for all together.
const QUIET: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(5);
/// Events can be lost: in a directory that is new, or when the kernel's queue is full.
const RESCAN: Duration = Duration::from_secs(5);

/// Why a directory cannot be watched.
#[derive(Debug, Error)]
pub enum SourceError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", directory.display())]
    Read {
        /// The directory.
        directory: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// It cannot be watched.
    #[error("{}: cannot be watched: {source}", directory.display())]
    Watch {
        /// The directory.
        directory: PathBuf,
        /// What the watcher said.
        source: notify::Error,
    },
    /// There is no thread for it.
    #[error("no thread to watch manifests: {0}")]
    Thread(std::io::Error),
}

enum Signal {
    Event(notify::Result<notify::Event>),
    Stop,
}

/// Watches a directory of manifests until it is dropped.
#[derive(Debug)]
pub struct DirectorySource {
    stop: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl DirectorySource {
    /// Starts to watch. What is there now is told first, then [`Change::Synced`], then what changes.
    /// It ends by itself when nobody listens any more.
    pub fn try_new(directory: &Path, changes: Sender<News>) -> Result<Self, SourceError> {
        let (stop, signals) = mpsc::channel();
        let events = stop.clone();
        let watch_error = |source| SourceError::Watch { directory: directory.to_owned(), source };
        scan::scan(directory)
            .map_err(|source| SourceError::Read { directory: directory.to_owned(), source })?;
        let mut watcher = notify::recommended_watcher(move |event| {
            // Nobody listens when the source is being dropped.
            let _ = events.send(Signal::Event(event));
        })
        .map_err(watch_error)?;
        // Watched before it is read: nothing can change unseen in between.
        watcher.watch(directory, RecursiveMode::Recursive).map_err(watch_error)?;
        let mut reader = Reader::new(directory.to_owned(), changes);
        let thread = std::thread::Builder::new()
            .name("manifests".to_owned())
            .spawn(move || {
                let _watcher = watcher;
                reader.run(&signals);
            })
            .map_err(SourceError::Thread)?;
        Ok(DirectorySource { stop, thread: Some(thread) })
    }
}

impl Drop for DirectorySource {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.stop.send(Signal::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Nobody listens any more.
struct Unheard;

struct Reader {
    directory: PathBuf,
    changes: Sender<News>,
    catalogue: Catalogue,
    fingerprints: BTreeMap<PathBuf, Fingerprint>,
    told: Vec<Problem>,
    /// When there was a reason to look last.
    heard: Instant,
}

impl Reader {
    fn new(directory: PathBuf, changes: Sender<News>) -> Self {
        Reader {
            directory,
            changes,
            catalogue: Catalogue::default(),
            fingerprints: BTreeMap::new(),
            told: Vec::new(),
            heard: Instant::now(),
        }
    }

    fn run(&mut self, signals: &Receiver<Signal>) {
        if self.rescan(&BTreeSet::new()).is_err() || self.tell(vec![Change::Synced]).is_err() {
            return;
        }
        while let Some((named, heard)) = next_batch(signals) {
            self.heard = heard;
            if self.rescan(&named).is_err() {
                return;
            }
        }
    }

    /// Brings the catalogue up to date. `named` are files that certainly changed, whatever they look like.
    fn rescan(&mut self, named: &BTreeSet<PathBuf>) -> Result<(), Unheard> {
        let found = match scan::scan(&self.directory) {
            Ok(found) => found,
            Err(error) => {
                // Objects stay: a directory that is away for a moment must not take the node's services with it.
                let reason = format!("cannot be read: {error}");
                let whole = Problem { file: self.directory.clone(), document: None, object: None, reason };
                return self.tell_problems(vec![whole]);
            }
        };
        let gone: Vec<PathBuf> =
            self.catalogue.paths().filter(|path| !found.contains_key(*path)).cloned().collect();
        // First what is new, so that an object which moves from file to file never is absent.
        for (path, fingerprint) in &found {
            if self.fingerprints.get(path) != Some(fingerprint) || named.contains(path) {
                let changes = self.catalogue.update(path, scan::read(path));
                self.tell(changes)?;
            }
        }
        for path in gone {
            let changes = self.catalogue.remove(&path);
            self.tell(changes)?;
        }
        self.fingerprints = found;
        self.tell_problems(self.catalogue.problems())
    }

    fn tell(&self, changes: Vec<Change>) -> Result<(), Unheard> {
        let tell = |change| self.changes.send(News { change, heard: self.heard }).map_err(|_| Unheard);
        changes.into_iter().try_for_each(tell)
    }

    fn tell_problems(&mut self, problems: Vec<Problem>) -> Result<(), Unheard> {
        if self.told == problems {
            return Ok(());
        }
        for problem in problems.iter().filter(|problem| !self.told.contains(problem)) {
            tracing::warn!(%problem, "manifest not used");
        }
        self.told.clone_from(&problems);
        self.tell(vec![Change::Problems(problems)])
    }
}

/// Waits for events and collects what belongs together: the files that they name, and when the first event came. `None` at
/// the end.
fn next_batch(signals: &Receiver<Signal>) -> Option<(BTreeSet<PathBuf>, Instant)> {
    let mut named = BTreeSet::new();
    let mut first: Option<Instant> = None;
    loop {
        let wait = match first {
            None => RESCAN,
            Some(first) => QUIET.min((first + LONGEST_WAIT).saturating_duration_since(Instant::now())),
        };
        match signals.recv_timeout(wait) {
            Ok(Signal::Event(Ok(event))) if event.kind.is_access() => {}
            Ok(Signal::Event(event)) => {
                first.get_or_insert_with(Instant::now);
                named.extend(event.into_iter().flat_map(|event| event.paths));
            }
            Ok(Signal::Stop) | Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => return Some((named, first.unwrap_or_else(Instant::now))),
        }
    }
}
