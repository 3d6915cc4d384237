//! One reading of everything, taken on the control thread and written on the web's.

use super::families::{Labels, counters, gauges, histograms};
use super::kube_proxy;
use crate::kube_proxy::ProbeCounts;
use millrace_api::{DropList, KindStatus, LinkState, Pool, Port, Status, Tables};
use millrace_control::{Control, SyncReading, WorkerReading};
use millrace_fastpath::port::Frame;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Everything that is exported, at one moment.
#[derive(Debug)]
pub(super) struct Reading {
    ports: Vec<Port>,
    drops: DropList,
    workers: Vec<WorkerReading>,
    tables: Tables,
    tables_age: Duration,
    status: Status,
    peers: BTreeMap<(&'static str, &'static str), u64>,
    sync: SyncReading,
    probes: ProbeCounts,
}

impl Reading {
    /// Takes it; how often health was asked for is counted elsewhere.
    pub(super) fn take<F: Frame>(control: &mut Control<F>, probes: ProbeCounts) -> Self {
        Reading {
            ports: control.list_ports().ports,
            drops: control.drops(),
            workers: control.read_workers(),
            tables: control.tables(),
            tables_age: control.tables_age(),
            status: control.status(),
            peers: control.count_peers(),
            sync: control.read_sync(),
            probes,
        }
    }

    fn ports(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let each =
            |value: fn(&Port) -> u64| self.ports.iter().map(move |port| (of_port(port), value(port) as f64));
        let rx = each(|port| port.counts.rx_frames);
        counters(encoder, "millrace_port_rx_frames", "Frames received from the port's peer.", rx)?;
        let rx = each(|port| port.counts.rx_bytes);
        counters(encoder, "millrace_port_rx_bytes", "Bytes received from the port's peer, without FCS.", rx)?;
        let tx = each(|port| port.counts.tx_frames);
        counters(encoder, "millrace_port_tx_frames", "Frames sent to the port's peer.", tx)?;
        let tx = each(|port| port.counts.tx_bytes);
        counters(encoder, "millrace_port_tx_bytes", "Bytes sent to the port's peer, without FCS.", tx)?;
        let up = each(|port| u64::from(port.link == LinkState::Up));
        gauges(encoder, "millrace_port_up", "Whether the port's peer is there.", up)?;
        let lost = self.ports.iter().flat_map(|port| {
            let labels = |reason| vec![("port", port.config.name.as_str()), ("reason", reason)];
            port.drops.iter().map(move |drop| (labels(drop.reason.as_str()), drop.frames as f64))
        });
        counters(encoder, "millrace_port_dropped_frames", "Frames lost at the port, by reason.", lost)
    }

    fn workers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let ids: Vec<String> = self.workers.iter().map(|worker| worker.id.0.to_string()).collect();
        let labelled =
            || self.workers.iter().zip(&ids).map(|(worker, id)| (worker, vec![("worker", id.as_str())]));
        // All workers have the same counters, in the same order.
        let names = self.workers.first().map(|worker| worker.counters.as_slice()).unwrap_or_default();
        for (position, (name, _)) in names.iter().enumerate() {
            let family = format!("millrace_worker_{name}");
            let samples = labelled().map(|(worker, labels)| (labels, worker.counters[position].1 as f64));
            counters(encoder, &family, "What the worker counts; see docs/metrics.md.", samples)?;
        }
        let busy = labelled().map(|(worker, labels)| (labels, worker.busy.as_secs_f64()));
        counters(
            encoder,
            "millrace_worker_busy_seconds",
            "Time that the worker spent with frames in hand.",
            busy,
        )?;
        let load = labelled().map(|(worker, labels)| (labels, worker.load));
        gauges(
            encoder,
            "millrace_worker_load",
            "Share of time with frames in hand over the last second, 0 to 1.",
            load,
        )
    }

    fn node(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let drops =
            self.drops.drops.iter().map(|drop| (vec![("reason", drop.reason.as_str())], drop.frames as f64));
        counters(encoder, "millrace_dropped_frames", "Frames dropped on this node, by reason.", drops)?;
        let plain = |value: f64| [(Labels::new(), value)];
        let flows = plain(self.status.flows as f64);
        gauges(encoder, "millrace_flows", "Connections in the flow table.", flows)?;
        let capacity = plain(self.status.flow_capacity as f64);
        gauges(encoder, "millrace_flow_capacity", "Connections that the flow table can hold.", capacity)?;
        let version = plain(self.tables.version as f64);
        gauges(encoder, "millrace_tables_version", "Publications of tables since the start.", version)?;
        let epoch = plain(self.tables.epoch.into());
        gauges(encoder, "millrace_tables_epoch", "Generation of verdicts: older ones are made anew.", epoch)?;
        let age = plain(self.tables_age.as_secs_f64());
        gauges(encoder, "millrace_tables_age_seconds", "Time since tables were last published.", age)?;
        let sizes = &self.tables.sizes;
        let entries = [
            ("ports", sizes.ports),
            ("routes", sizes.routes),
            ("frontends", sizes.frontends),
            ("endpoints", sizes.endpoints),
        ];
        let entries = entries.map(|(table, size)| (vec![("table", table)], size as f64));
        gauges(encoder, "millrace_table_entries", "Entries of each table.", entries)?;
        let policies = plain(self.status.policies_not_enforced as f64);
        let help = "NetworkPolicies that are known and not enforced.";
        gauges(encoder, "millrace_network_policies_not_enforced", help, policies)?;
        let errors = plain(self.status.source.errors as f64);
        gauges(encoder, "millrace_object_errors", "Objects and ports that cannot be used.", errors)
    }

    /// What is known of the server that objects come from.
    fn server(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Some(server) = &self.status.source.server else { return Ok(()) };
        let plain = |value: f64| [(Labels::new(), value)];
        let connected = plain(f64::from(u8::from(server.connected)));
        gauges(
            encoder,
            "millrace_source_connected",
            "Whether the server answers and all kinds are followed.",
            connected,
        )?;
        let age = server.age_seconds.into_iter().flat_map(plain);
        gauges(encoder, "millrace_source_age_seconds", "How old what is in force may be.", age)?;
        let each = |value: fn(&KindStatus) -> u64| {
            server.kinds.iter().map(move |kind| (vec![("kind", kind.kind.as_str())], value(kind) as f64))
        };
        let objects = each(|kind| kind.objects);
        gauges(encoder, "millrace_source_objects", "Objects in force, by kind.", objects)?;
        let lists = each(|kind| kind.lists);
        counters(encoder, "millrace_source_lists", "Whole lists that the server has sent, by kind.", lists)?;
        let errors = server.kinds.iter().flat_map(|kind| {
            let labels = |reason| vec![("kind", kind.kind.as_str()), ("reason", reason)];
            kind.errors.iter().map(move |(reason, count)| (labels(reason.as_str()), *count as f64))
        });
        counters(encoder, "millrace_source_errors", "Failed lists and watches, by kind and reason.", errors)
    }

    /// How fast changes reach the workers.
    fn programming(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kinds: Vec<String> = self.sync.changes.keys().map(ToString::to_string).collect();
        let changes = kinds.iter().zip(self.sync.changes.values());
        let changes = changes.map(|(kind, histogram)| (vec![("kind", kind.as_str())], histogram));
        let (name, help) = (
            "millrace_programming_duration_seconds",
            "Time from when a change was heard of until every worker used it, by kind of object.",
        );
        histograms(encoder, name, help, changes)?;
        let load = self.sync.load.into_iter().map(|load| (Labels::new(), load.as_secs_f64()));
        let help = "Time from the start of the source until all that was there was in the tables.";
        gauges(encoder, "millrace_source_load_seconds", help, load)
    }

    /// Other nodes; nothing without uplinks.
    fn peers(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if self.status.uplinks == 0 {
            return Ok(());
        }
        let label = |(mode, state): (&'static str, &'static str)| vec![("mode", mode), ("state", state)];
        let peers = self.peers.iter().map(|(kind, count)| (label(*kind), *count as f64));
        gauges(
            encoder,
            "millrace_peers",
            "Other nodes, by the way to them and whether it leads there.",
            peers,
        )
    }

    fn pools(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let each = |value: fn(&Pool) -> u64| {
            let pools = self.status.pools.iter();
            pools.map(move |pool| (vec![("pool", pool.name.as_str())], value(pool) as f64))
        };
        let used = each(|pool| pool.in_use);
        gauges(encoder, "millrace_pool_buffers_in_use", "Packet buffers that are not in the pool.", used)?;
        let all = each(|pool| pool.capacity);
        gauges(encoder, "millrace_pool_buffers", "Packet buffers of the pool in all.", all)
    }
}

fn of_port(port: &Port) -> Labels<'_> {
    vec![("port", port.config.name.as_str()), ("kind", port.config.attachment.kind().name())]
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.ports(&mut encoder)?;
        self.workers(&mut encoder)?;
        self.node(&mut encoder)?;
        self.peers(&mut encoder)?;
        self.pools(&mut encoder)?;
        self.server(&mut encoder)?;
        self.programming(&mut encoder)?;
        kube_proxy::encode(&mut encoder, &self.sync, &self.probes)
    }
}
