//! `VERSION`: which versions of the specification are spoken here.

use crate::config::stated_version;
use crate::error::CniError;
use crate::version::Version;
use serde::Serialize;

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct VersionResult {
    cni_version: String,
    supported_versions: [Version; 4],
}

/// Answers in the version that the input states. No input at all is allowed: the Go library asks so.
pub(crate) fn version(input: &[u8]) -> Result<VersionResult, CniError> {
    let stated = if input.trim_ascii().is_empty() { None } else { stated_version(input)? };
    Ok(VersionResult {
        cni_version: stated.unwrap_or_else(|| Version::NEWEST.to_string()),
        supported_versions: Version::ALL,
    })
}
