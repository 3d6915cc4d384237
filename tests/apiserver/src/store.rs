//! What the server holds, and how it is to fail.

use crate::authority::Identity;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How the server is to fail.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// Requests for these resources (`pods`, …) get this HTTP status.
    pub refused: BTreeMap<String, u16>,
    /// Streaming lists are refused, as by a server that does not know them.
    pub no_streaming: bool,
    /// Bytes after which an answer to a watch breaks off.
    pub cut_after: Option<usize>,
    /// Milliseconds before each line of a watch.
    pub slow: u64,
    /// Nothing is sent on watches, though connections stay.
    pub mute: bool,
    /// Lists are answered with something that is not JSON.
    pub nonsense: bool,
    /// Resources whose streaming lists never come to their end.
    pub endless: BTreeSet<String>,
}

/// Whom the server knows.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Tokens; if absent, any will do.
    pub tokens: Option<BTreeSet<String>>,
    /// Clients' certificates.
    pub certificates: Vec<Identity>,
}

/// An object with its text, which is made once: who measures a client does not want to measure this.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) value: Value,
    pub(crate) text: String,
}

/// One change.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) resource: String,
    /// The object before, if there was one.
    pub(crate) before: Option<Arc<Stored>>,
    /// The object after, if there is one; else the one before with the version of its end.
    pub(crate) after: Result<Arc<Stored>, Arc<Stored>>,
}

#[derive(Debug, Default)]
struct Inner {
    version: u64,
    /// Versions up to this one are forgotten.
    compacted: u64,
    objects: BTreeMap<(String, String), Arc<Stored>>,
    log: Vec<Entry>,
    faults: Faults,
    known: Known,
    patches: Vec<(String, Value)>,
    requests: Vec<String>,
}

/// Objects, their history, and faults. Shared between tests and the server.
#[derive(Debug)]
pub struct Store {
    inner: Mutex<Inner>,
    changed: watch::Sender<u64>,
    /// Raised to end all connections.
    pub(crate) cuts: watch::Sender<u64>,
}

impl Default for Store {
    fn default() -> Self {
        let inner = Mutex::new(Inner { version: 1, ..Inner::default() });
        Store { inner, changed: watch::Sender::new(1), cuts: watch::Sender::new(0) }
    }
}

impl Store {
    /// Adds or replaces an object; its kind says where it belongs.
    pub fn apply(&self, object: Value) {
        self.apply_all([object]);
    }

    /// Adds or replaces objects, of which watches hear at once.
    pub fn apply_all(&self, objects: impl IntoIterator<Item = Value>) {
        let mut inner = self.lock();
        for object in objects {
            let key = place(&object);
            inner.version += 1;
            let version = inner.version;
            let object = stored(object, version);
            let before = inner.objects.insert(key.clone(), Arc::clone(&object));
            inner.log.push(Entry { version, resource: key.0, before, after: Ok(object) });
        }
        let version = inner.version;
        drop(inner);
        self.changed.send_replace(version);
    }

    /// Removes an object: that of this kind and name, as in `("Service", "demo/web")`.
    pub fn delete(&self, kind: &str, name: &str) {
        let mut inner = self.lock();
        let key = (resource_of(kind), name.to_owned());
        let Some(before) = inner.objects.remove(&key) else { return };
        inner.version += 1;
        let version = inner.version;
        let last = stored(before.value.clone(), version);
        inner.log.push(Entry { version, resource: key.0, before: Some(before), after: Err(last) });
        drop(inner);
        self.changed.send_replace(version);
    }

    /// Forgets all history: who comes with an older version is told that it is gone.
    pub fn compact(&self) {
        let mut inner = self.lock();
        inner.compacted = inner.version;
        inner.log.clear();
    }

    /// Ends all connections.
    pub fn cut(&self) {
        self.cuts.send_modify(|count| *count += 1);
    }

    /// Changes how the server fails.
    pub fn fail(&self, change: impl FnOnce(&mut Faults)) {
        change(&mut self.lock().faults);
    }

    /// Changes whom the server knows.
    pub fn know(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.lock().known);
    }

    /// An object as it is now: that of this kind and name.
    pub fn get(&self, kind: &str, name: &str) -> Option<Value> {
        self.lock().objects.get(&(resource_of(kind), name.to_owned())).map(|stored| stored.value.clone())
    }

    /// Patches that came, by path.
    pub fn patches(&self) -> Vec<(String, Value)> {
        self.lock().patches.clone()
    }

    /// Paths and queries of the requests that came.
    pub fn requests(&self) -> Vec<String> {
        self.lock().requests.clone()
    }

    pub(crate) fn note_request(&self, request: String) {
        self.lock().requests.push(request);
    }

    /// Whether one of these is known.
    pub(crate) fn knows(&self, token: Option<&str>, certificate: Option<&[u8]>) -> bool {
        let known = &self.lock().known;
        let token = token.is_some_and(|token| known.tokens.as_ref().is_none_or(|all| all.contains(token)));
        token || certificate.is_some_and(|shown| known.certificates.iter().any(|known| known.wire == shown))
    }

    pub(crate) fn note_patch(&self, path: String, patch: Value) {
        self.lock().patches.push((path, patch));
    }

    pub(crate) fn faults(&self) -> Faults {
        self.lock().faults.clone()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All objects of a resource, by name, and the version that they are of.
    pub(crate) fn list(&self, resource: &str) -> (u64, Vec<(String, Arc<Stored>)>) {
        let inner = self.lock();
        let of = inner.objects.range((resource.to_owned(), String::new())..);
        let objects = of.take_while(|((of, _), _)| of == resource);
        (inner.version, objects.map(|((_, name), object)| (name.clone(), Arc::clone(object))).collect())
    }

    /// What changed of a resource after a version; none if that is forgotten. And the version now.
    pub(crate) fn since(&self, resource: &str, version: u64) -> Option<(u64, Vec<Entry>)> {
        let inner = self.lock();
        if version < inner.compacted {
            return None;
        }
        let from = inner.log.partition_point(|entry| entry.version <= version);
        let entries = inner.log[from..].iter().filter(|entry| entry.resource == resource).cloned();
        Some((inner.version, entries.collect()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn stored(mut value: Value, version: u64) -> Arc<Stored> {
    value["metadata"]["resourceVersion"] = json!(version.to_string());
    let text = value.to_string();
    Arc::new(Stored { value, text })
}

fn place(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]));
    let full = if namespace.is_empty() { name } else { format!("{namespace}/{name}") };
    (resource_of(&text(&object["kind"])), full)
}

fn resource_of(kind: &str) -> String {
    match kind {
        "NetworkPolicy" => "networkpolicies".to_owned(),
        _ => format!("{}s", kind.to_lowercase()),
    }
}
