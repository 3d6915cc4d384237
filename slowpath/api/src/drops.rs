//! Lost frames.

use serde::{Deserialize, Serialize};

/// Lost frames of the whole node.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct DropList {
    /// Every reason there is, also those without a frame.
    pub drops: Vec<DropCount>,
}

/// Frames lost for one reason.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DropCount {
    /// The reason's name.
    pub reason: String,
    /// What it means, in one sentence.
    pub meaning: String,
    /// Frames since the daemon started.
    pub frames: u64,
}
