//! Services to the service table.

mod claims;
mod ids;
mod plan;
mod sets;

use super::Model;
use crate::object::{ObjectName, TrafficPolicy};
use crate::view::ServicePortName;
use claims::Claims;
use ids::Ids;
use millrace_fastpath::tables::{Frontend, Pool, Route, ServiceId};
use plan::{Plan, Planner};
use sets::Sets;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

pub(crate) use claims::ClaimKey;
pub(crate) use plan::sets_of;

/// What the tables hold of services.
#[derive(Debug, Default)]
pub(crate) struct Programmed {
    /// By service: what it wants in the tables.
    plans: BTreeMap<ObjectName, Plan>,
    /// Who gets what several want.
    pub(crate) claims: Claims,
    pub(crate) ids: Ids,
}

impl Programmed {
    /// The service port that an id names.
    pub(crate) fn name(&self, id: ServiceId) -> Option<&ServicePortName> {
        self.ids.name(id)
    }

    /// Where a service wants to answer, in the order of addresses.
    pub(crate) fn frontends(&self, service: &ObjectName) -> impl Iterator<Item = (&ClaimKey, &Frontend)> {
        self.plans.get(service).into_iter().flat_map(|plan| &plan.frontends)
    }

    /// The service port that answers at an address.
    pub(crate) fn holder(&self, key: &ClaimKey) -> Option<&ServicePortName> {
        let plan = self.plans.get(self.claims.owner(key)?)?;
        self.ids.name(plan.frontends.get(key)?.service)
    }
}

impl Model {
    /// Brings services up to date. True when a cached verdict may have become wrong.
    pub(super) fn compile_services(&mut self) -> bool {
        let mut stale = false;
        let node_addresses = self.nodes.selected_addresses(&self.config.node_port_addresses);
        // A service that loses or frees a frontend wakes the one that has it next.
        while let Some(name) = self.services.dirty.pop_first() {
            stale |= self.compile_service(&name, &node_addresses);
        }
        stale
    }

    fn compile_service(&mut self, name: &ObjectName, node_addresses: &[IpAddr]) -> bool {
        let former = self.programmed.plans.remove(name).unwrap_or_default();
        let plan = self.plan(name, &former, node_addresses);
        self.claim(name, &former, &plan);
        let mut stale = self.set_serving(&former, &plan);
        for key in former.frontends.keys().filter(|key| !plan.frontends.contains_key(key)) {
            if self.programmed.claims.owner(key).is_none() {
                self.tables.services.remove(&key.table_key());
            }
        }
        for (key, frontend) in &plan.frontends {
            if self.programmed.claims.owner(key) == Some(name) {
                stale |= self.set_frontend(key, frontend);
            }
        }
        self.programmed.ids.keep_only(name, &plan.ids);
        if !plan.ids.is_empty() {
            self.programmed.plans.insert(name.clone(), plan);
        }
        stale
    }

    fn plan(&mut self, name: &ObjectName, former: &Plan, node_addresses: &[IpAddr]) -> Plan {
        let Some(service) = self.services.services.get(name).filter(|service| service.is_served()) else {
            return Plan::default();
        };
        let planner = Planner {
            service,
            slices: self.services.slices_of(name),
            place: self.nodes.policy(TrafficPolicy::Cluster),
            node_addresses,
            sets: Sets::of(former, self.config.balancing),
        };
        planner.plan(&mut self.programmed.ids)
    }

    fn claim(&mut self, name: &ObjectName, former: &Plan, plan: &Plan) {
        let keys: BTreeSet<&ClaimKey> = former.frontends.keys().chain(plan.frontends.keys()).collect();
        for key in keys {
            let kind = |plan: &Plan| plan.frontends.get(key).map(|frontend| frontend.kind);
            let heir = self.programmed.claims.replace(*key, name, kind(former), kind(plan));
            self.services.dirty.extend(heir);
        }
    }

    /// True when an endpoint serves no longer.
    fn set_serving(&mut self, former: &Plan, plan: &Plan) -> bool {
        for &(id, backend) in plan.serving.difference(&former.serving) {
            self.tables.services.set_serving(id, backend, true);
        }
        let mut gone = false;
        for &(id, backend) in former.serving.difference(&plan.serving) {
            gone |= self.tables.services.set_serving(id, backend, false);
        }
        gone
    }

    /// True when packets to the frontend may have gone elsewhere before. What it offers may change without that: flows
    /// keep the endpoints that they have.
    fn set_frontend(&mut self, key: &ClaimKey, frontend: &Frontend) -> bool {
        let table_key = key.table_key();
        let current = self.tables.services.frontend(&table_key);
        if current.is_some_and(|current| is_same(current, frontend)) {
            return false;
        }
        let stale = match current {
            Some(current) => current.service != frontend.service,
            // Packets to the address may have been routed untranslated until now, unless they were refused.
            None => {
                let is_routed = matches!(self.tables.routes.lookup(table_key.address), Some(Route::Via(_)));
                is_routed && !self.tables.services.is_service_address(table_key.address)
            }
        };
        self.tables.services.insert(table_key, frontend.clone());
        stale
    }
}

/// Whether two frontends do the same. Equal sets of one service are the same one.
fn is_same(a: &Frontend, b: &Frontend) -> bool {
    let is_same_pool =
        |a: &Pool, b: &Pool| Arc::ptr_eq(&a.backends, &b.backends) && a.when_empty == b.when_empty;
    let rest =
        |frontend: &Frontend| (frontend.service, frontend.kind, frontend.keeps_client, frontend.affinity);
    rest(a) == rest(b)
        && is_same_pool(&a.inside, &b.inside)
        && is_same_pool(&a.outside, &b.outside)
        && a.sources == b.sources
}
