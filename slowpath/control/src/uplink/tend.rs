//! Uplinks in the control thread: opened and closed as their interfaces come and go, and the model told of what is behind
//! them.

use super::chosen::add_configured;
use super::kernel::{Interface, View};
use super::takeover::Nic;
use super::underlay::{Open, underlay};
use crate::control::Control;
use crate::driver::{Link, Take};
use crate::port::{Port, PortError};
use millrace_config::{InterfaceName, PortConfig, PortName, QueueCount};
use millrace_fastpath::port::Frame;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

const NO_VOICE: &str = "without hostLeg the host has nothing to speak through once its NIC is taken";
const NO_LEG: &str = "the host's leg is not there yet";

/// Why an uplink is not open.
enum Obstacle {
    /// To be tried ever more rarely.
    Lasting(String),
    /// Something is not there yet.
    Soon(String),
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
        let found = self.uplinks.found(at);
        let is_open = self.ports.contains_key(&uplink.port.name);
        let is_other = found.as_ref().map(|interface| interface.index) != uplink.index;
        // A NIC that is taken may be gone from the kernel's sight.
        if is_open && is_other && !uplink.takes_nic {
            self.close_uplink(at, "its interface is gone", now);
        } else if let (true, Some(interface)) = (is_open, &found) {
            match self.follows_mtu(&uplink.port.name, interface) {
                true => self.follow_uplink(at, interface, now),
                false => self.close_uplink(at, "its MTU has outgrown what it was opened for", now),
            }
        }
        let uplink = &mut self.uplinks.configured[at];
        if self.ports.contains_key(&uplink.port.name) {
            return;
        }
        uplink.index = None;
        match found {
            None => {
                let problem = format!("there is no interface {}", uplink.interface);
                uplink.fail(problem, now);
            }
            Some(interface) if uplink.due <= now => self.try_uplink(at, &interface, now),
            Some(_) => {}
        }
    }

    /// An open uplink is as its NIC is.
    fn follow_uplink(&mut self, at: usize, interface: &Interface, now: Instant) {
        let name = self.uplinks.configured[at].port.name.clone();
        self.follow_mtu(&name, interface.mtu);
        self.follow_nic(&name, interface);
        let uplink = &mut self.uplinks.configured[at];
        if uplink.due > now || uplink.takes_nic {
            return;
        }
        uplink.look_again(now);
        let has = self.driver.receive_queues(&uplink.interface);
        let open = self.ports.get(&name).map(|port| u32::from(port.config.queues.get()));
        let differs = has.filter(|has| open.is_some_and(|open| open != *has));
        match (differs, uplink.queues) {
            (Some(has), None) if has > u32::from(QueueCount::MOST) => {
                uplink.complain(Some(too_many_queues(&uplink.interface, has)));
            }
            (Some(_), None) => self.close_uplink(at, "its NIC has another number of queues", now),
            (Some(has), Some(queues)) => {
                let problem = format!(
                    "it receives on {has} queues now, {} are configured: packets of pods are lost; leave `queues` out \
                     or set it to {has}",
                    queues.get()
                );
                uplink.complain(Some(problem));
            }
            (None, _) => uplink.complain(None),
        }
    }

    /// Closes an uplink, to be opened anew at once.
    pub(super) fn close_uplink(&mut self, at: usize, why: &str, now: Instant) {
        let uplink = &mut self.uplinks.configured[at];
        tracing::warn!(uplink = %uplink.interface, why, "uplink closed");
        uplink.due = now;
        let name = uplink.port.name.clone();
        if let Err(error) = self.remove_any_port(&name) {
            self.uplinks.configured[at].fail(error.to_string(), now);
        }
    }

    fn try_uplink(&mut self, at: usize, interface: &Interface, now: Instant) {
        let opened = self
            .plan_uplink(at, interface)
            .and_then(|(config, nic)| self.open_uplink(config, nic).map_err(Obstacle::Lasting));
        let uplink = &mut self.uplinks.configured[at];
        match opened {
            Ok(()) => {
                uplink.succeed(interface.index);
                uplink.look_again(now);
                self.shape_leg();
            }
            Err(Obstacle::Lasting(problem)) => uplink.fail(problem, now),
            Err(Obstacle::Soon(problem)) => uplink.fail_for_now(problem, now),
        }
    }

    /// The port that an uplink becomes now, and the NIC that it takes.
    fn plan_uplink(&self, at: usize, interface: &Interface) -> Result<(PortConfig, Option<Nic>), Obstacle> {
        let uplink = &self.uplinks.configured[at];
        let mut config = uplink.port.clone();
        config.mtu = u64::from(interface.mtu).try_into().ok();
        if !uplink.takes_nic {
            config.queues = self.queues_of(&uplink.interface, uplink.queues).map_err(Obstacle::Lasting)?;
            return Ok((config, None));
        }
        let Some(leg) = uplink.voice.clone() else { return Err(Obstacle::Lasting(NO_VOICE.to_owned())) };
        if interface.addresses.is_empty() {
            return Err(Obstacle::Soon(format!("interface {} has no address yet", uplink.interface)));
        }
        // The leg comes once it is known what it leads to; it looks at that by itself.
        if self.leg_id().is_none() {
            return Err(Obstacle::Soon(NO_LEG.to_owned()));
        }
        Ok((config, Some(Nic { interface: uplink.interface.clone(), leg, mac: interface.mac })))
    }

    /// How many queues the port on a NIC is to have: those that are configured, else all that the NIC receives on.
    fn queues_of(&self, nic: &InterfaceName, wanted: Option<QueueCount>) -> Result<QueueCount, String> {
        let has = || self.driver.receive_queues(nic);
        let Some(has) = wanted.is_none().then(has).flatten() else { return Ok(wanted.unwrap_or_default()) };
        u64::from(has).try_into().map_err(|_| too_many_queues(nic, has))
    }

    fn open_uplink(&mut self, config: PortConfig, nic: Option<Nic>) -> Result<(), String> {
        let name = config.name.clone();
        self.add_uplink_port(config, nic).map_err(|error| error.to_string())?;
        let port = self.ports.get(&name).filter(|port| port.take == Take::Claimed);
        let claimed = match port.and_then(|port| port.device.as_ref()) {
            Some(device) => self.claim_all(&**device),
            None => Ok(()),
        };
        if claimed.is_err()
            && let Err(second) = self.remove_any_port(&name)
        {
            tracing::error!(error = %second, "uplink not undone");
        }
        claimed
    }

    /// Has an uplink take packets as large as its NIC does; false when it has to be opened anew for that.
    fn follows_mtu(&self, name: &PortName, interface: &Interface) -> bool {
        let Some(port) = self.ports.get(name) else { return true };
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
            // Asked of all, since with this a driver looks at its interface; a shared one's link is the kernel's business.
            let is_up = port.device.as_ref().is_none_or(|device| device.link() == Link::Up);
            let has_link = is_up || !uplink.takes_nic;
            open.insert(voice.clone(), Open { port: port.id, companion: leg, has_link });
        }
        let mut underlay = underlay(view, &open);
        add_configured(&mut underlay, &self.config.routing.routes);
        self.model.set_underlay(underlay);
    }
}

fn too_many_queues(nic: &InterfaceName, has: u32) -> String {
    let most = QueueCount::MOST;
    format!("{nic} receives on {has} queues, of which {most} can be served: ethtool -L {nic} combined {most}")
}
