//! How the daemon says no.

use serde::{Deserialize, Serialize};

/// The body of every answer that is not a success.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ErrorBody {
    /// The refusal.
    pub error: Refusal,
}

/// Why a request was refused.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// For machines.
    pub code: ErrorCode,
    /// For people; names the thing and the offending value.
    pub message: String,
}

/// The kind of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorCode {
    /// The request itself is wrong.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// It exists already, or something else is in its place.
    Conflict,
    /// The path knows no such method.
    MethodNotAllowed,
    /// The request is larger than is read.
    TooLarge,
    /// The daemon is starting, ending or out of something.
    Unavailable,
    /// The request was right and could not be done.
    Failed,
    /// A code of a later version.
    #[serde(other)]
    Unknown,
}

impl ErrorCode {
    /// The HTTP status that goes with it.
    pub const fn status(self) -> u16 {
        match self {
            ErrorCode::Invalid => 400,
            ErrorCode::NotFound => 404,
            ErrorCode::MethodNotAllowed => 405,
            ErrorCode::Conflict => 409,
            ErrorCode::TooLarge => 413,
            ErrorCode::Unavailable => 503,
            ErrorCode::Failed | ErrorCode::Unknown => 500,
        }
    }
}

impl ErrorBody {
    /// A refusal with a message for people.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        ErrorBody { error: Refusal { code, message: message.into() } }
    }
}
