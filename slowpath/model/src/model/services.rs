//! Services to the service table.

use super::Model;
use crate::endpoints::{Policy, choose};
use crate::index::endpoints_of;
use crate::object::{ObjectName, ServicePort, Transport, same_family};
use crate::view::ServicePortName;
use millrace_fastpath::tables::{Backend, BackendSet, Frontend, FrontendKey, Pool, ServiceId, WhenEmpty};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

/// What the tables hold of services.
#[derive(Debug, Default)]
pub(crate) struct Programmed {
    /// By service: what it has in the tables.
    services: BTreeMap<ObjectName, Plan>,
    /// Who wants a frontend. The first name has it.
    claims: BTreeMap<ClaimKey, BTreeSet<ObjectName>>,
    ids: BTreeMap<ServicePortName, ServiceId>,
    names: BTreeMap<ServiceId, ServicePortName>,
    last_id: u32,
}

/// A frontend's key in an order.
type ClaimKey = (IpAddr, u16, Transport);

/// What one service wants in the tables.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Plan {
    frontends: BTreeMap<ClaimKey, PlannedFrontend>,
    /// Endpoints whose flows may stay.
    serving: BTreeSet<(ServiceId, Backend)>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct PlannedFrontend {
    service: ServiceId,
    backends: Vec<Backend>,
    when_empty: WhenEmpty,
}

impl Programmed {
    /// The service port that an id names.
    pub(crate) fn name(&self, id: ServiceId) -> Option<&ServicePortName> {
        self.names.get(&id)
    }

    fn id(&mut self, name: ServicePortName) -> ServiceId {
        if let Some(&id) = self.ids.get(&name) {
            return id;
        }
        // Not used twice: a flow of a service that is gone must never seem to belong to another.
        self.last_id += 1;
        let id = ServiceId(self.last_id);
        self.names.insert(id, name.clone());
        self.ids.insert(name, id);
        id
    }

    /// Forgets the ids of service ports that are no more.
    fn forget_ids(&mut self, service: &ObjectName, kept: &BTreeSet<ServicePortName>) {
        let from =
            ServicePortName { service: service.clone(), port: String::new(), protocol: Transport::Tcp };
        let gone: Vec<ServicePortName> = self
            .ids
            .range(from..)
            .map(|(name, _)| name)
            .take_while(|name| name.service == *service)
            .filter(|name| !kept.contains(name))
            .cloned()
            .collect();
        for name in gone {
            if let Some(id) = self.ids.remove(&name) {
                self.names.remove(&id);
            }
        }
    }
}

impl Model {
    /// Brings services up to date. True when a cached verdict may have become wrong.
    pub(super) fn compile_services(&mut self) -> bool {
        let mut stale = false;
        // A service that loses or frees a frontend wakes the one that has it next.
        while let Some(name) = self.services.dirty.pop_first() {
            stale |= self.compile_service(&name);
        }
        stale
    }

    fn compile_service(&mut self, name: &ObjectName) -> bool {
        let plan = self.plan(name);
        let former = self.programmed.services.get(name).cloned().unwrap_or_default();
        self.claim(name, &former, &plan);
        let mut stale = self.set_serving(&former, &plan);
        for key in former.frontends.keys().filter(|key| !plan.frontends.contains_key(key)) {
            if self.owner(key).is_none() {
                self.tables.services.remove(&table_key(key));
            }
        }
        let mut shared: BTreeMap<Vec<Backend>, Arc<BackendSet>> = BTreeMap::new();
        for (key, planned) in &plan.frontends {
            if self.owner(key) == Some(name) {
                stale |= self.set_frontend(key, planned, &mut shared);
            }
        }
        let ids: BTreeSet<ServicePortName> = plan
            .frontends
            .values()
            .filter_map(|planned| self.programmed.name(planned.service).cloned())
            .collect();
        self.programmed.forget_ids(name, &ids);
        if plan == Plan::default() {
            self.programmed.services.remove(name);
        } else {
            self.programmed.services.insert(name.clone(), plan);
        }
        stale
    }

    /// What a service wants in the tables: nothing, if it is gone or not ours.
    fn plan(&mut self, name: &ObjectName) -> Plan {
        let mut plan = Plan::default();
        let Some(service) = self.services.services.get(name).filter(|service| service.is_served()) else {
            return plan;
        };
        let us = self.nodes.get(&ObjectName::cluster_wide(self.config.node.clone()));
        let policy = Policy {
            node: &self.config.node,
            zone: us.and_then(|node| node.zone.as_deref()),
            traffic: service.internal_policy,
        };
        let slices = self.services.slices_of(name);
        for port in &service.ports {
            let id = self.programmed.id(ServicePortName {
                service: name.clone(),
                port: port.name.clone(),
                protocol: port.protocol,
            });
            let endpoints = endpoints_of(&slices, port);
            let serving = endpoints.iter().filter(|(_, endpoint)| endpoint.conditions.keeps_flows());
            plan.serving.extend(serving.map(|(backend, _)| (id, *backend)));
            for &ip in &service.cluster_ips {
                let family: Vec<_> =
                    endpoints.iter().filter(|(_, endpoint)| same_family(endpoint.address, ip)).collect();
                let candidates: Vec<_> = family.iter().map(|(_, endpoint)| **endpoint).collect();
                let choice = choose(&candidates, policy);
                let backends = choice.usable().map(|index| *family[index].0).collect();
                let planned = PlannedFrontend { service: id, backends, when_empty: choice.when_empty };
                plan.frontends.entry(claim_key(ip, port)).or_insert(planned);
            }
        }
        plan
    }

    fn claim(&mut self, name: &ObjectName, former: &Plan, plan: &Plan) {
        let keys: BTreeSet<&ClaimKey> = former.frontends.keys().chain(plan.frontends.keys()).collect();
        for key in keys {
            let claims = self.programmed.claims.entry(*key).or_default();
            let before = claims.first().cloned();
            if plan.frontends.contains_key(key) {
                claims.insert(name.clone());
            } else {
                claims.remove(name);
            }
            let after = claims.first().cloned();
            if claims.is_empty() {
                self.programmed.claims.remove(key);
            }
            if let Some(heir) = after.filter(|after| Some(after) != before.as_ref() && after != name) {
                self.services.dirty.insert(heir);
            }
        }
    }

    fn owner(&self, key: &ClaimKey) -> Option<&ObjectName> {
        self.programmed.claims.get(key)?.first()
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

    /// True when packets to the frontend may have gone elsewhere before.
    fn set_frontend(
        &mut self,
        key: &ClaimKey,
        planned: &PlannedFrontend,
        shared: &mut BTreeMap<Vec<Backend>, Arc<BackendSet>>,
    ) -> bool {
        let table_key = table_key(key);
        let current = self.tables.services.frontend(&table_key);
        let same_backends = |frontend: &&Frontend| frontend.inside.backends.backends() == planned.backends;
        if current.filter(same_backends).is_some_and(|frontend| {
            frontend.service == planned.service && frontend.inside.when_empty == planned.when_empty
        }) {
            return false;
        }
        let balancing = self.config.balancing;
        let backends = match current.filter(same_backends) {
            Some(frontend) => Arc::clone(&frontend.inside.backends),
            None => Arc::clone(
                shared
                    .entry(planned.backends.clone())
                    .or_insert_with(|| Arc::new(BackendSet::new(planned.backends.clone(), balancing))),
            ),
        };
        let owner_changed = current.is_some_and(|frontend| frontend.service != planned.service);
        // Packets to the address may have been routed untranslated until now.
        let was_routed = current.is_none() && self.tables.routes.lookup(table_key.address).is_some();
        let frontend =
            Frontend::cluster_ip(planned.service, Pool { backends, when_empty: planned.when_empty });
        self.tables.services.insert(table_key, frontend);
        owner_changed || was_routed
    }
}

fn claim_key(ip: IpAddr, port: &ServicePort) -> ClaimKey {
    (ip, port.port, port.protocol)
}

fn table_key(&(address, port, protocol): &ClaimKey) -> FrontendKey {
    FrontendKey { address: address.into(), port, protocol: protocol.number() }
}
