//! A directory of manifests, watched for changes.

mod catalogue;
mod scan;
mod watch;

pub use watch::{DirectorySource, SourceError};

#[cfg(test)]
mod tests;
