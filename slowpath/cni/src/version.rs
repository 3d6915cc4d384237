//! Versions of the CNI specification.

use serde::Serialize;
use std::fmt;
use std::str::FromStr;
use thiserror::Error;

/// A version that this plugin speaks. Later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Version {
    /// 0.3.1: lists of interfaces and addresses, chains of plugins.
    V0_3_1,
    /// 0.4.0: `CHECK`.
    V0_4_0,
    /// 1.0.0: addresses no longer say their family.
    V1_0_0,
    /// 1.1.0: `GC` and `STATUS`; MTU, sockets and attributes of routes in the result.
    V1_1_0,
}

/// A version that this plugin does not speak.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("version `{0}` of CNI is not spoken here; these are: {list}", list = Version::ALL.map(Version::name).join(", "))]
pub struct UnknownVersion(pub String);

impl Version {
    /// All, the oldest first.
    pub const ALL: [Version; 4] = [Version::V0_3_1, Version::V0_4_0, Version::V1_0_0, Version::V1_1_0];
    /// The newest.
    pub const NEWEST: Version = Version::V1_1_0;

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }
}

impl FromStr for Version {
    type Err = UnknownVersion;
    fn from_str(text: &str) -> Result<Self, UnknownVersion> {
        Version::ALL
            .into_iter()
            .find(|version| version.name() == text)
            .ok_or_else(|| UnknownVersion(text.chars().take(40).collect()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

impl Serialize for Version {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}
