//! Which object is from which file. Pure: files are read elsewhere.

use crate::change::{Change, Problem};
use crate::manifest;
use millrace_model::{Kind, Object, ObjectName};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

type Key = (Kind, ObjectName);

/// The contents of all files. An object that several files define is that of the first path.
#[derive(Debug, Default)]
pub(super) struct Catalogue {
    files: BTreeMap<PathBuf, Contents>,
    owners: BTreeMap<Key, BTreeSet<PathBuf>>,
}

#[derive(Debug, Default)]
struct Contents {
    objects: BTreeMap<Key, (usize, Object)>,
    problems: Vec<Problem>,
}

impl Catalogue {
    /// Takes in a file's new text. A text that is no manifest keeps the file's last good objects.
    pub(super) fn update(&mut self, path: &Path, text: Result<String, String>) -> Vec<Change> {
        let parsed = text.and_then(|text| manifest::parse(&text).map_err(|error| error.to_string()));
        match parsed {
            Ok(parsed) => self.replace(path, contents(path, parsed)),
            Err(reason) => {
                let whole = Problem { file: path.to_owned(), document: None, object: None, reason };
                self.files.entry(path.to_owned()).or_default().problems = vec![whole];
                Vec::new()
            }
        }
    }

    /// Forgets a file.
    pub(super) fn remove(&mut self, path: &Path) -> Vec<Change> {
        let changes = self.replace(path, Contents::default());
        self.files.remove(path);
        changes
    }

    /// The files that are known.
    pub(super) fn paths(&self) -> impl Iterator<Item = &PathBuf> {
        self.files.keys()
    }

    /// Everything that is wrong now.
    pub(super) fn problems(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> =
            self.files.values().flat_map(|contents| contents.problems.iter().cloned()).collect();
        for (key, owners) in self.owners.iter().filter(|(_, owners)| owners.len() > 1) {
            for loser in owners.iter().skip(1) {
                let document =
                    self.files.get(loser).and_then(|file| file.objects.get(key)).map(|(at, _)| *at);
                let winner = owners.first().map(|path| path.display().to_string()).unwrap_or_default();
                problems.push(Problem {
                    file: loser.clone(),
                    document,
                    object: Some(format!("{} {}", key.0, key.1)),
                    reason: format!("already defined in {winner}, which counts"),
                });
            }
        }
        problems.sort();
        problems
    }

    fn replace(&mut self, path: &Path, contents: Contents) -> Vec<Change> {
        let touched: BTreeSet<Key> = self
            .files
            .get(path)
            .into_iter()
            .flat_map(|former| former.objects.keys())
            .chain(contents.objects.keys())
            .cloned()
            .collect();
        let before: Vec<Option<Object>> = touched.iter().map(|key| self.effective(key).cloned()).collect();
        for key in &touched {
            let owners = self.owners.entry(key.clone()).or_default();
            if contents.objects.contains_key(key) {
                owners.insert(path.to_owned());
            } else {
                owners.remove(path);
            }
            if owners.is_empty() {
                self.owners.remove(key);
            }
        }
        self.files.insert(path.to_owned(), contents);
        let mut changes = Vec::new();
        for (key, before) in touched.into_iter().zip(before) {
            match self.effective(&key) {
                Some(object) if Some(object) != before.as_ref() => {
                    changes.push(Change::Apply(Box::new(object.clone())));
                }
                None if before.is_some() => changes.push(Change::Delete(key.0, key.1)),
                _ => {}
            }
        }
        changes
    }

    fn effective(&self, key: &Key) -> Option<&Object> {
        let owner = self.owners.get(key)?.first()?;
        self.files.get(owner)?.objects.get(key).map(|(_, object)| object)
    }
}

fn contents(path: &Path, parsed: manifest::Parsed) -> Contents {
    let mut contents = Contents::default();
    let file = path.to_owned();
    for rejected in parsed.rejected {
        contents.problems.push(Problem {
            file: file.clone(),
            document: Some(rejected.document),
            object: rejected.object,
            reason: rejected.error.to_string(),
        });
    }
    for (document, object) in parsed.objects {
        let key = (object.kind(), object.name().clone());
        match contents.objects.entry(key) {
            Entry::Vacant(place) => {
                place.insert((document, object));
            }
            Entry::Occupied(place) => contents.problems.push(Problem {
                file: file.clone(),
                document: Some(document),
                object: Some(format!("{} {}", place.key().0, place.key().1)),
                reason: "already defined in an earlier document, which counts".to_owned(),
            }),
        }
    }
    contents
}
