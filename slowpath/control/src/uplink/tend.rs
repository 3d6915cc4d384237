//! Uplinks in the control thread: opened and closed as their interfaces come and go, and the model told of what is behind
//! them.

use super::asked::{Asked, Place};
use super::chosen::add_configured;
use super::kernel::{Interface, View};
use super::path_mtu::PathMtus;
use super::steering::{ClaimInput, Steering};
use super::takeover::Nic;
use super::underlay::{Open, underlay};
use crate::control::Control;
use crate::driver::{Link, Take};
use crate::port::{Port, PortError};
use crate::worker::WorkerHandle;
use ipnet::IpNet;
use millrace_api::ObjectError;
use millrace_config::{Config, InterfaceName, PortConfig, PortName, Uplink};
use millrace_fastpath::pipeline::Report;
use millrace_fastpath::port::{Frame, PortId};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How soon an uplink that cannot be opened is tried again, at first and at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

const NO_VOICE: &str = "without hostLeg the host has nothing to speak through once its NIC is taken";
const NO_LEG: &str = "the host's leg is not there yet";

/// The configured uplinks.
pub(crate) struct Uplinks {
    configured: Vec<Configured>,
    /// What the kernel knows of them; `None` until it was heard.
    view: Option<View>,
    asked: Asked,
    steering: Steering,
    path_mtus: PathMtus,
}

/// A configured uplink and how it is.
struct Configured {
    port: PortConfig,
    /// The NIC's interface.
    interface: InterfaceName,
    /// The interface by which the kernel speaks over it: the NIC's own, or, when the NIC is taken, the host's leg.
    voice: Option<InterfaceName>,
    takes_nic: bool,
    /// The number of the interface that it is open on.
    index: Option<u32>,
    /// What is wrong with it.
    problem: Option<String>,
    due: Instant,
    wait: Duration,
}

impl Configured {
    fn new(uplink: &Uplink, leg: Option<&InterfaceName>, now: Instant) -> Option<Self> {
        let voice = if uplink.takes_nic() { leg } else { Some(&uplink.interface) };
        Some(Configured {
            // The configuration has been checked.
            port: uplink.port().ok()?,
            interface: uplink.interface.clone(),
            voice: voice.cloned(),
            takes_nic: uplink.takes_nic(),
            index: None,
            problem: None,
            due: now,
            wait: FIRST,
        })
    }

    fn fail(&mut self, problem: String, now: Instant) {
        if self.problem.as_ref() != Some(&problem) {
            tracing::warn!(uplink = %self.interface, problem, "uplink not open");
        }
        self.problem = Some(problem);
        self.due = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST);
    }

    /// Something is not there yet, which costs nothing to look at.
    fn fail_for_now(&mut self, problem: String, now: Instant) {
        self.fail(problem, now);
        (self.due, self.wait) = (now, FIRST);
    }

    fn succeed(&mut self, index: u32) {
        self.index = Some(index);
        (self.problem, self.wait) = (None, FIRST);
    }
}

impl Uplinks {
    pub(crate) fn new(config: &Config) -> Self {
        let (now, leg) = (Instant::now(), config.host_leg.interface());
        Uplinks {
            configured: config
                .uplinks
                .iter()
                .filter_map(|uplink| Configured::new(uplink, leg, now))
                .collect(),
            view: None,
            asked: Asked::default(),
            steering: Steering::default(),
            path_mtus: PathMtus::default(),
        }
    }

    /// The interfaces that the kernel is to be followed for.
    pub(crate) fn interfaces(&self) -> BTreeSet<InterfaceName> {
        let own = self.configured.iter().map(|uplink| uplink.interface.clone());
        own.chain(self.configured.iter().filter_map(|uplink| uplink.voice.clone())).collect()
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.configured.is_empty()
    }

    /// What is wrong with them.
    pub(crate) fn errors(&self) -> impl Iterator<Item = ObjectError> {
        self.configured.iter().filter_map(|uplink| {
            Some(ObjectError {
                file: "configuration".to_owned(),
                object: Some(format!("uplinks {}", uplink.interface)),
                reason: uplink.problem.clone()?,
                ..ObjectError::default()
            })
        })
    }

    /// Whether any are configured, and the MTUs of the NICs of those that the kernel knows.
    pub(super) fn mtus(&self) -> (bool, Option<u16>) {
        let known = |uplink: &Configured| Some(self.view.as_ref()?.interfaces.get(&uplink.interface)?.mtu);
        (!self.is_empty(), self.configured.iter().filter_map(known).min())
    }

    /// How many are not as they should be.
    pub(crate) fn error_count(&self) -> usize {
        self.configured.iter().filter(|uplink| uplink.problem.is_some()).count()
    }

    /// Whether this port is an uplink's.
    pub(crate) fn has(&self, port: &PortName) -> bool {
        self.configured.iter().any(|uplink| uplink.port.name == *port)
    }

    /// The numbers of the interfaces that are shared with the kernel.
    pub(crate) fn shared(&self) -> BTreeSet<u32> {
        self.configured.iter().filter(|uplink| !uplink.takes_nic).filter_map(|uplink| uplink.index).collect()
    }
}

impl<F: Frame> Control<F> {
    /// The interfaces that uplinks stand on: what the kernel is to be followed for.
    pub fn uplink_interfaces(&self) -> BTreeSet<InterfaceName> {
        self.uplinks.interfaces()
    }

    /// Takes in what the kernel knows of these interfaces.
    pub fn set_kernel_view(&mut self, view: View) {
        let now = Instant::now();
        let before = self.uplinks.view.replace(view);
        let known = |view: Option<&View>, name: &InterfaceName| {
            view.and_then(|view| view.interfaces.get(name).cloned())
        };
        for uplink in &mut self.uplinks.configured {
            // What has changed may be what it failed for.
            if known(before.as_ref(), &uplink.interface)
                != known(self.uplinks.view.as_ref(), &uplink.interface)
            {
                uplink.due = now;
            }
        }
        self.tend_uplinks(now);
    }

    /// Opens and closes uplinks as it is time, tells the model what is behind them, and the kernel which neighbours to look
    /// for. What the model learned is not published yet.
    pub(crate) fn tend_uplinks(&mut self, now: Instant) {
        if !self.source_synced || self.uplinks.is_empty() || self.uplinks.view.is_none() {
            return;
        }
        for at in 0..self.uplinks.configured.len() {
            self.tend_uplink(at, now);
        }
        self.uplinks.path_mtus.expire(&mut self.model, now);
        self.tell_underlay();
        self.tend_neighbours(now);
    }

    fn tend_uplink(&mut self, at: usize, now: Instant) {
        let uplink = &self.uplinks.configured[at];
        let name = uplink.port.name.clone();
        let found =
            self.uplinks.view.as_ref().and_then(|view| view.interfaces.get(&uplink.interface)).cloned();
        let is_open = self.ports.contains_key(&name);
        let is_other = found.as_ref().map(|interface| interface.index) != uplink.index;
        let is_gone = is_other && !uplink.takes_nic;
        // A NIC that is taken may be gone from the kernel's sight.
        if is_open && (is_gone || !self.follows_mtu(&name, found.as_ref())) {
            let reason =
                if is_gone { "its interface is gone" } else { "its MTU has outgrown what it was opened for" };
            tracing::warn!(uplink = %uplink.interface, reason, "uplink closed");
            if let Err(error) = self.remove_any_port(&name) {
                return self.uplinks.configured[at].fail(error.to_string(), now);
            }
            self.uplinks.configured[at].due = now;
        } else if is_open {
            if let Some(interface) = found {
                self.follow_mtu(&name, interface.mtu);
                self.follow_nic(&name, &interface);
            }
            return;
        }
        let uplink = &mut self.uplinks.configured[at];
        uplink.index = None;
        let Some(interface) = found else {
            let problem = format!("there is no interface {}", uplink.interface);
            return uplink.fail(problem, now);
        };
        if uplink.due > now {
            return;
        }
        let mut config = uplink.port.clone();
        config.mtu = u64::from(interface.mtu).try_into().ok();
        let nic = match (uplink.takes_nic, &uplink.voice) {
            (false, _) => None,
            (true, Some(leg)) => {
                Some(Nic { interface: uplink.interface.clone(), leg: leg.clone(), mac: interface.mac })
            }
            (true, None) => return uplink.fail(NO_VOICE.to_owned(), now),
        };
        if nic.is_some() && interface.addresses.is_empty() {
            let problem = format!("interface {} has no address yet", uplink.interface);
            return self.uplinks.configured[at].fail_for_now(problem, now);
        }
        // The leg comes once it is known what it leads to; it looks at that by itself.
        if nic.is_some() && self.leg_id().is_none() {
            return self.uplinks.configured[at].fail_for_now(NO_LEG.to_owned(), now);
        }
        let opened = self.open_uplink(config, nic);
        let uplink = &mut self.uplinks.configured[at];
        match opened {
            Ok(()) => {
                uplink.succeed(interface.index);
                self.shape_leg();
            }
            Err(problem) => uplink.fail(problem, now),
        }
    }

    fn open_uplink(&mut self, config: PortConfig, nic: Option<Nic>) -> Result<(), String> {
        let name = config.name.clone();
        self.add_uplink_port(config, nic).map_err(|error| error.to_string())?;
        let port = self.ports.get(&name).filter(|port| port.take == Take::Claimed);
        let claimed = match port.and_then(|port| port.device.as_ref()) {
            Some(device) => self.uplinks.steering.claim_all(&**device),
            None => Ok(()),
        };
        claimed.map_err(|error| {
            if let Err(second) = self.remove_any_port(&name) {
                tracing::error!(error = %second, "uplink not undone");
            }
            format!("claiming this node's packets: {error}")
        })
    }

    /// Has an uplink take packets as large as its NIC does; false when it has to be opened anew for that.
    fn follows_mtu(&self, name: &PortName, found: Option<&Interface>) -> bool {
        let (Some(port), Some(interface)) = (self.ports.get(name), found) else { return true };
        let Some(device) = port.device.as_ref().filter(|_| port.mtu != interface.mtu) else { return true };
        device.follow_mtu(interface.mtu).unwrap_or_else(|error| {
            tracing::error!(port = %name, mtu = interface.mtu, %error, "following an MTU");
            true
        })
    }

    fn follow_mtu(&mut self, name: &PortName, mtu: u16) {
        let Some(mut port) = self.ports.remove(name) else { return };
        if port.mtu != mtu {
            port.mtu = mtu;
            self.enter(&port);
        }
        self.ports.insert(name.clone(), port);
    }

    /// The NIC that is taken from the kernel, which speaks through the host's leg, and its MTU.
    pub(crate) fn taken_nic(&self) -> Option<(&Nic, u16)> {
        self.ports.values().find_map(|port| Some((port.nic.as_ref()?, port.mtu)))
    }

    /// Gives the NICs back over whose port the kernel speaks through this port.
    pub(crate) fn release_nics_over(&mut self, leg: &PortName) -> Result<(), PortError> {
        let speaks = |port: &&Port| port.nic.as_ref().is_some_and(|nic| nic.leg.as_str() == leg.as_str());
        let names: Vec<PortName> =
            self.ports.values().filter(speaks).map(|port| port.config.name.clone()).collect();
        names.iter().try_for_each(|name| self.remove_any_port(name))
    }

    /// What somebody gives to a NIC that the host no longer speaks through is moved to where it does.
    fn follow_nic(&mut self, name: &PortName, interface: &Interface) {
        let Some(nic) = self.ports.get(name).and_then(|port| port.nic.as_ref()) else { return };
        if interface.addresses.is_empty() {
            return;
        }
        if let Err(error) = self.plumbing.follow_nic(nic) {
            tracing::error!(%error, nic = %nic.interface, "moving what was given to a NIC that is taken");
        }
    }

    fn tell_underlay(&mut self) {
        let Some(view) = &self.uplinks.view else { return };
        let mut open = BTreeMap::new();
        for uplink in &self.uplinks.configured {
            let (Some(port), Some(voice)) = (self.ports.get(&uplink.port.name), &uplink.voice) else {
                continue;
            };
            let leg = if uplink.takes_nic { self.leg_id() } else { None };
            let has_link =
                !uplink.takes_nic || port.device.as_ref().is_none_or(|device| device.link() == Link::Up);
            open.insert(voice.clone(), Open { port: port.id, companion: leg, has_link });
        }
        let mut underlay = underlay(view, &open);
        add_configured(&mut underlay, &self.config.routing.routes);
        self.model.set_underlay(underlay);
    }

    /// Whether there are uplinks: workers have something to tell.
    pub(crate) fn has_uplinks(&self) -> bool {
        !self.uplinks.is_empty()
    }

    /// Takes in what workers came upon.
    pub(crate) fn hear_workers(&mut self) {
        let reports: Vec<Report> = self.workers.iter_mut().flat_map(WorkerHandle::reports).collect();
        let mut unresolved: Vec<(PortId, IpAddr)> = Vec::new();
        for report in reports {
            match report {
                Report::Unresolved { port, address } => unresolved.push((port, address.to_ip())),
                Report::TunnelMtu { remote, mtu } => {
                    let path_mtus = &mut self.uplinks.path_mtus;
                    path_mtus.learn(&mut self.model, remote.to_ip(), mtu, Instant::now());
                }
            }
        }
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

    /// Has the uplinks take what is this node's by the tables that were just published.
    pub(crate) fn steer(&mut self) {
        if self.uplinks.is_empty() {
            return;
        }
        let changes = self.uplinks.steering.update(self.claim_input());
        let mut failed = Vec::new();
        for uplink in self.uplinks.configured.iter().filter(|uplink| !uplink.takes_nic) {
            let Some(device) = self.ports.get(&uplink.port.name).and_then(|port| port.device.as_ref()) else {
                continue;
            };
            if let Err(error) = device.steer(&changes) {
                tracing::error!(%error, uplink = %uplink.interface, "steering");
                failed.push(uplink.port.name.clone());
            }
        }
        // Opened anew, it claims all that it should, or is known to be wrong.
        for name in failed {
            if let Err(error) = self.remove_any_port(&name) {
                tracing::error!(%error, "uplink not closed");
            }
        }
    }

    fn claim_input(&self) -> ClaimInput {
        let config = &self.config;
        let services = config.cluster.service_cidrs.iter().map(|prefix| prefix.net());
        let local: Vec<IpNet> = self.model.node_pod_ranges().to_vec();
        let attached = config.cni.pod_cidrs.iter().map(|prefix| prefix.net());
        let ranges: Vec<IpNet> = local.iter().copied().chain(attached).chain(services).collect();
        let of_uplinks = self.uplinks.view.iter().flat_map(|view| view.interfaces.values());
        let addresses: BTreeSet<IpAddr> = of_uplinks
            .flat_map(|interface| interface.addresses.iter().map(IpNet::addr))
            .chain(self.model.node_addresses().iter().copied())
            .collect();
        ClaimInput {
            tables: self.current.clone(),
            remote_ranges: self.model.pod_ranges().filter(|range| !ranges.contains(range)).collect(),
            ranges,
            addresses: addresses.into_iter().collect(),
        }
    }
}
