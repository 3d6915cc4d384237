//! The host's own leg into the pods' network: a port of role `host`, and routes that lead to it.
//!
//! It is there while it is known what it is to lead to and which of the node's addresses the host has. It follows both:
//! addresses are looked at every second, and at once when the node's object or a range of pods changes.

use crate::control::Control;
use crate::driver::Refusal;
use crate::host_stack::HostStack;
use crate::link::{HostRoutes, Obstacle};
use ipnet::IpNet;
use millrace_api::ObjectError;
use millrace_config::{
    Attachment, Config, InterfaceName, InvalidValue, PortConfig, PortName, PortRole, Prefix, QueueCount,
};
use millrace_fastpath::port::{Frame, PortId};
use millrace_fastpath::wire::ethernet::MacAddr;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// How often the host's addresses are looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How often it is seen whether the routes are still there, and whether those in the way are.
const CHECK: Duration = Duration::from_secs(5);

/// What is known of the host's leg.
pub(crate) struct HostLeg {
    stack: Box<dyn HostStack>,
    /// Its interface; `None` when there is to be none.
    interface: Option<InterfaceName>,
    /// What the host was led to last, and what was in the way.
    led: Option<(HostRoutes, Vec<Obstacle>)>,
    due: Instant,
    check: Instant,
    /// What is wrong, for people.
    problems: Vec<String>,
}

/// Where the leg leads, and whom to.
#[derive(PartialEq, Eq)]
struct Plan {
    /// The node's addresses that the host has.
    owned: Vec<IpAddr>,
    ranges: Vec<IpNet>,
}

impl HostLeg {
    pub(crate) fn new(config: &Config, stack: Box<dyn HostStack>) -> Self {
        let now = Instant::now();
        let interface = config.host_leg.interface().cloned();
        HostLeg { stack, interface, led: None, due: now, check: now, problems: Vec::new() }
    }

    /// Has it looked at next time.
    pub(crate) fn hurry(&mut self) {
        let now = Instant::now();
        (self.due, self.check) = (now, now);
    }

    /// Has the host look for these neighbours; see [`HostStack::solicit`].
    pub(crate) fn solicit(&mut self, neighbours: &[(u32, IpAddr)]) -> Result<(), Refusal> {
        self.stack.solicit(neighbours)
    }

    /// What is wrong with it.
    pub(crate) fn errors(&self) -> impl Iterator<Item = ObjectError> {
        self.problems.iter().map(|reason| ObjectError {
            file: "configuration".to_owned(),
            object: Some("hostLeg".to_owned()),
            reason: reason.clone(),
            ..ObjectError::default()
        })
    }

    /// How much is wrong with it.
    pub(crate) fn error_count(&self) -> usize {
        self.problems.len()
    }

    fn report(&mut self, problems: Vec<String>) {
        for problem in problems.iter().filter(|problem| !self.problems.contains(problem)) {
            tracing::error!(reason = problem, "the host's leg");
        }
        self.problems = problems;
    }

    /// The port's name is its interface's, as far as that is a legal one.
    fn port(&self) -> Option<Result<PortName, InvalidValue>> {
        self.interface.as_ref().map(|interface| interface.as_str().parse())
    }

    /// That name, if it is one.
    pub(crate) fn name(&self) -> Option<PortName> {
        self.port()?.ok()
    }
}

impl<F: Frame> Control<F> {
    /// Makes the host's leg, keeps it up to date or removes it, if it is time to look.
    pub(crate) fn tend_host_leg(&mut self, now: Instant) {
        if !self.source_synced || self.host_leg.due > now {
            return;
        }
        self.host_leg.due = now + LOOK;
        let Some(name) = self.host_leg.port() else { return };
        let mut problems = match name {
            Ok(name) => match self.try_tend(&name, now) {
                Ok(problems) => problems,
                Err(problem) => vec![problem],
            },
            Err(error) => vec![error.to_string()],
        };
        if self.frontage.problem.is_some() {
            self.tell_leg();
        }
        problems.extend(self.frontage.problem.clone());
        self.host_leg.report(problems);
    }

    /// Gives the leg up, since its port was removed by somebody.
    pub(crate) fn forget_host_leg(&mut self, port: &PortName) {
        if self.host_leg.interface.as_ref().is_some_and(|interface| interface.as_str() == port.as_str()) {
            self.host_leg.interface = None;
            self.host_leg.report(Vec::new());
        }
    }

    /// The number of the leg's port, if it is there.
    pub(crate) fn leg_id(&self) -> Option<PortId> {
        let name = self.host_leg.name()?;
        self.ports.get(&name).map(|port| port.id)
    }

    fn try_tend(&mut self, name: &PortName, now: Instant) -> Result<Vec<String>, String> {
        let is_other = |port: &PortConfig| port.role() == PortRole::Host && port.name != *name;
        let open = self.ports.values().map(|port| &port.config);
        let pending = self.pending.iter().map(|pending| &pending.config);
        if open.chain(pending).chain(&self.config.ports).any(is_other) {
            self.remove_leg(name)?;
            return Ok(Vec::new());
        }
        let addresses = self.host_leg.stack.addresses().map_err(|error| error.to_string())?;
        let plan = self.plan(&addresses);
        // A leg that the host speaks through stays whatever it leads to.
        let is_voice = self.taken_nic().is_some();
        if !is_voice && (plan.owned.is_empty() || plan.ranges.is_empty()) {
            self.remove_leg(name)?;
            return Ok(self.why_not(&plan));
        }
        self.own_addresses(name, &plan.owned)?;
        self.lead(&plan, now)
    }

    /// What is to be, for these addresses of the host.
    fn plan(&mut self, addresses: &[IpAddr]) -> Plan {
        let primary = primary(addresses);
        let named = self.model.node_addresses();
        let owned = match named.is_empty() {
            true => primary.clone(),
            false => named.iter().copied().filter(|address| addresses.contains(address)).collect(),
        };
        let ranges = self.ranges();
        if !ranges.is_empty() {
            self.model.assume_node_addresses(primary);
        }
        Plan { owned, ranges }
    }

    /// All ranges of pods and services, none within another.
    fn ranges(&self) -> Vec<IpNet> {
        let config = &self.config;
        let configured = config.cluster.service_cidrs.iter().chain(&config.cni.pod_cidrs);
        outermost(configured.map(|prefix| prefix.net()).chain(self.model.pod_ranges()).collect())
    }

    fn why_not(&self, plan: &Plan) -> Vec<String> {
        let named = self.model.node_addresses();
        if plan.ranges.is_empty() || named.is_empty() {
            return Vec::new();
        }
        let named = named.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ");
        vec![format!(
            "none of this node's addresses ({named}) is the host's: it does not reach pods and services"
        )]
    }

    /// Sees to it that packets to these addresses go to the host.
    fn own_addresses(&mut self, name: &PortName, owned: &[IpAddr]) -> Result<(), String> {
        let addresses: Vec<Prefix> = owned.iter().copied().map(Prefix::from).collect();
        match self.ports.remove(name) {
            Some(mut port) => {
                if port.config.addresses != addresses {
                    port.addresses = addresses.iter().map(|prefix| prefix.net()).collect();
                    port.config.addresses = addresses;
                    self.enter(&port);
                }
                self.ports.insert(name.clone(), port);
                // Also what the model was told to assume.
                if self.model.has_changes() {
                    self.compile();
                }
                Ok(())
            }
            None => {
                let Some(interface) = self.host_leg.interface.clone() else { return Ok(()) };
                self.host_leg.led = None;
                let port = leg(name.clone(), interface, addresses);
                self.add_leg_port(port).map_err(|error| error.to_string())?;
                self.tell_leg();
                Ok(())
            }
        }
    }

    /// Sees to it that the host's packets to the ranges go to its leg.
    fn lead(&mut self, plan: &Plan, now: Instant) -> Result<Vec<String>, String> {
        let Some(interface) = self.host_leg.interface.clone() else { return Ok(Vec::new()) };
        let gateway = &self.config.gateway;
        let wanted = HostRoutes {
            interface,
            gateway_mac: MacAddr(gateway.mac.octets()),
            gateway_v4: gateway.ipv4,
            gateway_v6: gateway.ipv6,
            sources: primary(&plan.owned),
            ranges: plan.ranges.clone(),
            shared: self.uplinks.shared(),
            nic_mtu: self.taken_nic().map(|_| self.default_mtu().get()),
        };
        let leg = &mut self.host_leg;
        let is_checked = leg.check > now;
        let is_led = match &leg.led {
            Some((led, obstacles)) if *led == wanted => {
                is_checked
                    || (obstacles.is_empty() && leg.stack.is_led(led).map_err(|error| error.to_string())?)
            }
            _ => false,
        };
        if !is_checked {
            leg.check = now + CHECK;
        }
        if !is_led {
            leg.led = None;
            let obstacles = leg.stack.lead(&wanted).map_err(|error| error.to_string())?;
            leg.led = Some((wanted, obstacles));
        }
        let obstacles = leg.led.iter().flat_map(|(_, obstacles)| obstacles);
        Ok(obstacles.map(Obstacle::to_string).collect())
    }

    /// Makes the leg what the host is to speak through: a NIC's, if one is taken, by its MAC address and MTU.
    pub(crate) fn shape_leg(&mut self) {
        let Some((mac, mtu)) = self.taken_nic().map(|(nic, mtu)| (nic.mac, mtu)) else { return };
        let Some(mut port) = self.host_leg.name().and_then(|name| self.ports.remove(&name)) else { return };
        port.config.mac = millrace_config::MacAddr::try_new(mac.octets()).ok();
        port.mtu = mtu;
        self.enter(&port);
        self.ports.insert(port.config.name.clone(), port);
        self.host_leg.hurry();
    }

    fn remove_leg(&mut self, name: &PortName) -> Result<(), String> {
        self.host_leg.led = None;
        let Some(port) = self.ports.get(name).filter(|port| port.config.role() == PortRole::Host) else {
            return Ok(());
        };
        let name = port.config.name.clone();
        self.remove_any_port(&name).map_err(|error| error.to_string())
    }
}

/// The leg's port. The host's kernel sees to it itself that nothing leaves under a wrong address, and may speak for others
/// that it routes for.
fn leg(name: PortName, interface: InterfaceName, addresses: Vec<Prefix>) -> PortConfig {
    PortConfig {
        name,
        attachment: Attachment::Tap { netns: None, interface },
        mac: None,
        addresses,
        pod: None,
        role: Some(PortRole::Host),
        mtu: None,
        spoof_check: false,
        queues: QueueCount::default(),
    }
}

/// The first address of each family.
fn primary(addresses: &[IpAddr]) -> Vec<IpAddr> {
    [true, false]
        .into_iter()
        .filter_map(|is_v4| addresses.iter().copied().find(|address| address.is_ipv4() == is_v4))
        .collect()
}

/// The ranges that lie in no other.
fn outermost(mut ranges: Vec<IpNet>) -> Vec<IpNet> {
    // A range comes right before those that lie in it.
    ranges.sort_unstable_by_key(|range| (range.network(), range.prefix_len()));
    let mut kept: Vec<IpNet> = Vec::new();
    for range in ranges {
        if kept.last().is_none_or(|outer| !outer.contains(&range)) {
            kept.push(range);
        }
    }
    kept
}
