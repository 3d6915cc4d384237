//! Services.

use crate::control::Control;
use millrace_api::{Endpoint, Frontend, Protocol, Service, ServiceList, ServicePort, WhenEmpty};
use millrace_fastpath::port::Frame;
use millrace_fastpath::tables::{self, ServiceId};
use millrace_model::{Conditions, EndpointView, FrontendView, ObjectName, ServicePortView, ServiceView};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

impl<F: Frame> Control<F> {
    /// All services with a frontend on this node.
    pub fn list_services(&self) -> ServiceList {
        ServiceList { services: self.model.services().map(service).collect() }
    }

    /// One service, if it has a frontend on this node.
    pub fn show_service(&self, namespace: &str, name: &str) -> Option<Service> {
        self.model.service(&ObjectName::new(namespace, name)).map(service)
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

fn service(view: ServiceView) -> Service {
    Service {
        namespace: view.name.namespace,
        name: view.name.name,
        ports: view.ports.into_iter().map(service_port).collect(),
    }
}

fn service_port(view: ServicePortView) -> ServicePort {
    ServicePort {
        name: view.name,
        protocol: Protocol::from_number(view.protocol.number()),
        frontends: view.frontends.into_iter().map(frontend).collect(),
        endpoints: view.endpoints.into_iter().map(endpoint).collect(),
    }
}

fn frontend(view: FrontendView) -> Frontend {
    Frontend {
        kind: view.kind.name().to_owned(),
        address: view.address,
        port: view.port,
        usable: u32::try_from(view.inside.usable).unwrap_or(u32::MAX),
        when_empty: match view.inside.when_empty {
            tables::WhenEmpty::Reject => WhenEmpty::Reject,
            tables::WhenEmpty::Drop => WhenEmpty::Drop,
        },
    }
}

fn endpoint(view: EndpointView) -> Endpoint {
    Endpoint {
        address: view.address,
        port: view.port,
        usable: view.usable,
        conditions: conditions(view.conditions),
        node: view.node,
    }
}

fn conditions(conditions: Conditions) -> Vec<String> {
    let all = [
        ("ready", conditions.ready),
        ("serving", conditions.serving),
        ("terminating", conditions.terminating),
    ];
    all.into_iter().filter(|(_, holds)| *holds).map(|(name, _)| name.to_owned()).collect()
}
