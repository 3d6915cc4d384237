//! Removing an attachment.

use super::AttachError;
use super::attach::lasting;
use super::store::Stored;
use crate::control::Control;
use crate::plumbing::Site;
use ipnet::IpNet;
use millrace_api::AttachmentId;
use millrace_fastpath::port::{Frame, PortId};

impl<F: Frame> Control<F> {
    /// Removes an attachment; that there is none is fine. When this returns without error nothing of it is left.
    pub fn detach(&mut self, id: &AttachmentId) -> Result<(), AttachError> {
        let Some(stored) = self.attachments.entries.get(id).cloned() else { return Ok(()) };
        let port = &stored.attachment.port;
        match self.ports.contains_key(port) {
            true => self
                .remove_attached_port(port)
                .map_err(|source| AttachError::Port { id: id.clone(), source: Box::new(source) })?,
            // It was not adopted, or its removal has failed half-way.
            false => self.undo_unopened(&stored)?,
        }
        self.attachments
            .store
            .remove(port)
            .map_err(|source| AttachError::Store { id: id.clone(), source })?;
        self.attachments.entries.remove(id);
        self.attachments.lost.remove(id);
        self.attachments.unlimited.remove(id);
        for &address in &stored.attachment.addresses {
            self.attachments.ipam.give_back(address);
        }
        self.attachments.remember_addresses();
        tracing::info!(attachment = %id, %port, "detached");
        Ok(())
    }

    /// Removes from the host what an attachment has there without a port of this process.
    pub(super) fn undo_unopened(&mut self, stored: &Stored) -> Result<(), AttachError> {
        let config = self.port_config(stored)?;
        let addresses: Vec<IpNet> = config.addresses.iter().map(|prefix| prefix.net()).collect();
        let lasting = lasting(stored, false);
        let site = Site {
            // Only names of things that do not last are made from it.
            id: PortId(0),
            config: &config,
            addresses: &addresses,
            mtu: stored.attachment.mtu.get(),
            lasting: Some(&lasting),
            nic: None,
        };
        let id = || stored.request.id.clone();
        self.plumbing.undo(&site).map_err(|source| AttachError::Removal { id: id(), source })
    }
}
