//! What workers come upon behind uplinks, and which neighbours the kernel is asked for.

use super::asked::Place;
use super::configured::Configured;
use crate::control::Control;
use crate::worker::WorkerHandle;
use millrace_fastpath::pipeline::Report;
use millrace_fastpath::port::{Frame, PortId};
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Instant;

impl<F: Frame> Control<F> {
    /// Whether workers may have something to tell: of uplinks, or of connections that the kernel can carry.
    pub(crate) fn hears_workers(&self) -> bool {
        !self.uplinks.is_empty() || self.shortcuts.are_possible()
    }

    /// Takes in what workers came upon.
    pub(crate) fn hear_workers(&mut self) {
        let reports: Vec<Report> = self.workers.iter_mut().flat_map(WorkerHandle::reports).collect();
        let mut unresolved: Vec<(PortId, IpAddr)> = Vec::new();
        let mut established = Vec::new();
        for report in reports {
            match report {
                Report::Unresolved { port, address } => unresolved.push((port, address.to_ip())),
                Report::TunnelMtu { remote, mtu } => {
                    let path_mtus = &mut self.uplinks.path_mtus;
                    path_mtus.learn(&mut self.model, remote.to_ip(), mtu, Instant::now());
                }
                Report::Established(told) => established.push(told),
            }
        }
        self.shorten(&established);
        if !unresolved.is_empty() {
            self.report_unresolved(unresolved);
        }
    }

    /// Packets to these addresses wait by these uplinks: for the addresses themselves, or for next hops.
    pub fn report_unresolved(&mut self, unresolved: impl IntoIterator<Item = (PortId, IpAddr)>) {
        let now = Instant::now();
        let awaited = unresolved.into_iter().flat_map(|(port, address)| self.model.awaited(port, address));
        for (port, address) in awaited.collect::<BTreeSet<_>>() {
            if let Some(place) = self.place(port, address) {
                self.uplinks.asked.report(place, now);
            }
        }
        self.solicit_due(now);
    }

    fn place(&self, port: PortId, address: IpAddr) -> Option<Place> {
        let of_port =
            |uplink: &&Configured| self.ports.get(&uplink.port.name).is_some_and(|found| found.id == port);
        let uplink = self.uplinks.configured.iter().find(of_port)?;
        Some((uplink.voice.clone()?, address))
    }

    /// Has the kernel look for the neighbours that are to be known.
    pub(crate) fn tend_neighbours(&mut self, now: Instant) {
        let wanted: BTreeSet<Place> =
            self.model.wanted_neighbours().filter_map(|(port, address)| self.place(port, address)).collect();
        self.uplinks.asked.want(&wanted, now);
        self.solicit_due(now);
    }

    fn solicit_due(&mut self, now: Instant) {
        let Some(view) = &self.uplinks.view else { return };
        let due = self.uplinks.asked.due(view, now);
        if due.is_empty() {
            return;
        }
        if let Err(error) = self.host_leg.solicit(&due) {
            tracing::warn!(%error, neighbours = due.len(), "the kernel does not look for neighbours");
        }
    }
}
