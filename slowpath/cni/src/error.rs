//! How the plugin says no.

use crate::arguments::{BadVariable, Verb};
use crate::version::{UnknownVersion, Version};
use millrace_api::{AttachmentId, ClientError, ErrorCode};
use serde::Serialize;
use std::io;
use std::path::PathBuf;
use thiserror::Error;

/// Why a call failed. [`CniError::code`] is what runtimes look at.
#[derive(Debug, Error)]
pub enum CniError {
    /// The configuration's version is not spoken here.
    #[error(transparent)]
    Version(#[from] UnknownVersion),
    /// The configuration's version does not have the verb.
    #[error("version {version} of CNI has no {verb}")]
    VerbTooNew {
        /// The verb.
        verb: Verb,
        /// The version.
        version: Version,
    },
    /// The configuration asks for something that is not done here.
    #[error("`{key}: {value}`: {reason}")]
    UnsupportedField {
        /// The field.
        key: String,
        /// Its value as JSON.
        value: String,
        /// Why not.
        reason: &'static str,
    },
    /// There is no such attachment.
    #[error("there is no attachment {0}")]
    UnknownContainer(AttachmentId),
    /// Environment variables are missing or wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Environment(Vec<BadVariable>),
    /// Standard input cannot be read.
    #[error("cannot read the network configuration from standard input: {0}")]
    Input(io::Error),
    /// A deletion could be told to nobody and kept nowhere.
    #[error("{daemon}; and the deletion cannot be kept in {}: {source}", path.display())]
    Queue {
        /// Why the daemon could not be told.
        daemon: String,
        /// Where it should be kept.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A delegated plugin could not be run.
    #[error("cannot run the plugin {}: {source}", path.display())]
    Run {
        /// Its file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// Standard input is not JSON.
    #[error("the network configuration is not JSON: {0}")]
    Json(serde_json::Error),
    /// A result cannot be written as JSON.
    #[error("the answer cannot be written as JSON: {0}")]
    Output(serde_json::Error),
    /// Standard input is larger than is read.
    #[error("the network configuration has more than {0} bytes")]
    InputTooLarge(u64),
    /// A field of the configuration is wrong.
    #[error("{field}: {reason}")]
    Config {
        /// The field, with the ones that it lies in.
        field: String,
        /// What is wrong, with the value.
        reason: String,
    },
    /// The daemon is not there, or not yet ready.
    #[error("{0}")]
    NotNow(ClientError),
    /// New containers cannot be attached.
    #[error("{0}")]
    NotReady(String),
    /// New containers cannot be attached, and existing ones may have no network.
    #[error("{0}")]
    Down(ClientError),
    /// The daemon refused, or was not understood.
    #[error("{0}")]
    Daemon(ClientError),
    /// The container has an interface of this name already.
    #[error("{0}: the container has this interface already")]
    Exists(AttachmentId),
    /// The attachment is not as it should be.
    #[error("{id}: {reason}")]
    Differs {
        /// The attachment.
        id: AttachmentId,
        /// In what.
        reason: String,
    },
    /// A delegated plugin failed.
    #[error("{plugin}: {}", .object.text())]
    Delegated {
        /// Its name.
        plugin: String,
        /// What it said.
        object: ErrorObject,
    },
    /// Several things failed.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Several(Vec<CniError>),
}

/// Codes of our own; the specification leaves us those from 100.
pub(crate) mod own_code {
    /// The daemon could not do it.
    pub(crate) const FAILED: u32 = 100;
    /// Something else is in its place.
    pub(crate) const CONFLICT: u32 = 101;
    /// `CHECK` has found a difference.
    pub(crate) const DIFFERS: u32 = 102;
    /// A delegated plugin failed without a code.
    pub(crate) const DELEGATED: u32 = 103;
}

impl CniError {
    /// A field of the configuration that is wrong.
    pub(crate) fn config(field: impl Into<String>, reason: impl ToString) -> Self {
        CniError::Config { field: field.into(), reason: reason.to_string() }
    }

    /// The code of the specification (section 5, "Error"), or one of our own from 100.
    pub fn code(&self) -> u32 {
        match self {
            CniError::Version(_) | CniError::VerbTooNew { .. } => 1,
            CniError::UnsupportedField { .. } => 2,
            CniError::UnknownContainer(_) => 3,
            CniError::Environment(_) => 4,
            CniError::Input(_) | CniError::Queue { .. } | CniError::Run { .. } => 5,
            CniError::Json(_) | CniError::Output(_) => 6,
            CniError::InputTooLarge(_) | CniError::Config { .. } => 7,
            CniError::NotNow(_) => 11,
            CniError::NotReady(_) => 50,
            CniError::Down(_) => 51,
            CniError::Daemon(error) => daemon_code(error),
            CniError::Exists(_) => own_code::CONFLICT,
            CniError::Differs { .. } => own_code::DIFFERS,
            CniError::Delegated { object, .. } => object.code,
            CniError::Several(errors) => errors.first().map_or(own_code::FAILED, CniError::code),
        }
    }

    /// The kind of the error in a few words. Names the field and value of code 2 and the variables of code 4, as the
    /// specification asks for.
    fn summary(&self) -> String {
        match self {
            CniError::Version(_) | CniError::VerbTooNew { .. } => "incompatible CNI version".to_owned(),
            CniError::UnsupportedField { key, value, .. } => format!("unsupported field {key}: {value}"),
            CniError::UnknownContainer(_) => "unknown container".to_owned(),
            CniError::Environment(variables) => {
                let names: Vec<_> = variables.iter().map(|variable| variable.name).collect();
                format!("invalid environment variables: {}", names.join(", "))
            }
            CniError::Input(_) | CniError::Queue { .. } | CniError::Run { .. } => "I/O failure".to_owned(),
            CniError::Json(_) | CniError::Output(_) => "decoding failure".to_owned(),
            CniError::InputTooLarge(_) | CniError::Config { .. } => {
                "invalid network configuration".to_owned()
            }
            CniError::NotNow(_) => "try again later".to_owned(),
            CniError::NotReady(_) | CniError::Down(_) => "plugin not available".to_owned(),
            CniError::Daemon(_) => "the daemon refused".to_owned(),
            CniError::Exists(_) => "interface exists".to_owned(),
            CniError::Differs { .. } => "attachment is not as expected".to_owned(),
            CniError::Delegated { plugin, object } => format!("plugin {plugin}: {}", object.msg),
            CniError::Several(errors) => errors.first().map_or_else(String::new, CniError::summary),
        }
    }

    /// As it goes to standard output.
    pub fn to_object(&self, version: Version) -> ErrorObject {
        let details = match self {
            CniError::Delegated { object, .. } => object.details.clone(),
            _ => self.to_string(),
        };
        ErrorObject { cni_version: version.to_string(), code: self.code(), msg: self.summary(), details }
    }
}

fn daemon_code(error: &ClientError) -> u32 {
    match error {
        ClientError::Refused { refusal, .. } => match refusal.code {
            ErrorCode::Invalid | ErrorCode::TooLarge => 7,
            ErrorCode::Conflict => own_code::CONFLICT,
            ErrorCode::Unavailable => 11,
            _ => own_code::FAILED,
        },
        ClientError::Unreachable { .. } | ClientError::Http { .. } => 5,
        ClientError::Body { .. } => 6,
    }
}

/// An error as runtimes read it.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorObject {
    /// The version of the configuration.
    pub cni_version: String,
    /// The code.
    pub code: u32,
    /// In short.
    pub msg: String,
    /// In full.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub details: String,
}

impl ErrorObject {
    fn text(&self) -> String {
        if self.details.is_empty() { self.msg.clone() } else { format!("{}: {}", self.msg, self.details) }
    }
}
