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
use millrace_fastpath::tables::{Backend, Frontend, FrontendKey, Pool, Route, ServiceId, TableSet};
pub(super) use plan::Plan;
use plan::Planner;
pub(super) use sets::Sets;
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
    /// Brings services up to date.
    pub(super) fn compile_services(&mut self) -> Changes {
        let mut changes = Changes::default();
        let node_addresses = self.nodes.selected_addresses(&self.config.node_port_addresses);
        // A service that loses or frees a frontend wakes the one that has it next.
        while let Some(name) = self.services.dirty.pop_first() {
            self.compile_service(&name, &node_addresses, &mut changes);
        }
        changes
    }

    fn compile_service(&mut self, name: &ObjectName, node_addresses: &[IpAddr], changes: &mut Changes) {
        let former = self.programmed.plans.remove(name).unwrap_or_default();
        let plan = self.plan(name, &former, node_addresses);
        self.claim(name, &former, &plan);
        for &(id, backend) in plan.serving.difference(&former.serving) {
            self.tables.services.set_serving(id, backend, true);
        }
        for &(id, backend) in former.serving.difference(&plan.serving) {
            self.tables.services.set_serving(id, backend, false);
            changes.gone.push((id, backend));
        }
        for key in former.frontends.keys().filter(|key| !plan.frontends.contains_key(key)) {
            if self.programmed.claims.owner(key).is_none() {
                self.tables.services.remove(&key.table_key());
            }
        }
        for (key, frontend) in &plan.frontends {
            if self.programmed.claims.owner(key) == Some(name) {
                self.set_frontend(key, frontend, changes);
            }
        }
        self.programmed.ids.keep_only(name, &plan.ids);
        if !plan.ids.is_empty() {
            self.programmed.plans.insert(name.clone(), plan);
        }
    }

    fn plan(&mut self, name: &ObjectName, former: &Plan, node_addresses: &[IpAddr]) -> Plan {
        if let Some(plan) = self.host_port_plan(name, former) {
            return plan;
        }
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

    fn set_frontend(&mut self, key: &ClaimKey, frontend: &Frontend, changes: &mut Changes) {
        let table_key = key.table_key();
        let current = self.tables.services.frontend(&table_key);
        if current.is_some_and(|current| is_same(current, frontend)) {
            return;
        }
        if current.is_none_or(|current| current.service != frontend.service) {
            changes.taken.push(table_key);
        }
        self.tables.services.insert(table_key, frontend.clone());
    }
}

/// What a compilation did to services that cached verdicts may rest on.
#[derive(Debug, Default)]
pub(super) struct Changes {
    /// Endpoints that stopped to serve a service, at least for a while.
    gone: Vec<(ServiceId, Backend)>,
    /// Frontends that got a new owner, at least for a while.
    taken: Vec<FrontendKey>,
}

impl Changes {
    /// Whether a verdict that was made from the tables before can be wrong by the tables now. What a frontend offers may
    /// change without that: flows keep the endpoints that they have.
    pub(super) fn make_stale(&self, before: &TableSet, now: &TableSet) -> bool {
        let is_gone = |&(id, backend): &(ServiceId, Backend)| {
            before.services.is_serving(id, backend) && !now.services.is_serving(id, backend)
        };
        let is_taken = |key: &FrontendKey| match (before.services.frontend(key), now.services.frontend(key)) {
            (Some(former), Some(frontend)) => former.service != frontend.service,
            // Packets to the address were routed untranslated until now, unless they were refused.
            (None, Some(_)) => {
                let was_routed = matches!(before.routes.lookup(key.address), Some(Route::Via(_)));
                was_routed && !before.services.is_service_address(key.address)
            }
            (_, None) => false,
        };
        self.gone.iter().any(is_gone) || self.taken.iter().any(is_taken)
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
