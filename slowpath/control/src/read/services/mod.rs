//! Services.

mod explain;
mod live;

use crate::control::Control;
use millrace_api::{Service, ServiceList};
use millrace_fastpath::port::Frame;
use millrace_fastpath::tables::ServiceId;
use millrace_model::ObjectName;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl<F: Frame> Control<F> {
    /// All services with a frontend on this node, without what is live: bindings of clients, and flows.
    pub fn list_services(&self) -> ServiceList {
        ServiceList { services: self.model.services().map(explain::service).collect() }
    }

    /// One service with its clients and flows. If this node does not serve it, why; nothing if there is none.
    pub fn show_service(&self, namespace: &str, name: &str) -> Option<Service> {
        let name = ObjectName::new(namespace, name);
        let Some(view) = self.model.service(&name) else {
            return Some(explain::excluded(&name, &self.model.exclusion(&name)?));
        };
        let bindings = self.bindings(&view);
        let flows = self.flows_of(&view);
        let mut service = explain::service(view);
        for (port, bound) in service.ports.iter_mut().zip(bindings) {
            port.affinity = bound;
        }
        service.flows = Some(flows);
        Some(service)
    }

    pub(super) fn service_name(&self, service: ServiceId) -> Option<String> {
        self.model.service_name(service).map(|name| name.service.to_string())
    }

    /// Services, and endpoints of all service ports: from the tables, which is much less work than describing each.
    pub(super) fn count_services(&self) -> (usize, usize) {
        let frontends = || self.current.services.iter().map(|(_, frontend)| frontend);
        let names: BTreeSet<_> = frontends()
            .filter_map(|frontend| self.model.service_name(frontend.service))
            .map(|name| &name.service)
            .collect();
        let sets: BTreeMap<_, _> = frontends()
            .map(|frontend| {
                (Arc::as_ptr(&frontend.inside.backends), frontend.inside.backends.backends().len())
            })
            .collect();
        (names.len(), sets.values().sum())
    }
}
