//! The configured uplinks, and how each of them is.

use super::asked::Asked;
use super::kernel::{Interface, View};
use super::path_mtu::PathMtus;
use super::steering::Steering;
use crate::port::Port;
use millrace_api::ObjectError;
use millrace_config::{Config, InterfaceName, PortConfig, PortName, QueueCount, Uplink};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How soon an uplink that cannot be opened is tried again, at first and at most.
const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30);

/// The configured uplinks.
pub(crate) struct Uplinks {
    pub(super) configured: Vec<Configured>,
    /// What the kernel knows of them; `None` until it was heard.
    pub(super) view: Option<View>,
    pub(super) asked: Asked,
    pub(super) steering: Steering,
    pub(super) path_mtus: PathMtus,
}

/// A configured uplink and how it is.
pub(super) struct Configured {
    pub(super) port: PortConfig,
    /// How many queues it is to have; if that is not said, all that its NIC receives on.
    pub(super) queues: Option<QueueCount>,
    /// The NIC's interface.
    pub(super) interface: InterfaceName,
    /// The interface by which the kernel speaks over it: the NIC's own, or, when the NIC is taken, the host's leg.
    pub(super) voice: Option<InterfaceName>,
    pub(super) takes_nic: bool,
    /// The number of the interface that it is open on.
    pub(super) index: Option<u32>,
    /// What is wrong with it.
    pub(super) problem: Option<String>,
    /// Not tried before this; of an open one, its NIC's queues are not counted again before.
    pub(super) due: Instant,
    wait: Duration,
}

impl Configured {
    fn new(uplink: &Uplink, leg: Option<&InterfaceName>, now: Instant) -> Option<Self> {
        let voice = if uplink.takes_nic() { leg } else { Some(&uplink.interface) };
        Some(Configured {
            // The configuration has been checked.
            port: uplink.port().ok()?,
            queues: uplink.queues,
            interface: uplink.interface.clone(),
            voice: voice.cloned(),
            takes_nic: uplink.takes_nic(),
            index: None,
            problem: None,
            due: now,
            wait: FIRST,
        })
    }

    pub(super) fn fail(&mut self, problem: String, now: Instant) {
        self.complain(Some(problem));
        self.due = now + self.wait;
        self.wait = (self.wait * 2).min(LONGEST);
    }

    /// Something is not there yet, which costs nothing to look at.
    pub(super) fn fail_for_now(&mut self, problem: String, now: Instant) {
        self.fail(problem, now);
        (self.due, self.wait) = (now, FIRST);
    }

    pub(super) fn succeed(&mut self, index: u32) {
        self.index = Some(index);
        (self.problem, self.wait) = (None, FIRST);
    }

    /// Whether it is open, or has failed for a reason that may last.
    fn is_settled(&self) -> bool {
        self.index.is_some() || self.wait > FIRST
    }

    /// Notes what is wrong with it, open or not.
    pub(super) fn complain(&mut self, problem: Option<String>) {
        if let Some(problem) = problem.as_ref().filter(|problem| self.problem.as_ref() != Some(*problem)) {
            tracing::warn!(uplink = %self.interface, problem, "uplink not as it should be");
        }
        self.problem = problem;
    }

    /// Says when it is to be looked at again, as nothing is wrong.
    pub(super) fn look_again(&mut self, now: Instant) {
        self.due = now + FIRST;
    }
}

impl Uplinks {
    /// Whether all that are configured are open, or have failed for reasons that may last.
    pub(crate) fn are_settled(&self) -> bool {
        let mut uplinks = self.configured.iter();
        uplinks.len() == 0 || self.view.is_some() && uplinks.all(Configured::is_settled)
    }

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
    pub(super) fn interfaces(&self) -> BTreeSet<InterfaceName> {
        let own = self.configured.iter().map(|uplink| uplink.interface.clone());
        own.chain(self.configured.iter().filter_map(|uplink| uplink.voice.clone())).collect()
    }

    /// What the kernel knows of an uplink's interface.
    pub(super) fn found(&self, at: usize) -> Option<Interface> {
        self.view.as_ref()?.interfaces.get(&self.configured[at].interface).cloned()
    }

    /// Whether there are any.
    pub(crate) fn is_empty(&self) -> bool {
        self.configured.is_empty()
    }

    /// What is wrong with them, and with what their open ports should take.
    pub(crate) fn errors(&self, ports: &BTreeMap<PortName, Port>) -> impl Iterator<Item = ObjectError> {
        let problems = self.configured.iter().flat_map(|uplink| {
            let device = ports.get(&uplink.port.name).and_then(|port| port.device.as_ref());
            let unclaimed = device.and_then(|device| device.unclaimed());
            [uplink.problem.clone(), unclaimed].into_iter().flatten().map(move |reason| (uplink, reason))
        });
        problems.map(|(uplink, reason)| ObjectError {
            file: "configuration".to_owned(),
            object: Some(format!("uplinks {}", uplink.interface)),
            reason,
            ..ObjectError::default()
        })
    }

    /// Whether any are configured, and the MTUs of the NICs of those that the kernel knows.
    pub(super) fn mtus(&self) -> (bool, Option<u16>) {
        let known = |uplink: &Configured| Some(self.view.as_ref()?.interfaces.get(&uplink.interface)?.mtu);
        (!self.is_empty(), self.configured.iter().filter_map(known).min())
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
