//! What a server writes: the lines of a watch and the pages of a list.
//!
//! Objects are decoded from the text straight into the few fields that are used; all else is passed over. Only if that
//! fails is a text looked at once more as plain JSON, to find out what can be said of it: which object of the page is bad and
//! which of its fields. So a bad object costs itself alone, and a good one costs nothing for that.

use crate::manifest::{
    self, Manifest, ManifestError, Metadata, NamespaceManifest, NodeManifest, PodManifest, PolicyManifest,
    ServiceManifest, SliceManifest,
};
use millrace_model::{Kind, Object, ObjectName};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// An object that is there.
#[derive(Debug)]
pub(super) struct Read {
    /// The name that the server has, whatever else is wrong.
    pub(super) name: ObjectName,
    /// The object, if it can be used.
    pub(super) object: Result<Box<Object>, ManifestError>,
}

/// A line of a watch.
#[derive(Debug)]
pub(super) enum Event {
    /// An object is there as it is now, by the version given.
    Applied(Read, String),
    /// An object is gone, by the version given.
    Deleted(ObjectName, String),
    /// Nothing else happened until the version given; `ends_list` says that the list which the watch began with is complete.
    Bookmark { version: String, ends_list: bool },
    /// The watch cannot go on.
    Error { code: u16, message: String },
}

/// A page of a list.
#[derive(Debug)]
pub(super) struct Page {
    /// The version of the list.
    pub(super) version: String,
    /// What to ask for the next page with; empty if there is none.
    pub(super) next: String,
    pub(super) objects: Vec<Read>,
}

/// Reads a line of a watch of objects of a kind. Only a line that is no event at all fails.
pub(super) fn event(kind: Kind, line: &[u8]) -> Result<Event, serde_json::Error> {
    match kind {
        Kind::Pod => event_of::<PodManifest>(kind, line),
        Kind::Service => event_of::<ServiceManifest>(kind, line),
        Kind::EndpointSlice => event_of::<SliceManifest>(kind, line),
        Kind::Node => event_of::<NodeManifest>(kind, line),
        Kind::Namespace => event_of::<NamespaceManifest>(kind, line),
        Kind::NetworkPolicy => event_of::<PolicyManifest>(kind, line),
    }
}

/// Reads a page of a list of objects of a kind. Only a text that is no list at all fails.
pub(super) fn page(kind: Kind, text: &[u8]) -> Result<Page, serde_json::Error> {
    match kind {
        Kind::Pod => page_of::<PodManifest>(kind, text),
        Kind::Service => page_of::<ServiceManifest>(kind, text),
        Kind::EndpointSlice => page_of::<SliceManifest>(kind, text),
        Kind::Node => page_of::<NodeManifest>(kind, text),
        Kind::Namespace => page_of::<NamespaceManifest>(kind, text),
        Kind::NetworkPolicy => page_of::<PolicyManifest>(kind, text),
    }
}

#[derive(Deserialize)]
struct Line<T> {
    #[serde(rename = "type")]
    kind: LineKind,
    object: T,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
enum LineKind {
    Added,
    Modified,
    Deleted,
    Bookmark,
    Error,
}

fn event_of<M: Manifest>(kind: Kind, line: &[u8]) -> Result<Event, serde_json::Error> {
    match serde_json::from_slice::<Line<M>>(line) {
        Ok(Line { kind: LineKind::Error, .. }) | Err(_) => plain_event::<M>(kind, line),
        Ok(Line { kind, object }) => Ok(good_event(kind, object)),
    }
}

fn good_event<M: Manifest>(kind: LineKind, object: M) -> Event {
    let metadata: &Metadata = object.metadata();
    let version = metadata.version().to_owned();
    match kind {
        LineKind::Deleted => Event::Deleted(metadata.server_name(), version),
        LineKind::Bookmark => Event::Bookmark { version, ends_list: metadata.ends_list() },
        LineKind::Added | LineKind::Modified | LineKind::Error => Event::Applied(good(object), version),
    }
}

fn good<M: Manifest>(object: M) -> Read {
    let name = object.metadata().server_name();
    Read { name, object: object.convert().map(Box::new).map_err(ManifestError::from) }
}

/// An event of which something is not as it should be.
#[cold]
fn plain_event<M: Manifest>(kind: Kind, line: &[u8]) -> Result<Event, serde_json::Error> {
    let Line { kind: of, object } = serde_json::from_slice::<Line<Value>>(line)?;
    let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned();
    Ok(match of {
        LineKind::Added | LineKind::Modified => Event::Applied(plain::<M>(kind, object), version),
        LineKind::Deleted => Event::Deleted(name_of(&object), version),
        LineKind::Bookmark => {
            let annotations = &object["metadata"]["annotations"];
            Event::Bookmark { version, ends_list: annotations.get("k8s.io/initial-events-end").is_some() }
        }
        LineKind::Error => Event::Error {
            code: object["code"].as_u64().and_then(|code| code.try_into().ok()).unwrap_or_default(),
            message: text(&object["message"]),
        },
    })
}

#[derive(Deserialize)]
struct List<T> {
    metadata: Option<ListMetadata>,
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMetadata {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    next: Option<String>,
}

fn page_of<M: Manifest>(kind: Kind, text: &[u8]) -> Result<Page, serde_json::Error> {
    page_with::<M>(text, good).or_else(|_| page_with::<Value>(text, |item| plain::<M>(kind, item)))
}

fn page_with<T: DeserializeOwned>(text: &[u8], read: impl Fn(T) -> Read) -> Result<Page, serde_json::Error> {
    let list: List<T> = serde_json::from_slice(text)?;
    let metadata = list.metadata.unwrap_or_default();
    Ok(Page {
        version: metadata.resource_version.unwrap_or_default(),
        next: metadata.next.unwrap_or_default(),
        objects: list.items.into_iter().flatten().map(read).collect(),
    })
}

/// An object of a page or an event of which something is not as it should be: if it is this one, what.
fn plain<M: Manifest>(kind: Kind, object: Value) -> Read {
    let name = name_of(&object);
    let object = manifest::read::<M>(object).map(Box::new);
    if let Err(error) = &object {
        tracing::debug!(%kind, %name, %error, "not used");
    }
    Read { name, object }
}

/// The name as the server has it, whatever else is wrong with the object.
fn name_of(object: &Value) -> ObjectName {
    ObjectName::new(text(&object["metadata"]["namespace"]), text(&object["metadata"]["name"]))
}

/// What should be a text; anything else as JSON has it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(kind: Kind, line: &str) -> Read {
        let Event::Applied(read, _) = event(kind, line.as_bytes()).unwrap() else { panic!("{line}") };
        read
    }

    #[test]
    fn an_event_is_read_with_its_version() {
        let line = r#"{"type":"MODIFIED","object":{"apiVersion":"v1","kind":"Namespace","metadata":
            {"name":"a","resourceVersion":"7","labels":{"l":"x"},"managedFields":[{"manager":["any",{"thing":1}]}]}}}"#;
        let Event::Applied(read, version) = event(Kind::Namespace, line.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!((read.name, version.as_str()), (ObjectName::cluster_wide("a"), "7"));
        assert!(
            matches!(&*read.object.unwrap(), Object::Namespace(namespace) if namespace.labels["l"] == "x")
        );
        let line = r#"{"object":{"metadata":{"name":"a","resourceVersion":"8"}},"type":"DELETED"}"#;
        let Event::Deleted(name, version) = event(Kind::Namespace, line.as_bytes()).unwrap() else {
            panic!()
        };
        assert_eq!((name, version.as_str()), (ObjectName::cluster_wide("a"), "8"));
    }

    #[test]
    fn bookmarks_and_errors_are_told_apart() {
        let kinds =
            [Kind::Pod, Kind::Service, Kind::EndpointSlice, Kind::Node, Kind::Namespace, Kind::NetworkPolicy];
        for kind in kinds {
            let line = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9","annotations":
                {"k8s.io/initial-events-end":"true"}},"spec":{"containers":null},"endpoints":null,"status":{}}}"#;
            let found = event(kind, line.as_bytes()).unwrap();
            assert!(
                matches!(found, Event::Bookmark { version, ends_list: true } if version == "9"),
                "{kind}"
            );
            let line = r#"{"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"9"}}}"#;
            let found = event(kind, line.as_bytes()).unwrap();
            assert!(matches!(found, Event::Bookmark { ends_list: false, .. }), "{kind}");
            let line = r#"{"type":"ERROR","object":{"kind":"Status","apiVersion":"v1","metadata":{},
                "status":"Failure","message":"too old","reason":"Expired","code":410}}"#;
            let found = event(kind, line.as_bytes()).unwrap();
            assert!(matches!(found, Event::Error { code: 410, message } if message == "too old"), "{kind}");
        }
        for nonsense in ["", "{}", "[]", r#"{"type":"ADDED"}"#, r#"{"type":"OTHER","object":{}}"#, "<html>"] {
            assert!(event(Kind::Pod, nonsense.as_bytes()).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn a_wrong_type_anywhere_costs_the_object_and_is_named() {
        for (metadata, field) in [
            (r#""name":"a","labels":{"l":7}"#, "metadata.labels"),
            (r#""name":"a","labels":"none""#, "metadata.labels"),
            (r#""name":7"#, "metadata.name"),
            (r#""name":"a","resourceVersion":{}"#, "metadata.resourceVersion"),
        ] {
            let object = format!(r#"{{"metadata":{{"namespace":"demo",{metadata}}},"spec":{{}}}}"#);
            let read = applied(Kind::Service, &format!(r#"{{"type":"ADDED","object":{object}}}"#));
            let error = read.object.unwrap_err().to_string();
            assert!(error.contains(field), "{error}");
            let good = r#"{"metadata":{"name":"good","namespace":"demo"},"spec":{"clusterIP":"10.96.0.1"}}"#;
            let text =
                format!(r#"{{"metadata":{{"resourceVersion":"3"}},"items":[{good},{object},{good}]}}"#);
            let page = page(Kind::Service, text.as_bytes()).unwrap();
            assert_eq!((page.version.as_str(), page.next.as_str(), page.objects.len()), ("3", "", 3));
            assert_eq!(page.objects.iter().filter(|read| read.object.is_ok()).count(), 2);
            assert!(page.objects[1].object.as_ref().unwrap_err().to_string().contains(field));
            assert_eq!(page.objects[1].name, read.name);
        }
    }

    #[test]
    fn an_illegal_value_costs_the_object_and_is_named() {
        let read = applied(
            Kind::Service,
            r#"{"type":"ADDED","object":{"metadata":{"name":"a","namespace":"demo"},"spec":{"clusterIP":"10.0.0.300"}}}"#,
        );
        assert_eq!(read.name, ObjectName::new("demo", "a"));
        assert!(read.object.unwrap_err().to_string().contains("`10.0.0.300`"));
    }

    #[test]
    fn a_page_says_how_to_go_on() {
        let text = r#"{"kind":"NodeList","metadata":{"resourceVersion":"5","continue":"abc"},"items":null}"#;
        let page = page(Kind::Node, text.as_bytes()).unwrap();
        assert_eq!((page.version.as_str(), page.next.as_str(), page.objects.len()), ("5", "abc", 0));
        assert!(super::page(Kind::Node, b"<html>sorry</html>").is_err());
    }
}
