//! Names of services on the command line.

use millrace_api::path;
use std::str::FromStr;
use thiserror::Error;

/// The namespace of names that are written without one.
const DEFAULT_NAMESPACE: &str = "default";

/// A service: `namespace/name`, or `name` for one in namespace `default`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceName {
    namespace: String,
    name: String,
}

/// Text that names no service.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("`{0}` does not name a service: namespace/name, or name for one in namespace {DEFAULT_NAMESPACE}")]
pub struct NotAService(String);

impl ServiceName {
    /// Where the API has it.
    pub(crate) fn path(&self) -> String {
        path::service(&self.namespace, &self.name)
    }
}

impl FromStr for ServiceName {
    type Err = NotAService;
    fn from_str(text: &str) -> Result<Self, NotAService> {
        let (namespace, name) = text.split_once('/').unwrap_or((DEFAULT_NAMESPACE, text));
        // What else is legal is up to Kubernetes; `.` and `..` would be another path.
        let legal = |part: &str| !part.is_empty() && !part.contains('/') && part != "." && part != "..";
        match legal(namespace) && legal(name) {
            true => Ok(ServiceName { namespace: namespace.to_owned(), name: name.to_owned() }),
            false => Err(NotAService(text.to_owned())),
        }
    }
}
