//! Established connections that the kernel carries past the workers: which ports can have that, and what it is told.
//!
//! Workers tell of connections between such ports. What becomes of their packets is in the tables; when something goes or moves
//! there, all shortcuts end, and workers see the next packets.

use crate::control::Control;
use crate::port::{Port, limits};
use millrace_config::{Config, PortName};
use millrace_fastpath::conntrack::{EntryFlags, FlowKey};
use millrace_fastpath::pipeline::Established;
use millrace_fastpath::port::{Ends, Frame, PortId, Shortcut, TunnelEnds, Wrapping};
use millrace_fastpath::tables::{PortInfo, PortRole, PortSet, TableSet, Tunnel};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// The ports, and what they were told of.
#[derive(Debug, Default)]
pub(crate) struct Shortcuts {
    /// The numbers of the kernel's interfaces, by port.
    ends: BTreeMap<PortId, u32>,
    /// The ports alone.
    ports: PortSet,
    /// Epoch of the tables that all shortcuts were made from; none while there are some that should have ended.
    epoch: Option<u32>,
}

impl Shortcuts {
    /// Ports between which the kernel can carry connections.
    pub(crate) fn ports(&self) -> PortSet {
        self.ports.clone()
    }

    /// Whether workers may have connections to tell of.
    pub(crate) fn are_possible(&self) -> bool {
        !self.ends.is_empty()
    }

    fn set(&mut self, port: PortId, end: Option<u32>) {
        match end {
            Some(end) => self.ends.insert(port, end),
            None => self.ends.remove(&port),
        };
        self.ports = self.ends.keys().copied().collect();
    }

    /// What the kernel is to do. Nothing where it has no interface for it, or tables have changed since.
    fn make(&self, tables: &TableSet, told: &Established) -> Option<Shortcut> {
        if told.epoch != tables.epoch {
            return None;
        }
        let way = tables.routes.adjacency(told.adjacency)?;
        let port = tables.ports.get(told.arrival)?;
        // The kernel does not forget that a frame was in a tunnel: no NIC is to see such.
        let is_uplink = |port: &PortInfo| port.role == PortRole::Uplink;
        if is_uplink(port) && tables.ports.get(way.port).is_none_or(is_uplink) {
            return None;
        }
        let from = match tables.tunnel_from(told.arrival, told.key.source) {
            Some(id) => {
                let vtep = tables.tunnels.vtep()?;
                Some(tunnel_ends(tables.tunnels.get(id)?, vtep.vni.get(), vtep.udp_port)?)
            }
            None => None,
        };
        let into = match way.tunnel {
            Some(id) => {
                let tunnel = tables.tunnels.get(id)?;
                let macs = [tunnel.destination_mac, tunnel.source_mac];
                let ends = tunnel_ends(tunnel, tunnel.vni.get(), tunnel.udp_port)?;
                Some(Wrapping { ends, macs, source_port: told.mark })
            }
            None => None,
        };
        Some(Shortcut {
            arrival: *self.ends.get(&told.arrival)?,
            out: *self.ends.get(&way.port)?,
            protocol: told.key.protocol,
            arriving: ends(&told.key),
            leaving: ends(&told.rewritten),
            mtu: way.mtu,
            own_mac: if from.is_some() { tables.tunnels.vtep()?.mac } else { port.own_mac },
            sender_mac: port.spoof_check.then_some(port.mac),
            macs: [way.destination_mac, way.source_mac],
            from,
            into,
        })
    }
}

impl<F: Frame> Control<F> {
    /// Takes note of whether the kernel can carry connections from and to a port.
    pub(crate) fn note_shortcuts_of(&mut self, port: &Port) {
        self.shortcuts.set(port.id, end_of(&self.config, port));
    }

    /// The same after a port's limits have changed: connections that workers have wait for their turn go past them no more.
    pub(crate) fn follow_limits_of(&mut self, name: &PortName) {
        let Some(port) = self.ports.get(name) else { return };
        self.shortcuts.set(port.id, end_of(&self.config, port));
        self.compile();
        self.end_shortcuts();
    }

    /// Of a port that goes.
    pub(crate) fn forget_shortcuts_of(&mut self, port: PortId) {
        self.shortcuts.set(port, None);
    }

    /// Has the kernel carry connections that workers tell of.
    pub(crate) fn shorten(&mut self, told: &[Established]) {
        for told in told {
            let is_still = self.is_as_told(told);
            let Some(shortcut) = self.shortcuts.make(&self.current, told).filter(|_| is_still) else {
                continue;
            };
            if let Err(error) = self.driver.shorten(&shortcut) {
                tracing::debug!(error, ?shortcut, "not carried past the workers");
            }
        }
    }

    /// Whether the flow is that which was told of, and not a later one of the same addresses and ports.
    fn is_as_told(&self, told: &Established) -> bool {
        let words = told.key.words();
        let found = self.flows.find(&words, words.hash(self.flows.secret()));
        found.is_some_and(|number| {
            let entry = self.flows.entry(number);
            entry.rewritten() == told.rewritten && entry.flags().has(EntryFlags::SHORTENED)
        })
    }

    /// Ends all shortcuts if tables have changed that they were made from.
    pub(crate) fn end_stale_shortcuts(&mut self) {
        if self.shortcuts.epoch != Some(self.current.epoch) {
            self.end_shortcuts();
        }
    }

    /// Ends all shortcuts.
    pub(crate) fn end_shortcuts(&mut self) {
        self.shortcuts.epoch = match self.driver.end_shortcuts() {
            Ok(()) => Some(self.current.epoch),
            // It is tried again with the next tables.
            Err(error) => {
                tracing::error!(error, "connections may go ways that are no longer right for some seconds");
                None
            }
        };
    }
}

/// The number of a port's interface, if the kernel may carry connections from and to it. One whose rate is limited has all packets
/// counted by workers.
fn end_of(config: &Config, port: &Port) -> Option<u32> {
    let may = config.shortcuts && limits(port.bandwidth).is_none();
    port.device.as_ref().filter(|_| may)?.shortcut_end()
}

fn tunnel_ends(tunnel: &Tunnel, vni: u32, port: u16) -> Option<TunnelEnds> {
    match (tunnel.local.to_ip(), tunnel.remote.to_ip()) {
        (IpAddr::V4(local), IpAddr::V4(remote)) => Some(TunnelEnds { local, remote, vni, port }),
        _ => None,
    }
}

fn ends(key: &FlowKey) -> Ends {
    Ends {
        source: SocketAddr::new(key.source.to_ip(), key.source_port),
        destination: SocketAddr::new(key.destination.to_ip(), key.destination_port),
    }
}

#[cfg(test)]
mod tests;
