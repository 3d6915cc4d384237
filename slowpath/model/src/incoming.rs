//! What came in since the last compilation: for those who watch how long a change takes.

use crate::model::Model;
use crate::object::{AddressFamily, EndpointSlice, Kind, Object, ObjectName};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// Changes that no compilation has taken in yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Incoming {
    /// Services that came, changed or went, each time counted.
    pub services: u64,
    /// EndpointSlices of services that came, changed or went, each time counted.
    pub slices: u64,
    /// When the changes of slices were triggered, by service.
    triggers: BTreeMap<ObjectName, Vec<(AddressFamily, SystemTime)>>,
}

/// Services and EndpointSlices that were applied or deleted since the start, whether that changed anything or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Seen {
    /// Services.
    pub services: u64,
    /// EndpointSlices of services.
    pub slices: u64,
}

impl Incoming {
    /// When what changed in the cluster did so: one time for each slice that changed by it.
    pub fn triggers(&self) -> impl Iterator<Item = (AddressFamily, SystemTime)> {
        self.triggers.values().flatten().copied()
    }

    fn note(&mut self, slice: &EndpointSlice) {
        self.slices += 1;
        if let (Some(service), Some(time)) = (slice.service_name(), slice.trigger_time) {
            self.triggers.entry(service).or_default().push((slice.family, time));
        }
    }
}

impl Model {
    /// What changed since the last time that this was asked.
    pub fn take_incoming(&mut self) -> Incoming {
        std::mem::take(&mut self.incoming)
    }

    /// What changed and was not taken yet.
    pub fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// All that came in so far.
    pub fn seen(&self) -> Seen {
        self.seen
    }

    /// Counts an object that is about to be applied.
    pub(crate) fn note_apply(&mut self, object: &Object) {
        match object {
            Object::Service(service) => {
                self.seen.services += 1;
                let changed = self.services.services.get(&service.name) != Some(service);
                self.incoming.services += u64::from(changed);
            }
            Object::EndpointSlice(slice) if slice.service_name().is_some() => {
                self.seen.slices += 1;
                if self.services.slices.get(&slice.name) != Some(slice) {
                    self.incoming.note(slice);
                }
            }
            _ => {}
        }
    }

    /// Counts an object that is about to be deleted. A slice that goes tells the time of its last change, not that of its
    /// end: nothing of its service is measured until the next change.
    pub(crate) fn note_delete(&mut self, kind: Kind, name: &ObjectName) {
        match kind {
            Kind::Service if self.services.services.contains_key(name) => {
                self.seen.services += 1;
                self.incoming.services += 1;
            }
            Kind::EndpointSlice => {
                let slice = self.services.slices.get(name);
                if let Some(service) = slice.and_then(EndpointSlice::service_name) {
                    self.seen.slices += 1;
                    self.incoming.slices += 1;
                    self.incoming.triggers.remove(&service);
                }
            }
            _ => {}
        }
    }
}
