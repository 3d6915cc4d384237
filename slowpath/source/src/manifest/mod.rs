//! Manifests: YAML or JSON text to objects of the model.

mod endpoint_slice;
mod field;
mod metadata;
mod network_policy;
mod pod;
mod service;
mod topology;

pub(crate) use endpoint_slice::SliceManifest;
pub use field::FieldError;
pub(crate) use metadata::Metadata;
pub(crate) use network_policy::PolicyManifest;
pub(crate) use pod::PodManifest;
pub(crate) use service::ServiceManifest;
pub(crate) use topology::{NamespaceManifest, NodeManifest};

use millrace_model::Object;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;

/// What the documents of a text hold.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The objects, with the document that each is from.
    pub objects: Vec<(usize, Object)>,
    /// The documents and list items that could not be used.
    pub rejected: Vec<Rejected>,
}

/// A document that could not be used.
#[derive(Debug)]
pub struct Rejected {
    /// Which document, from 0. Empty documents do not count.
    pub document: usize,
    /// Kind and name, as far as they could be read.
    pub object: Option<String>,
    /// What is wrong.
    pub error: ManifestError,
}

/// Why a document could not be used.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// Something that no Kubernetes object is.
    #[error("{field} is missing or not text: not a Kubernetes object")]
    NotAnObject {
        /// What every object has.
        field: &'static str,
    },
    /// A kind that means nothing here.
    #[error("kind {kind} of {api_version} is not used and ignored")]
    UnknownKind {
        /// The kind.
        kind: String,
        /// The API version.
        api_version: String,
    },
    /// A field of the wrong type.
    #[error("{field}: {reason}")]
    Schema {
        /// Path of the field.
        field: String,
        /// What is wrong.
        reason: String,
    },
    /// A field with an illegal value.
    #[error(transparent)]
    Field(#[from] FieldError),
}

/// Text that is neither YAML nor JSON.
#[derive(Debug, Error)]
#[error("{0}")]
pub struct SyntaxError(String);

/// An object as a manifest or a server has it: the fields that are used, not yet checked.
pub(crate) trait Manifest: DeserializeOwned {
    /// What it says of itself.
    fn metadata(&self) -> &Metadata;

    /// The object of the model, if all of its fields are legal.
    fn convert(self) -> Result<Object, FieldError>;
}

/// Lists in lists beyond this are refused: no tool writes them.
const MAX_LIST_DEPTH: usize = 4;

/// Reads all documents of a text. Only syntax makes it fail as a whole.
pub fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let documents: Vec<Value> = match serde_json::from_str(text) {
        Ok(document) => vec![document],
        Err(_) => serde_saphyr::from_multiple(text)
            .map_err(|error| SyntaxError(error.without_snippet().to_string()))?,
    };
    let mut parsed = Parsed::default();
    for (index, document) in documents.into_iter().filter(|document| !document.is_null()).enumerate() {
        add_document(&mut parsed, index, document, 0);
    }
    Ok(parsed)
}

/// Reads one object that is in the form of JSON already, and says which field is wrong if its type is.
pub(crate) fn read<M: Manifest>(document: Value) -> Result<Object, ManifestError> {
    let typed: M = serde_path_to_error::deserialize(document).map_err(|error| ManifestError::Schema {
        field: error.path().to_string(),
        reason: error.into_inner().to_string(),
    })?;
    Ok(typed.convert()?)
}

fn read_object(document: Value) -> Result<Object, Rejected> {
    let object = describe(&document);
    object_of(document).map_err(|error| Rejected { document: 0, object, error })
}

fn add_document(parsed: &mut Parsed, index: usize, mut document: Value, depth: usize) {
    let is_list = document.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    if is_list
        && depth < MAX_LIST_DEPTH
        && let Some(Value::Array(items)) = document.get_mut("items").map(Value::take)
    {
        for item in items {
            add_document(parsed, index, item, depth + 1);
        }
        return;
    }
    match read_object(document) {
        Ok(object) => parsed.objects.push((index, object)),
        Err(rejected) => parsed.rejected.push(Rejected { document: index, ..rejected }),
    }
}

/// Kind and name for messages, whatever else is wrong.
fn describe(document: &Value) -> Option<String> {
    let kind = document.get("kind")?.as_str()?;
    let text = |field: &str| document.get("metadata")?.get(field)?.as_str();
    Some(match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) => format!("{kind} {name}"),
        _ => kind.to_owned(),
    })
}

fn object_of(document: Value) -> Result<Object, ManifestError> {
    let text = |field: &'static str| {
        let value = document.get(field).and_then(Value::as_str).map(str::to_owned);
        value.ok_or(ManifestError::NotAnObject { field })
    };
    let (api_version, kind) = (text("apiVersion")?, text("kind")?);
    match (api_version.as_str(), kind.as_str()) {
        ("v1", "Pod") => read::<PodManifest>(document),
        ("v1", "Service") => read::<ServiceManifest>(document),
        ("v1", "Node") => read::<NodeManifest>(document),
        ("v1", "Namespace") => read::<NamespaceManifest>(document),
        ("discovery.k8s.io/v1", "EndpointSlice") => read::<SliceManifest>(document),
        ("networking.k8s.io/v1", "NetworkPolicy") => read::<PolicyManifest>(document),
        _ => Err(ManifestError::UnknownKind { kind, api_version }),
    }
}

#[cfg(test)]
mod tests;
