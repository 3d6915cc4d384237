//! Services and their slices.

use crate::object::{Endpoint, EndpointSlice, ObjectName, Service, ServicePort};
use millrace_fastpath::tables::Backend;
use std::collections::{BTreeMap, BTreeSet};

/// Services with their slices, and which of them changed.
#[derive(Debug, Default)]
pub(crate) struct ServiceIndex {
    pub(crate) services: BTreeMap<ObjectName, Service>,
    pub(crate) slices: BTreeMap<ObjectName, EndpointSlice>,
    /// Names of slices by service, also of services that are not there yet.
    by_service: BTreeMap<ObjectName, BTreeSet<ObjectName>>,
    pub(crate) dirty: BTreeSet<ObjectName>,
}

impl ServiceIndex {
    /// False when nothing is new.
    pub(crate) fn apply_service(&mut self, service: Service) -> bool {
        let name = service.name.clone();
        let changed = self.services.get(&name) != Some(&service);
        if changed {
            self.services.insert(name.clone(), service);
            self.dirty.insert(name);
        }
        changed
    }

    pub(crate) fn delete_service(&mut self, name: &ObjectName) {
        if self.services.remove(name).is_some() {
            self.dirty.insert(name.clone());
        }
    }

    /// False when nothing is new.
    pub(crate) fn apply_slice(&mut self, slice: EndpointSlice) -> bool {
        if self.slices.get(&slice.name) == Some(&slice) {
            return false;
        }
        // A slice may have moved from one service to another.
        self.delete_slice(&slice.name.clone());
        if let Some(service) = slice.labelled_service() {
            self.by_service.entry(service.clone()).or_default().insert(slice.name.clone());
            self.dirty.insert(service);
        }
        self.slices.insert(slice.name.clone(), slice);
        true
    }

    pub(crate) fn delete_slice(&mut self, name: &ObjectName) {
        let Some(service) = self.slices.remove(name).and_then(|slice| slice.labelled_service()) else {
            return;
        };
        if let Some(names) = self.by_service.get_mut(&service) {
            names.remove(name);
            if names.is_empty() {
                self.by_service.remove(&service);
            }
        }
        self.dirty.insert(service);
    }

    /// Some services are to be looked at again: this node has changed.
    pub(crate) fn touch(&mut self, is_touched: impl Fn(&Service) -> bool) {
        let touched = self.services.values().filter(|service| is_touched(service));
        self.dirty.extend(touched.map(|service| service.name.clone()));
    }

    /// The slices of a service that count, in the order of their names.
    pub(crate) fn slices_of(&self, service: &ObjectName) -> Vec<&EndpointSlice> {
        self.slices_naming(service).filter(|slice| !slice.headless).collect()
    }

    /// The slices that name a service, also those that do not count, in the order of their names.
    pub(crate) fn slices_naming(&self, service: &ObjectName) -> impl Iterator<Item = &EndpointSlice> {
        let names = self.by_service.get(service);
        names.into_iter().flatten().filter_map(|name| self.slices.get(name))
    }
}

/// An endpoint in a slice, with the port number that it has there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mention<'a> {
    pub(crate) backend: Backend,
    pub(crate) endpoint: &'a Endpoint,
    pub(crate) slice: &'a EndpointSlice,
}

/// All mentions of endpoints of a service port, slice by slice. Ports are matched by name and protocol.
pub(crate) fn mentions<'a>(
    slices: &[&'a EndpointSlice],
    port: &ServicePort,
) -> impl Iterator<Item = Mention<'a>> {
    slices.iter().flat_map(move |&slice| {
        slice.ports.iter().filter(move |candidate| candidate.serves(port)).flat_map(move |slice_port| {
            slice.endpoints.iter().map(move |endpoint| {
                let backend = Backend { address: endpoint.address.into(), port: slice_port.port };
                Mention { backend, endpoint, slice }
            })
        })
    })
}

/// The endpoints of a service port, both families, each once. Of several mentions the one with the highest
/// [rank](crate::Conditions::rank) counts, then the first slice by name.
pub(crate) fn counted<'a>(
    slices: &[&'a EndpointSlice],
    port: &ServicePort,
) -> BTreeMap<Backend, Mention<'a>> {
    let mut found: BTreeMap<Backend, Mention<'a>> = BTreeMap::new();
    for mention in mentions(slices, port) {
        let known = found.entry(mention.backend).or_insert(mention);
        if mention.endpoint.conditions.rank() > known.endpoint.conditions.rank() {
            *known = mention;
        }
    }
    found
}
