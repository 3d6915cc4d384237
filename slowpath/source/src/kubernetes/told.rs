//! What has been told of one kind, so that only differences are. Pure: it knows no connection.

use super::wire::Read;
use crate::change::{Change, Problem};
use millrace_model::{Kind, Object, ObjectName};
use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};
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
    pub(super) fn apply(&mut self, read: Read) -> Option<Change> {
        let Read { name, object } = read;
        if let Some(listed) = &mut self.listed {
            listed.insert(name.clone());
        }
        match object {
            Ok(object) => {
                self.settle(&name);
                let print = fingerprint(&object);
                let is_news = self.objects.insert(name, print) != Some(print);
                is_news.then_some(Change::Apply(object))
            }
            Err(error) => {
                self.reject(name, error.to_string());
                None
            }
        }
    }

    /// An object is gone.
    pub(super) fn delete(&mut self, name: ObjectName) -> Option<Change> {
        self.settle(&name);
        self.objects.remove(&name).map(|_| Change::Delete(self.kind, name))
    }

    /// The list is complete: what it did not have is gone.
    pub(super) fn end_list(&mut self) -> Vec<Change> {
        self.complete = true;
        let Some(listed) = self.listed.take() else { return Vec::new() };
        let known = self.objects.keys().chain(self.problems.keys());
        let gone: BTreeSet<ObjectName> = known.filter(|name| !listed.contains(name)).cloned().collect();
        gone.into_iter().filter_map(|name| self.delete(name)).collect()
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

    fn reject(&mut self, name: ObjectName, reason: String) {
        let object = Some(format!("{} {name}", self.kind));
        let problem = Problem { file: self.server.clone(), document: None, object, reason };
        if self.problems.get(&name) != Some(&problem) {
            tracing::warn!(%problem, "object not used");
            self.has_other_problems = true;
            self.problems.insert(name, problem);
        }
    }
}

/// A number that differs when objects differ in anything that tables may depend on.
fn fingerprint(object: &Object) -> u64 {
    let mut hasher = DefaultHasher::new();
    object.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Event, event};
    use super::*;
    use serde_json::{Value, json};

    fn namespace(name: &str, label: &str) -> Value {
        json!({"metadata": {"name": name, "labels": {"is": label}, "resourceVersion": label.len().to_string()}})
    }

    fn read(object: &Value) -> Read {
        let line = json!({"type": "ADDED", "object": object}).to_string();
        let Ok(Event::Applied(read, _)) = event(Kind::Namespace, line.as_bytes()) else { panic!("{line}") };
        read
    }

    fn told() -> Told {
        Told::new(Kind::Namespace, "https://192.0.2.1:6443")
    }

    #[test]
    fn only_what_differs_is_told_again() {
        let mut told = told();
        assert!(told.apply(read(&namespace("a", "x"))).is_some());
        assert!(told.apply(read(&namespace("a", "x"))).is_none());
        let mut newer = namespace("a", "x");
        newer["metadata"]["resourceVersion"] = json!("77");
        assert!(told.apply(read(&newer)).is_none(), "a version alone is no difference");
        assert!(told.apply(read(&namespace("a", "y"))).is_some());
    }

    #[test]
    fn a_list_deletes_what_it_lacks_only_once_it_is_complete() {
        let mut told = told();
        told.begin_list();
        for name in ["a", "b", "c"] {
            told.apply(read(&namespace(name, "x")));
        }
        assert!(!told.is_complete() && told.end_list().is_empty() && told.is_complete());
        told.begin_list();
        assert!(told.apply(read(&namespace("b", "x"))).is_none());
        // It broke off; the next one is whole.
        told.begin_list();
        for name in ["a", "c"] {
            assert!(told.apply(read(&namespace(name, "x"))).is_none());
        }
        assert_eq!(told.end_list(), [Change::Delete(Kind::Namespace, ObjectName::cluster_wide("b"))]);
        assert_eq!(told.len(), 2);
    }

    #[test]
    fn a_bad_object_is_reported_and_its_last_good_state_stays_until_it_is_gone() {
        let mut told = told();
        told.apply(read(&namespace("a", "x")));
        let mut bad = namespace("a", "x");
        bad["metadata"]["labels"] = json!({"is": 7});
        assert!(told.apply(read(&bad)).is_none());
        let problem = told.problems().next().unwrap().to_string();
        assert!(
            problem.contains("192.0.2.1") && problem.contains("Namespace a") && problem.contains("labels"),
            "{problem}"
        );
        assert_eq!(told.len(), 1);
        assert!(told.take_other_problems());
        assert!(told.apply(read(&bad)).is_none() && !told.take_other_problems(), "the same is no news");
        assert!(told.delete(ObjectName::cluster_wide("a")).is_some());
        assert_eq!((told.len(), told.problems().count()), (0, 0));
        assert!(told.take_other_problems());
    }
}
