//! The daemon as a whole.

use crate::control::Control;
use millrace_api::{ObjectError, ObjectErrorList, Pool, SourceStatus, Status, TableSizes, Tables};
use millrace_config::Source;
use millrace_fastpath::port::Frame;
use millrace_model::underlay::PeerState;
use std::time::Duration;

impl<F: Frame> Control<F> {
    /// The state of the daemon.
    pub fn status(&self) -> Status {
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.node.to_string(),
            pid: std::process::id(),
            uptime_seconds: self.started.elapsed().as_secs(),
            hugepages: self.hugepages,
            eal_file_prefix: self.config.eal_file_prefix(),
            source: self.source_status(),
            ports_up: self.ports_up() as u64,
            ports: self.ports.len() as u64,
            uplinks_up: self.uplinks_up() as u64,
            uplinks: self.config.uplinks.len() as u64,
            peers_reached: self.model.peers().filter(|peer| peer.state() == PeerState::Reached).count()
                as u64,
            peers: self.model.peers().count() as u64,
            services: self.count_services().0 as u64,
            policies_not_enforced: self.model.policies().len() as u64,
            workers: self.workers.len() as u64,
            flows: self.flows.len().into(),
            flow_capacity: self.flows.capacity().into(),
            dropped_frames: self.lost(),
            pools: self.pools(),
            attachments: self.attachment_status(),
        }
    }

    fn source_status(&self) -> SourceStatus {
        let server = self.server_status.as_ref().map(|status| status());
        let (kind, place) = match (&self.config.source, &server) {
            (Source::Directory(directory), _) => ("directory", directory.display().to_string()),
            (Source::Kubernetes(_), Some(server)) => ("kubernetes", server.address.clone()),
            (Source::Kubernetes(_), None) => ("kubernetes", String::new()),
        };
        SourceStatus {
            kind: kind.to_owned(),
            place,
            synced: self.source_synced,
            objects: self.model.objects() as u64,
            errors: self.error_count() as u64,
            server,
        }
    }

    /// Packet pools.
    pub fn pools(&self) -> Vec<Pool> {
        (self.pools)()
    }

    /// Sizes and generations of the tables.
    pub fn tables(&self) -> Tables {
        let tables = &self.current;
        Tables {
            version: tables.version,
            epoch: tables.epoch,
            sizes: TableSizes {
                ports: self.ports.len() as u64,
                routes: tables.routes.len() as u64,
                frontends: tables.services.len() as u64,
                endpoints: self.count_services().1 as u64,
                flow_entries: u64::from(self.flows.len()) * 2,
                flow_capacity: u64::from(self.flows.capacity()) * 2,
            },
        }
    }

    /// Time since the tables were last published.
    pub fn tables_age(&self) -> Duration {
        self.published_at.elapsed()
    }

    /// Objects, files, configured ports, routes and uplinks that cannot be used, health checks that cannot be answered, ranges
    /// that the host does not reach, and other nodes whose pods are not reached.
    pub fn object_errors(&self) -> ObjectErrorList {
        let ports = self.pending.iter().map(|pending| ObjectError {
            file: "configuration".to_owned(),
            object: Some(format!("port {}", pending.config.name)),
            reason: pending.error.to_string(),
            ..ObjectError::default()
        });
        let objects = self.object_errors.iter().chain(&self.health_errors).cloned();
        ObjectErrorList {
            errors: objects
                .chain(ports)
                .chain(self.host_leg.errors())
                .chain(self.uplinks.errors(&self.ports))
                .chain(self.attachment_errors())
                .chain(self.way_errors())
                .collect(),
        }
    }

    fn error_count(&self) -> usize {
        let ports = self.pending.len() + self.uplinks.errors(&self.ports).count();
        let ours = ports + self.host_leg.error_count() + self.attachment_errors().count();
        let ours = ours + self.way_errors().count();
        self.object_errors.len() + self.health_errors.len() + ours
    }

    /// Whether everything that the source had at the start is in the tables.
    pub fn is_synced(&self) -> bool {
        self.source_synced
    }
}
