//! What changes with every connection: clients that stay with their endpoints, and flows.

use crate::clock;
use crate::control::Control;
use millrace_api::{Affinity, AffinityClient, ServiceFlows};
use millrace_fastpath::conntrack::AffinityInfo;
use millrace_fastpath::port::Frame;
use millrace_fastpath::tables::{Backend, Frontend, FrontendKey, ServiceId};
use millrace_model::{ServicePortView, ServiceView};
use std::collections::BTreeSet;

/// Bound clients that are shown of a service port, at most. All are counted.
const MOST_CLIENTS: usize = 20;
/// Flows that are shown of a service, at most. All are counted.
const MOST_FLOWS: usize = 20;

impl<F: Frame> Control<F> {
    /// The clients of each service port that stay with their endpoints; nothing without session affinity.
    pub(super) fn bindings(&self, view: &ServiceView) -> Vec<Option<Affinity>> {
        let of_port = |port| view.affinity_seconds.map(|timeout| self.bound_clients(port, timeout));
        view.ports.iter().map(of_port).collect()
    }

    fn bound_clients(&self, port: &ServicePortView, timeout: u32) -> Affinity {
        let Some(id) = self.id_of(port) else { return Affinity::default() };
        let bindings = self.affinity.of_service(id, clock::now().ticks());
        let mut bound: Vec<AffinityInfo> =
            bindings.filter(|binding| binding.idle_seconds <= timeout).collect();
        let total = bound.len() as u64;
        bound.sort_unstable_by_key(|binding| (binding.idle_seconds, binding.client));
        bound.truncate(MOST_CLIENTS);
        let describe = |binding: &AffinityInfo| {
            let endpoint = self.find_backend(port, binding.backend);
            AffinityClient {
                client: binding.client.to_ip(),
                endpoint: endpoint.map(|endpoint| endpoint.address.to_ip()),
                endpoint_port: endpoint.map(|endpoint| endpoint.port),
                idle_seconds: binding.idle_seconds,
            }
        };
        Affinity { total, clients: bound.iter().map(describe).collect() }
    }

    /// Connections of a service: all counted, some shown.
    pub(super) fn flows_of(&self, view: &ServiceView) -> ServiceFlows {
        let ids: BTreeSet<ServiceId> = view.ports.iter().filter_map(|port| self.id_of(port)).collect();
        let mut found = ServiceFlows::default();
        self.for_each_flow(|info, reply| {
            if ids.contains(&info.service) {
                found.total += 1;
                *found.by_state.entry(info.state.name().to_owned()).or_default() += 1;
                if found.flows.len() < MOST_FLOWS {
                    found.flows.push(self.describe_flow(info, reply));
                }
            }
            true
        });
        found
    }

    /// What names a service port in flows and bindings.
    fn id_of(&self, port: &ServicePortView) -> Option<ServiceId> {
        port.id.or_else(|| self.frontends_of(port).map(|frontend| frontend.service).next())
    }

    /// The endpoint with this digest that a frontend of the port may send to.
    fn find_backend(&self, port: &ServicePortView, digest: u32) -> Option<Backend> {
        let pools = self.frontends_of(port).flat_map(|frontend| [&frontend.inside, &frontend.outside]);
        pools.filter_map(|pool| pool.backends.find(digest)).next().copied()
    }

    /// The port's frontends in the tables, without those that another service holds.
    fn frontends_of<'a>(&'a self, port: &'a ServicePortView) -> impl Iterator<Item = &'a Frontend> {
        let protocol = port.protocol.number();
        let own = port.frontends.iter().filter(|frontend| frontend.held_by.is_none());
        own.filter_map(move |frontend| {
            let key = FrontendKey { address: frontend.address.into(), port: frontend.port, protocol };
            self.current.services.frontend(&key)
        })
    }
}
