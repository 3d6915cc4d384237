//! From the model to the workers' tables.

use crate::control::Control;
use crate::driver::Take;
use crate::port::Port;
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use millrace_api::{ObjectError, ServerStatus};
use millrace_config::PortRole as Role;
use millrace_fastpath::port::{Frame, PortId};
use millrace_fastpath::tables::{PortRole, Shortcuts, TableSet};
use millrace_fastpath::wire::ethernet::MacAddr;
use millrace_model::{Model, ObjectName, PortSpec};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// How long senders are left in the dark for uplinks that neither come nor say why.
const LONGEST_START: Duration = Duration::from_secs(5);

/// Addresses by which the host speaks to itself: to frontends there by its leg.
const LOOPBACK: [IpNet; 2] = [
    IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8)),
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)),
];

impl<F: Frame> Control<F> {
    /// The objects of the cluster, to be changed. What is changed becomes visible by [`publish`](Control::publish).
    pub fn model(&mut self) -> &mut Model {
        &mut self.model
    }

    /// Replaces what is known of objects and files that could not be used.
    pub fn set_object_errors(&mut self, errors: Vec<ObjectError>) {
        self.object_errors = errors;
    }

    /// Has the status tell how the source's server gets on.
    pub fn set_server_status(&mut self, status: impl Fn() -> ServerStatus + Send + 'static) {
        self.server_status = Some(Box::new(status));
    }

    /// Says that everything that the source had at the start is in the model.
    pub fn set_synced(&mut self) {
        self.source_synced = true;
        self.tend_uplinks(Instant::now());
    }

    /// Says that the ports of the start are open, or wait for what only time can bring. Once the uplinks are, too, senders are told
    /// what cannot be forwarded.
    pub fn set_ports_opened(&mut self) {
        self.opened_at = Some(Instant::now());
        self.compile();
    }

    /// Whether that is so from now on.
    pub(crate) fn settles(&self, now: Instant) -> bool {
        let opened = self.opened_at.filter(|_| !self.settled);
        opened.is_some_and(|opened| self.uplinks.are_settled() || now >= opened + LONGEST_START)
    }

    /// Compiles the model and has the workers read the result from their next burst on.
    pub fn publish(&mut self) {
        self.compile();
        self.retry_waiting_for_pods();
        self.tend_host_leg(Instant::now());
        self.tend_neighbours(Instant::now());
        if self.model.has_changes() {
            self.compile();
        }
    }

    /// The same without looking at ports that wait for pods.
    pub(crate) fn compile(&mut self) {
        let (began, changed) = (Instant::now(), self.model.has_changes());
        self.settled |= self.settles(began);
        if self.model.has_moved() {
            self.host_leg.hurry();
        }
        let incoming = self.model.take_incoming();
        let translated_v6 = self.driver.shortens_translated_ipv6();
        let shortcuts = Shortcuts { ports: self.shortcuts.ports(), translated_v6 };
        self.current = TableSet { settled: self.settled, shortcuts, ..self.model.compile() };
        let epoch = self.tables.publish(Box::new(self.current.clone()));
        self.end_stale_shortcuts();
        self.steer();
        self.tell_leg();
        self.published_at = Instant::now();
        self.sync.note(began, epoch, changed, &incoming, &self.model);
        self.look_at_workers();
        // Before everything is known, an absent endpoint means nothing.
        if self.source_synced {
            self.sync.tell_checks(&self.model);
        }
    }

    /// Tells the model of a port; workers do not see it yet.
    pub(crate) fn enter(&mut self, port: &Port) {
        let config = &port.config;
        let loopback = LOOPBACK.iter().filter(|_| is_host_leg(port)).copied();
        self.model.apply_port(PortSpec {
            id: port.id,
            mac: MacAddr(config.peer_mac().octets()),
            mtu: port.mtu,
            spoof_check: config.spoof_check,
            role: role(config.role()),
            addresses: config.addresses.iter().map(|prefix| prefix.net()).chain(loopback).collect(),
            pod: config.pod.as_ref().map(|pod| ObjectName::new(pod.namespace(), pod.name())),
        });
    }

    /// Has the workers see a port.
    pub(crate) fn publish_port(&mut self, port: &mut Port) {
        port.published = true;
        self.compile();
    }

    /// Has the model forget a port.
    pub(crate) fn leave(&mut self, port: &Port) {
        self.model.delete_port(port.id);
    }

    /// What a port owns: its own prefixes and its pod's addresses, as far as the pod is known.
    pub(crate) fn prefixes_of(&self, port: PortId) -> Vec<IpNet> {
        self.model.port_prefixes(port)
    }
}

/// The leg that the daemon makes for the host.
fn is_host_leg(port: &Port) -> bool {
    port.config.role() == Role::Host && port.take == Take::Claimed
}

fn role(configured: Role) -> PortRole {
    match configured {
        Role::Pod => PortRole::Pod,
        Role::Host => PortRole::Host,
        Role::Uplink => PortRole::Uplink,
    }
}
