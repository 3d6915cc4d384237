//! What came in since the last compilation: for those who watch how long a change takes.

use crate::model::Model;
use crate::object::{AddressFamily, EndpointSlice, Kind, ObjectName, Service};
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

    fn note(&mut self, service: ObjectName, family: AddressFamily, trigger: Option<SystemTime>) {
        self.slices += 1;
        if let Some(time) = trigger {
            self.triggers.entry(service).or_default().push((family, time));
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

    /// Applies a service and counts it.
    pub(crate) fn take_service(&mut self, service: Service) {
        self.seen.services += 1;
        self.incoming.services += u64::from(self.services.apply_service(service));
    }

    /// Applies a slice and counts it, if it is a service's.
    pub(crate) fn take_slice(&mut self, slice: EndpointSlice) {
        let (service, family, trigger) = (slice.service_name(), slice.family, slice.trigger_time);
        let changed = self.services.apply_slice(slice);
        let Some(service) = service else { return };
        self.seen.slices += 1;
        if changed {
            self.incoming.note(service, family, trigger);
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
