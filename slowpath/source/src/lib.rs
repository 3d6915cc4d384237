//! Where the model's objects come from.
//!
//! [`manifest`] turns manifests into objects of the model: what it lets through is valid. [`DirectorySource`] watches
//! a directory of manifests, [`KubernetesSource`] a Kubernetes API server, and each tells what changes. A bad object or
//! file is reported and left out; it never stops the rest.

#![forbid(unsafe_code)]

mod change;
mod directory;
mod kubernetes;
mod liveness;
pub mod manifest;

pub use change::{Change, News, Problem};
pub use directory::{DirectorySource, SourceError};
pub use kubernetes::{Access, Announcer, KubernetesError, KubernetesSource, used_verbs};
pub use liveness::{Failure, Heard, HeardOfKind, Liveness};
