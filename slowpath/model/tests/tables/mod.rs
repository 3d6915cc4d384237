//! Tables, to be compared.

use crate::world::NODE_ADDRESSES;
use millrace_fastpath::tables::{Address, Backend, Frontend, FrontendKey, Pool, Route, ServiceId, TableSet};
use millrace_model::{Model, ServiceView};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// All that tables say, in an order.
#[derive(Debug)]
#[expect(dead_code, reason = "is compared as text")]
pub(crate) struct Shown {
    frontends: BTreeMap<String, String>,
    served: BTreeSet<(ServiceId, Backend)>,
    views: Vec<ServiceView>,
    excluded: usize,
    routes: Vec<String>,
    rest: String,
}

pub(crate) fn shown(model: &Model, tables: &TableSet) -> Shown {
    let pool = |pool: &Pool| format!("{:?} or {:?}", pool.backends.backends(), pool.when_empty);
    let frontend = |(key, frontend): (&FrontendKey, &Frontend)| {
        let Frontend { service, kind, inside, outside, keeps_client, sources, affinity } = frontend;
        let name = model.service_name(*service).map(ToString::to_string);
        let text = format!(
            "{name:?} {service:?} {kind:?} {} / {} {keeps_client} {sources:?} {affinity:?}",
            pool(inside),
            pool(outside)
        );
        (format!("{key:?}"), text)
    };
    let routes =
        NODE_ADDRESSES.iter().map(|text| format!("{text} {:?}", route(tables, text.parse().unwrap())));
    Shown {
        frontends: tables.services.iter().map(frontend).collect(),
        served: served(model, tables),
        views: model.services().collect(),
        excluded: model.excluded().count(),
        routes: routes.collect(),
        rest: format!("{:?} {:?} {}", tables.masquerade, tables.pod_ranges, tables.reset_vanished),
    }
}

fn route(tables: &TableSet, address: IpAddr) -> Option<Route> {
    tables.routes.lookup(address.into())
}

/// Every endpoint whose flows may stay.
pub(crate) fn served(model: &Model, tables: &TableSet) -> BTreeSet<(ServiceId, Backend)> {
    let mut found = BTreeSet::new();
    for port in model.services().flat_map(|service| service.ports) {
        for endpoint in port.endpoints {
            let backend = Backend { address: endpoint.address.into(), port: endpoint.port };
            found.extend(
                port.id
                    .map(|id| (id, backend))
                    .filter(|(id, backend)| tables.services.is_serving(*id, *backend)),
            );
        }
    }
    found
}

/// Whether a verdict that was made from the tables before can be wrong now.
pub(crate) fn epoch_is_due(
    before: &TableSet,
    served_before: &BTreeSet<(ServiceId, Backend)>,
    now: &TableSet,
) -> bool {
    let gone = served_before.iter().any(|(id, backend)| !now.services.is_serving(*id, *backend));
    let owner_changed = before.services.iter().any(|(key, frontend)| {
        now.services.frontend(key).is_some_and(|after| after.service != frontend.service)
    });
    let is_routed = |address: Address| matches!(before.routes.lookup(address), Some(Route::Via(_)));
    let shadows = now.services.iter().any(|(key, _)| {
        let is_new = before.services.frontend(key).is_none();
        is_new && !before.services.is_service_address(key.address) && is_routed(key.address)
    });
    // Every address had a way before: that to the world.
    let moved = NODE_ADDRESSES.iter().any(|text| {
        let address = text.parse().unwrap();
        route(before, address) != route(now, address)
    });
    gone || owner_changed || shadows || moved
}
