//! What a container runtime's plugin asks the daemon.

use super::{Client, ClientError};
use crate::attachments::{
    Attachment, AttachmentId, AttachmentList, AttachmentRequest, GarbageList, GarbageRequest,
};
use crate::path;
use crate::status::Status;

impl Client {
    /// Makes an attachment, or gets the one that this request made before.
    pub fn attach(&self, request: &AttachmentRequest) -> Result<Attachment, ClientError> {
        self.post(path::ATTACHMENTS, request)
    }

    /// Removes an attachment. One that does not exist is none to complain about.
    pub fn detach(&self, id: &AttachmentId) -> Result<(), ClientError> {
        self.delete(&path::attachment(id))
    }

    /// An attachment, after the daemon has looked whether all of it is there: refused with
    /// [`ErrorCode::NotFound`](crate::ErrorCode::NotFound) if there is none, with
    /// [`ErrorCode::Conflict`](crate::ErrorCode::Conflict) if something of it is missing.
    pub fn attachment(&self, id: &AttachmentId) -> Result<Attachment, ClientError> {
        self.get(&path::attachment(id))
    }

    /// All attachments.
    pub fn attachments(&self) -> Result<AttachmentList, ClientError> {
        self.get(path::ATTACHMENTS)
    }

    /// Removes all attachments of a network that are not listed.
    pub fn collect_garbage(&self, request: &GarbageRequest) -> Result<GarbageList, ClientError> {
        self.post(path::ATTACHMENTS_GC, request)
    }

    /// The state of the daemon.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.get(path::STATUS)
    }
}
