//! The state of the control thread.

use crate::attachment::Attachments;
use crate::clock;
use crate::driver::Driver;
use crate::frontage::Frontage;
use crate::host_leg::HostLeg;
use crate::host_stack::HostStack;
use crate::plumbing::Plumbing;
use crate::port::{Numbers, Pending, Port};
use crate::shortcuts::Shortcuts;
use crate::sync::Sync;
use crate::uplink::Uplinks;
use crate::worker::{LoadMeter, WorkerError, WorkerHandle};
use millrace_api::{ObjectError, Pool, ServerStatus};
use millrace_config::{Config, NodeName, PortName};
use millrace_fastpath::conntrack::{AffinityTable, FlowTable};
use millrace_fastpath::port::{DROP_REASONS, Frame};
use millrace_fastpath::sync::{Domain, Snapshot};
use millrace_fastpath::tables::TableSet;
use millrace_model::Model;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// What the control thread is made of.
pub struct Parts<F> {
    /// The configuration, as far as it concerns ports, gateway and reporting.
    pub config: Config,
    /// This node's name.
    pub node: NodeName,
    /// Whether packet memory lies in hugepages.
    pub hugepages: bool,
    /// The cluster's objects.
    pub model: Model,
    /// What the workers read.
    pub tables: Arc<Snapshot<TableSet>>,
    /// The readers of `tables`.
    pub domain: Arc<Domain>,
    /// The node's flows.
    pub flows: Arc<FlowTable>,
    /// Which clients stay with which endpoints.
    pub affinity: Arc<AffinityTable>,
    /// The workers, in the order of their numbers.
    pub workers: Vec<WorkerHandle<F>>,
    /// Who opens devices.
    pub driver: Box<dyn Driver<F>>,
    /// Who sees to the host's side.
    pub plumbing: Box<dyn Plumbing>,
    /// The host's network stack.
    pub host: Box<dyn HostStack>,
    /// What containers had when the last instance ended.
    pub attachments: Attachments,
    /// Gives the packet pools' state.
    pub pools: Box<dyn Fn() -> Vec<Pool> + Send>,
}

/// Ports, workers and tables of the node. All changes go through this, on one thread.
pub struct Control<F> {
    pub(crate) config: Config,
    pub(crate) node: NodeName,
    pub(crate) hugepages: bool,
    pub(crate) model: Model,
    pub(crate) tables: Arc<Snapshot<TableSet>>,
    pub(crate) domain: Arc<Domain>,
    pub(crate) flows: Arc<FlowTable>,
    pub(crate) affinity: Arc<AffinityTable>,
    pub(crate) workers: Vec<WorkerHandle<F>>,
    pub(crate) driver: Box<dyn Driver<F>>,
    pub(crate) plumbing: Box<dyn Plumbing>,
    pub(crate) host_leg: HostLeg,
    pub(crate) frontage: Frontage,
    pub(crate) uplinks: Uplinks,
    pub(crate) shortcuts: Shortcuts,
    pub(crate) attachments: Attachments,
    pub(crate) pools: Box<dyn Fn() -> Vec<Pool> + Send>,
    pub(crate) ports: BTreeMap<PortName, Port>,
    /// Configured ports that could not be opened yet.
    pub(crate) pending: Vec<Pending>,
    pub(crate) numbers: Numbers,
    /// Losses at ports that are gone, by reason.
    pub(crate) past_drops: [u64; DROP_REASONS],
    /// Objects and files that could not be used.
    pub(crate) object_errors: Vec<ObjectError>,
    /// Health checks that cannot be answered.
    pub(crate) health_errors: Vec<ObjectError>,
    pub(crate) source_synced: bool,
    /// When the ports of the start were opened, uplinks apart.
    pub(crate) opened_at: Option<Instant>,
    /// Whether the uplinks are open, too, or cannot be.
    pub(crate) settled: bool,
    /// Tells how the source's server gets on, where there is one.
    pub(crate) server_status: Option<Box<dyn Fn() -> ServerStatus + Send>>,
    pub(crate) sync: Sync,
    pub(crate) started: Instant,
    pub(crate) published_at: Instant,
    /// The last published tables, for reading.
    pub(crate) current: TableSet,
    pub(crate) load_meter: LoadMeter,
}

impl<F: Frame> Control<F> {
    /// A node without ports.
    pub fn new(parts: Parts<F>) -> Self {
        let now = Instant::now();
        let mut model = parts.model;
        let current = model.compile();
        parts.tables.publish(Box::new(current.clone()));
        Control {
            host_leg: HostLeg::new(&parts.config, parts.host),
            frontage: Frontage::default(),
            uplinks: Uplinks::new(&parts.config),
            shortcuts: Shortcuts::default(),
            config: parts.config,
            node: parts.node,
            hugepages: parts.hugepages,
            model,
            tables: parts.tables,
            domain: parts.domain,
            flows: parts.flows,
            affinity: parts.affinity,
            load_meter: LoadMeter::new(parts.workers.len(), clock::now()),
            workers: parts.workers,
            driver: parts.driver,
            plumbing: parts.plumbing,
            attachments: parts.attachments,
            pools: parts.pools,
            ports: BTreeMap::new(),
            pending: Vec::new(),
            numbers: Numbers::new(),
            past_drops: [0; DROP_REASONS],
            object_errors: Vec::new(),
            health_errors: Vec::new(),
            source_synced: false,
            opened_at: None,
            settled: false,
            server_status: None,
            sync: Sync::new(),
            started: now,
            published_at: now,
            current,
        }
    }

    /// Housekeeping, to be called about every second: frees old tables, measures load, and tries configured ports again
    /// that could not be opened.
    pub fn tick(&mut self) {
        self.tables.reclaim();
        self.do_queued_deletions();
        self.follow_bandwidth();
        self.retry_pending(Instant::now());
        self.tend_host_leg(Instant::now());
        self.tend_uplinks(Instant::now());
        // Before everything is known, what is known is not worth tables.
        if self.source_synced && (self.settles(Instant::now()) || self.model.has_changes()) {
            self.compile();
        }
        self.load_meter.measure(&self.workers, clock::now());
    }

    /// Removes all ports and ends all workers. What containers have stays. Everything is tried; the errors are logged.
    pub fn shut_down(&mut self) -> Result<(), WorkerError> {
        let mut names: Vec<PortName> = self.ports.keys().cloned().collect();
        // Uplinks first: what the kernel gets back with a NIC is on the host's leg.
        names.sort_by_key(|name| !self.uplinks.has(name));
        for name in names {
            let closed = match self.attachments.of_port(&name) {
                Some(_) => self.release_port(&name),
                None => self.remove_any_port(&name),
            };
            if let Err(error) = closed {
                tracing::error!(%error, "port not removed");
            }
        }
        let mut result = Ok(());
        for worker in &mut self.workers {
            result = worker.stop().and(result);
        }
        result
    }
}
