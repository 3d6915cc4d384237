//! What has been told of one kind, so that only differences are. Pure: it knows no connection.

use crate::change::{Change, Problem};
use crate::manifest::{self, Rejected};
use millrace_model::{Kind, Object, ObjectName};
use serde_json::Value;
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::hash::Hasher;
use std::path::PathBuf;

/// The objects of one kind that were told. A list that is not complete deletes nothing.
#[derive(Debug)]
pub(super) struct Told {
    kind: Kind,
    server: PathBuf,
    /// Names, and what the objects were like.
    objects: BTreeMap<ObjectName, u64>,
    /// Those that could not be used. What was told of them before stays in force.
    problems: BTreeMap<ObjectName, Problem>,
    /// Whether those are other ones than when somebody last asked.
    has_other_problems: bool,
    /// The names that the list has had until now, while one comes.
    listed: Option<BTreeSet<ObjectName>>,
    complete: bool,
}

impl Told {
    /// Nothing was told; problems are said to be of `server`.
    pub(super) fn new(kind: Kind, server: &str) -> Self {
        let (objects, problems) = (BTreeMap::new(), BTreeMap::new());
        let (listed, complete, has_other_problems) = (None, false, false);
        Told { kind, server: server.into(), objects, problems, has_other_problems, listed, complete }
    }

    /// A list begins.
    pub(super) fn begin_list(&mut self) {
        self.listed = Some(BTreeSet::new());
    }

    /// An object is there as it is now: by a list that has begun, or since.
    pub(super) fn apply(&mut self, document: Value) -> Option<Change> {
        let name = name_of(&document);
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        match manifest::read_object(document) {
            Ok(object) if object.kind() == self.kind && *object.name() == name => {
                self.settle(&name);
                let print = fingerprint(&object);
                let is_news = self.objects.insert(name, print) != Some(print);
                is_news.then(|| Change::Apply(Box::new(object)))
            }
            Ok(object) => {
                let reason = format!("is {} {} in a list of {}s", object.kind(), object.name(), self.kind);
                self.reject(name, None, reason);
                None
            }
            Err(Rejected { object, error, .. }) => {
                self.reject(name, object, error.to_string());
                None
            }
        }
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, document: &Value) -> Option<Change> {
        self.forget(name_of(document))
    }

    /// The list is complete: what it did not have is gone.
    pub(super) fn end_list(&mut self) -> Vec<Change> {
        self.complete = true;
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let known = self.objects.keys().chain(self.problems.keys());
        let gone: BTreeSet<ObjectName> = known.filter(|name| !listed.contains(name)).cloned().collect();
        gone.into_iter().filter_map(|name| self.forget(name)).collect()
    }

    /// What they are.
    pub(super) fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether a whole list has been told.
    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// How many objects are in force.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// The objects that cannot be used.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.problems.values()
    }

    /// Whether the problems are other ones than the last time that this was asked.
    pub(super) fn take_other_problems(&mut self) -> bool {
        std::mem::take(&mut self.has_other_problems)
    }

    /// An object is no problem any more.
    fn settle(&mut self, name: &ObjectName) {
        self.has_other_problems |= self.problems.remove(name).is_some();
    }

    fn forget(&mut self, name: ObjectName) -> Option<Change> {
        self.settle(&name);
        self.objects.remove(&name).map(|_| Change::Delete(self.kind, name))
    }

    fn reject(&mut self, name: ObjectName, object: Option<String>, reason: String) {
        let object = Some(object.unwrap_or_else(|| format!("{} {name}", self.kind)));
        let problem = Problem { file: self.server.clone(), document: None, object, reason };
        if self.problems.get(&name) != Some(&problem) {
            tracing::warn!(%problem, "object not used");
            self.has_other_problems = true;
            self.problems.insert(name, problem);
        }
    }
}

/// The name as the server has it, whatever else is wrong with the object.
fn name_of(document: &Value) -> ObjectName {
    let text = |field: &str| document["metadata"][field].as_str().unwrap_or_default();
    ObjectName::new(text("namespace"), text("name"))
}

/// A number that differs when objects differ in anything that the model takes from them.
fn fingerprint(object: &Object) -> u64 {
    struct Hashing(DefaultHasher);
    impl Write for Hashing {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut hashing = Hashing(DefaultHasher::new());
    // It only fails where writing does.
    let _ = write!(hashing, "{object:?}");
    hashing.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn namespace(name: &str, label: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": {"is": label},
            "resourceVersion": label.len().to_string()}})
    }

    fn told() -> Told {
        Told::new(Kind::Namespace, "https://192.0.2.1:6443")
    }

    #[test]
    fn only_what_differs_is_told_again() {
        let mut told = told();
        assert!(told.apply(namespace("a", "x")).is_some());
        assert!(told.apply(namespace("a", "x")).is_none());
        let mut newer = namespace("a", "x");
        newer["metadata"]["resourceVersion"] = json!("77");
        assert!(told.apply(newer).is_none(), "a version alone is no difference");
        assert!(told.apply(namespace("a", "y")).is_some());
    }

    #[test]
    fn a_list_deletes_what_it_lacks_only_once_it_is_complete() {
        let mut told = told();
        told.begin_list();
        for name in ["a", "b", "c"] {
            told.apply(namespace(name, "x"));
        }
        assert!(!told.is_complete() && told.end_list().is_empty() && told.is_complete());
        told.begin_list();
        assert!(told.apply(namespace("b", "x")).is_none());
        // It broke off; the next one is whole.
        told.begin_list();
        for name in ["a", "c"] {
            assert!(told.apply(namespace(name, "x")).is_none());
        }
        assert_eq!(told.end_list(), [Change::Delete(Kind::Namespace, ObjectName::cluster_wide("b"))]);
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn a_bad_object_is_reported_and_its_last_good_state_stays_until_it_is_gone() {
        let mut told = told();
        told.apply(namespace("a", "x"));
        let mut bad = namespace("a", "x");
        bad["metadata"]["labels"] = json!({"is": 7});
        assert!(told.apply(bad.clone()).is_none());
        let problem = told.problems().next().unwrap().to_string();
        assert!(
            problem.contains("192.0.2.1") && problem.contains("Namespace a") && problem.contains("labels"),
            "{problem}"
        );
        assert_eq!(told.len(), 1);
        assert!(told.take_other_problems());
        assert!(told.apply(bad.clone()).is_none() && !told.take_other_problems(), "the same is no news");
        assert!(told.delete(&bad).is_some());
        assert_eq!((told.len(), told.problems().count()), (0, 0));
        assert!(told.take_other_problems());
    }
}
