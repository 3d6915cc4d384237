//! Attachments: ports that a container runtime asks for, and that outlive this process.
//!
//! An attachment is written down before anything of it is made, and forgotten after everything is removed: whenever the
//! process ends, the next one finds in the store what may be there. It adopts what is whole, and removes what is not.
//! `ipam` gives addresses, `store` keeps files, `attach` and `detach` make and remove, `adopt` goes on after a restart,
//! `collect` removes what nobody wants any more, `bandwidth` limits rates, `vhost_user` makes the files that an application finds its socket by.

mod adopt;
mod attach;
mod bandwidth;
mod collect;
mod detach;
mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod ipam;
mod read;
mod store;
pub(crate) mod vhost_user;
mod wish;

pub use detach::{Departure, Leaving, Left};
pub use error::AttachError;
pub use ipam::{Family, IpamError};
pub use store::StoreError;

use ipam::Ipam;
use millrace_api::{AttachmentId, ObjectError, PodIdentity, Route};
use millrace_config::{InterfaceName, InvalidValue, PortName, fnv1a};
use millrace_model::HostPort;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use store::{Store, Stored};

/// What is different with the port of an attachment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lasting {
    /// The container and its interface.
    pub id: AttachmentId,
    /// Name of its network.
    pub network: String,
    /// Its pod, if that is known.
    pub pod: Option<PodIdentity>,
    /// The name of the node's end, for kinds that have one.
    pub host_end: InterfaceName,
    /// The routes that it is to have; absent: to everything.
    pub routes: Option<Vec<Route>>,
    /// Who is to own a vhost-user socket; absent: root.
    pub uid: Option<u32>,
    /// Ports of the node that lead to it.
    pub host_ports: Vec<HostPort>,
    /// Whether what the pod has is there already.
    pub adopted: bool,
}

/// All attachments, on disk and here.
#[derive(Debug)]
pub struct Attachments {
    state_directory: PathBuf,
    store: Store,
    ipam: Ipam,
    entries: BTreeMap<AttachmentId, Stored>,
    /// Those whose removal has begun.
    leaving: BTreeSet<AttachmentId>,
    /// Whether those of an earlier run are adopted.
    adopted: bool,
    /// Those that have no port, with the reason.
    lost: BTreeMap<AttachmentId, String>,
    /// Those whose annotated limits cannot be read, with the reason.
    unlimited: BTreeMap<AttachmentId, String>,
    /// Files that could not be read.
    damaged: Vec<ObjectError>,
}

impl Attachments {
    /// Those that an earlier instance has written down in `state_directory`. They are adopted later.
    pub fn open(state_directory: &Path) -> Result<Self, StoreError> {
        let store = Store::open(state_directory)?;
        let (stored, damaged) = store.read()?;
        let mut ipam = Ipam::new(&store.read_memory());
        for address in stored.iter().flat_map(|stored| &stored.attachment.addresses) {
            ipam.take(*address);
        }
        let damaged = damaged.into_iter().map(|file| {
            tracing::error!(file = %file.path.display(), reason = file.reason, "not an attachment, and put aside");
            ObjectError { file: file.path.display().to_string(), reason: file.reason, ..ObjectError::default() }
        });
        Ok(Attachments {
            state_directory: state_directory.to_owned(),
            ipam,
            damaged: damaged.collect(),
            entries: stored.into_iter().map(|stored| (stored.request.id.clone(), stored)).collect(),
            store,
            leaving: BTreeSet::new(),
            adopted: false,
            lost: BTreeMap::new(),
            unlimited: BTreeMap::new(),
        })
    }

    /// The attachment that a port belongs to.
    pub(crate) fn of_port(&self, port: &PortName) -> Option<&AttachmentId> {
        self.entries.iter().find(|(_, stored)| stored.attachment.port == *port).map(|(id, _)| id)
    }

    fn remember_addresses(&self) {
        if let Err(error) = self.store.write_memory(&self.ipam.memory()) {
            tracing::warn!(%error, "an address may be given again soon after it was given back");
        }
    }
}

/// Twelve digits that are always the same for the same container and interface (FNV-1a).
fn digits(id: &AttachmentId) -> String {
    // The interface's name cannot contain the separator.
    let hash = fnv1a(format!("{}/{}", id.if_name, id.container_id).as_bytes());
    format!("{:012x}", (hash >> 48) ^ (hash & 0xffff_ffff_ffff))
}

/// The name of an attachment's port.
fn port_name(id: &AttachmentId) -> Result<PortName, InvalidValue> {
    format!("c-{}", digits(id)).parse()
}

/// The name of the node's end of an attachment.
fn host_end(id: &AttachmentId) -> Result<InterfaceName, InvalidValue> {
    format!("mr{}", digits(id)).parse()
}
