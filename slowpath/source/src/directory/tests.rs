use crate::{Change, DirectorySource, News, Problem};
use millrace_model::Object;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

fn namespace(name: &str, label: &str) -> String {
    format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {name}\n  labels: {{l: \"{label}\"}}\n---\n")
}

/// What a listener knows after all that it was told.
struct Listener {
    changes: Receiver<News>,
    objects: BTreeMap<String, String>,
    problems: Vec<Problem>,
    deletions: usize,
}

impl Listener {
    fn start(directory: &Path) -> (DirectorySource, Listener) {
        let (sender, changes) = mpsc::channel();
        let source = DirectorySource::try_new(directory, sender).unwrap();
        let mut listener = Listener { changes, objects: BTreeMap::new(), problems: vec![], deletions: 0 };
        while listener.take(Duration::from_secs(5)) != Some(Change::Synced) {}
        (source, listener)
    }

    fn take(&mut self, wait: Duration) -> Option<Change> {
        let change = self.changes.recv_timeout(wait).ok()?.change;
        match &change {
            Change::Apply(object) => {
                let Object::Namespace(namespace) = &**object else { panic!("{object:?}") };
                self.objects.insert(namespace.name.name.clone(), namespace.labels["l"].clone());
            }
            Change::Delete(_, name) => {
                self.deletions += 1;
                self.objects.remove(&name.name);
            }
            Change::Problems(problems) => self.problems.clone_from(problems),
            Change::Synced => {}
        }
        Some(change)
    }

    fn wait_for(&mut self, what: &str, reached: impl Fn(&Listener) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(4);
        while !reached(self) {
            assert!(Instant::now() < deadline, "{what}: {:?} {:?}", self.objects, self.problems);
            self.take(Duration::from_millis(20));
        }
    }

    fn has(&self, expected: &[(&str, &str)]) -> bool {
        self.objects.iter().map(|(name, label)| (name.as_str(), label.as_str())).eq(expected.iter().copied())
    }
}

#[test]
fn files_that_come_change_and_go_are_followed() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, namespace("a", "1")).unwrap();
    let (_source, mut listener) = Listener::start(directory.path());
    assert!(listener.has(&[("a", "1")]));
    fs::write(&file, namespace("a", "2") + &namespace("b", "1")).unwrap();
    listener.wait_for("a change", |now| now.has(&[("a", "2"), ("b", "1")]));
    let draft = directory.path().join(".a.yaml.swp");
    fs::write(&draft, namespace("a", "3")).unwrap();
    fs::rename(&draft, &file).unwrap();
    listener.wait_for("an editor's rename", |now| now.has(&[("a", "3")]));
    let below = directory.path().join("x/y");
    fs::create_dir_all(&below).unwrap();
    fs::write(
        below.join("c.json"),
        r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"c","labels":{"l":"1"}}}"#,
    )
    .unwrap();
    listener.wait_for("a file in a new directory", |now| now.has(&[("a", "3"), ("c", "1")]));
    fs::remove_file(&file).unwrap();
    fs::remove_dir_all(directory.path().join("x")).unwrap();
    listener.wait_for("a deletion", |now| now.has(&[]));
}

#[test]
fn a_file_that_does_not_parse_keeps_its_last_good_objects() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("a.yaml");
    fs::write(&file, namespace("a", "1")).unwrap();
    let (_source, mut listener) = Listener::start(directory.path());
    fs::write(&file, "apiVersion: [").unwrap();
    listener.wait_for("a report", |now| now.problems.iter().any(|problem| problem.file == file));
    assert!(listener.has(&[("a", "1")]));
    fs::write(&file, namespace("a", "2")).unwrap();
    listener.wait_for("the repair", |now| now.has(&[("a", "2")]) && now.problems.is_empty());
    assert_eq!(listener.deletions, 0);
}

#[test]
fn an_object_in_two_files_is_that_of_the_first_path() {
    let directory = tempfile::tempdir().unwrap();
    let (first, second) = (directory.path().join("1.yaml"), directory.path().join("2.yaml"));
    fs::write(&second, namespace("a", "second")).unwrap();
    let (_source, mut listener) = Listener::start(directory.path());
    fs::write(&first, namespace("a", "first")).unwrap();
    listener.wait_for("the first path", |now| now.has(&[("a", "first")]) && now.problems.len() == 1);
    assert!(listener.problems[0].to_string().contains("1.yaml"), "{}", listener.problems[0]);
    fs::remove_file(&first).unwrap();
    listener.wait_for("the heir", |now| now.has(&[("a", "second")]) && now.problems.is_empty());
    assert_eq!(listener.deletions, 0, "the object never was absent");
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let (sender, _changes) = mpsc::channel();
    let error = DirectorySource::try_new(Path::new("/nonexistent/manifests"), sender).unwrap_err();
    assert!(error.to_string().contains("/nonexistent/manifests"), "{error}");
}
