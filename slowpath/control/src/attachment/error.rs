//! Why an attachment could not be made, found or removed.

use super::ipam::IpamError;
use super::store::StoreError;
use crate::driver::Refusal;
use crate::port::PortError;
use millrace_api::{AttachmentId, ErrorCode, HostPort};
use millrace_config::InvalidValue;
use thiserror::Error;

/// Why an attachment could not be made, found or removed.
#[derive(Debug, Error)]
pub enum AttachError {
    /// The source's objects are not complete yet, and earlier attachments not adopted.
    #[error("the daemon is starting: it takes requests when the cluster's objects are known")]
    Starting,
    /// There is one already, and it is not what was asked for.
    #[error("{0} is attached already, with another request: delete it first")]
    Another(AttachmentId),
    /// It is being removed.
    #[error("{0} is being removed")]
    Leaving(AttachmentId),
    /// There is none.
    #[error("{0} is not attached")]
    Unknown(AttachmentId),
    /// It cannot be given an address.
    #[error("attaching {id}: {source}")]
    Address {
        /// What was to be attached.
        id: AttachmentId,
        /// Why.
        source: IpamError,
    },
    /// Somebody else is to have given addresses and has not.
    #[error("attaching {0}: addresses that somebody else gives were announced, and none is there")]
    NoAddress(AttachmentId),
    /// A value cannot be used.
    #[error("attaching {id}: {field}: {source}")]
    Value {
        /// What was to be attached.
        id: AttachmentId,
        /// Where the value is from.
        field: &'static str,
        /// What is wrong with it.
        source: InvalidValue,
    },
    /// The file is not a network namespace, or not there.
    #[error("attaching {id}: {netns} is not a network namespace")]
    Namespace {
        /// What was to be attached.
        id: AttachmentId,
        /// The file.
        netns: String,
    },
    /// An interface with default routes would be put beside the host's own.
    #[error("attaching {id}: {netns} is the daemon's own network namespace, not a container's")]
    OwnNamespace {
        /// What was to be attached.
        id: AttachmentId,
        /// The file.
        netns: String,
    },
    /// A protocol without ports is to have one.
    #[error("attaching {id}: hostPort {}: {} has no ports: tcp, udp and sctp have", .port.host_port, .port.protocol)]
    Protocol {
        /// What was to be attached.
        id: AttachmentId,
        /// The port.
        port: HostPort,
    },
    /// Another container has a port of the node.
    #[error("attaching {id}: hostPort {}/{} belongs to {owner}", .port.host_port, .port.protocol)]
    HostPort {
        /// What was to be attached.
        id: AttachmentId,
        /// The port.
        port: HostPort,
        /// Who has it.
        owner: AttachmentId,
    },
    /// A port of the node is wanted twice.
    #[error("attaching {id}: hostPort {}/{} is asked for twice", .port.host_port, .port.protocol)]
    SameHostPort {
        /// What was to be attached.
        id: AttachmentId,
        /// The port.
        port: HostPort,
    },
    /// The store cannot be written.
    #[error("{id}: {source}")]
    Store {
        /// The attachment.
        id: AttachmentId,
        /// Why.
        source: StoreError,
    },
    /// Its port cannot be made or removed.
    #[error("{id}: {source}")]
    Port {
        /// The attachment.
        id: AttachmentId,
        /// Why.
        source: Box<PortError>,
    },
    /// What an earlier instance left cannot be removed.
    #[error("{id}: removing it: {source}")]
    Removal {
        /// The attachment.
        id: AttachmentId,
        /// Why.
        source: Refusal,
    },
    /// It is not as it was made.
    #[error("{id}: {source}")]
    Differs {
        /// The attachment.
        id: AttachmentId,
        /// In what.
        source: Refusal,
    },
}

impl AttachError {
    /// The kind of refusal for the admin API.
    pub fn code(&self) -> ErrorCode {
        match self {
            AttachError::Starting | AttachError::Leaving(_) => ErrorCode::Unavailable,
            AttachError::Another(_) | AttachError::HostPort { .. } | AttachError::Differs { .. } => {
                ErrorCode::Conflict
            }
            AttachError::Unknown(_) => ErrorCode::NotFound,
            AttachError::Address { source, .. } => match source {
                IpamError::NoRange | IpamError::Exhausted { .. } => ErrorCode::Unavailable,
                IpamError::Taken(_) => ErrorCode::Conflict,
                IpamError::Outside { .. } | IpamError::Reserved(_) | IpamError::Several(..) => {
                    ErrorCode::Invalid
                }
            },
            AttachError::NoAddress(_)
            | AttachError::Value { .. }
            | AttachError::Namespace { .. }
            | AttachError::OwnNamespace { .. }
            | AttachError::Protocol { .. }
            | AttachError::SameHostPort { .. } => ErrorCode::Invalid,
            AttachError::Store { .. } | AttachError::Removal { .. } => ErrorCode::Failed,
            AttachError::Port { source, .. } => source.code(),
        }
    }
}
