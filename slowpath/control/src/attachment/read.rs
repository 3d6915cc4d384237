//! What there is to say of attachments.

use super::{AttachError, Attachments, Family};
use crate::control::Control;
use millrace_api::{Attachment, AttachmentId, AttachmentList, AttachmentStatus, ObjectError};
use millrace_fastpath::port::{Frame, PortId};
use millrace_model::Transport;
use std::net::IpAddr;

impl<F: Frame> Control<F> {
    /// All attachments, by container and interface.
    pub fn list_attachments(&self) -> AttachmentList {
        let attachments = self.attachments.entries.values().map(|stored| stored.attachment.clone());
        AttachmentList { attachments: attachments.collect() }
    }

    /// One attachment, after a look whether the container has all of it.
    pub fn check_attachment(&mut self, id: &AttachmentId) -> Result<Attachment, AttachError> {
        let stored = self.attachments.entries.get(id).ok_or_else(|| AttachError::Unknown(id.clone()))?;
        let attachment = stored.attachment.clone();
        let differs = |source| AttachError::Differs { id: id.clone(), source };
        let Some(port) = self.ports.get(&attachment.port) else {
            let reason = self.attachments.lost.get(id).cloned();
            return Err(differs(reason.unwrap_or_else(|| "it has no port".to_owned()).into()));
        };
        self.plumbing.check(&port.site(), &attachment.routes).map_err(differs)?;
        Ok(attachment)
    }

    /// Whether attachments can be made, and how many.
    pub fn attachment_status(&self) -> AttachmentStatus {
        let attachments = &self.attachments;
        let mut ipam = attachments.ipam.clone();
        ipam.set_ranges(&self.address_ranges());
        AttachmentStatus {
            ready: attachments.adopted,
            reason: (!attachments.adopted).then(|| AttachError::Starting.to_string()),
            attachments: attachments.entries.len() as u64,
            ipv4_left: ipam.left(Family::V4),
            ipv6_left: ipam.left(Family::V6),
        }
    }

    /// Files that hold no attachment, attachments that could not be adopted or limited, and host ports that others have.
    pub(crate) fn attachment_errors(&self) -> impl Iterator<Item = ObjectError> {
        let Attachments { lost, unlimited, .. } = &self.attachments;
        let lost = lost.iter().chain(unlimited).map(|(id, reason)| ObjectError {
            file: self.attachments.state_directory.display().to_string(),
            object: Some(format!("attachment {id}")),
            reason: reason.clone(),
            ..ObjectError::default()
        });
        let said = |why: &'static str| {
            move |(id, address, port, protocol): (PortId, IpAddr, u16, Transport)| ObjectError {
                object: self.port_name(id).map(|name| format!("port {name}")),
                reason: format!("hostPort {port}/{protocol} at {address} {why}"),
                ..ObjectError::default()
            }
        };
        let conflicts = self.model.host_port_conflicts().into_iter();
        let conflicts = conflicts.map(said("belongs to a service or another pod"));
        let elsewhere = self.model.host_ports_elsewhere().into_iter();
        let elsewhere = elsewhere.map(said("answers nowhere: the node has no such address"));
        self.attachments.damaged.iter().cloned().chain(lost).chain(conflicts).chain(elsewhere)
    }
}
