//! Removing an attachment.

use super::AttachError;
use super::attach::lasting;
use super::store::Stored;
use crate::control::Control;
use crate::plumbing::Site;
use crate::port::{Cleared, Remains};
use ipnet::IpNet;
use millrace_api::AttachmentId;
use millrace_fastpath::port::{Frame, PortId};

/// How far a removal has come.
pub enum Departure<F> {
    /// Nothing is left.
    Done,
    /// The slow part is to be done.
    Begun(Box<Leaving<F>>),
    /// Somebody else is at it.
    UnderWay,
}

/// An attachment that no packet reaches any more, and whose interface is there yet.
pub struct Leaving<F> {
    id: AttachmentId,
    remains: Remains<F>,
}

/// An attachment whose interface is gone, or the reason why not.
pub struct Left {
    id: AttachmentId,
    cleared: Cleared,
}

impl<F> Leaving<F> {
    /// Removes what the container and the node have of it. It may take the kernel some 20 ms.
    pub fn clear(self) -> Left {
        Left { id: self.id, cleared: self.remains.clear() }
    }
}

impl<F: Frame> Control<F> {
    /// Removes an attachment; that there is none is fine. When this returns without error nothing of it is left.
    pub fn detach(&mut self, id: &AttachmentId) -> Result<(), AttachError> {
        match self.begin_detach(id)? {
            Departure::Done => Ok(()),
            Departure::Begun(leaving) => self.end_detach(leaving.clear()),
            Departure::UnderWay => Err(AttachError::Leaving(id.clone())),
        }
    }

    /// Begins to remove an attachment: no packet goes to it or comes from it any more. What takes the kernel long is left
    /// to [`Leaving::clear`], for which any thread will do, and [`end_detach`](Self::end_detach) has to follow. Until then
    /// its addresses are taken and its file is there.
    pub fn begin_detach(&mut self, id: &AttachmentId) -> Result<Departure<F>, AttachError> {
        if self.attachments.leaving.contains(id) {
            return Ok(Departure::UnderWay);
        }
        let Some(stored) = self.attachments.entries.get(id).cloned() else { return Ok(Departure::Done) };
        let port = &stored.attachment.port;
        if self.ports.contains_key(port) {
            let failed = |source| AttachError::Port { id: id.clone(), source: Box::new(source) };
            let remains = self.begin_removal(port).map_err(failed)?;
            if remains.can_be_cleared_elsewhere() {
                self.attachments.leaving.insert(id.clone());
                return Ok(Departure::Begun(Box::new(Leaving { id: id.clone(), remains })));
            }
            self.clear_here(remains).map_err(failed)?;
        } else {
            // It was not adopted, or its removal has failed half-way.
            self.undo_unopened(&stored)?;
        }
        self.forget(&stored)?;
        Ok(Departure::Done)
    }

    /// Ends what [`begin_detach`](Self::begin_detach) has begun.
    pub fn end_detach(&mut self, left: Left) -> Result<(), AttachError> {
        let Left { id, cleared } = left;
        self.attachments.leaving.remove(&id);
        self.close(cleared)
            .map_err(|source| AttachError::Port { id: id.clone(), source: Box::new(source) })?;
        match self.attachments.entries.get(&id).cloned() {
            Some(stored) => self.forget(&stored),
            None => Ok(()),
        }
    }

    /// Forgets an attachment of which nothing is left.
    fn forget(&mut self, stored: &Stored) -> Result<(), AttachError> {
        let (id, port) = (&stored.request.id, &stored.attachment.port);
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
